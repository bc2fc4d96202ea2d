//! Users, one's own password, and the audit log on the wire.

use super::support::{ADMIN, DR, PASSCODE, PASSWORD, World, ask};
use recovery::Role;
use secrecy::SecretString;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const USERS: &str = "/strongroom/admin/users";

fn refusal(reply: &Value) -> &str {
    reply["error"]["messageCode"].as_str().unwrap_or("none")
}

async fn token_for(world: &World, username: &str, password: &str) -> Option<String> {
    let form = format!("f=json&username={username}&password={password}");
    let reply = world.send(ask("POST", "/strongroom/sharing/rest/generateToken").form(&form)).await.json();
    reply["token"].as_str().map(str::to_owned)
}

/// The audit log, newest first, as texts: who, what, with which outcome.
async fn audit(world: &World, query: &str) -> Vec<(String, String, String)> {
    let reply =
        world.ask(Role::Administrator, "GET", &format!("{ADMIN}/audit?f=json&{query}"), "").await.json();
    let text = |entry: &Value, key: &str| entry[key].as_str().expect(key).to_owned();
    let entries = reply["entries"].as_array().expect("entries").iter();
    entries.map(|e| (text(e, "username"), text(e, "operation"), text(e, "messageCode"))).collect()
}

#[tokio::test]
async fn a_user_is_added_signs_in_gets_another_role_and_goes() {
    let world = World::open().await;
    let done = json!({"status": "success"});
    let add = format!("{USERS}/add");
    assert_eq!(world.run(&add, "username=Änne&role=viewer&password=another long one").await, done);
    let token = token_for(&world, "Änne", "another long one").await.expect("token");
    let as_anne = |method: &str, path: &str| ask(method, path).token(&token).form("f=json");
    assert_eq!(world.send(as_anne("GET", &format!("{ADMIN}/jobs"))).await.code(), 0);
    let list = world.ask(Role::Administrator, "GET", &format!("{USERS}?f=json"), "").await;
    assert!(!list.text.contains("argon2"), "no hashes: {}", list.text);
    let names: Vec<Value> =
        list.json()["users"].as_array().expect("list").iter().map(|u| u["username"].clone()).collect();
    assert_eq!(names, ["admin", "olga", "victor", "Änne"]);

    assert_eq!(world.run(&format!("{USERS}/%C3%84nne/update"), "role=operator").await, done);
    assert_eq!(world.send(as_anne("GET", &format!("{ADMIN}/jobs"))).await.code(), 498, "signed out");
    let one = world.ask(Role::Administrator, "GET", &format!("{USERS}/%C3%84nne?f=json"), "").await.json();
    assert_eq!((&one["username"], &one["role"]), (&json!("Änne"), &json!("operator")));

    let token = token_for(&world, "Änne", "another long one").await.expect("token");
    assert_eq!(world.run(&format!("{USERS}/%C3%84nne/signOut"), "").await, done);
    assert_eq!(world.send(ask("GET", ADMIN).token(&token).form("f=json")).await.code(), 498);
    assert_eq!(world.run(&format!("{USERS}/%C3%84nne/update"), "password=a third long one").await, done);
    assert_eq!(token_for(&world, "Änne", "another long one").await, None);
    assert!(token_for(&world, "Änne", "a third long one").await.is_some());
    assert_eq!(world.run(&format!("{USERS}/%C3%84nne/remove"), "").await, done);
    assert_eq!(token_for(&world, "Änne", "a third long one").await, None);
    for operation in ["update", "signOut", "remove"] {
        let reply = world.run(&format!("{USERS}/%C3%84nne/{operation}"), "role=viewer").await;
        assert_eq!(refusal(&reply), "USER_NOT_FOUND", "{operation}");
    }
}

#[tokio::test]
async fn what_cannot_be_a_user_is_refused_and_the_last_administrator_stays() {
    let world = World::open().await;
    let add = format!("{USERS}/add");
    for (form, code) in [
        ("role=viewer&password=long enough", "PARAM_MISSING"),
        ("username=x&password=long enough", "PARAM_MISSING"),
        ("username=x&role=viewer", "PARAM_MISSING"),
        ("username=x&role=king&password=long enough", "PARAM_INVALID"),
        ("username=x&role=viewer&password=short", "PARAM_INVALID"),
        ("username=a/b&role=viewer&password=long enough", "NAME_INVALID"),
        ("username=Add&role=viewer&password=long enough", "NAME_INVALID"),
        ("username=ADMIN&role=viewer&password=long enough", "PARAM_INVALID"),
    ] {
        assert_eq!(refusal(&world.run(&add, form).await), code, "{form}");
    }
    assert_eq!(refusal(&world.run(&format!("{USERS}/olga/update"), "").await), "PARAM_MISSING");
    let half = world.run(&format!("{USERS}/olga/update"), "role=administrator&password=short").await;
    assert_eq!(refusal(&half), "PARAM_INVALID");
    let olga = world.ask(Role::Administrator, "GET", &format!("{USERS}/olga?f=json"), "").await.json();
    assert_eq!(olga["role"], "operator", "nothing of it was done");
    assert_eq!(refusal(&world.run(&format!("{USERS}/admin/remove"), "").await), "LAST_ADMINISTRATOR");
    assert_eq!(
        refusal(&world.run(&format!("{USERS}/admin/update"), "role=viewer").await),
        "LAST_ADMINISTRATOR"
    );
    assert_eq!(world.run(&format!("{USERS}/olga/update"), "role=administrator").await["status"], "success");
    assert_eq!(
        world.run(&format!("{USERS}/admin/remove"), "").await["status"],
        "success",
        "there is another one now"
    );
}

#[tokio::test]
async fn ones_own_password_changes_with_the_present_one_alone() {
    let world = World::open().await;
    let change = format!("{ADMIN}/password");
    let ask_as = async |form: &str| world.ask(Role::Viewer, "POST", &change, form).await;
    let wrong = ask_as("f=json&password=nonsense words&newPassword=brand new words").await;
    assert_eq!(refusal(&wrong.json()), "LOGIN_FAILED");
    let short = ask_as(&format!("f=json&password={PASSWORD}&newPassword=short")).await;
    assert_eq!(refusal(&short.json()), "PARAM_INVALID");
    let done = ask_as(&format!("f=json&password={PASSWORD}&newPassword=brand new words")).await;
    assert_eq!(done.json(), json!({"status": "success"}));
    assert_eq!(
        world.ask(Role::Viewer, "GET", &format!("{ADMIN}?f=json"), "").await.code(),
        498,
        "signed out"
    );
    assert!(token_for(&world, "victor", "brand new words").await.is_some());
}

#[tokio::test]
async fn who_is_removed_while_the_password_changes_has_a_token_no_more() {
    let world = World::open().await;
    let secret = SecretString::from(PASSWORD);
    let mut took = Duration::ZERO;
    // At one time after another of what the change takes.
    for part in 0..10 {
        let name = format!("user{part}");
        world.recovery.add_user(&name, &secret, Role::Viewer).await.expect("added");
        let token = token_for(&world, &name, PASSWORD).await.expect("token");
        let form = format!("f=json&password={PASSWORD}&newPassword=brand new words");
        let change = ask("POST", &format!("{ADMIN}/password")).token(&token).form(&form);
        let since = Instant::now();
        let remove = async {
            tokio::time::sleep(took * part / 10).await;
            if part > 0 {
                world.recovery.remove_user(&name).await.expect("removed");
            }
        };
        let (answer, ()) = tokio::join!(world.send(change), remove);
        took = took.max(since.elapsed());
        let code = refusal(&answer.json()).to_owned();
        assert!(["none", "LOGIN_FAILED", "TOKEN_INVALID"].contains(&code.as_str()), "{}", answer.text);
        println!("{part}: {code}");
    }
}

#[tokio::test]
async fn every_change_and_log_in_is_in_the_audit_log_done_or_refused_and_no_secret_is() {
    let world = World::open().await.with_store().await;
    assert!(token_for(&world, "olga", PASSWORD).await.is_some());
    assert!(token_for(&world, "olga", PASSWORD).await.is_some());
    assert_eq!(token_for(&world, "olga", "a wrong password").await, None);
    let backups = format!("{DR}/stores/s1/backups");
    let form = format!("name=b1&passcode={PASSCODE}");
    world.wait(&world.run(&format!("{backups}/create"), &form).await).await;
    world.run(&format!("{backups}/create"), &form).await;
    world.ask(Role::Viewer, "POST", &format!("{backups}/b1/delete"), "f=json").await;
    world.read(&backups).await;
    let entry =
        |user: &str, operation: &str, code: &str| (user.to_owned(), operation.to_owned(), code.to_owned());
    assert_eq!(
        audit(&world, "").await,
        [
            entry("victor", "delete a backup", "FORBIDDEN"),
            entry("admin", "create a backup", "DR_BACKUP_EXISTS"),
            entry("admin", "create a backup", ""),
            entry("olga", "generate a token", "LOGIN_FAILED"),
            entry("olga", "generate a token", ""),
            entry("admin", "register a backup store", ""),
        ],
        "log-ins that follow each other are one entry, reading is none"
    );
    let one = audit(&world, "username=victor").await;
    assert_eq!(one.len(), 1);
    let page = world.ask(Role::Administrator, "GET", &format!("{ADMIN}/audit?f=json&num=2"), "").await;
    for secret in [PASSCODE, PASSWORD, "a wrong password"] {
        assert!(!page.text.contains(secret));
    }
    let page = page.json();
    let next = page["nextBefore"].as_i64().expect("next");
    assert_eq!(page["entries"][1]["id"], json!(next));
    assert_eq!(audit(&world, &format!("before={next}")).await.len(), 4);
    assert!(page["entries"][0]["requestId"].as_str().expect("id").len() == 36);
    let html = world.ask(Role::Administrator, "GET", &format!("{ADMIN}/audit"), "").await.text;
    assert!(html.contains("DR_BACKUP_EXISTS") && html.contains("<th scope=\"col\">Who</th>"), "{html}");
}

#[tokio::test]
async fn strangers_without_a_token_leave_nothing_in_the_audit_log() {
    let world = World::open().await;
    let token = "/strongroom/sharing/rest/generateToken";
    for form in ["f=json", "f=json&username=olga", "f=json&username=olga&password=x&expiration=never"] {
        world.send(ask("POST", token).form(form)).await;
    }
    world
        .send(
            ask("POST", "/strongroom/sharing/rest/oauth2/token").form("grant_type=authorization_code&code=x"),
        )
        .await;
    for path in ["stores/register", "settings/update", "nope"] {
        world.send(ask("POST", &format!("{DR}/{path}")).form("f=json&storeName=x")).await;
        world.send(ask("POST", &format!("{DR}/{path}")).token("nonsense").form("f=json")).await;
    }
    assert_eq!(audit(&world, "").await, []);
}
