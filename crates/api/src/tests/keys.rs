//! API keys on the wire: what each is good for, over all endpoints; their life; that they make nobody more powerful.

use super::support::{ADMIN, DR, PASSCODE, World, ask};
use crate::endpoints::{ENDPOINTS, Endpoint, Kind};
use recovery::{KeyScope, NewKey, OperationGroup, Role};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

const KEYS: &str = "/strongroom/admin/keys";

fn refusal(reply: &Value) -> &str {
    reply["error"]["messageCode"].as_str().unwrap_or("none")
}

/// A key made behind the interface.
async fn key(world: &World, role: Role, operations: &[OperationGroup], stores: &[&str]) -> String {
    let name = format!("{role:?} {operations:?} {stores:?}").replace('"', "'");
    let stores = stores.iter().map(|store| (*store).to_owned()).collect();
    let scope = KeyScope { stores, operations: operations.to_vec() };
    let made = world.recovery.create_key(NewKey { name, role, scope, days: None }, "admin").await;
    made.expect("key").0.expose_secret().to_owned()
}

fn path(endpoint: &Endpoint) -> String {
    format!("/strongroom/{}", endpoint.path.replace(['{', '}'], ""))
}

fn guarded() -> impl Iterator<Item = &'static Endpoint> {
    ENDPOINTS.iter().filter(|endpoint| endpoint.role.is_some() && endpoint.last() != "metrics")
}

/// What a key must be good for, told a second time and in another way than the table tells it.
fn group(endpoint: &Endpoint) -> Option<OperationGroup> {
    let is_operation = matches!(endpoint.kind, Kind::Operation(_));
    match endpoint.last() {
        _ if ["admin/users", "admin/keys", "admin/password"].iter().any(|p| endpoint.path.starts_with(p)) => {
            None
        }
        // Who looks into a backup sees what a restore would bring.
        _ if ["files", "assistant"]
            .iter()
            .any(|part| endpoint.path.contains(&format!("{{backup}}/{part}"))) =>
        {
            Some(OperationGroup::Restore)
        }
        _ if !is_operation => Some(OperationGroup::Read),
        _ if endpoint.path.starts_with("admin/system/tasks") => Some(OperationGroup::Schedules),
        "restore" => Some(OperationGroup::Restore),
        "create" | "backup" | "validate" | "drill" | "cancel" => Some(OperationGroup::Backup),
        _ => Some(OperationGroup::Manage),
    }
}

#[tokio::test]
async fn every_endpoint_takes_a_key_as_its_role_and_operations_allow() {
    let world = World::open().await;
    for role in [Role::Viewer, Role::Operator, Role::Administrator] {
        let singles = OperationGroup::ALL.map(|group| vec![group]);
        for operations in singles.into_iter().chain([OperationGroup::ALL.to_vec()]) {
            let key = key(&world, role, &operations, &[]).await;
            for endpoint in guarded() {
                let answer = world.send(ask("POST", &path(endpoint)).token(&key).form("f=json")).await;
                let good = group(endpoint).is_some_and(|group| operations.contains(&group));
                let allowed = good && Some(role) >= endpoint.role;
                let told = format!("{role:?} {operations:?} {}: {}", endpoint.path, answer.text);
                assert_eq!(answer.code() == 403, !allowed, "{told}");
                assert!(allowed || answer.text.contains(endpoint.title), "{told}");
            }
        }
    }
}

#[tokio::test]
async fn a_key_for_some_stores_reaches_nothing_else() {
    let world = World::open().await.with_store().await;
    let settings = "storeName=s2&isDefault=false&settings={\"type\":\"HOSTED\"}";
    assert_eq!(world.run(&format!("{DR}/stores/register"), settings).await["status"], "success");
    let mut jobs = Vec::new();
    for store in ["s1", "s2"] {
        let create = format!("{DR}/stores/{store}/backups/create");
        let accepted = world.run(&create, &format!("name=b&passcode={PASSCODE}")).await;
        world.wait(&accepted).await;
        jobs.push(accepted["jobid"].as_str().expect("job").to_owned());
    }
    let key = key(&world, Role::Administrator, &OperationGroup::ALL, &["s1"]).await;
    let code = async |method: &str, path: &str, form: &str| {
        world.send(ask(method, path).token(&key).form(&format!("f=json&{form}"))).await.code()
    };
    let old = format!("{DR}/backuprestore");
    for (path, form) in [
        (format!("{DR}/stores/s1"), ""),
        (format!("{DR}/stores/s1/backups"), ""),
        (format!("{DR}/stores/s1/backups/b"), ""),
        (format!("{DR}/stores/s1/validate"), ""),
        (format!("{ADMIN}/jobs/{}", jobs[0]), ""),
        (format!("{old}/backups/b"), "storeName=s1"),
        (format!("{old}/backups/b/validate"), "storeName=s1"),
    ] {
        assert_eq!(code("POST", &path, form).await, 0, "{path}");
    }
    for (path, form) in [
        (format!("{DR}/stores/s2"), ""),
        (format!("{DR}/stores/s2"), "storeName=s1"),
        (format!("{DR}/stores/S1"), ""),
        (format!("{DR}/stores"), "storeName=s1"),
        (format!("{DR}/stores/register"), "storeName=s1"),
        (format!("{DR}/stores/s2/backups/b/delete"), ""),
        (format!("{ADMIN}/jobs"), ""),
        (format!("{ADMIN}/jobs/{}", jobs[1]), ""),
        (format!("{ADMIN}/jobs/{}/cancel", jobs[1]), ""),
        (format!("{ADMIN}/jobs/nope"), ""),
        (format!("{old}/backups"), "storeName=s1"),
        (format!("{old}/backups/b"), ""),
        (format!("{old}/backups/b"), "storeName=s2"),
        (format!("{old}/backup"), "name=c&passcode=long enough"),
        (format!("{DR}/status"), ""),
        (format!("{ADMIN}/system/tasks/createTask"), "storeName=s1"),
        (format!("{ADMIN}/mode/update"), "storeName=s1&isReadOnly=true"),
    ] {
        assert_eq!(code("POST", &path, form).await, 403, "{path} {form}");
    }
    // Whatever is there now or later: only what names a store, or a job of it, is reached.
    for endpoint in guarded() {
        let names_store = endpoint.path.contains("{store}");
        let path = path(endpoint).replace("/stores/store", "/stores/s1");
        let answer = code("GET", &format!("{path}?f=json"), "").await;
        assert!(names_store || matches!(answer, 403 | 405), "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_key_is_shown_once_works_until_it_is_revoked_and_is_named_in_the_audit_log() {
    let world = World::open().await.with_store().await;
    let form = "name=nightly job&role=operator&operations=read,backup&stores=[\"s1\"]&expirationDays=30";
    let made = world.run(&format!("{KEYS}/create"), form).await;
    let key = made["key"].as_str().expect("key").to_owned();
    assert!(key.starts_with("srk_") && key.len() == 68, "{key}");
    let days = (made["expires"].as_i64().expect("end") - crate::dispatch::now_ms()) / 86_400_000;
    assert!((29..=30).contains(&days), "{made}");

    let create = format!("{DR}/stores/s1/backups/create");
    let form = format!("f=json&name=b1&passcode={PASSCODE}");
    let accepted =
        world.send(ask("POST", &create).header("authorization", &format!("Bearer {key}")).form(&form));
    let job = world.wait(&accepted.await.json()).await;
    assert_eq!(job["username"], "key:nightly job");
    let store = format!("{DR}/stores/s1?f=json");
    for asked in [
        ask("GET", &store).token(&key),
        ask("GET", &format!("{store}&token={key}")),
        ask("POST", &store).form(&format!("token={key}")),
    ] {
        assert_eq!(world.send(asked).await.code(), 0);
    }

    for shown in [KEYS.to_owned(), format!("{KEYS}/nightly%20job")] {
        for format in ["json", "html"] {
            let page = world.ask(Role::Administrator, "GET", &format!("{shown}?f={format}"), "").await.text;
            assert!(page.contains("nightly job") && !page.contains("srk_"), "{page}");
        }
    }
    let one = world.ask(Role::Administrator, "GET", &format!("{KEYS}/nightly%20job?f=json"), "").await.json();
    assert_eq!((&one["operations"], &one["stores"]), (&json!(["backup", "read"]), &json!(["s1"])));
    assert_eq!(one["createdBy"], "admin");
    assert!(one["lastUsedTime"].as_i64().expect("time") > 0);

    assert_eq!(world.run(&format!("{KEYS}/nightly%20job/revoke"), "").await["status"], "success");
    assert_eq!(world.send(ask("GET", &store).token(&key)).await.code(), 498, "at once");
    assert_eq!(refusal(&world.run(&format!("{KEYS}/nightly%20job/revoke"), "").await), "KEY_NOT_FOUND");
    let log = world.ask(Role::Administrator, "GET", &format!("{ADMIN}/audit?f=json"), "").await;
    assert!(!log.text.contains("srk_"));
    let told: Vec<(String, String)> = log.json()["entries"]
        .as_array()
        .expect("entries")
        .iter()
        .rev()
        .map(|e| {
            (e["username"].as_str().expect("who").to_owned(), e["path"].as_str().expect("where").to_owned())
        })
        .collect();
    for (who, path) in [
        ("admin", format!("{KEYS}/create?name=nightly job")),
        ("key:nightly job", format!("{create}?name=b1")),
        ("admin", format!("{KEYS}/nightly%20job/revoke")),
    ] {
        assert!(told.contains(&(who.to_owned(), path.clone())), "{path} in {told:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_a_key_is_refused() {
    let world = World::open().await;
    for (form, code) in [
        ("role=viewer", "PARAM_MISSING"),
        ("name=k", "PARAM_MISSING"),
        ("name=k&role=king", "PARAM_INVALID"),
        ("name=a/b&role=viewer", "NAME_INVALID"),
        ("name=Create&role=viewer", "NAME_INVALID"),
        ("name=k&role=viewer&operations=everything", "PARAM_INVALID"),
        ("name=k&role=viewer&operations=,", "PARAM_INVALID"),
        ("name=k&role=viewer&stores=[]", "PARAM_INVALID"),
        ("name=k&role=viewer&stores=[1]", "PARAM_INVALID"),
        ("name=k&role=viewer&stores=,", "PARAM_MISSING"),
        ("name=k&role=viewer&stores=a/b", "NAME_INVALID"),
        ("name=k&role=viewer&expirationDays=0", "PARAM_INVALID"),
        ("name=k&role=viewer&expirationDays=-5", "PARAM_INVALID"),
        ("name=k&role=viewer&expirationDays=366", "PARAM_INVALID"),
    ] {
        assert_eq!(refusal(&world.run(&format!("{KEYS}/create"), form).await), code, "{form}");
    }
    assert_eq!(world.run(&format!("{KEYS}/create"), "name=k&role=viewer").await["status"], "success");
    assert_eq!(refusal(&world.run(&format!("{KEYS}/create"), "name=K&role=viewer").await), "PARAM_INVALID");
    let add = format!("{ADMIN}/users/add");
    let disguised = world.run(&add, "username=Key:k&role=viewer&password=long enough").await;
    assert_eq!(refusal(&disguised), "NAME_INVALID", "nobody looks like a key");
}

#[tokio::test]
async fn a_key_is_no_session_and_gives_no_token() {
    let world = World::open().await;
    let key = key(&world, Role::Administrator, &OperationGroup::ALL, &[]).await;
    let page = world.send(ask("GET", ADMIN).header("cookie", &format!("__Host-strongroom={key}"))).await;
    assert!(page.text.contains("498 Invalid Token"), "{}", page.text);
    let token = "/strongroom/sharing/rest/generateToken";
    let form = format!("f=json&username=key:x&password={key}");
    assert_eq!(refusal(&world.send(ask("POST", token).form(&form)).await.json()), "LOGIN_FAILED");
    let refresh = format!("grant_type=refresh_token&client_id=x&refresh_token={key}");
    let reply = world.send(ask("POST", "/strongroom/sharing/rest/oauth2/token").form(&refresh)).await;
    assert_eq!(reply.json()["error"]["error"], "invalid_grant");
    let me =
        world.send(ask("GET", "/strongroom/sharing/rest/community/self?f=json").token(&key)).await.json();
    assert!(me["username"].as_str().expect("name").starts_with("key:"), "{me}");
    let other = "/strongroom/sharing/rest/community/users/victor?f=json";
    let reply = world.send(ask("GET", other).token(&key)).await.json();
    assert_eq!(refusal(&reply), "USER_NOT_FOUND", "a key has no say in users, whatever its role");
}
