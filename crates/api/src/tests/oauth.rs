//! The OAuth 2 log-in, request by request as known clients make it, and what strangers make of it.

use super::support::{ADMIN, Answer, Asked, PASSWORD, PUBLIC_URL, World, ask};
use crate::oauth::{OUT_OF_BAND, ResponseType, Wish};
use serde_json::Value;
use std::collections::HashMap;

const AUTHORIZE: &str = "/strongroom/sharing/rest/oauth2/authorize";
const SIGN_IN: &str = "/strongroom/sharing/oauth2/signin";
/// Scheme, host and port of the context.
pub(super) const SITE: &str = "https://dr.example.org";
/// From the standard.
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// A request for a token, to be carried by hand.
pub(super) fn out_of_band() -> Wish {
    Wish {
        client_id: "pythonapi".to_owned(),
        redirect_uri: OUT_OF_BAND.to_owned(),
        response_type: ResponseType::Token,
        state: "s".to_owned(),
        challenge: None,
        minutes: 60,
    }
}

pub(super) fn authorize(kind: &str, redirect: &str, rest: &str) -> Asked {
    ask("GET", &format!("{AUTHORIZE}?response_type={kind}&client_id=pythonapi&redirect_uri={redirect}{rest}"))
}

/// What the known client reads from a page: one object in the first line that has braces.
pub(super) fn info(page: &Answer) -> Value {
    assert_eq!(page.status.as_u16(), 200, "{}", page.text);
    let line = page.text.lines().find(|line| line.contains('{')).unwrap_or_else(|| panic!("{}", page.text));
    let (from, to) = (line.find('{').expect("{"), line.rfind('}').expect("}"));
    serde_json::from_str(&line[from..=to]).unwrap_or_else(|_| panic!("no JSON: {line}"))
}

pub(super) async fn oauth_state(world: &World, asked: Asked) -> String {
    info(&world.send(asked).await)["oauth_state"].as_str().expect("oauth_state").to_owned()
}

pub(super) async fn sign_in(world: &World, oauth_state: &str, username: &str, password: &str) -> Answer {
    let form = format!("expiration=600&oauth_state={oauth_state}&username={username}&password={password}");
    world.send(ask("POST", SIGN_IN).form(&form)).await
}

/// The parameters in the fragment or query of a redirect.
pub(super) fn answered(answer: &Answer, start: &str) -> HashMap<String, String> {
    assert_eq!(answer.status.as_u16(), 302, "{}", answer.text);
    let rest = answer
        .header("location")
        .strip_prefix(start)
        .unwrap_or_else(|| panic!("{}", answer.header("location")));
    form_urlencoded::parse(rest.as_bytes()).into_owned().collect()
}

pub(super) fn refused(reply: &Value) -> &str {
    assert_eq!(reply["error"]["code"], 400, "{reply}");
    assert_eq!(reply["error"]["error_description"], reply["error"]["message"], "{reply}");
    reply["error"]["error"].as_str().expect("name")
}

pub(super) async fn works(world: &World, token: &str) -> bool {
    world.send(ask("GET", &format!("{ADMIN}?f=json")).token(token)).await.code() == 0
}

#[tokio::test]
async fn a_password_gives_a_token_as_known_clients_ask_for_it() {
    let world = World::open().await;
    let rest =
        |state| format!("&state={state}&expiration=600&allow_verification=false&style=dark&locale=en-US");
    oauth_state(&world, authorize("token", SITE, &rest("probe"))).await;
    let state = oauth_state(&world, authorize("token", SITE, &rest("a%26b%23c%0D%0Ad"))).await;
    for path in [SIGN_IN, "/strongroom/sharing/rest/oauth2/signin", "/strongroom//sharing/oauth2/signin/"] {
        let form = format!("expiration=600&oauth_state={state}&username=admin&password={PASSWORD}");
        let answer = world.send(ask("POST", path).header("referer", "http").form(&form)).await;
        let fragment = answered(&answer, &format!("{SITE}#"));
        assert!(works(&world, &fragment["access_token"]).await);
        assert!(fragment["access_token"].bytes().all(|byte| byte.is_ascii_alphanumeric()), "URL-safe");
        let seconds: u32 = fragment["expires_in"].parse().expect("seconds");
        assert!((35_000..=36_000).contains(&seconds), "{seconds}");
        let texts = ["username", "ssl", "state"].map(|name| fragment[name].as_str());
        assert_eq!(texts, ["admin", "true", "a&b#c\r\nd"], "each sign-in gets the state of its own page");
        assert_eq!(fragment.len(), 5);
        assert!(
            answer.headers.get("set-cookie").is_none(),
            "a program's sign-in starts no session of the pages"
        );
        assert!(answer.headers.get("www-authenticate").is_none());
        assert_eq!((answer.text.as_str(), answer.header("cache-control")), ("", "no-store"));
    }
}

#[tokio::test]
async fn a_wrong_password_is_told_in_the_words_that_known_clients_look_for() {
    let world = World::open().await;
    let state = oauth_state(&world, authorize("token", SITE, "&state=a")).await;
    let mut pages = Vec::new();
    for (username, password) in [("admin", "nonsense"), ("nobody", PASSWORD), ("", ""), ("a/<b>{\"}", "x")] {
        let answer = sign_in(&world, &state, username, password).await;
        assert!(answer.headers.get("location").is_none());
        let told = info(&answer);
        assert_eq!(
            (&told["code"], &told["messages"][0]),
            (&"OAUTH_0015".into(), &"Invalid username or password.".into())
        );
        assert_eq!(told["oauth_state"], state.as_str(), "the person tries again on the same page");
        assert!(!answer.text.contains(PASSWORD) && !answer.text.contains("nonsense"));
        pages.push(answer.text);
    }
    assert!(pages.iter().all(|page| *page == pages[0]), "an unknown user gets the same page");
    let form = format!("f=json&oauth_state={state}&username=admin&password=nonsense");
    let json = world.send(ask("POST", SIGN_IN).form(&form)).await;
    assert_eq!(json.json()["error"]["messageCode"], "LOGIN_FAILED");
    assert!(sign_in(&world, &state, "admin", PASSWORD).await.headers.contains_key("location"));
}

#[tokio::test]
async fn failed_sign_ins_lock_out_as_at_generate_token_and_count_together_with_it() {
    let world = World::open().await;
    let state = oauth_state(&world, authorize("token", SITE, "&state=a")).await;
    for n in 0..5 {
        if n % 2 == 0 {
            info(&sign_in(&world, &state, "olga", "nonsense").await);
        } else {
            let form = "f=json&username=olga&password=nonsense";
            let refused = world.send(ask("POST", "/strongroom/sharing/rest/generateToken").form(form)).await;
            assert_eq!(refused.code(), 400);
        }
    }
    let locked = sign_in(&world, &state, "olga", PASSWORD).await;
    assert_eq!(info(&locked)["code"], "OAUTH_0015", "even the right password, in the same words");
    assert!(
        sign_in(&world, &state, "victor", PASSWORD).await.headers.contains_key("location"),
        "others go on"
    );
}

#[tokio::test]
async fn no_answer_goes_to_another_site() {
    let world = World::open().await;
    for redirect in [
        "",
        "https://evil.example",
        "https://dr.example.org.evil.example",
        "https://dr.example.org:444",
        "http://dr.example.org",
        "https://dr.example.org@evil.example",
        "https://dr.example.org%5C@evil.example",
        "https://evil.example%23https://dr.example.org",
        "//dr.example.org",
        "https://dr.example.org/other",
        "https://dr.example.org/strongroom/..%2Fother",
        "https://dr.example.org/strongroom/%252e%252e/other",
        "https://dr.example.org/%0D%0ASet-Cookie:a=b",
        "javascript:alert(1)",
        "data:text/html,x",
        "urn:ietf:wg:oauth:2.0:oob:auto",
        "https://dr.example.org&redirect_uri=https://evil.example",
    ] {
        for kind in ["token", "code"] {
            let page = world.send(authorize(kind, redirect, "&state=a")).await;
            let twice = redirect.contains('&');
            assert_eq!(page.status.as_u16(), 200, "{redirect}");
            assert!(page.headers.get("location").is_none() && page.headers.get("set-cookie").is_none());
            assert!(twice || page.text.contains("Invalid redirect_uri"), "{redirect}: {}", page.text);
            assert!(!page.text.contains("oauth_state") && !page.text.contains("<script"), "{redirect}");
            let json = world.send(authorize(kind, redirect, "&state=a&f=json")).await;
            assert!(twice || refused(&json.json()) == "invalid_request", "{redirect}");
        }
    }
    // What the sign-in itself is sent decides nothing.
    let state = oauth_state(&world, authorize("token", SITE, "&state=a")).await;
    let more = "admin&redirect_uri=https://evil.example&state=b&response_type=code&client_id=b";
    let fragment = answered(&sign_in(&world, &state, more, PASSWORD).await, &format!("{SITE}#"));
    assert_eq!(fragment["state"], "a");
}

#[tokio::test]
async fn what_is_no_request_of_a_program_gets_no_sign_in_page() {
    let world = World::open().await;
    for (query, name) in [
        (format!("client_id=a&redirect_uri={SITE}"), "unsupported_response_type"),
        (format!("response_type=id_token&client_id=a&redirect_uri={SITE}"), "unsupported_response_type"),
        (format!("response_type=token&redirect_uri={SITE}"), "invalid_client"),
        (format!("response_type=token&client_id=%3Cb%3E%7B&redirect_uri={SITE}"), "invalid_client"),
        (format!("response_type=code&client_id=a&redirect_uri={SITE}"), "invalid_request"),
        (
            format!("response_type=code&client_id=a&redirect_uri={SITE}&code_challenge={CHALLENGE}"),
            "invalid_request",
        ),
        (
            format!(
                "response_type=code&client_id=a&redirect_uri={SITE}&code_challenge={CHALLENGE}&code_challenge_method=plain"
            ),
            "invalid_request",
        ),
    ] {
        let reply = world.send(ask("GET", &format!("{AUTHORIZE}?{query}&f=json"))).await;
        assert_eq!(refused(&reply.json()), name, "{query}");
        let page = world.send(ask("GET", &format!("{AUTHORIZE}?{query}"))).await;
        assert!(page.headers.get("location").is_none() && !page.text.contains("oauth_state"), "{query}");
    }
}

#[tokio::test]
async fn only_a_page_of_this_server_that_is_not_too_old_takes_a_password() {
    let world = World::open().await;
    let other = World::open().await;
    let now = crate::dispatch::now_ms();
    let wish = out_of_band();
    let good = wish.seal(&world.recovery);
    let (text, signature) = good.split_once('.').expect("two parts");
    let foreign = world.recovery.sign("another purpose", text);
    let mut bad = vec![
        String::new(),
        "nonsense".to_owned(),
        text.to_owned(),
        format!("{text}."),
        format!(".{signature}"),
        format!("{text}.{foreign}"),
        wish.seal(&other.recovery),
        wish.seal_until(&world.recovery, now - 1),
        format!("{good}0"),
        format!("a{good}"),
    ];
    bad.extend((0..good.len()).step_by(7).map(|at| {
        let other = if good.as_bytes()[at] == b'A' { "B" } else { "A" };
        format!("{}{other}{}", &good[..at], &good[at + 1..])
    }));
    let more = bad.len();
    assert!(more > 20);
    for state in &bad {
        // The right password is not even looked at, and the wrong one not counted.
        for password in [PASSWORD, "nonsense"] {
            let answer = sign_in(&world, state, "admin", password).await;
            assert_eq!(answer.status.as_u16(), 200);
            assert!(
                answer.headers.get("location").is_none() && !answer.text.contains("OAUTH_0015"),
                "{state}"
            );
        }
    }
    answered(
        &sign_in(&world, &good, "admin", PASSWORD).await,
        &format!("{PUBLIC_URL}/sharing/rest/oauth2/approval#"),
    );
    let get =
        world.send(ask("GET", &format!("{SIGN_IN}?oauth_state={good}&username=admin&password=x"))).await;
    assert!(get.text.contains("METHOD_NOT_ALLOWED"), "{}", get.text);
    assert_eq!(Wish::open(&world.recovery, &good), Ok(wish), "and it comes back as it was");
}

#[tokio::test]
async fn a_person_with_a_browser_can_use_the_sign_in_page() {
    let world = World::open().await;
    let page = world.send(authorize("token", SITE, "&state=%3Cscript%3Ealert(1)%3C/script%3E")).await;
    for part in [
        "<form class=\"operation\" method=\"post\" action=\"/strongroom/sharing/oauth2/signin\">",
        "<label for=\"username\">",
        "type=\"password\" id=\"password\" name=\"password\" autocomplete=\"current-password\" required",
        "<button>Sign in</button>",
        "<strong>pythonapi</strong>",
        "<script type=\"text/plain\">var oAuthInfo = {\"oauth_state\":\"",
    ] {
        assert!(page.text.contains(part), "{part} in {}", page.text);
    }
    assert_eq!(page.text.matches("<script").count(), 1, "the block of data alone, which no browser runs");
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("script"), "{policy}");
    for (name, value) in [
        ("cache-control", "no-store"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(page.header(name), value);
    }
    let state = info(&page)["oauth_state"].as_str().expect("state").to_owned();
    let form = format!("oauth_state={state}&username=admin&password={PASSWORD}");
    for (name, value) in [("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")] {
        let foreign = world.send(ask("POST", SIGN_IN).header(name, value).form(&form)).await;
        assert!(foreign.headers.get("location").is_none() && foreign.text.contains("FORBIDDEN"), "{name}");
    }
    let wrong = world
        .send(ask("POST", SIGN_IN).form(&format!("oauth_state={state}&username=admin&password=x")))
        .await;
    assert!(wrong.text.contains("role=\"alert\">Invalid username or password."), "{}", wrong.text);
    let own = ask("POST", SIGN_IN).header("sec-fetch-site", "same-origin").form(&form);
    answered(&world.send(own).await, &format!("{SITE}#"));
    let json = world.send(authorize("token", SITE, "&f=json")).await;
    assert!(json.text.starts_with("{\"oauth_state\":\""), "one line, no blanks: {}", json.text);
}
