//! Sign-in through a provider: that it works, and that no lie of the provider, of a stranger or of the network signs
//! anybody in or stands in the way of passwords.

use super::oidc_double::{CLIENT, Double, SECRET, Signer, Told};
use super::support::{ADMIN, Answer, DR, PASSWORD, World, ask};
use crate::{OidcSettings, RoleValues};
use recovery::Role;
use secrecy::SecretString;
use serde_json::{Value, json};
use std::time::Duration;

const START: &str = "/strongroom/admin/oidc/start";
const CALLBACK: &str = "/strongroom/admin/oidc/callback";

fn settings(double: &Double) -> OidcSettings {
    let values = |value: &str| vec![value.to_owned()];
    OidcSettings {
        issuer: double.issuer().to_owned(),
        client_id: CLIENT.to_owned(),
        client_secret: Some(SecretString::from(SECRET)),
        scopes: vec!["profile".to_owned()],
        username_claim: "preferred_username".to_owned(),
        role_claim: "roles".to_owned(),
        roles: RoleValues {
            administrator: values("dr-admins"),
            operator: values("dr-operators"),
            viewer: values("dr-viewers"),
        },
        clock_skew: Duration::from_secs(60),
        label: "Example & Söhne".to_owned(),
        certificates: None,
    }
}

async fn world() -> (World, Double) {
    let double = Double::start();
    let world = World::open().await.with_provider(settings(&double));
    (world, double)
}

/// A sign-in that a browser began: where it was sent, and its cookie.
struct Begun {
    location: String,
    cookie: String,
}

impl Begun {
    fn parameter(&self, name: &str) -> String {
        let query = self.location.split_once('?').expect("query").1;
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        pairs.find(|(known, _)| known == name).unwrap_or_else(|| panic!("no {name}")).1.into_owned()
    }
}

async fn begin(world: &World, double: &Double) -> Begun {
    let answer = world.send(ask("GET", &format!("{START}?next={DR}/stores"))).await;
    assert_eq!(answer.status.as_u16(), 302, "{}", answer.text);
    let cookie = answer.header("set-cookie").split(';').next().expect("cookie").to_owned();
    let begun = Begun { location: answer.header("location").to_owned(), cookie };
    double.set(|behaviour| behaviour.nonce = begun.parameter("nonce"));
    begun
}

async fn come_back(world: &World, begun: &Begun, query: &str) -> Answer {
    world.send(ask("GET", &format!("{CALLBACK}?{query}")).header("cookie", &begun.cookie)).await
}

/// The whole way: to the provider and back.
async fn sign_in(world: &World, double: &Double) -> Answer {
    let begun = begin(world, double).await;
    let state = begun.parameter("state");
    come_back(world, &begun, &format!("code=c1&state={state}")).await
}

/// The cookie of the session, if somebody was signed in.
fn session(answer: &Answer) -> Option<String> {
    let cookies = answer.headers.get_all("set-cookie").iter().map(|value| value.to_str().expect("text"));
    let pairs = cookies.filter_map(|cookie| cookie.split(';').next());
    pairs.filter(|pair| pair.starts_with("__Host-strongroom=")).map(str::to_owned).next()
}

async fn users(world: &World) -> Vec<Value> {
    let reply = world.ask(Role::Administrator, "GET", &format!("{ADMIN}/users?f=json"), "").await.json();
    reply["users"].as_array().expect("users").clone()
}

#[tokio::test]
async fn somebody_signs_in_through_the_provider_with_the_role_that_it_tells() {
    let (world, double) = world().await;
    let page = world.send(ask("GET", &format!("{ADMIN}/login"))).await.text;
    assert!(page.contains("Sign in with Example &#38; Söhne"), "{page}");
    let begun = begin(&world, &double).await;
    assert!(begun.location.starts_with(&format!("{}/auth?tenant=1&", double.issuer())), "{}", begun.location);
    for (name, value) in [
        ("response_type", "code"),
        ("client_id", CLIENT),
        ("redirect_uri", "https://dr.example.org/strongroom/admin/oidc/callback"),
        ("scope", "openid profile"),
        ("code_challenge_method", "S256"),
    ] {
        assert_eq!(begun.parameter(name), value);
    }
    let state = begun.parameter("state");
    let answer = come_back(&world, &begun, &format!("code=c1&state={state}&iss={}", double.issuer())).await;
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.text);
    assert!(answer.text.contains(&format!("content=\"0; url={DR}/stores\"")), "{}", answer.text);
    let cookie = session(&answer).expect("session");
    let stores = world.send(ask("GET", &format!("{DR}/stores")).header("cookie", &cookie)).await.text;
    assert!(stores.contains("oidc:anna (operator)"), "{stores}");

    // The exchange proves us by the secret, and the browser by the verifier of the challenge.
    let (body, authorization) = double.exchanged();
    let form: Vec<_> = form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    let of = |name: &str| form.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    assert_eq!((of("code"), of("client_secret")), (Some("c1"), None));
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use sha2::Digest;
    let hash = URL_SAFE_NO_PAD.encode(sha2::Sha256::digest(of("code_verifier").expect("verifier")));
    assert_eq!(hash, begun.parameter("code_challenge"));
    let proof = STANDARD.encode("strongroom+test:planted%3A+client+%26+secret");
    assert_eq!(authorization, format!("Basic {proof}"));

    let log = world.ask(Role::Administrator, "GET", &format!("{ADMIN}/audit?f=json"), "").await.json();
    let last = &log["entries"][0];
    assert_eq!((&last["username"], &last["code"]), (&json!("oidc:anna"), &json!(0)));
    assert_eq!(last["path"], CALLBACK);
}

#[tokio::test]
async fn whoever_was_signed_in_is_so_no_longer_when_somebody_goes_to_the_provider() {
    let (world, double) = world().await;
    let before = session(&sign_in(&world, &double).await).expect("session");
    let stores = |cookie: String| ask("GET", &format!("{DR}/stores")).header("cookie", &cookie);
    assert_eq!(world.send(stores(before.clone())).await.status.as_u16(), 200);
    // Back from the provider no browser sends the session's cookie; to it, it does.
    let begun = world.send(ask("GET", START).header("cookie", &before)).await;
    assert_eq!(begun.status.as_u16(), 302, "{}", begun.text);
    let after = world.send(stores(before)).await;
    assert!(!after.text.contains("oidc:anna"), "{}", after.text);
}

#[tokio::test]
async fn users_of_the_provider_stand_apart_have_no_password_and_get_the_role_of_each_sign_in() {
    let (world, double) = world().await;
    world.run(&format!("{ADMIN}/users/add"), &format!("username=anna&role=viewer&password={PASSWORD}")).await;
    double.set(|behaviour| behaviour.claims = json!({"roles": "dr-admins"}));
    let first = session(&sign_in(&world, &double).await).expect("session");
    let names: Vec<_> = users(&world).await.iter().map(|user| user["username"].clone()).collect();
    assert_eq!(names, ["admin", "anna", "oidc:anna", "olga", "victor"]);
    let user = format!("{ADMIN}/users/oidc:anna");
    for form in ["role=viewer", "password=a long enough one"] {
        assert_eq!(world.run(&format!("{user}/update"), form).await["error"]["messageCode"], "PARAM_INVALID");
    }
    let add = format!("username=oidc:eve&role=viewer&password={PASSWORD}");
    let disguised = world.run(&format!("{ADMIN}/users/add"), &add).await;
    assert_eq!(disguised["error"]["messageCode"], "NAME_INVALID");
    for password in ["", "x", PASSWORD] {
        let form = format!("f=json&username=oidc:anna&password={password}");
        let reply =
            world.send(ask("POST", "/strongroom/sharing/rest/generateToken").form(&form)).await.json();
        assert!(reply["error"]["code"] == 400 && reply["token"].is_null(), "{reply}");
    }
    // An administrator of the provider is not one who keeps this server administrable.
    let last = world.run(&format!("{ADMIN}/users/admin/remove"), "").await;
    assert_eq!(last["error"]["messageCode"], "LAST_ADMINISTRATOR");

    let me = async |cookie: &str| world.send(ask("GET", ADMIN).header("cookie", cookie)).await.text;
    assert!(me(&first).await.contains("oidc:anna (administrator)"));
    let same = session(&sign_in(&world, &double).await).expect("session");
    assert!(me(&first).await.contains("oidc:anna (administrator)"), "the same role ends nothing");
    double.set(|behaviour| behaviour.claims = json!({"roles": ["dr-viewers"]}));
    let lower = session(&sign_in(&world, &double).await).expect("session");
    assert!(me(&lower).await.contains("oidc:anna (viewer)"));
    for old in [&first, &same] {
        assert!(me(old).await.contains("Invalid Token"), "sessions under the former role have ended");
    }
    // The name passes to another account: that is somebody else.
    double.set(|behaviour| behaviour.claims = json!({"roles": "dr-viewers", "sub": "account-2"}));
    let other = sign_in(&world, &double).await;
    assert!(session(&other).is_none() && other.text.contains("somebody else"), "{}", other.text);
    assert_eq!(world.run(&format!("{user}/remove"), "").await["status"], "success");
    assert!(me(&lower).await.contains("Invalid Token"));
    assert!(session(&sign_in(&world, &double).await).is_some(), "as a new user");
}

#[tokio::test]
async fn signatures_by_keys_that_the_signer_alone_has_count_and_no_others() {
    let (world, double) = world().await;
    for signer in [Signer::Rs256, Signer::Es256, Signer::EdDsa] {
        double.set(|behaviour| behaviour.signer = signer);
        assert!(session(&sign_in(&world, &double).await).is_some(), "{signer:?}");
    }
    assert_eq!(double.asked("/keys"), 1, "keys are kept");
    for signer in [Signer::None, Signer::Hs256, Signer::Stranger] {
        double.set(|behaviour| behaviour.signer = signer);
        let answer = sign_in(&world, &double).await;
        assert!(session(&answer).is_none() && answer.text.contains("cannot be trusted"), "{signer:?}");
    }
    assert_eq!(double.asked("/keys"), 1, "a lie makes us ask for nothing");
}

#[tokio::test]
async fn an_unknown_key_makes_us_ask_for_the_keys_once_and_not_again_and_again() {
    let (world, double) = world().await;
    assert!(session(&sign_in(&world, &double).await).is_some());
    double.set(|behaviour| behaviour.signer = Signer::Unknown);
    for _ in 0..5 {
        assert!(session(&sign_in(&world, &double).await).is_none());
    }
    assert_eq!(double.asked("/keys"), 1, "they were read a moment ago");
    let provider = world.site.oidc.as_ref().expect("provider");
    provider.forget_when_keys_were_read();
    for _ in 0..5 {
        assert!(session(&sign_in(&world, &double).await).is_none());
    }
    assert_eq!(double.asked("/keys"), 2, "once more, and then not for a while");
    provider.forget_when_keys_were_read();
    double.set(|behaviour| behaviour.signer = Signer::Rotated);
    assert!(session(&sign_in(&world, &double).await).is_some(), "a new key of the provider is found");
}

#[tokio::test]
async fn a_key_that_took_the_place_of_another_is_found_though_no_name_tells_of_it() {
    let (world, double) = world().await;
    assert!(session(&sign_in(&world, &double).await).is_some());
    double.set(|behaviour| behaviour.signer = Signer::Replaced);
    assert!(session(&sign_in(&world, &double).await).is_none());
    assert_eq!(double.asked("/keys"), 1, "they were read a moment ago");
    world.site.oidc.as_ref().expect("provider").forget_when_keys_were_read();
    assert!(session(&sign_in(&world, &double).await).is_some());
    assert_eq!(double.asked("/keys"), 2);
}

#[tokio::test]
async fn a_key_without_a_name_is_tried_for_every_token_that_it_could_have_signed() {
    for signer in [Signer::Rs256, Signer::Es256, Signer::EdDsa] {
        let (world, double) = world().await;
        double.set(|behaviour| (behaviour.nameless, behaviour.signer) = (true, signer));
        assert!(session(&sign_in(&world, &double).await).is_some(), "{signer:?}");
        double.set(|behaviour| behaviour.signer = Signer::Stranger);
        assert!(session(&sign_in(&world, &double).await).is_none(), "{signer:?}: and none else");
    }
}

#[tokio::test]
async fn keys_that_were_good_hold_for_a_day_while_the_provider_tells_no_others() {
    const HOUR: Duration = Duration::from_secs(3600);
    for told in [Told::Status(500), Told::Json(json!({"keys": []})), Told::Half, Told::Hang] {
        let (world, double) = world().await;
        let provider = world.site.oidc.as_ref().expect("provider");
        assert!(session(&sign_in(&world, &double).await).is_some());
        double.set(|behaviour| behaviour.keys = told.clone());
        provider.let_time_pass(2 * HOUR);
        for _ in 0..3 {
            assert!(session(&sign_in(&world, &double).await).is_some(), "{told:?}");
        }
        assert_eq!(double.asked("/keys"), 2, "{told:?}: it is left alone for a while");
        double.set(|behaviour| behaviour.signer = Signer::Stranger);
        assert!(session(&sign_in(&world, &double).await).is_none(), "{told:?}: what they do not fit");
        double.set(|behaviour| behaviour.signer = Signer::Rs256);
        provider.let_time_pass(23 * HOUR);
        assert!(session(&sign_in(&world, &double).await).is_none(), "{told:?}: not for ever");
        double.set(|behaviour| behaviour.keys = Told::Right);
        provider.let_time_pass(HOUR);
        assert!(session(&sign_in(&world, &double).await).is_some(), "{told:?}");
    }
}

#[tokio::test]
async fn the_way_to_the_provider_stays_open_while_it_hangs_over_its_keys() {
    let (world, double) = world().await;
    let begun = begin(&world, &double).await;
    double.set(|behaviour| behaviour.keys = Told::Hang);
    let query = format!("{CALLBACK}?code=c&state={}", begun.parameter("state"));
    let ask_with = |path: String, cookie: String| {
        let site = world.site.clone();
        tokio::spawn(async move {
            let request = hyper::Request::builder().uri(path).header("cookie", cookie);
            let request = request.body(http_body_util::Full::<hyper::body::Bytes>::default());
            crate::dispatch::respond(site, request.expect("request"), [127, 0, 0, 1].into()).await
        })
    };
    let waiting: Vec<_> = (0..16).map(|_| ask_with(query.clone(), begun.cookie.clone())).collect();
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while double.asked("/keys") == 0 {
        assert!(std::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for _ in 0..20 {
        let answer = world.send(ask("GET", START)).await;
        assert_eq!(answer.status.as_u16(), 302, "{}", answer.text);
    }
    for one in waiting {
        one.await.expect("answer");
    }
}

#[tokio::test]
async fn whoever_comes_to_a_provider_that_hangs_is_told_so_and_not_that_others_are_there() {
    let (world, double) = world().await;
    double.set(|behaviour| behaviour.discovery = Told::Hang);
    let starts: Vec<_> = (0..40)
        .map(|_| {
            let site = world.site.clone();
            tokio::spawn(async move {
                let request = hyper::Request::builder().uri(START).header("accept", "text/html");
                let request = request.body(http_body_util::Full::<hyper::body::Bytes>::default());
                let reply =
                    crate::dispatch::respond(site, request.expect("request"), [127, 0, 0, 1].into()).await;
                use http_body_util::BodyExt;
                let body = reply.into_body().collect().await.expect("body").to_bytes();
                String::from_utf8_lossy(&body).into_owned()
            })
        })
        .collect();
    for one in starts {
        let page = one.await.expect("answer");
        assert!(page.contains("does not answer as it should"), "{page}");
    }
    assert_eq!(double.asked("/.well-known/openid-configuration"), 1, "one asks for all");
}

#[tokio::test]
async fn a_role_that_the_provider_lowers_closes_what_was_open_under_the_former_one() {
    use super::support::PASSCODE;
    let (world, double) = world().await;
    let world = world.with_store().await;
    let form = format!("name=b1&passcode={PASSCODE}");
    let job = world.wait(&world.run(&format!("{DR}/stores/s1/backups/create"), &form).await).await;
    assert_eq!(job["status"], "COMPLETED", "{job}");
    double.set(|behaviour| behaviour.claims = json!({"roles": "dr-admins"}));
    let cookie = session(&sign_in(&world, &double).await).expect("session");
    let token = cookie.split('=').nth(1).expect("token");
    let who = recovery::Principal::person("oidc:anna".to_owned(), Role::Administrator);
    let passcode = recovery::Passcode::new(PASSCODE.to_owned());
    world.recovery.open_files(token, &who, "s1", "b1", passcode).await.expect("opened");
    session(&sign_in(&world, &double).await).expect("session");
    assert!(world.recovery.has_files_open(token, "s1", "b1"), "the same role closes nothing");
    double.set(|behaviour| behaviour.claims = json!({"roles": "dr-viewers"}));
    session(&sign_in(&world, &double).await).expect("session");
    assert!(!world.recovery.has_files_open(token, "s1", "b1"));
}

#[tokio::test]
async fn claims_that_are_not_for_us_now_and_this_sign_in_are_refused() {
    let (world, double) = world().await;
    let now = crate::dispatch::now_ms() / 1000;
    for (claims, text) in [
        (json!({"iss": "http://127.0.0.1:1"}), "cannot be trusted"),
        (json!({"aud": "another"}), "cannot be trusted"),
        (json!({"aud": [CLIENT, "another"]}), "cannot be trusted"),
        (json!({"azp": "another"}), "cannot be trusted"),
        (json!({"nonce": "another"}), "cannot be trusted"),
        (json!({"nonce": null}), "cannot be trusted"),
        (json!({"exp": now - 120}), "cannot be trusted"),
        (json!({"exp": null}), "cannot be trusted"),
        (json!({"iat": now + 3600, "exp": now + 7200}), "cannot be trusted"),
        (json!({"iat": now - 7200}), "cannot be trusted"),
        (json!({"sub": null}), "cannot be trusted"),
        (json!({"preferred_username": null}), "no name"),
        (json!({"preferred_username": "a/b"}), "no name"),
        (json!({"preferred_username": "key:x"}), "no name"),
        (json!({"preferred_username": ""}), "no name"),
        (json!({"preferred_username": "x".repeat(300)}), "no name"),
        (json!({"roles": ["staff"]}), "gives you a role"),
        (json!({"roles": null}), "gives you a role"),
        (json!({"roles": {"dr-admins": true}}), "gives you a role"),
    ] {
        double.set(|behaviour| behaviour.claims = claims.clone());
        let answer = sign_in(&world, &double).await;
        assert!(session(&answer).is_none() && answer.text.contains(text), "{claims}: {}", answer.text);
        assert!(answer.text.contains("name=\"password\""), "the way with a password stays open");
    }
    assert_eq!(users(&world).await.len(), 3, "nobody was made");
    let log = world.ask(Role::Administrator, "GET", &format!("{ADMIN}/audit?f=json"), "").await.json();
    assert_eq!(
        (&log["entries"][0]["username"], &log["entries"][0]["messageCode"]),
        (&json!("oidc:"), &json!("LOGIN_FAILED"))
    );
}

#[tokio::test]
async fn an_answer_is_taken_only_in_the_browser_that_asked_and_with_its_state() {
    let (world, double) = world().await;
    let (mine, theirs) = (begin(&world, &double).await, begin(&world, &double).await);
    let state = mine.parameter("state");
    let good = format!("code=c1&state={state}");
    let foreign = |answer: &Answer| session(answer).is_none() && answer.text.contains("begin again");
    for (begun, query) in [
        (&theirs, good.as_str()),
        (&mine, "code=c1"),
        (&mine, "code=c1&state=x"),
        (&mine, &format!("state={state}")),
        (&mine, ""),
    ] {
        assert!(foreign(&come_back(&world, begun, query).await), "{query}");
    }
    for cookie in
        ["", "__Host-strongroom-oidc=", "__Host-strongroom-oidc=1.2.3.4", "__Host-strongroom-oidc=a"]
    {
        let begun = Begun { location: String::new(), cookie: cookie.to_owned() };
        assert!(foreign(&come_back(&world, &begun, &good).await), "{cookie}");
    }
    let mut altered = mine.cookie.clone();
    altered.replace_range(23..24, if &altered[23..24] == "9" { "8" } else { "9" });
    let begun = Begun { location: String::new(), cookie: altered };
    assert!(foreign(&come_back(&world, &begun, &good).await), "a cookie of our own is signed");
    assert_eq!(double.asked("/token"), 0, "none of them made us ask the provider");
    let mixed = come_back(&world, &mine, &format!("{good}&iss=https://other.example")).await;
    assert!(session(&mixed).is_none() && mixed.text.contains("cannot be trusted"));
    let denied = come_back(&world, &mine, &format!("error=access_denied&state={state}")).await;
    assert!(denied.text.contains("refused to sign you in"), "{}", denied.text);
    let strange = come_back(&world, &mine, &format!("error=%3Cscript%3E&state={state}")).await;
    assert!(!strange.text.contains("<script>"));
    let log = world.ask(Role::Administrator, "GET", &format!("{ADMIN}/audit?f=json"), "").await.json();
    assert_eq!(log["entries"].as_array().expect("entries").len(), 1, "strangers fill no log: {log}");
    // What is asked as JSON, posted, or asked of a server without a provider, is not there.
    assert_eq!(world.send(ask("GET", &format!("{START}?f=json"))).await.code(), 404);
    assert!(session(&world.send(ask("POST", CALLBACK).form(&good)).await).is_none());
    let without = World::open().await;
    assert!(without.send(ask("GET", START)).await.text.contains("URL_NOT_FOUND"));
    assert!(!without.send(ask("GET", &format!("{ADMIN}/login"))).await.text.contains("Sign in with"));
}

#[tokio::test]
async fn a_provider_that_lies_breaks_off_or_is_away_signs_nobody_in() {
    for told in [
        Told::Status(500),
        Told::Status(404),
        Told::Redirect,
        Told::Huge,
        Told::Half,
        Told::Json(json!([])),
        Told::Json(json!({})),
        Told::Hang,
    ] {
        for page in ["discovery", "token", "keys"] {
            let (world, double) = world().await;
            let told = told.clone();
            let shown = format!("{page} {told:?}");
            if page == "discovery" {
                double.set(|behaviour| behaviour.discovery = told);
                let answer = world.send(ask("GET", START)).await;
                assert!(answer.text.contains("does not answer as it should"), "{shown}: {}", answer.text);
                assert_eq!(answer.header("location"), "", "{shown}");
                // Those who come next do not wait for it again.
                world.send(ask("GET", START)).await;
                assert_eq!(double.asked("/.well-known/openid-configuration"), 1, "{shown}");
            } else {
                double.set(
                    |behaviour| if page == "token" { behaviour.token = told } else { behaviour.keys = told },
                );
                let answer = sign_in(&world, &double).await;
                assert!(session(&answer).is_none(), "{shown}: {}", answer.text);
            }
            assert_eq!(double.asked("/right/token"), 0, "no redirect is followed");
        }
    }
}

#[tokio::test]
async fn a_description_that_leads_elsewhere_than_over_tls_is_refused() {
    for description in [
        json!({"issuer": "http://127.0.0.1:1"}),
        json!({"issuer": null}),
        json!({"token_endpoint": "http://login.example/token"}),
        json!({"jwks_uri": "file:///etc/passwd"}),
        json!({"authorization_endpoint": "javascript:alert(1)"}),
        json!({"authorization_endpoint": null}),
    ] {
        let (world, double) = world().await;
        double.set(|behaviour| behaviour.description = description.clone());
        let answer = world.send(ask("GET", START)).await;
        assert!(answer.text.contains("does not answer as it should"), "{description}: {}", answer.text);
    }
    for (issuer, safe) in [
        ("https://login.example/realms/main", true),
        ("http://127.0.0.1:8080", true),
        ("http://[::1]:8080", true),
        ("http://localhost", true),
        ("http://login.example", false),
        ("http://127.0.0.1.evil.example", false),
        ("ftp://login.example", false),
        ("https://login.example?x", false),
        ("https://user@login.example", false),
        ("login.example", false),
    ] {
        assert_eq!(crate::is_safe_issuer(issuer), safe, "{issuer}");
    }
}

#[tokio::test]
async fn while_the_provider_hangs_people_sign_in_with_passwords() {
    let (world, double) = world().await;
    double.set(|behaviour| behaviour.token = Told::Hang);
    let begun = begin(&world, &double).await;
    let query = format!("{CALLBACK}?code=c&state={}", begun.parameter("state"));
    let waiting: Vec<_> = (0..60)
        .map(|_| {
            let (site, query, cookie) = (world.site.clone(), query.clone(), begun.cookie.clone());
            tokio::spawn(async move {
                let request = hyper::Request::builder().uri(query).header("cookie", cookie);
                let request = request.body(http_body_util::Full::<hyper::body::Bytes>::default());
                crate::dispatch::respond(site, request.expect("request"), [127, 0, 0, 1].into()).await
            })
        })
        .collect();
    let form = format!("username=admin&password={PASSWORD}");
    let signed_in = world.send(ask("POST", &format!("{ADMIN}/login")).form(&form)).await;
    assert_eq!(signed_in.status.as_u16(), 303, "{}", signed_in.text);
    for one in waiting {
        assert_eq!(one.await.expect("answer").status().as_u16(), 200);
    }
    assert!(double.asked("/token") <= 16, "few wait at a time");
}

#[tokio::test]
async fn sessions_end_when_their_provider_is_no_longer_the_configured_one() {
    let (world, double) = world().await;
    let cookie = session(&sign_in(&world, &double).await).expect("session");
    let is_in = async || {
        !world.send(ask("GET", ADMIN).header("cookie", &cookie)).await.text.contains("Invalid Token")
    };
    world.recovery.end_other_provider_sessions(Some(double.issuer())).await.expect("state");
    assert!(is_in().await);
    world.recovery.end_other_provider_sessions(Some(&format!("{}/x", double.issuer()))).await.expect("state");
    assert!(!is_in().await);
    let cookie = session(&sign_in(&world, &double).await).expect("session");
    world.recovery.end_other_provider_sessions(None).await.expect("state");
    let page = world.send(ask("GET", ADMIN).header("cookie", &cookie)).await.text;
    assert!(page.contains("Invalid Token"));
    assert_eq!(world.ask(Role::Viewer, "GET", &format!("{ADMIN}?f=json"), "").await.code(), 0, "others stay");
}
