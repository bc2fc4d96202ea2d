//! Schedules, settings and mode on the wire: documented replies, what known clients send, what never comes out.

use super::support::{ADMIN, DR, PASSCODE, World};
use recovery::Role;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const TASKS: &str = "/strongroom/admin/system/tasks";

/// The documented example of a nightly schedule.
fn nightly() -> String {
    let parameters = json!({
        "name": "nightly", "storeName": "s1", "passcode": PASSCODE,
        "metaData": {"recurring": true, "startTime": "02:30", "retention": {"type": "day", "value": 14}},
        "retentionOffset": 1_209_600_000,
    });
    format!(
        "type=CreateBackup&title=nightly&minute=30&hour=2&dayOfMonth=*&month=*&dayOfWeek=?&maxOccurrences=-1\
         &parameters={parameters}"
    )
}

async fn created(world: &World, form: &str) -> String {
    let reply = world.run(&format!("{TASKS}/createTask"), form).await;
    assert_eq!((&reply["success"], &reply["status"]), (&json!(true), &json!("success")), "{reply}");
    reply["taskId"].as_str().expect("id").to_owned()
}

async fn task(world: &World, id: &str) -> Value {
    world.ask(Role::Operator, "GET", &format!("{TASKS}/{id}?f=json"), "").await.json()
}

fn refusal(reply: &Value) -> &str {
    reply["error"]["messageCode"].as_str().unwrap_or("none")
}

#[tokio::test]
async fn a_task_is_shown_as_documented_with_its_passcode_hidden() {
    let world = World::open().await.with_store().await;
    let id = created(&world, &nightly()).await;
    let list = world.ask(Role::Operator, "GET", &format!("{TASKS}?f=json"), "").await;
    assert!(!list.text.contains(PASSCODE), "{}", list.text);
    let list = list.json();
    let shown = list["result"]
        .as_array()
        .expect("list")
        .iter()
        .find(|task| task["taskId"] == json!(id))
        .expect("task");
    assert_eq!(*shown, task(&world, &id).await, "the same in the list and alone");
    assert_eq!(shown["id"], json!(id));
    assert_eq!(
        (&shown["taskTitle"], &shown["taskType"], &shown["type"]),
        (&json!("nightly"), &json!("CreateBackup"), &json!("CREATE_BACKUP_TASK_TYPE"))
    );
    assert_eq!(
        (&shown["taskState"], &shown["active"], &shown["generation"]),
        (&json!("active"), &json!(true), &json!(1))
    );
    assert_eq!(
        shown["cronSchedule"],
        json!({"minute": "30", "hour": "2", "dayOfMonth": "*", "month": "*", "dayOfWeek": "?"})
    );
    assert_eq!(
        (&shown["cronExpression"], &shown["runIntervalSeconds"]),
        (&json!("0 30 2 * * ?"), &json!(86_400))
    );
    assert_eq!(
        (&shown["maxOccurrences"], &shown["ownerId"], &shown["lastStart"]),
        (&json!(-1), &json!("admin"), &json!(0))
    );
    assert_eq!(
        shown["parameters"],
        json!({
            "itemId": "", "name": "nightly", "storeName": "s1", "passcode": "********",
            "metaData": {"recurring": true, "startTime": "02:30", "retention": {"type": "day", "value": 14}},
            "retentionOffset": 1_209_600_000,
        })
    );
    for key in ["created", "updated", "startDate", "nextRun"] {
        assert!(shown[key].as_i64() > Some(1_700_000_000_000), "{key}: {shown}");
    }
    let page = world.ask(Role::Administrator, "GET", &format!("{TASKS}/{id}"), "").await.text;
    assert!(page.contains("nightly") && !page.contains(PASSCODE));
}

#[tokio::test]
async fn a_run_by_hand_makes_a_backup_and_its_record_tells_the_job() {
    let world = World::open().await.with_store().await;
    let id = created(&world, &nightly()).await;
    let accepted = world.run(&format!("{TASKS}/{id}/run"), "").await;
    assert_eq!(accepted["status"], "SUBMITTED", "{accepted}");
    let job = world.wait(&accepted).await;
    assert_eq!(job["status"], "COMPLETED", "{job}");
    let path = format!("{TASKS}/{id}/runs/{}?f=json", accepted["runId"].as_str().expect("run"));
    let deadline = Instant::now() + Duration::from_secs(60);
    let run = loop {
        let run = world.ask(Role::Operator, "GET", &path, "").await.json();
        if run["status"] != "executing" {
            break run;
        }
        assert!(Instant::now() < deadline, "{run}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(
        (&run["status"], &run["jobid"], &run["url"]),
        (&json!("succeeded"), &accepted["jobid"], &json!("")),
        "{run}"
    );
    assert_eq!(run["task"]["taskId"], json!(id));
    let runs = world.ask(Role::Operator, "POST", &format!("{TASKS}/{id}/runs"), "f=json").await.json();
    assert_eq!(runs["result"], json!([run]));
    let backups = world.read(&format!("{DR}/stores/s1/backups")).await;
    let backup = &backups["backups"][0];
    assert!(backup["backupName"].as_str().expect("name").starts_with("nightly-20"), "{backup}");
    assert_eq!(backup["scheduleType"], "SCHEDULED");
    assert_eq!(world.read(&format!("{DR}/status")).await["status"]["scheduleType"], "SCHEDULED");

    // The record can be annotated, also with the name that a known client uses, and removed.
    let record = format!("{TASKS}/{id}/runs/{}", run["runId"].as_str().expect("id"));
    assert_eq!(
        world.run(&format!("{record}/update"), "status=failed&results=looked at").await,
        json!({"status": "success"})
    );
    let changed = world.ask(Role::Operator, "GET", &format!("{record}?f=json"), "").await.json();
    assert_eq!((&changed["status"], &changed["result"]), (&json!("failed"), &json!("looked at")));
    assert_eq!(refusal(&world.run(&format!("{record}/update"), "status=nonsense").await), "PARAM_INVALID");
    assert_eq!(refusal(&world.run(&format!("{record}/update"), "").await), "PARAM_MISSING");
    assert_eq!(world.run(&format!("{record}/delete"), "").await, json!({"status": "success"}));
    assert_eq!(refusal(&world.run(&format!("{record}/delete"), "").await), "RUN_NOT_FOUND");
}

#[tokio::test]
async fn enable_disable_and_delete_answer_what_known_clients_read() {
    let world = World::open().await.with_store().await;
    let id = created(&world, &nightly()).await;
    let done = json!({"status": "success", "success": true, "taskId": id});
    for (operation, state) in [("disable", "paused"), ("disable", "paused"), ("enable", "active")] {
        assert_eq!(world.run(&format!("{TASKS}/{id}/{operation}"), "").await, done);
        let shown = task(&world, &id).await;
        assert_eq!(shown["taskState"], state);
        assert_eq!(shown["nextRun"] == json!(-1), state == "paused", "{shown}");
    }
    assert_eq!(world.run(&format!("{TASKS}/{id}/delete"), "").await, done);
    for operation in ["update", "enable", "disable", "delete", "run"] {
        let reply = world.run(&format!("{TASKS}/{id}/{operation}"), "title=x").await;
        assert_eq!(refusal(&reply), "TASK_NOT_FOUND", "{operation}");
    }
}

#[tokio::test]
async fn an_update_keeps_what_is_not_sent_and_takes_what_the_python_client_sends() {
    let world = World::open().await.with_store().await;
    let id = created(&world, &nightly()).await;
    let update = format!("{TASKS}/{id}/update");
    let done = json!({"status": "success", "success": true, "taskId": id});
    // edit_task of the Python client sends all of this, with the passcode as it was shown.
    let parameters = json!({"name": "nightly", "storeName": "s1", "passcode": "********"});
    let sent = format!(
        "itemId=&title=later&minute=0&hour=4&dayOfMonth=*&month=*&dayOfWeek=*&maxOccurrences=10&parameters={parameters}"
    );
    assert_eq!(world.run(&update, &sent).await, done);
    let shown = task(&world, &id).await;
    assert_eq!(
        (&shown["taskTitle"], &shown["cronExpression"], &shown["maxOccurrences"]),
        (&json!("later"), &json!("0 0 4 * * *"), &json!(10))
    );
    assert_eq!(
        (&shown["parameters"]["passcode"], &shown["parameters"]["retentionOffset"]),
        (&json!("********"), &json!(1_209_600_000))
    );
    assert_eq!(world.run(&update, "hour=5").await, done);
    assert_eq!(task(&world, &id).await["cronExpression"], "0 0 5 * * *");
    assert_eq!(world.run(&update, "timeZone=Europe/Berlin").await, done);
    let shown = task(&world, &id).await;
    assert_eq!(shown["timeZone"], "Europe/Berlin");

    assert_eq!(refusal(&world.run(&update, "").await), "PARAM_MISSING");
    assert_eq!(refusal(&world.run(&update, "type=VerifyBackups&title=x").await), "PARAM_INVALID");
    let as_get = world.ask(Role::Administrator, "GET", &format!("{update}?f=json"), "").await;
    assert_eq!(as_get.code(), 405, "nothing is changed by GET");
    assert_eq!(task(&world, &id).await, shown);
}

#[tokio::test]
async fn what_cannot_be_scheduled_is_refused_with_the_parameter_in_the_message() {
    let world = World::open().await.with_store().await;
    let create = format!("{TASKS}/createTask");
    let fields = "minute=30&hour=2&dayOfMonth=*&month=*&dayOfWeek=?";
    let with = |parameters: Value| format!("type=CreateBackup&{fields}&parameters={parameters}");
    let good = json!({"name": "n", "storeName": "s1", "passcode": PASSCODE});
    let edited = |key: &str, value: Value| {
        let mut changed = good.clone();
        changed[key] = value;
        with(changed)
    };
    for (form, code, word) in [
        (fields.to_owned(), "PARAM_MISSING", "'type'"),
        (format!("type=CleanGPJobs&{fields}"), "NOT_SUPPORTED", "CreateBackup"),
        ("type=CreateBackup&minute=1".to_owned(), "PARAM_MISSING", "'hour'"),
        (format!("type=CreateBackup&{fields}"), "PARAM_MISSING", "name"),
        (format!("type=CreateBackup&{fields}&parameters=[]"), "JSON_INVALID", "'parameters'"),
        (format!("{}&timeZone=Nowhere", with(good.clone())), "PARAM_INVALID", "'timeZone'"),
        (format!("{}&maxOccurrences=x", with(good.clone())), "PARAM_INVALID", "'maxOccurrences'"),
        (with(good.clone()).replace("minute=30", "minute=*"), "PARAM_INVALID", "'minute'"),
        (edited("passcode", json!("short")), "DR_PASSCODE_SHORT", "8 characters"),
        (edited("passcode", json!(12)), "PARAM_INVALID", "'passcode'"),
        (edited("name", json!("a/b")), "NAME_INVALID", "name"),
        (edited("storeName", json!("nope")), "STORE_NOT_FOUND", "'nope'"),
        (edited("retentionOffset", json!(5)), "PARAM_INVALID", "'retentionOffset'"),
        (edited("metaData", json!("x")), "PARAM_INVALID", "'metaData'"),
        (
            edited("metaData", json!({"retention": {"type": "year", "value": 1}})),
            "PARAM_INVALID",
            "'retention'",
        ),
        (edited("metaData", json!({"recurring": "perhaps"})), "PARAM_INVALID", "'recurring'"),
    ] {
        let reply = world.run(&create, &form).await;
        assert_eq!(refusal(&reply), code, "{form}: {reply}");
        let message = reply["error"]["message"].as_str().expect("message");
        assert!(message.contains(word), "{form}: {message}");
        assert!(!message.contains(PASSCODE));
    }
    let list = world.ask(Role::Operator, "GET", &format!("{TASKS}?f=json"), "").await.json();
    assert_eq!(list["result"].as_array().map(Vec::len), Some(1), "the cleaner alone: {list}");
}

#[tokio::test]
async fn metadata_gives_the_retention_unless_the_offset_says_another() {
    let world = World::open().await.with_store().await;
    let form = |parameters: Value| {
        format!("type=CreateBackup&minute=0&hour=0&dayOfMonth=?&month=*&dayOfWeek=7&parameters={parameters}")
    };
    let base = json!({"name": "weekly", "storeName": "s1", "passcode": PASSCODE, "unknown": "ignored"});
    for (meta, offset, expected) in [
        (json!({"retention": {"type": "week", "value": 2}}), Value::Null, json!(14 * 86_400_000_i64)),
        (json!({"retention": {"type": "month", "value": 1}}), json!(7_200_000), json!(7_200_000)),
        (Value::Null, Value::Null, Value::Null),
    ] {
        let mut parameters = base.clone();
        (parameters["metaData"], parameters["retentionOffset"]) = (meta, offset);
        let shown = task(&world, &created(&world, &form(parameters)).await).await;
        assert_eq!(shown["parameters"]["retentionOffset"], expected, "{shown}");
        assert_eq!(shown["parameters"]["unknown"], Value::Null);
        assert_eq!(shown["runIntervalSeconds"], 7 * 86_400);
    }
    let flat = format!(
        "type=CreateBackup&minute=0&hour=0&dayOfMonth=*&month=*&dayOfWeek=?&name=short&storeName=s1\
         &passcode={PASSCODE}&retentionDays=3"
    );
    let shown = task(&world, &created(&world, &flat).await).await;
    assert_eq!(shown["parameters"]["retentionOffset"], 3 * 86_400_000);
    assert_eq!(shown["taskTitle"], "short");
}

#[tokio::test]
async fn the_cleaner_is_there_from_the_start_and_cannot_be_deleted() {
    let world = World::open().await;
    let list = world.ask(Role::Operator, "GET", &format!("{TASKS}?f=json"), "").await.json();
    let cleaner = &list["result"][0];
    assert_eq!(
        (&cleaner["taskType"], &cleaner["cronExpression"]),
        (&json!("BackupRetentionCleaner"), &json!("0 0 * * * ?"))
    );
    let url = format!("{TASKS}/{}", cleaner["taskId"].as_str().expect("id"));
    assert_eq!(refusal(&world.run(&format!("{url}/delete"), "").await), "TASK_IN_USE");
    let kept = world.run(&format!("{url}/update"), "parameters={\"keepLast\":5}").await;
    assert_eq!(kept["success"], true, "{kept}");
    let run = world.run(&format!("{url}/run"), "").await;
    assert!(run["runId"].is_string() && run["status"] == "success", "{run}");
}

#[tokio::test]
async fn settings_are_as_documented_and_what_is_not_sent_stays() {
    let world = World::open().await;
    let settings = format!("{DR}/settings");
    let update = format!("{settings}/update");
    assert_eq!(world.read(&settings).await, json!({"timeoutInSeconds": 7200}));
    let volume =
        r#"{"stagingVolumeConfig":{"provisioningType":"DYNAMIC","storageClass":"default","size":"64Gi"}}"#;
    assert_eq!(world.run(&update, &format!("settings={volume}")).await, json!({"status": "success"}));
    let shown = json!({
        "stagingVolumeConfig":
            {"component": "DR_JOB", "provisioningType": "DYNAMIC", "storageClass": "default", "size": "64Gi"},
        "timeoutInSeconds": 7200,
    });
    assert_eq!(world.read(&settings).await, shown);
    // The documentation names the time-out in two places.
    for (sent, seconds) in [
        (r#"{"timeoutInSeconds":14400}"#, 14_400),
        (r#"{"stagingVolumeConfig":{"timeoutInSeconds":"3600"}}"#, 3600),
        (r#"{"timeoutInSeconds":0}"#, 0),
    ] {
        assert_eq!(
            world.run(&update, &format!("settings={sent}")).await,
            json!({"status": "success"}),
            "{sent}"
        );
        let now = world.read(&settings).await;
        assert_eq!(
            (&now["timeoutInSeconds"], &now["stagingVolumeConfig"]),
            (&json!(seconds), &shown["stagingVolumeConfig"])
        );
    }
    for bad in [
        "{}",
        r#"{"x":1}"#,
        r#"{"timeoutInSeconds":59}"#,
        r#"{"timeoutInSeconds":"x"}"#,
        r#"{"timeoutInSeconds":99999999999999999999}"#,
        r#"{"stagingVolumeConfig":5}"#,
        r#"{"stagingVolumeConfig":{"size":"big"}}"#,
        r#"{"stagingVolumeConfig":{"provisioningType":"MAGIC"}}"#,
        r#"{"stagingVolumeConfig":{"labels":{"a":"b"}}}"#,
        r#"{"stagingVolumeConfig":{"provisioningType":"STATIC","labels":{"a":5}}}"#,
        r#"{"stagingVolumeConfig":{"storageClass":""}}"#,
    ] {
        assert_eq!(refusal(&world.run(&update, &format!("settings={bad}")).await), "PARAM_INVALID", "{bad}");
    }
    assert_eq!(refusal(&world.run(&update, "").await), "PARAM_MISSING");
    assert_eq!(refusal(&world.run(&update, "settings=x").await), "JSON_INVALID");
}

#[tokio::test]
async fn in_read_only_mode_every_change_is_refused_with_the_message_and_backups_are_made() {
    let world = World::open().await.with_store().await;
    let mode = format!("{ADMIN}/mode");
    assert_eq!(world.read(&mode).await, json!({"isReadOnly": false}));
    assert_eq!(refusal(&world.run(&format!("{mode}/update"), "").await), "PARAM_MISSING");
    assert_eq!(refusal(&world.run(&format!("{mode}/update"), "isReadOnly=perhaps").await), "PARAM_INVALID");
    let on = world.run(&format!("{mode}/update"), "isReadOnly=True&message=Back at noon.").await;
    assert_eq!(on, json!({"status": "success", "success": true}));
    assert_eq!(world.read(&mode).await, json!({"isReadOnly": true, "message": "Back at noon."}));
    for endpoint in crate::endpoints::ENDPOINTS {
        if endpoint.refused != crate::endpoints::Refused::WhileReadOnly {
            continue;
        }
        let reply = world.run(&format!("/strongroom/{}", endpoint.path.replace(['{', '}'], "")), "").await;
        assert_eq!(refusal(&reply), "READ_ONLY", "{}: {reply}", endpoint.path);
        assert_eq!(reply["error"]["message"], "Back at noon.");
    }
    let backups = format!("{DR}/stores/s1/backups");
    let passcode = format!("passcode={PASSCODE}");
    let made =
        world.wait(&world.run(&format!("{backups}/create"), &format!("name=b1&{passcode}")).await).await;
    assert_eq!(made["status"], "COMPLETED");
    assert_eq!(refusal(&world.run(&format!("{backups}/b1/restore"), &passcode).await), "READ_ONLY");
    assert_eq!(world.run(&format!("{backups}/b1/validate"), "").await["isReady"], true);
    assert_eq!(world.run(&format!("{mode}/update"), "isReadOnly=false").await["success"], true);
    assert_eq!(world.run(&format!("{backups}/b1/delete"), "").await, json!({"status": "success"}));
}

#[tokio::test]
async fn a_store_with_a_schedule_is_unregistered_by_force_alone() {
    let world = World::open().await.with_store().await;
    let id = created(&world, &nightly()).await;
    let unregister = format!("{DR}/stores/s1/unregister");
    let refused = world.run(&unregister, "").await;
    assert_eq!((refusal(&refused), &refused["error"]["details"]), ("DR_STORE_IN_USE", &json!(["nightly"])));
    assert_eq!(world.run(&unregister, "force=true").await, json!({"status": "success"}));
    assert_eq!(task(&world, &id).await["taskState"], "paused");
}
