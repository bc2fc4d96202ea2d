//! The description of the interface: whole, current, public, and true of what is taken. That replies are as it says is
//! checked at every reply of every test (`shapes`).

use super::notifications::subscriptions;
use super::support::{ADMIN, Answer, DR, PASSCODE, PASSWORD, World, ask};
use crate::endpoints::{ENDPOINTS, Endpoint, Gives, Kind};
use crate::openapi::DOCUMENT;
use crate::openapi::schema::Schema;
use notify::sinks::{self, MailSink, Manner, WebSink};
use recovery::Role;
use serde_json::Value;
use std::collections::BTreeMap;

const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
/// Set, it makes the tests write the files anew.
pub(super) const WRITE: &str = "STRONGROOM_TEST_WRITE";

#[test]
fn the_description_in_docs_is_the_one_that_is_served() {
    let served = format!("{:#}\n", *DOCUMENT);
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(KEPT, &served).expect("docs/openapi.json");
    }
    let kept = std::fs::read_to_string(KEPT).expect("docs/openapi.json");
    assert!(kept == served, "docs/openapi.json is not current: run this test with {WRITE}=1");
}

#[test]
fn every_endpoint_for_programs_is_described_with_all_of_its_parameters() {
    for endpoint in ENDPOINTS.iter().filter(|endpoint| !matches!(endpoint.gives, Gives::Page)) {
        if endpoint.last() == "failing" {
            continue;
        }
        let item = &DOCUMENT["paths"][format!("/{}", endpoint.path)];
        let operation = item.get("get").or(item.get("post")).unwrap_or_else(|| panic!("{}", endpoint.path));
        let in_path = item["parameters"].as_array().map_or(0, Vec::len);
        assert_eq!(in_path, endpoint.path.matches('{').count(), "{}", endpoint.path);
        let body =
            &operation["requestBody"]["content"]["application/x-www-form-urlencoded"]["schema"]["properties"];
        for field in endpoint.kind.form().into_iter().flat_map(|form| form.parameters()) {
            assert!(body.get(field.name).is_some(), "{}: {}", endpoint.path, field.name);
        }
        let is_open = operation["security"].as_array().is_some_and(Vec::is_empty);
        assert_eq!(is_open, endpoint.role.is_none(), "{}", endpoint.path);
    }
}

#[tokio::test]
async fn the_description_is_for_everybody_and_json_in_every_format() {
    let world = World::open().await;
    for query in ["", "?f=json", "?f=html", "?f=pjson"] {
        let answer = world.send(ask("GET", &format!("{ADMIN}/openapi.json{query}"))).await;
        assert_eq!(answer.header("content-type"), "application/json", "{query}");
        assert_eq!(answer.json(), *DOCUMENT, "{query}");
    }
}

#[tokio::test]
async fn in_each_format_that_is_described_each_reply_is_of_a_type_that_is_described() {
    let world = World::open().await.with_store().await;
    let create = format!("{DR}/stores/s1/backups/create");
    let backup = world.run(&create, &format!("name=b&passcode={PASSCODE}")).await;
    assert_eq!(world.wait(&backup).await["status"], "COMPLETED");
    let job = backup["jobid"].as_str().expect("job");
    let formats = DOCUMENT["components"]["parameters"]["f"]["schema"]["enum"].as_array().expect("formats");
    for format in formats.iter().filter_map(Value::as_str) {
        for (path, item) in DOCUMENT["paths"].as_object().expect("paths") {
            // Operations are refused here.
            let (method, operation, role) = match item.get("get") {
                Some(operation) => ("GET", operation, Role::Administrator),
                None => ("POST", &item["post"], Role::Viewer),
            };
            let path = path.replace("{store}", "s1").replace("{backup}", "b").replace("{job}", job);
            let path = format!("/strongroom{}?f={format}", path.replace(['{', '}'], ""));
            let answer = world.send(ask(method, &path).token(world.token(role))).await;
            let described = operation["responses"]["200"]["content"].as_object().expect("content");
            let found = answer.header("content-type").split(';').next().unwrap_or_default();
            assert!(described.contains_key(found), "{method} {path}: {found}, {}", answer.text);
            assert_eq!(answer.status, hyper::StatusCode::OK, "{method} {path}");
        }
    }
}

/// Values that a kind of parameter does not allow.
fn forbidden(schema: &Schema) -> Vec<String> {
    let outside = |value: &i64, edge: i64| (*value != edge).then_some(*value);
    match schema {
        Schema::Text { most: Some(most), .. } => vec!["x".repeat(*most as usize + 1)],
        Schema::Secret { least, most } => {
            let short = (*least > 1).then(|| "x".repeat(*least as usize - 1));
            short.into_iter().chain(["x".repeat(*most as usize + 1)]).collect()
        }
        Schema::Integer { least, most } => {
            let below = outside(least, i64::MIN).map(|least| (least - 1).to_string());
            let above = outside(most, i64::MAX).map(|most| (most + 1).to_string());
            below.into_iter().chain(above).chain(["1.5".to_owned(), "many".to_owned()]).collect()
        }
        Schema::Boolean => vec!["yes".to_owned(), "2".to_owned()],
        Schema::Choice(_) => vec!["none of them".to_owned()],
        Schema::Json(_) => vec!["[]".to_owned(), "{".to_owned(), "text".to_owned()],
        _ => Vec::new(),
    }
}

/// Values of the required parameters of an operation that are fine.
fn fine(endpoint: &Endpoint) -> BTreeMap<&'static str, String> {
    let form = endpoint.kind.form();
    let required = form.into_iter().flat_map(|form| form.parameters()).filter(|field| field.required);
    let value = |name: &str| match (name, endpoint.last()) {
        ("settings", "update") if endpoint.path.ends_with("settings/update") => {
            "{\"timeoutInSeconds\": 0}".to_owned()
        }
        ("settings", "update") => "{\"default\": true}".to_owned(),
        ("passcode", _) => PASSCODE.to_owned(),
        ("password" | "newPassword", _) => PASSWORD.to_owned(),
        ("minute" | "hour", _) => "1".to_owned(),
        ("dayOfMonth" | "month", _) => "*".to_owned(),
        ("dayOfWeek", _) => "?".to_owned(),
        ("type", _) => "CreateBackup".to_owned(),
        ("role", _) => "viewer".to_owned(),
        ("isReadOnly", _) => "false".to_owned(),
        ("username", "generateToken") => "victor".to_owned(),
        (name, _) => format!("new-{name}"),
    };
    let mut values: BTreeMap<_, _> = required.map(|field| (field.name, value(field.name))).collect();
    if endpoint.last() == "createTask" {
        // What this type asks for.
        let more = [("name", "nightly"), ("storeName", "s1"), ("passcode", PASSCODE)];
        values.extend(more.map(|(name, value)| (name, value.to_owned())));
    }
    if endpoint.last() == "register" {
        values.insert("settings", "{\"type\":\"HOSTED\"}".to_owned());
    }
    values
}

#[tokio::test]
async fn what_the_description_forbids_is_refused_and_what_it_requires_is_asked_for() {
    let world = World::open().await.with_store().await;
    let backup =
        world.run(&format!("{DR}/stores/s1/backups/create"), &format!("name=b&passcode={PASSCODE}")).await;
    assert_eq!(world.wait(&backup).await["status"], "COMPLETED");
    let task = world
        .run(
            &format!("{ADMIN}/system/tasks/createTask"),
            &format!("type=CreateBackup&name=n&passcode={PASSCODE}&storeName=s1&minute=0&hour=0&dayOfMonth=*&month=*&dayOfWeek=?"),
        )
        .await["taskId"]
        .as_str()
        .expect("task")
        .to_owned();
    let mut tried = 0;
    for endpoint in ENDPOINTS.iter().filter(|endpoint| matches!(endpoint.kind, Kind::Operation(_))) {
        let path = endpoint.path.replace("{store}", "s1").replace("{backup}", "b").replace("{task}", &task);
        let path = format!(
            "/strongroom/{}",
            path.replace("{user}", "victor")
                .replace("{key}", "k")
                .replace("{job}", "j1")
                .replace("{run}", "r1")
        );
        let good = fine(endpoint);
        let fields: Vec<_> = endpoint.kind.form().into_iter().flat_map(|form| form.parameters()).collect();
        for field in fields {
            if field.required {
                let without: Vec<_> = good.iter().filter(|(name, _)| **name != field.name).collect();
                let answer = post(&world, &path, without).await;
                assert_eq!(refusal(&answer), "PARAM_MISSING", "{path} without {}", field.name);
            }
            for value in forbidden(&field.takes) {
                let mut sent = good.clone();
                sent.insert(field.name, value.clone());
                let answer = post(&world, &path, sent.iter().collect()).await;
                let code = answer.code();
                assert!(
                    matches!(code, 400 | 404 | 501),
                    "{path} took {}={value:?}: {}",
                    field.name,
                    answer.text
                );
                tried += 1;
            }
        }
    }
    assert!(tried > 100, "{tried}");
}

async fn post(world: &World, path: &str, form: Vec<(&&'static str, &String)>) -> Answer {
    let mut body = form_urlencoded::Serializer::new(String::from("f=json&"));
    for (name, value) in form {
        body.append_pair(name, value);
    }
    world.ask(Role::Administrator, "POST", path, &body.finish()).await
}

fn refusal(answer: &Answer) -> String {
    answer.json()["error"]["messageCode"].as_str().unwrap_or_default().to_owned()
}

/// Endpoints whose success no test of this crate can bring about in a few seconds.
const ELSEWHERE: [&str; 0] = [];

#[tokio::test]
async fn each_endpoint_answers_as_described_when_it_does_the_work_and_when_it_refuses() {
    let web = WebSink::web(vec![sinks::Answer::Status(200)]).expect("sink");
    let mail = MailSink::mail(vec![Manner::Accept]).expect("sink");
    let told = |settings: &mut recovery::Settings| settings.notify = subscriptions(&web, &mail);
    let world = World::open_with(told).await.with_store().await;
    let mut done: BTreeMap<&'static str, bool> = BTreeMap::new();
    let tasks = format!("{ADMIN}/system/tasks");
    let (backups, old) = (format!("{DR}/stores/s1/backups"), format!("{DR}/backuprestore"));
    let passcode = format!("passcode={PASSCODE}");
    let settings = "settings={\"stagingVolumeConfig\":{\"provisioningType\":\"STATIC\",\"storageClass\":\"c\",\"labels\":{\"a\":\"b\"}}}";
    let mut note = |path: &str, reply: &Value| {
        assert!(reply.get("error").is_none(), "{path}: {reply}");
        let segments = crate::path::segments(path.trim_start_matches("/strongroom")).expect("path");
        let (endpoint, _) = crate::endpoints::find(&segments).expect("endpoint");
        done.insert(endpoint.path, true);
    };
    let created = format!("{tasks}/createTask");
    let verify = "type=VerifyBackups&title=t&storeName=s1&minute=0&hour=0&dayOfMonth=*&month=*&dayOfWeek=?";
    let reply = world.run(&created, verify).await;
    note(&created, &reply);
    let task = reply["taskId"].as_str().expect("task").to_owned();
    let story: Vec<(String, String)> = [
        (format!("{backups}/create"), format!("name=b1&{passcode}&retentionDays=3")),
        (format!("{backups}/b1/update"), "description=new".to_owned()),
        (format!("{backups}/b1/validate"), passcode.clone()),
        (format!("{backups}/b1/validate"), format!("{passcode}&readData=true")),
        (format!("{backups}/b1/drill"), passcode.clone()),
        (format!("{backups}/b1/restore"), format!("{passcode}&validateOnly=true")),
        (format!("{old}/backup"), format!("name=b2&{passcode}")),
        (format!("{old}/backups/b2/validate"), passcode.clone()),
        (format!("{old}/backups/b2/restore"), passcode.clone()),
        (format!("{tasks}/{task}/disable"), String::new()),
        (format!("{tasks}/{task}/enable"), String::new()),
        (format!("{tasks}/{task}/update"), "title=other".to_owned()),
        (format!("{tasks}/{task}/run"), String::new()),
        (format!("{DR}/settings/update"), settings.to_owned()),
        (format!("{ADMIN}/mode/update"), "isReadOnly=true&message=closed".to_owned()),
        (format!("{ADMIN}/mode/update"), "isReadOnly=false".to_owned()),
        (format!("{ADMIN}/users/add"), "username=new&role=viewer&password=long enough".to_owned()),
        (format!("{ADMIN}/users/new/update"), "role=operator".to_owned()),
        (format!("{ADMIN}/users/new/signOut"), String::new()),
        (format!("{backups}/b1/files/open"), passcode.clone()),
        (format!("{ADMIN}/notifications/test"), String::new()),
        (format!("{ADMIN}/keys/create"), "name=k&role=viewer&operations=read&stores=s1".to_owned()),
    ]
    .into();
    for (path, form) in &story {
        let reply = world.run(path, form).await;
        note(path, &reply);
        if reply.get("jobid").is_some() {
            assert_eq!(world.wait(&reply).await["status"], "COMPLETED", "{path}");
        }
    }
    let ended = |reply: &Value| {
        reply["result"][0]["runId"].is_string()
            && reply["result"]
                .as_array()
                .is_some_and(|runs| runs.iter().all(|run| run["status"] == "succeeded"))
    };
    let mut runs = Value::Null;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !ended(&runs) {
        assert!(std::time::Instant::now() < deadline, "{runs}");
        runs = world.run(&format!("{tasks}/{task}/runs"), "").await;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let run = format!("{tasks}/{task}/runs/{}", runs["result"][0]["runId"].as_str().expect("run"));
    let jobs = world.run(&format!("{ADMIN}/jobs"), "").await;
    let job = jobs["jobs"][0].as_str().expect("job").to_owned();
    for endpoint in ENDPOINTS.iter().filter(|endpoint| matches!(endpoint.kind, Kind::Resource)) {
        if endpoint.last() == "failing" || !matches!(endpoint.gives, Gives::Json(_)) {
            continue;
        }
        let path = endpoint.path.replace("{store}", "s1").replace("{backup}", "b1").replace("{task}", &task);
        let path = path.replace("{user}", "victor").replace("{key}", "k").replace("{job}", &job);
        let path =
            format!("/strongroom/{}", path.replace("{run}", run.rsplit('/').next().unwrap_or_default()));
        note(&path, &world.run(&path, "start=1&num=1").await);
    }
    world.hold(true);
    let held = world.run(&format!("{backups}/create"), &format!("name=held&{passcode}")).await;
    let id = held["jobid"].as_str().expect("job");
    world.until(&format!("{ADMIN}/jobs/{id}"), |job| job["progress"].is_object()).await;
    world.run(&format!("{DR}/status"), "").await;
    note(&format!("{ADMIN}/jobs/{id}/cancel"), &world.run(&format!("{ADMIN}/jobs/{id}/cancel"), "").await);
    world.hold(false);
    assert_eq!(world.wait(&held).await["status"], "CANCELLED");
    let place = world.directory.path().join("backup/s2").display().to_string();
    let store =
        format!("storeName=s2&async=true&settings={{\"type\":\"FILESYSTEM\",\"rootDir\":\"{place}\"}}");
    let accepted = world.run(&format!("{DR}/stores/register"), &store).await;
    assert_eq!(world.wait(&accepted).await["status"], "COMPLETED");
    let last: Vec<(String, String)> = [
        (format!("{backups}/b1/files/close"), String::new()),
        (format!("{DR}/stores/s2/validate"), String::new()),
        (format!("{DR}/stores/s2/update"), "settings={\"default\":true}".to_owned()),
        (format!("{DR}/stores/s2/unregister"), String::new()),
        (format!("{DR}/stores/register"), format!("storeName=s2&rootDirectory={place}")),
        (format!("{backups}/b1/delete"), "async=true".to_owned()),
        (format!("{old}/backups/b2/delete"), String::new()),
        (format!("{run}/update"), "status=skipped&result=by hand".to_owned()),
        (format!("{run}/delete"), String::new()),
        (format!("{tasks}/{task}/delete"), String::new()),
        (format!("{ADMIN}/users/new/remove"), String::new()),
        (format!("{ADMIN}/keys/k/revoke"), String::new()),
        (format!("{ADMIN}/generateToken"), format!("username=victor&password={PASSWORD}&expiration=5")),
        (
            "/strongroom/sharing/rest/generateToken".to_owned(),
            format!("username=victor&password={PASSWORD}&client=referer"),
        ),
        (format!("{ADMIN}/password"), format!("password={PASSWORD}&newPassword=another long one")),
    ]
    .into();
    for (path, form) in &last {
        note(path, &world.run(path, form).await);
    }
    for endpoint in ENDPOINTS {
        let is_told = matches!(endpoint.gives, Gives::Json(_))
            && matches!(endpoint.kind, Kind::Resource | Kind::Operation(_));
        if is_told && endpoint.last() != "failing" && !ELSEWHERE.contains(&endpoint.path) {
            assert!(done.contains_key(endpoint.path), "nothing here makes {} succeed", endpoint.path);
            if endpoint.role.is_some() {
                let path = format!("/strongroom/{}?f=json", endpoint.path.replace(['{', '}'], ""));
                assert_eq!(world.send(ask("POST", &path)).await.code(), 499, "{path}");
            }
        }
    }
}
