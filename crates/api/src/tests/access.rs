//! Who may do what: the table of all endpoints without token, with the wrong role, with the wrong method; and
//! the order of the checks.

use super::support::{ADMIN, Asked, DR, PASSCODE, PASSWORD, World, ask};
use crate::endpoints::{ENDPOINTS, Endpoint, Kind};
use recovery::Role;

/// The path of an endpoint, its names filled in with things that are not there.
fn path(endpoint: &Endpoint) -> String {
    format!("/strongroom/{}", endpoint.path.replace(['{', '}'], ""))
}

/// All that answers in the envelope; figures for monitoring have a format of their own.
fn answers_json(endpoint: &&'static Endpoint) -> bool {
    endpoint.last() != "metrics"
}

fn guarded() -> impl Iterator<Item = &'static Endpoint> {
    ENDPOINTS.iter().filter(|endpoint| endpoint.role.is_some())
}

#[tokio::test]
async fn every_guarded_endpoint_asks_for_a_token_and_refuses_a_bad_one() {
    let world = World::open().await;
    for endpoint in guarded() {
        for method in ["GET", "POST", "PUT", "DELETE"] {
            let path = path(endpoint);
            let none = world.send(ask(method, &path).form("f=json")).await;
            assert_eq!((none.status.as_u16(), none.code()), (200, 499), "{method} {path}");
            assert_eq!(none.json()["error"]["message"], "Token Required");
            let bad = world.send(ask(method, &path).token("nonsense").form("f=json")).await;
            assert_eq!((bad.status.as_u16(), bad.code()), (200, 498), "{method} {path}");
            assert_eq!(bad.json()["error"]["message"], "Invalid Token");
            let cookie = ask(method, &path)
                .header("cookie", &format!("__Host-strongroom={}", world.token(Role::Viewer)));
            assert_eq!(world.send(cookie.form("f=json")).await.code(), 499, "cookies are for pages: {path}");
            assert!(none.headers.get("www-authenticate").is_none());
        }
    }
}

#[tokio::test]
async fn every_endpoint_refuses_roles_below_its_own_and_names_the_operation() {
    let world = World::open().await;
    for endpoint in guarded().filter(answers_json) {
        for role in [Role::Viewer, Role::Operator, Role::Administrator] {
            let answer = world.ask(role, "POST", &path(endpoint), "f=json").await;
            let refused = Some(role) < endpoint.role;
            assert_eq!(answer.code() == 403, refused, "{role:?} {}: {}", endpoint.path, answer.text);
            if refused {
                let message = answer.json()["error"]["message"].to_string();
                assert!(message.contains(endpoint.title), "{message}");
            }
        }
    }
}

#[tokio::test]
async fn every_operation_refuses_get_and_every_endpoint_refuses_foreign_methods() {
    let world = World::open().await;
    for endpoint in
        ENDPOINTS.iter().filter(answers_json).filter(|endpoint| !matches!(endpoint.kind, Kind::Page))
    {
        let path = path(endpoint);
        for method in ["PUT", "PATCH", "DELETE", "OPTIONS"] {
            let answer = world.ask(Role::Viewer, method, &path, "f=json").await;
            assert_eq!((answer.status.as_u16(), answer.code()), (200, 405), "{method} {path}");
        }
        let get = world.ask(Role::Administrator, "GET", &format!("{path}?f=json"), "").await;
        let is_operation = matches!(endpoint.kind, Kind::Operation(_) | Kind::Program);
        assert_eq!(get.code() == 405, is_operation, "{path}: {}", get.text);
    }
    assert!(world.recovery.jobs().await.expect("jobs").is_empty());
}

#[tokio::test]
async fn every_endpoint_answers_every_format_and_refuses_others_as_json() {
    let world = World::open().await;
    for endpoint in guarded().filter(answers_json) {
        let path = path(endpoint);
        for (format, content_type) in [
            ("json", "application/json"),
            ("pjson", "application/json"),
            ("html", "text/html; charset=utf-8"),
        ] {
            let answer = world.ask(Role::Administrator, "GET", &format!("{path}?f={format}"), "").await;
            assert_eq!(answer.status.as_u16(), 200, "{path}");
            assert_eq!(answer.header("content-type"), content_type, "{path}");
            assert_eq!(answer.header("cache-control"), "no-store");
            assert_eq!(answer.header("x-content-type-options"), "nosniff");
            assert_eq!(answer.header("x-frame-options"), "DENY");
            assert_eq!(answer.header("referrer-policy"), "no-referrer");
            assert!(answer.header("content-security-policy").starts_with("default-src 'none'"));
        }
        let unknown = world.send(ask("POST", &format!("{path}?f=xml"))).await;
        assert_eq!(unknown.json()["error"]["messageCode"], "FORMAT_UNKNOWN", "before the token");
    }
}

#[tokio::test]
async fn every_endpoint_refuses_an_oversize_body() {
    let world = World::open().await;
    for endpoint in ENDPOINTS {
        let large = vec![b'a'; (1 << 20) + 1];
        let asked =
            ask("POST", &format!("{}?f=json", path(endpoint))).token(world.token(Role::Administrator));
        let answer = world.send(asked.body(large)).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (200, 413), "{}", endpoint.path);
    }
}

#[tokio::test]
async fn unknown_urls_are_told_only_to_those_who_have_a_token() {
    let world = World::open().await;
    for path in [
        format!("{ADMIN}/nope"),
        format!("{DR}/Stores"),
        format!("{DR}/stores/s1/backups/b/export"),
        format!("{ADMIN}/overview"),
        format!("{ADMIN}/%zz"),
        format!("{ADMIN}/../admin"),
    ] {
        assert_eq!(world.send(ask("GET", &path).form("f=json")).await.code(), 499, "{path}");
        let known = world.ask(Role::Viewer, "GET", &path, "f=json").await;
        assert_eq!((known.status.as_u16(), known.code()), (200, 404), "{path}");
        assert_eq!(known.json()["error"]["messageCode"], "URL_NOT_FOUND");
    }
    for path in ["/", "/admin", "/strongroom2/admin", "/other", "/%zz"] {
        let outside = world.ask(Role::Viewer, "GET", path, "f=json").await;
        assert_eq!((outside.status.as_u16(), outside.code()), (404, 404), "{path}");
    }
    assert_eq!(world.send(ask("GET", "/strongroom/rest/services?f=json")).await.code(), 404);
}

#[tokio::test]
async fn the_checks_come_in_their_order() {
    let world = World::open().await.with_store().await;
    let backup = format!("{DR}/stores/s1/backups/nope");
    let code = |answer: super::support::Answer| {
        answer.json()["error"]["messageCode"].as_str().unwrap_or("none").to_owned()
    };
    let admin = |asked: Asked| asked.token(world.token(Role::Administrator));
    // Each request also breaks every later rule.
    let both = ask("PUT", &format!("{DR}/nope?f=xml&a=1&a=2"));
    assert_eq!(code(world.send(both).await), "FORMAT_UNKNOWN");
    assert_eq!(code(world.send(ask("PUT", &format!("{DR}/nope?f=json&a=1&a=2"))).await), "TOKEN_REQUIRED");
    assert_eq!(
        code(world.send(admin(ask("PUT", &format!("{DR}/nope?f=json&a=1&a=2")))).await),
        "URL_NOT_FOUND"
    );
    let viewer = world.token(Role::Viewer);
    let put = ask("PUT", &format!("{backup}/restore?f=json&a=1&a=2")).token(viewer);
    assert_eq!(code(world.send(put).await), "METHOD_NOT_ALLOWED");
    let post = ask("POST", &format!("{backup}/restore?f=json&a=1&a=2")).token(viewer);
    assert_eq!(code(world.send(post).await), "FORBIDDEN");
    let post = ask("POST", &format!("{backup}/restore?f=json&a=1&a=2"));
    assert_eq!(code(world.send(admin(post)).await), "PARAM_INVALID");
    let post = ask("POST", &format!("{backup}/restore?f=json"));
    assert_eq!(code(world.send(admin(post)).await), "PARAM_MISSING", "the passcode is missing");
    let unknown = world.run(&format!("{backup}/restore"), "passcode=wrong passcode").await;
    assert_eq!(unknown["error"]["messageCode"], "BACKUP_NOT_FOUND", "before the passcode is tried");
    let unknown =
        world.run(&format!("{DR}/stores/nope/backups/create"), &format!("name=b&passcode={PASSCODE}")).await;
    assert_eq!(unknown["error"]["messageCode"], "STORE_NOT_FOUND");
}

#[tokio::test]
async fn tokens_are_taken_from_all_places_and_must_agree() {
    let world = World::open().await;
    let token = world.token(Role::Viewer);
    let other = world.token(Role::Administrator);
    let path = format!("{ADMIN}?f=json");
    for asked in [
        ask("GET", &path).header("authorization", &format!("Bearer {token}")),
        ask("GET", &path).token(token),
        ask("POST", &path).form(&format!("token={token}")),
        ask("GET", &path).form(&format!("token={token}")),
        ask("GET", &format!("{path}&token={token}")),
    ] {
        assert_eq!(world.send(asked).await.code(), 0);
    }
    let differing = ask("POST", &path).token(token).form(&format!("token={other}"));
    assert_eq!(world.send(differing).await.code(), 498);
}

#[tokio::test]
async fn generate_token_follows_its_rules() {
    let world = World::open().await;
    let url = "/strongroom/sharing/rest/generateToken";
    let send = |form: String| world.send(ask("POST", url).form(&form));
    let good = format!("username=admin&password={PASSWORD}&client=referer&referer=http&f=json");
    let before = crate::dispatch::now_ms();
    let reply = send(good.clone()).await.json();
    let token = reply["token"].as_str().expect("token");
    assert_eq!(reply["ssl"], true);
    assert!(reply["expires"].as_i64().expect("expires") >= before + 59 * 60_000);
    assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte)), "URL-safe");
    assert_eq!(world.send(ask("GET", &format!("{ADMIN}?f=json")).token(token)).await.code(), 0);
    // A stale token in the header does not keep anybody from getting a new one; more than two weeks is cut.
    let stale = ask("POST", url).token("stale").form(&format!("{good}&expiration=99999999"));
    let expires = world.send(stale).await.json()["expires"].as_i64().expect("expires");
    assert!(expires <= crate::dispatch::now_ms() + 20_160 * 60_000);

    let wrong = send("username=admin&password=nonsense&f=json".to_owned()).await.json();
    assert_eq!(wrong["error"]["messageCode"], "LOGIN_FAILED");
    assert_eq!(wrong["error"]["message"], "Unable to generate token.");
    assert_eq!(wrong["error"]["details"][0], "Invalid username or password.");
    let unknown = send("username=nobody&password=nonsense&f=json".to_owned()).await.json();
    assert_eq!(unknown, wrong, "the same for an unknown user");
    assert_eq!(
        send("username=admin&f=json".to_owned()).await.json()["error"]["messageCode"],
        "PARAM_MISSING"
    );
    assert_eq!(send(format!("{good}&expiration=0")).await.code(), 400);
    for format in ["json", "html"] {
        let get = world.send(ask("GET", &format!("{url}?f={format}&username=admin&password=x"))).await;
        assert!(get.text.contains("METHOD_NOT_ALLOWED"), "{format}");
    }
    let alias = world.send(ask("POST", &format!("{ADMIN}/generateToken")).form(&good)).await.json();
    assert!(alias["token"].is_string());
}

#[tokio::test]
async fn head_gives_the_headers_of_get_alone() {
    let world = World::open().await;
    let get = world.ask(Role::Viewer, "GET", ADMIN, "f=json").await;
    let head = world.ask(Role::Viewer, "HEAD", ADMIN, "f=json").await;
    assert_eq!((head.status, head.text.as_str()), (get.status, ""));
    assert_eq!(head.header("content-length"), get.text.len().to_string());
}
