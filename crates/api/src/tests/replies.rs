//! The replies as documented: keys, their order, types; with ids and times replaced by what they are.

use super::support::{ADMIN, DR, PASSCODE, PUBLIC_URL, World, ask};
use recovery::Role;
use serde_json::{Value, json};

/// The value with ids, times and places as words, so that it can be compared.
fn shape(value: &Value, key: &str) -> Value {
    const TIMES: [&str; 9] = [
        "starttime",
        "endtime",
        "updatedtime",
        "startTime",
        "endTime",
        "completeTime",
        "lastUpdated",
        "lastValidated",
        "expires",
    ];
    match value {
        Value::Object(object) => object.iter().map(|(key, value)| (key.clone(), shape(value, key))).collect(),
        Value::Array(list) => list.iter().map(|value| shape(value, key)).collect(),
        Value::Number(number) if TIMES.contains(&key) && number.as_i64() > Some(1_600_000_000_000) => {
            json!("<ms>")
        }
        Value::Number(_) if key.starts_with("bytes") => json!("<bytes>"),
        Value::String(_) if ["rootDir", "path"].contains(&key) => json!("<directory>"),
        Value::String(text) if key == "identity" && text.len() == 20 => json!("<identity>"),
        Value::String(text) if text.starts_with('j') && text.len() == 37 => json!("<job>"),
        Value::String(text) if text.len() == 64 => json!("<id>"),
        Value::String(text) if text.ends_with(" minutes)") => json!("<duration>"),
        other => other.clone(),
    }
}

#[tokio::test]
async fn the_small_resources_are_as_documented() {
    let world = World::open().await;
    let version = env!("CARGO_PKG_VERSION");
    for (path, reply) in [
        (
            ADMIN.to_owned(),
            json!({"fullVersion": "12.0.0", "currentVersion": 12.0, "resources": ["system", "jobs", "mode"], "strongroomVersion": version}),
        ),
        (format!("{ADMIN}/system"), json!({"resources": ["disasterrecovery", "tasks", "components"]})),
        (DR.to_owned(), json!({"operations": ["status"], "resources": ["stores", "settings"]})),
        (
            format!("{DR}/backuprestore"),
            json!({"operations": ["backup", "status"], "resources": ["backups"]}),
        ),
        (format!("{ADMIN}/jobs"), json!({"jobs": []})),
        (format!("{DR}/stores"), json!({"backupStores": []})),
        (format!("{DR}/backuprestore/backups"), json!({"backups": []})),
        (
            "/strongroom/sharing/rest".to_owned(),
            json!({"currentVersion": "2025.1", "enterpriseVersion": "12.0.0", "enterpriseBuild": "1"}),
        ),
        (
            "/strongroom/sharing/rest/info".to_owned(),
            json!({"authInfo": {"isTokenBasedSecurity": true, "tokenServicesUrl": format!("{PUBLIC_URL}/sharing/rest/generateToken")}}),
        ),
    ] {
        assert_eq!(world.read(&path).await, reply, "{path}");
        let posted = world.ask(Role::Viewer, "POST", &format!("/{path}//"), "f=json").await;
        assert_eq!(posted.json(), reply, "POST with more slashes: {path}");
    }
    let none = &world.read(&format!("{DR}/status")).await["status"];
    assert_eq!((&none["state"], &none["code"], &none["stages"]), (&json!("none"), &json!(0), &json!([])));
}

#[tokio::test]
async fn stores_are_registered_read_updated_validated_and_unregistered() {
    let world = World::open().await;
    let register = format!("{DR}/stores/register");
    let settings = "settings={\"type\":\"HOSTED\",\"storageConfig\":{\"provisioningType\":\"DYNAMIC\",\"size\":\"64Gi\",\"secret\":\"x\"}}";
    let reply = world.run(&register, &format!("storeName=s1&isDefault=True&async=False&{settings}")).await;
    let config = json!({"size": "64Gi", "provisioningType": "DYNAMIC"});
    let expected = json!({
        "status": "success", "name": "s1", "default": true, "type": "HOSTED", "rootDir": "<directory>",
        "storageConfig": config,
    });
    assert_eq!(shape(&reply, ""), expected);

    let place = world.directory.path().join("backup/s2");
    let old_form = format!(
        "storeName=s2&rootDirectory={}&credentials={{}}&storageConfig={{}}&isDefault=false",
        place.display()
    );
    let reply = world.run(&register, &old_form).await;
    assert_eq!(
        (&reply["name"], &reply["type"], &reply["default"]),
        (&json!("s2"), &json!("FILESYSTEM"), &json!(false))
    );

    let entry = json!({
        "name": "s1", "default": true, "type": "HOSTED", "rootDir": "<directory>", "storageConfig": config,
        "identity": "<identity>", "versionCreated": "12.0.0", "providerID": "", "serviceID": "",
    });
    let list = shape(&world.read(&format!("{DR}/stores")).await, "");
    assert_eq!(list["backupStores"][0], entry);
    assert_eq!(list["backupStores"][1]["name"], "s2");
    let one = shape(&world.read(&format!("{DR}/stores/s1")).await, "");
    assert_eq!((&one["backupCount"], &one["bytesStored"]), (&json!(0), &json!("<bytes>")));
    assert!(one.get("lastValidated").is_some());

    let success = json!({"status": "success"});
    let update = format!("{DR}/stores/s2/update");
    assert_eq!(world.run(&update, "settings={\"default\":true,\"supportBDSBackup\":false}").await, success);
    assert_eq!(world.read(&format!("{DR}/stores")).await["backupStores"][0]["default"], false);
    let ready = world.run(&format!("{DR}/stores/s1/validate"), "").await;
    assert_eq!(ready, json!({"isReady": true, "status": "success"}));
    assert_eq!(world.run(&format!("{DR}/stores/s2/unregister"), "").await, success);
    assert_eq!(
        world.run(&format!("{DR}/stores/s2/unregister"), "").await["error"]["messageCode"],
        "STORE_NOT_FOUND"
    );
}

#[tokio::test]
async fn a_store_that_cannot_be_is_refused_with_the_reason() {
    let world = World::open().await.with_store().await;
    let cases = [
        ("storeName=s2", "PARAM_MISSING"),
        ("settings={\"type\":\"HOSTED\"}", "PARAM_MISSING"),
        ("storeName=s2&settings=nonsense", "JSON_INVALID"),
        ("storeName=s2&settings={}", "PARAM_MISSING"),
        ("storeName=s2&settings={\"type\":\"TAPE\"}", "PARAM_INVALID"),
        ("storeName=s2&settings={\"type\":\"S3\",\"provider\":{}}", "PARAM_MISSING"),
        ("storeName=s2&settings={\"type\":\"AZURE_BLOBSTORE\"}", "PARAM_MISSING"),
        ("storeName=s2&settings={\"type\":\"HOSTED\",\"supportBDSBackup\":true}", "NOT_SUPPORTED"),
        ("storeName=s2&settings={\"type\":\"HOSTED\",\"storageConfig\":{\"size\":5}}", "PARAM_INVALID"),
        ("storeName=s2&settings={\"type\":\"FILESYSTEM\"}", "PARAM_MISSING"),
        ("storeName=s2&settings={\"type\":\"FILESYSTEM\",\"rootDir\":\"/etc/s2\"}", "PARAM_INVALID"),
        ("storeName=s2&isDefault=maybe&settings={\"type\":\"HOSTED\"}", "PARAM_INVALID"),
        ("storeName=s2&credentials=[]&rootDirectory=/x", "JSON_INVALID"),
        ("storeName=a/b&settings={\"type\":\"HOSTED\"}", "NAME_INVALID"),
        ("storeName=register&settings={\"type\":\"HOSTED\"}", "NAME_INVALID"),
        ("storeName=s1&settings={\"type\":\"HOSTED\"}", "DR_STORE_EXISTS"),
    ];
    for (form, name) in cases {
        let reply = world.run(&format!("{DR}/stores/register"), form).await;
        assert_eq!(reply["error"]["messageCode"], name, "{form}: {reply}");
    }
    let update = format!("{DR}/stores/s1/update");
    for (form, name) in [
        ("", "PARAM_MISSING"),
        ("settings={}", "PARAM_INVALID"),
        ("settings={\"rootDir\":\"/x\"}", "PARAM_INVALID"),
        ("settings={\"default\":\"perhaps\"}", "PARAM_INVALID"),
        ("settings={\"default\":true,\"supportBDSBackup\":true}", "NOT_SUPPORTED"),
    ] {
        assert_eq!(world.run(&update, form).await["error"]["messageCode"], name, "{form}");
    }
    assert_eq!(world.read(&format!("{DR}/stores/nope")).await["error"]["messageCode"], "STORE_NOT_FOUND");
}

#[tokio::test]
async fn registering_as_a_job_ends_in_the_same_object() {
    let world = World::open().await;
    let settings = "settings={\"type\":\"HOSTED\",\"storageConfig\":{}}";
    let accepted =
        world.run(&format!("{DR}/stores/register"), &format!("storeName=s1&async=true&{settings}")).await;
    let job = world.wait(&accepted).await;
    assert_eq!(job["status"], "COMPLETED", "{job}");
    assert_eq!(
        (&job["result"]["status"], &job["result"]["name"]),
        (&json!("success"), &json!("s1")),
        "{job}"
    );
    assert!(job["result"]["stages"].is_array());
}

#[tokio::test]
async fn a_backup_is_created_listed_updated_restored_and_deleted() {
    let world = World::open().await.with_store().await;
    let backups = format!("{DR}/stores/s1/backups");
    let accepted = world
        .run(
            &format!("{backups}/create"),
            &format!("name=b1&passcode={PASSCODE}&description=None&retentionDate=-1"),
        )
        .await;
    let id = accepted["jobid"].as_str().expect("job").to_owned();
    assert_eq!(
        accepted,
        json!({"jobsUrl": format!("{PUBLIC_URL}/admin/jobs/{id}"), "jobid": id, "jobId": id, "status": "SUBMITTED"})
    );
    let job = world.wait(&accepted).await;
    assert_eq!(job["status"], "COMPLETED", "{job}");
    assert_eq!(job["operationURI"], format!("{backups}/create"));
    assert_eq!((&job["username"], &job["messages"]), (&json!("admin"), &json!([])));
    let result = &job["result"];
    assert_eq!((&result["operation"], &result["state"]), (&json!("Backup"), &json!("success")), "{result}");
    assert_eq!((&result["backupName"], &result["backupStore"]), (&json!("b1"), &json!("s1")));
    let names: Vec<_> =
        result["stages"].as_array().expect("stages").iter().map(|stage| stage["name"].as_str()).collect();
    assert!(
        names.contains(&Some("Validation")) && names.contains(&Some("Post backup operation cleanup")),
        "{names:?}"
    );
    assert_eq!(shape(&result["stages"][0]["duration"], ""), "<duration>");

    let status = shape(&world.read(&format!("{DR}/status")).await["status"], "");
    assert_eq!(
        (&status["operation"], &status["state"], &status["code"]),
        (&json!("Backup"), &json!("success"), &json!(3))
    );
    assert_eq!((&status["message"], &status["scheduleType"]), (&json!(""), &json!("MANUAL")));
    assert_eq!((&status["startTime"], &status["overallDuration"]), (&json!("<ms>"), &json!("<duration>")));

    let entry = shape(&world.read(&backups).await["backups"][0], "");
    let expected = json!({
        "backupName": "b1", "backupStore": "s1", "description": "", "release": "12.0.0", "siteName": "site1",
        "namespace": "", "backupType": "FULL", "scheduleType": "MANUAL", "status": "completed",
        "startTime": "<ms>", "completeTime": "<ms>", "retentionDate": -1,
        "relationalStore": [], "objectStore": [], "infrastructures": {},
        "volumes": [{
            "name": "content", "path": "<directory>", "startTime": "<ms>", "endTime": "<ms>", "status": "completed",
            "files": 1, "bytes": "<bytes>", "bytesAdded": "<bytes>", "snapshotId": "<id>",
        }],
        "bytesRead": "<bytes>", "bytesAdded": "<bytes>", "filesTotal": 1, "snapshotId": "<id>", "vaultId": entry["vaultId"],
        "formatVersion": 1, "warningCount": 0, "jobid": "<job>",
    });
    assert_eq!(entry, expected);
    assert_eq!(world.read(&format!("{DR}/backuprestore/backups/b1")).await["warnings"], json!([]));

    let success = json!({"status": "success"});
    assert_eq!(
        world.run(&format!("{backups}/b1/update"), "retentionDate=4102444800000&description=kept").await,
        success
    );
    let one = world.read(&format!("{backups}/b1")).await;
    assert_eq!((&one["retentionDate"], &one["description"]), (&json!(4_102_444_800_000_i64), &json!("kept")));
    let ready = world.run(&format!("{backups}/b1/validate"), &format!("passcode={PASSCODE}")).await;
    assert_eq!(ready, json!({"isReady": true, "status": "success"}));
    let accepted =
        world.run(&format!("{backups}/b1/validate"), &format!("passcode={PASSCODE}&readData=true")).await;
    assert_eq!(world.wait(&accepted).await["status"], "COMPLETED");

    let content = world.directory.path().join("content/a.txt");
    std::fs::write(&content, "damaged").expect("write");
    let only =
        world.run(&format!("{backups}/b1/restore"), &format!("passcode={PASSCODE}&validateOnly=true")).await;
    assert_eq!(only, json!({"status": "success", "isReady": true}));
    let wrong = world.run(&format!("{backups}/b1/restore"), "passcode=not the passcode").await;
    assert_eq!(wrong["error"]["messageCode"], "DR_PASSCODE_WRONG", "{wrong}");
    assert!(wrong["error"]["message"].to_string().to_lowercase().contains("passcode"));
    let accepted = world
        .run(
            &format!("{backups}/b1/restore"),
            &format!("passcode={PASSCODE}&storeName=s1&components=content"),
        )
        .await;
    assert_eq!(
        (&accepted["status"], &accepted["jobId"]),
        (&json!("success"), &accepted["jobid"]),
        "{accepted}"
    );
    let job = world.wait(&accepted).await;
    assert_eq!(job["status"], "COMPLETED", "{job}");
    assert_eq!(std::fs::read_to_string(&content).expect("read"), "first");
    assert_eq!(world.read(&format!("{DR}/backuprestore/status")).await["status"]["operation"], "Restore");

    assert_eq!(world.run(&format!("{backups}/b1/delete"), "async=False").await, success);
    assert_eq!(
        world.run(&format!("{backups}/b1/delete"), "").await["error"]["messageCode"],
        "BACKUP_NOT_FOUND"
    );
    let cancel = world.run(&format!("{ADMIN}/jobs/{id}/cancel"), "").await;
    assert_eq!(cancel["error"]["code"], 409, "a finished job: {cancel}");
    assert_eq!(world.read(&format!("{ADMIN}/jobs/nope")).await["error"]["messageCode"], "JOB_NOT_FOUND");
}

#[tokio::test]
async fn the_old_layout_addresses_the_same_backups() {
    let world = World::open().await.with_store().await;
    let old = format!("{DR}/backuprestore");
    let accepted =
        world.run(&format!("{old}/backup"), &format!("name=old form&passcode={PASSCODE}&description=")).await;
    assert_eq!(world.wait(&accepted).await["status"], "COMPLETED", "{accepted}");
    assert_eq!(world.read(&format!("{DR}/stores/s1/backups/old%20form")).await["backupName"], "old form");
    let list = world.read(&format!("{old}/backups")).await;
    assert_eq!(list["backups"][0]["backupName"], "old form");
    let again =
        world.run(&format!("{old}/backup"), &format!("name=Old Form&storeName=s1&passcode={PASSCODE}")).await;
    assert_eq!(again["error"]["messageCode"], "DR_BACKUP_EXISTS");
    let elsewhere = world
        .run(&format!("{old}/backups/old%20form/restore"), &format!("storeName=nope&passcode={PASSCODE}"))
        .await;
    assert_eq!(elsewhere["error"]["code"], 404, "{elsewhere}");
    let contrary = world.run(&format!("{DR}/stores/s1/backups/old%20form/delete"), "storeName=s2").await;
    assert_eq!(contrary["error"]["messageCode"], "PARAM_INVALID");
    assert_eq!(world.run(&format!("{old}/backups/old%20form/validate"), "").await["isReady"], true);
    let accepted = world.run(&format!("{old}/backups/old%20form/delete"), "async=true").await;
    let job = world.wait(&accepted).await;
    assert_eq!((&job["status"], &job["result"]["status"]), (&json!("COMPLETED"), &json!("success")), "{job}");
}

#[tokio::test]
async fn backups_that_cannot_be_made_are_refused_with_the_reason() {
    let world = World::open().await.with_store().await;
    let create = format!("{DR}/stores/s1/backups/create");
    for (form, name) in [
        ("name=x&passcode=short".to_owned(), "DR_PASSCODE_SHORT"),
        ("name=x".to_owned(), "PARAM_MISSING"),
        (format!("passcode={PASSCODE}"), "PARAM_MISSING"),
        (format!("name=x&passcode={}", "p".repeat(257)), "PARAM_INVALID"),
        (format!("name=a<b&passcode={PASSCODE}"), "NAME_INVALID"),
        (format!("name=create&passcode={PASSCODE}"), "NAME_INVALID"),
        (format!("name=x&passcode={PASSCODE}&retentionDate=0"), "DR_RETENTION_INVALID"),
        (format!("name=x&passcode={PASSCODE}&retentionDate=-2"), "DR_RETENTION_INVALID"),
        (format!("name=x&passcode={PASSCODE}&retentionDate=soon"), "DR_RETENTION_INVALID"),
        (format!("name=x&passcode={PASSCODE}&retentionDate=1700000000"), "DR_RETENTION_INVALID"),
        (format!("name=x&passcode={PASSCODE}&retentionDate=1600000000000"), "DR_RETENTION_INVALID"),
        (format!("name=x&passcode={PASSCODE}&storeName=s2"), "PARAM_INVALID"),
    ] {
        let reply = world.run(&create, &form).await;
        assert_eq!(reply["error"]["messageCode"], name, "{form}: {reply}");
        assert!(!reply.to_string().contains(PASSCODE));
    }
    assert!(world.recovery.jobs().await.expect("jobs").is_empty());
    assert_eq!(
        world.run(&format!("{DR}/stores/s1/update"), "settings={\"default\":false}").await["status"],
        "success"
    );
    let nowhere =
        world.run(&format!("{DR}/backuprestore/backup"), &format!("name=x&passcode={PASSCODE}")).await;
    assert_eq!(nowhere["error"]["messageCode"], "PARAM_MISSING");
}

#[tokio::test]
async fn the_health_pages_stand_outside_the_context_with_a_status_of_their_own() {
    let world = World::open().await;
    for path in ["/health/live", "/health/ready"] {
        assert_eq!(world.send(ask("GET", path)).await.status.as_u16(), 200, "{path}");
        assert_eq!(world.send(ask("POST", path)).await.status.as_u16(), 405, "{path}");
    }
    assert_eq!(world.send(ask("GET", "/health/other")).await.status.as_u16(), 404);
}
