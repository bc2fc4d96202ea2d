//! The requests that the public documentation of the interface shows, letter by letter, and what may run together.

use std::fs;
use std::process::Command;

use serde_json::Value;
use strongroom_tests::client::{Client, Reply, job_id};
use strongroom_tests::server::{ADMIN, Options, PASSCODE, PASSWORD, Site};

use crate::content::{Content, SMALL, seed};
use crate::gate::Gate;
use crate::kill::clock;
use crate::vault;

fn documented() -> Options {
    Options { context: "context".to_owned(), ..Options::default() }
}

/// Shown with `--nocapture`.
fn show(what: &str, reply: Reply) -> Reply {
    eprintln!("--- {what}: HTTP {}\n{}", reply.status, reply.text);
    reply
}

fn status(client: &Client, path: &str) -> Value {
    client.dr_get(path).ok()["status"].clone()
}

#[test]
fn the_documented_create_and_restore_work_in_both_layouts() {
    let site = Site::new(documented());
    let mut content = Content::new(&site.content(), SMALL, seed("documented"));
    let server = site.start();
    // As documented, the token stands in the form.
    let mut client = server.client();
    let token = client.token.take().unwrap();
    let with_token = [("f", "pjson"), ("token", token.as_str())];
    let settings = serde_json::json!({"type": "FILESYSTEM", "rootDir": site.store()}).to_string();
    let mut fields = vec![("storeName", "s1"), ("isDefault", "true"), ("settings", &settings)];
    fields.extend(with_token);
    show("register", client.dr_post("stores/register", &fields)).ok();

    let retention = clock::ms_from_now(std::time::Duration::from_secs(86_400)).to_string();
    let layouts = [
        ("10.9.1", "stores/s1/backups/create", "stores/s1/backups/backup_first", "status", ""),
        ("10.9", "backuprestore/backup", "backuprestore/backups/backup_old", "backuprestore/status", "s1"),
    ];
    for (layout, create, backup, look, store_name) in layouts {
        let name = backup.rsplit('/').next().unwrap();
        let mut fields =
            vec![("name", name), ("passcode", PASSCODE), ("description", ""), ("retentionDate", &retention)];
        if !store_name.is_empty() {
            fields.push(("storeName", store_name));
        }
        fields.extend(with_token);
        let accepted = show(&format!("create, {layout}"), client.dr_post(create, &fields));
        assert!(accepted.text.contains("\n  \"jobid\""), "pjson is indented by two: {}", accepted.text);
        let accepted = accepted.ok();
        let id = job_id(&accepted);
        let digits = id.strip_prefix('j').unwrap();
        assert!(digits.len() == 36 && digits.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit()), "{id}");
        assert_eq!(accepted["jobsUrl"], format!("{}/admin/jobs/{id}", site.url()));
        assert_eq!(accepted["status"], "SUBMITTED");
        client.token = Some(token.clone());
        let job = client.completed(&accepted);
        show(&format!("job, {layout}"), client.get(&format!("admin/jobs/{id}")).unwrap());
        assert_eq!(job["jobid"], id);
        assert_eq!(job["operationURI"], format!("/context/admin/system/disasterrecovery/{create}"));
        assert_eq!(job["username"], ADMIN);
        assert!(job["endtime"].as_i64() >= job["starttime"].as_i64());
        let stages: Vec<&str> = job["result"]["stages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|stage| stage["name"].as_str().unwrap())
            .collect();
        assert_eq!(stages.first(), Some(&"Validation"));
        assert_eq!(stages.last(), Some(&"Post backup operation cleanup"));
        let told = status(&client, look);
        assert_eq!(
            (&told["state"], &told["code"], &told["backupName"]),
            (&"success".into(), &3.into(), &name.into())
        );
        let entry = show(&format!("backup, {layout}"), client.dr_get(backup)).ok();
        assert_eq!(entry["retentionDate"].to_string(), retention);
        assert_eq!((&entry["status"], &entry["backupType"]), (&"completed".into(), &"FULL".into()));

        let backed_up = content.tree();
        content.change();
        fs::remove_dir_all(site.content().join("folder 3")).unwrap();
        client.token = None;
        let mut fields = vec![("passcode", PASSCODE)];
        if !store_name.is_empty() {
            fields.push(("storeName", store_name));
        }
        fields.extend(with_token);
        let accepted =
            show(&format!("restore, {layout}"), client.dr_post(&format!("{backup}/restore"), &fields)).ok();
        assert_eq!(accepted["status"], "success");
        client.token = Some(token.clone());
        client.completed(&accepted);
        assert_eq!(status(&client, look)["operation"], "Restore");
        assert!(content.tree() == backed_up, "{}", content.tree().differences(&backed_up));
        client.token = None;
    }
    vault::nothing_half_made(&site);
    vault::verifies(&site.store());
}

#[test]
fn each_documented_mistake_gets_its_own_error() {
    let site = Site::new(documented());
    Content::new(&site.content(), SMALL, 1);
    for role in ["viewer", "operator"] {
        site.add_user(role, role, PASSWORD);
    }
    let server = site.start();
    let client = server.client();
    client.register(&site);
    client.back_up("b");
    let hosted = r#"{"type":"HOSTED","storageConfig":{}}"#;
    let register = [("storeName", "s1"), ("isDefault", "false"), ("settings", hosted)];

    let stranger = site.stranger();
    show("499", stranger.dr_get("stores")).refused(499, "TOKEN_REQUIRED");
    let mut forger = site.stranger();
    forger.token = Some("0".repeat(40));
    show("498", forger.dr_get("stores")).refused(498, "TOKEN_INVALID");
    show("405", client.dr_get("stores/register")).refused(405, "METHOD_NOT_ALLOWED");
    show("404", client.dr_get("stores/nope")).refused(404, "STORE_NOT_FOUND");
    client.dr_get("stores/s1/backups/nope").refused(404, "BACKUP_NOT_FOUND");
    client.get("admin/jobs/nope").unwrap().refused(404, "JOB_NOT_FOUND");
    client.get("admin/nope").unwrap().refused(404, "URL_NOT_FOUND");
    let create = "stores/s1/backups/create";
    show("400", client.dr_post(create, &[("name", "x"), ("passcode", "short")]))
        .refused(400, "DR_PASSCODE_SHORT");
    client.dr_post(create, &[("name", "x")]).refused(400, "PARAM_MISSING");
    client.dr_post(create, &[("passcode", PASSCODE)]).refused(400, "PARAM_MISSING");
    client.dr_post(create, &[("name", "a/b"), ("passcode", PASSCODE)]).refused(400, "NAME_INVALID");
    client.dr_post(create, &[("name", "create"), ("passcode", PASSCODE)]).refused(400, "NAME_INVALID");
    for wrong in ["1", "0", "-2", "tomorrow", "1893456000"] {
        let fields = [("name", "x"), ("passcode", PASSCODE), ("retentionDate", wrong)];
        client.dr_post(create, &fields).refused(400, "DR_RETENTION_INVALID");
    }
    client
        .dr_post(create, &[("name", "x"), ("passcode", PASSCODE), ("f", "xml")])
        .refused(400, "FORMAT_UNKNOWN");
    client
        .dr_post(create, &[("name", "x"), ("passcode", PASSCODE), ("storeName", "s2")])
        .refused(400, "PARAM_INVALID");
    client.dr_post("stores/register", &[("storeName", "s2"), ("settings", "{")]).refused(400, "JSON_INVALID");
    client
        .dr_post("stores/register", &[("storeName", "s2"), ("settings", r#"{"type":"S3"}"#)])
        .refused(400, "PARAM_MISSING");
    let outside = r#"{"type":"FILESYSTEM","rootDir":"/etc/strongroom-store"}"#;
    client
        .dr_post("stores/register", &[("storeName", "s2"), ("settings", outside)])
        .refused(400, "PARAM_INVALID");
    let there = serde_json::json!({"type": "FILESYSTEM", "rootDir": site.store()}).to_string();
    client
        .dr_post("stores/register", &[("storeName", "s2"), ("settings", &there)])
        .refused(409, "DR_LOCATION_IN_USE");
    show("409", client.dr_post("stores/register", &register)).refused(409, "DR_STORE_EXISTS");
    let wrong = [("passcode", "not the right one")];
    let refused = client.dr_post("stores/s1/backups/b/restore", &wrong).refused(400, "DR_PASSCODE_WRONG");
    assert!(refused.text.contains("'b'"), "{}", refused.text);
    client.dr_post("stores/s1/backups/nope/restore", &wrong).refused(404, "BACKUP_NOT_FOUND");
    let login = [("username", ADMIN), ("password", "wrong")];
    let refused = stranger.post("sharing/rest/generateToken", &login).unwrap().refused(400, "LOGIN_FAILED");
    assert_eq!(refused.json["error"]["details"][0], "Invalid username or password.");

    let mut viewer = site.stranger();
    viewer.log_in("viewer", PASSWORD);
    viewer.dr_get("stores").ok();
    viewer.create("x").refused(403, "FORBIDDEN");
    let mut operator = site.stranger();
    operator.log_in("operator", PASSWORD);
    operator.back_up("x");
    for name in ["restore", "delete"] {
        let fields = [("passcode", PASSCODE)];
        operator.dr_post(&format!("stores/s1/backups/x/{name}"), &fields).refused(403, "FORBIDDEN");
    }
    show("unregister", client.dr_post("stores/s1/unregister", &[])).ok();
    client.dr_post("stores/s1/unregister", &[]).refused(404, "STORE_NOT_FOUND");
    client.create("y").refused(404, "STORE_NOT_FOUND");
    // Registered again it shows what it holds.
    client.register(&site);
    assert_eq!(client.backups(), ["b", "x"]);
}

#[test]
fn a_repeated_request_starts_nothing_twice_and_what_must_not_run_together_does_not() {
    let gate = Gate::new();
    let component = format!("{}{}", gate.hook("before_backup"), gate.hook("before_restore"));
    let site = Site::new(Options { component, ..documented() });
    let mut content = Content::new(&site.content(), SMALL, 1);
    let server = site.start();
    let client = server.client();
    client.register(&site);
    client.back_up("b");
    client.back_up("c");
    let elsewhere = serde_json::json!({"type": "HOSTED", "storageConfig": {}}).to_string();
    let register =
        |name: &str| client.dr_post("stores/register", &[("storeName", name), ("settings", &elsewhere)]);

    // While a backup runs.
    gate.close();
    let job = job_id(&client.create("n").ok()).to_owned();
    gate.reached();
    let again = show("create again", client.create("n")).refused(409, "DR_BACKUP_EXISTS");
    assert_eq!(again.blocking_job(), Some(job.as_str()));
    client.create("N").refused(409, "DR_BACKUP_EXISTS");
    assert_eq!(client.create("other").refused(409, "DR_BUSY").blocking_job(), Some(job.as_str()));
    assert_eq!(client.restore("b").refused(409, "DR_BUSY").blocking_job(), Some(job.as_str()));
    client.delete("n").refused(409, "DR_BACKUP_IN_USE");
    client.dr_post("stores/s1/backups/n/update", &[("description", "x")]).refused(409, "DR_BACKUP_IN_USE");
    client.dr_post("stores/s1/unregister", &[]).refused(409, "DR_STORE_IN_USE");
    client.dr_post("stores/s1/backups/b/validate", &[]).ok();
    client.dr_post("stores/s1/backups/b/update", &[("description", "x")]).ok();
    client.delete("c").ok();
    client.delete("c").refused(404, "BACKUP_NOT_FOUND");
    register("s2").ok();
    assert_eq!(client.dr_get("stores/s1/backups/n").ok()["status"], "in_progress");
    gate.open();
    assert_eq!(client.ended(&job)["status"], "COMPLETED");
    // And after it has ended.
    assert_eq!(client.create("n").refused(409, "DR_BACKUP_EXISTS").blocking_job(), Some(job.as_str()));
    assert_eq!(client.jobs().len(), 3);

    // While a restore runs.
    content.change();
    gate.close();
    let job = job_id(&client.restore("n").ok()).to_owned();
    gate.reached();
    let again = show("restore again", client.restore("n")).refused(409, "DR_BUSY");
    assert_eq!(again.blocking_job(), Some(job.as_str()));
    client.create("during").refused(423, "READ_ONLY");
    client.delete("b").refused(423, "READ_ONLY");
    client.dr_post("stores/s1/backups/b/update", &[("description", "y")]).refused(423, "READ_ONLY");
    register("s3").refused(423, "READ_ONLY");
    client.dr_post("stores/s1/unregister", &[]).refused(423, "READ_ONLY");
    client.dr_post("stores/s1/backups/b/validate", &[]).ok();
    client.dr_get("stores/s1/backups").ok();
    gate.open();
    assert_eq!(client.ended(&job)["status"], "COMPLETED");
    assert_eq!(client.jobs().len(), 4);

    register("s2").refused(409, "DR_STORE_EXISTS");
    client.dr_post("stores/s2/unregister", &[]).ok();
    client.dr_post("stores/s2/unregister", &[]).refused(404, "STORE_NOT_FOUND");
}

/// Shell as people copy it from the documentation; each line that is checked prints one word.
const SHELL: &str = r#"
set -euo pipefail
ADM=$CTX/admin ; DR=$ADM/system/disasterrecovery
TOKEN=$(curl -s $CTX/sharing/rest/generateToken -d username=admin --data-urlencode password="$ADMIN_PASSWORD" \
  -d client=referer -d referer=http -d expiration=60 -d f=json | jq -r .token)
H="X-Esri-Authorization: Bearer $TOKEN"
curl -s -H "$H" "$ADM?f=pjson" | jq -r .fullVersion
curl -s -H "$H" "$DR?f=json" | jq -r '.resources[0]'
curl -s -H "$H" $DR/stores/register -d f=json -d storeName=s1 -d isDefault=true \
  --data-urlencode 'settings={"type":"HOSTED","storageConfig":{"provisioningType":"DYNAMIC","storageClass":"backups","size":"64Gi"}}' | jq -r .status
curl -s -H "$H" "$DR/stores?f=pjson" | jq -r '.backupStores[0].storageConfig.size'
curl -s -H "$H" $DR/stores/s1/validate -d f=json | jq -r .isReady
curl -s -H "$H" $DR/stores/s1/update -d f=json --data-urlencode 'settings={"default":true}' | jq -r .status
wait_job() { local i s; for i in $(seq 600); do s=$(curl -s -H "$H" "$ADM/jobs/$1?f=json" | jq -r .status)
  case $s in COMPLETED|FAILED|CANCELLED|null) break;; esac; sleep 0.1; done; echo "$s"; }
JOB=$(curl -s -H "$H" $DR/stores/s1/backups/create -d f=json -d name=backup_first \
  --data-urlencode passcode="$PASS" -d description= -d retentionDate=-1 | jq -r .jobid)
wait_job $JOB ; curl -s -H "$H" "$ADM/jobs/$JOB?f=pjson" | jq -r .result.backupName ; curl -s -H "$H" "$DR/status?f=pjson" | jq -r .status.state
curl -s -H "$H" "$DR/stores/s1/backups?f=pjson" | jq -r '.backups[0].backupName' ; curl -s -H "$H" "$DR/stores/s1/backups/backup_first?f=json" | jq -r .backupStore
curl -s -H "$H" $DR/stores/s1/backups/backup_first/update -d f=json -d retentionDate=$(( ($(date +%s) + 14*86400) * 1000 )) | jq -r .status
JOB=$(curl -s -H "$H" $DR/stores/s1/backups/backup_first/restore -d f=json --data-urlencode passcode="$PASS" | jq -r .jobid) ; wait_job $JOB
curl -s -H "$H" $DR/stores/s1/backups/backup_first/delete -d f=json -d async=false | jq -r .status
JOB=$(curl -s -H "$H" $DR/backuprestore/backup -d f=json -d name=old_form -d storeName=s1 --data-urlencode passcode="$PASS" -d description= | jq -r .jobid) ; wait_job $JOB
curl -s -H "$H" "$DR/backuprestore/backups?f=json" | jq -r '.backups[0].backupName' ; curl -s -H "$H" "$DR/backuprestore/status?f=json" | jq -r .status.backupName
JOB=$(curl -s -H "$H" $DR/backuprestore/backups/old_form/restore -d f=json -d storeName=s1 --data-urlencode passcode="$PASS" | jq -r .jobid) ; wait_job $JOB
curl -s -H "$H" $DR/backuprestore/backups/old_form/delete -d f=json | jq -r .status
curl -s "$DR/stores?f=json" | jq -r .error.code ; curl -s -H "$H" "$DR/stores/register?f=json" | jq -r .error.code ; curl -s -H "$H" "$DR/stores/nope?f=json" | jq -r .error.code
curl -s -H "$H" $DR/stores/s1/backups/create -d f=json -d name=x -d passcode=short | jq -r .error.code
curl -s -H "$H" $DR/stores/register -d f=json -d storeName=s1 -d isDefault=false --data-urlencode 'settings={"type":"HOSTED","storageConfig":{}}' | jq -r .error.code
curl -s -H "$H" $DR/stores/s1/unregister -d f=json | jq -r .status
"#;

#[test]
fn the_shell_commands_that_people_copy_work_as_they_stand() {
    let site = Site::new(documented());
    let content = Content::new(&site.content(), SMALL, 1);
    let tree = content.tree();
    let server = site.start();
    server.client();
    let output = Command::new("bash")
        .args(["-c", SHELL])
        .env("CTX", site.url())
        .env("CURL_CA_BUNDLE", site.certificate())
        .env("ADMIN_PASSWORD", PASSWORD)
        .env("PASS", PASSCODE)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", vault::text(&output));
    let printed = String::from_utf8(output.stdout).unwrap();
    let words: Vec<&str> = printed.lines().collect();
    let expected = "12.0.0 stores success 64Gi true success COMPLETED backup_first success backup_first s1 success \
                    COMPLETED success COMPLETED old_form old_form COMPLETED success 499 405 404 400 409 success";
    assert_eq!(words, expected.split_whitespace().collect::<Vec<_>>());
    assert!(content.tree() == tree);
}

#[test]
fn the_documented_settings_and_schedule_commands_work() {
    let site = Site::new(documented());
    Content::new(&site.content(), SMALL, seed("scheduled"));
    let mut server = site.start();
    let client = server.client();
    client.register(&site);
    let settings = r#"{"timeoutInSeconds":14400}"#;
    show("settings", client.dr_post("settings/update", &[("settings", settings)])).ok();
    assert_eq!(client.dr_get("settings").ok()["timeoutInSeconds"], 14_400);

    // Every night at 02:30 UTC, kept 14 days.
    let parameters = serde_json::json!({
        "name": "nightly", "storeName": "s1", "passcode": PASSCODE,
        "metaData": {"recurring": true, "startTime": "02:30", "retention": {"type": "day", "value": 14}},
        "retentionOffset": 1_209_600_000,
    });
    let parameters = parameters.to_string();
    let fields = [
        ("type", "CreateBackup"),
        ("title", "nightly"),
        ("minute", "30"),
        ("hour", "2"),
        ("dayOfMonth", "*"),
        ("month", "*"),
        ("dayOfWeek", "?"),
        ("maxOccurrences", "-1"),
        ("parameters", &parameters),
    ];
    let made = show("createTask", client.post("admin/system/tasks/createTask", &fields).unwrap()).ok();
    let task = format!("admin/system/tasks/{}", made["taskId"].as_str().unwrap());
    let list = show("tasks", client.get("admin/system/tasks").unwrap());
    assert!(!list.text.contains(PASSCODE));
    assert!(list.text.contains("\"cronExpression\":\"0 30 2 * * ?\""), "{}", list.text);

    let run = show("run", client.post(&format!("{task}/run"), &[]).unwrap()).ok();
    client.completed(&run);
    // The server dies; at its next start the schedule and the record of the run are as they were.
    server.kill();
    let server = site.start();
    let client = server.client();
    let runs = show("runs", client.get(&format!("{task}/runs")).unwrap()).ok();
    assert_eq!(
        (&runs["result"][0]["status"], &runs["result"][0]["jobid"]),
        (&"succeeded".into(), &run["jobid"])
    );
    assert_eq!(client.backups().len(), 1);
    for operation in ["disable", "enable", "delete"] {
        show(operation, client.post(&format!("{task}/{operation}"), &[]).unwrap()).ok();
    }
    client.get(&task).unwrap().refused(404, "TASK_NOT_FOUND");
    vault::verifies(&site.store());
}
