//! The documented commands on a store in a bucket, as people copy them into a shell, against a real S3 server; each reply
//! compared as JSON. Two keys are added to the documented settings: where that server is, and that it speaks plain HTTP.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};
use strongroom_tests::server::{Launch, Options, PASSCODE, PASSWORD, Site};
use strongroom_tests::services::{ACCESS_KEY, SECRET_KEY, Service};
use strongroom_tests::tree::Picture;

use crate::buckets::small_tree;

/// One reply a line.
const SHELL: &str = r#"
set -euo pipefail
ADM=$CTX/admin ; DR=$ADM/system/disasterrecovery
TOKEN=$(curl -s $CTX/sharing/rest/generateToken -d username=admin --data-urlencode password="$ADMIN_PASSWORD" \
  -d client=referer -d referer=http -d expiration=60 -d f=json | jq -r .token)
H="X-Esri-Authorization: Bearer $TOKEN"
wait_job() { local i s; for i in $(seq 1200); do s=$(curl -s -H "$H" "$ADM/jobs/$1?f=json" | jq -r .status)
  case $s in COMPLETED|FAILED|CANCELLED|null) break;; esac; sleep 0.1; done; curl -s -H "$H" "$ADM/jobs/$1?f=json"; echo; }
SETTINGS='{"type":"S3","provider":{"name":"AWS","cloudServices":[{"name":"AWS S3","type":"objectStore","usage":"BACKUP","category":"storage","connection":{"bucketName":"'$BUCKET'","region":"us-east-1","rootDir":"site1","credential":{"type":"IAM-ROLE"},"endpointUrl":"'$ENDPOINT'","allowHttp":true}}]}}'

REPLY=$(curl -s -H "$H" $DR/stores/register -d f=json -d storeName=s2 -d isDefault=false -d async=true \
  --data-urlencode "settings=$SETTINGS") ; echo "$REPLY" ; wait_job $(jq -r .jobid <<< "$REPLY")
curl -s -H "$H" "$DR/stores?f=json" ; echo
curl -s -H "$H" "$DR/stores?f=pjson" | jq -c . ;
curl -s -H "$H" $DR/stores/s2/validate -d f=json ; echo
curl -s -H "$H" $DR/stores/s2/update -d f=json --data-urlencode 'settings={"default":true}' ; echo
curl -s -H "$H" "$DR/stores/s2?f=json" ; echo
REPLY=$(curl -s -H "$H" $DR/stores/s2/backups/create -d f=json -d name=backup_first \
  --data-urlencode passcode="$PASS" -d description= -d retentionDate=-1) ; echo "$REPLY" ; wait_job $(jq -r .jobid <<< "$REPLY")
curl -s -H "$H" "$DR/status?f=pjson" | jq -c .
curl -s -H "$H" "$DR/stores/s2/backups?f=pjson" | jq -c . ; curl -s -H "$H" "$DR/stores/s2/backups/backup_first?f=json" ; echo
curl -s -H "$H" $DR/stores/s2/backups/backup_first/update -d f=json -d retentionDate=4102444800000 ; echo
REPLY=$(curl -s -H "$H" $DR/stores/s2/backups/backup_first/restore -d f=json --data-urlencode passcode="$PASS") ; echo "$REPLY"
wait_job $(jq -r .jobid <<< "$REPLY")
curl -s -H "$H" $DR/stores/register -d f=json -d storeName=s3 -d isDefault=false --data-urlencode "settings=$SETTINGS" ; echo
curl -s -H "$H" $DR/stores/s2/backups/backup_first/delete -d f=json -d async=false ; echo
curl -s -H "$H" $DR/stores/s2/unregister -d f=json ; echo
"#;

/// The reply with what differs from run to run as words.
fn plain(key: &str, value: &Value) -> Value {
    match value {
        Value::Object(object) => object.iter().map(|(key, value)| (key.clone(), plain(key, value))).collect(),
        Value::Array(list) => list.iter().map(|value| plain(key, value)).collect(),
        Value::Number(number) if number.as_i64() > Some(1_600_000_000_000) => json!("<ms>"),
        Value::Number(_) if key.starts_with("bytes") => json!("<bytes>"),
        Value::String(text) => match key {
            "jobid" | "jobId" => json!("<job>"),
            "jobsUrl" | "path" | "identity" | "vaultId" | "snapshotId" | "duration" | "overallDuration" => {
                json!(format!("<{key}>"))
            }
            _ => json!(text),
        },
        other => other.clone(),
    }
}

/// The stages of a job, each with the keys that it must have. Kinds that the deployment lacks are skipped.
fn stages(reply: &Value) -> Value {
    let stages = reply["result"]["stages"].as_array().unwrap_or_else(|| panic!("no stages: {reply}")).iter();
    let stage = |stage: &Value| {
        let skipped =
            ["Relational", "Object", "system"].iter().any(|kind| stage["name"].to_string().contains(kind));
        let state = if skipped { "skipped" } else { "completed" };
        json!({"name": stage["name"], "state": state, "duration": "<duration>", "lastUpdated": "<ms>"})
    };
    stages.map(stage).collect()
}

#[test]
fn the_documented_commands_work_on_a_bucket_and_answer_as_documented() {
    let Some(service) = Service::s3() else { return };
    let bucket = service.bucket();
    let site = Site::new(Options::default());
    small_tree(&site.content());
    let before = Picture::take(&site.content());
    // The role of an instance: here its environment.
    let keys = [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)];
    let environment = keys.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let _running = site.start_as(&Launch { environment, ..Launch::default() });
    let output = Command::new("bash")
        .args(["-c", SHELL])
        .env("CTX", site.url())
        .env("CURL_CA_BUNDLE", site.certificate())
        .env("ADMIN_PASSWORD", PASSWORD)
        .env("PASS", PASSCODE)
        .env("BUCKET", &bucket)
        .env("ENDPOINT", service.url())
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{printed}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(!printed.contains(SECRET_KEY) && !printed.contains(PASSCODE), "{printed}");
    println!("{printed}"); // shown when the test fails
    let replies: Vec<Value> = printed
        .lines()
        .map(|line| plain("", &serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))))
        .collect();

    let accepted = json!({"jobsUrl": "<jobsUrl>", "jobid": "<job>", "jobId": "<job>", "status": "SUBMITTED"});
    let done = json!({"status": "success"});
    let registered = json!({
        "status": "success", "name": "s2", "default": false, "type": "S3", "rootDir": "site1", "storageConfig": {},
    });
    let listed = |default: bool| {
        json!({
            "name": "s2", "default": default, "type": "S3", "rootDir": "site1", "storageConfig": {},
            "identity": "<identity>", "versionCreated": "12.0.0", "providerID": "AWS", "serviceID": "AWS S3",
            "bucketName": bucket, "region": "us-east-1", "endpointUrl": service.url(), "credentialType": "IAM-ROLE",
        })
    };
    let mut one = listed(true);
    one["backupCount"] = json!(0);
    one["bytesStored"] = json!("<bytes>");
    one["lastValidated"] = json!("<ms>");
    let entry = |retention: Value| {
        json!({
            "backupName": "backup_first", "backupStore": "s2", "description": "", "release": "12.0.0",
            "siteName": replies[10]["backups"][0]["siteName"], "namespace": "", "backupType": "FULL",
            "scheduleType": "MANUAL", "status": "completed", "startTime": "<ms>", "completeTime": "<ms>",
            "retentionDate": retention, "relationalStore": [], "objectStore": [], "infrastructures": {},
            "volumes": [{
                "name": "content", "path": "<path>", "startTime": "<ms>", "endTime": "<ms>", "status": "completed",
                "files": 40, "bytes": "<bytes>", "bytesAdded": "<bytes>", "snapshotId": "<snapshotId>",
            }],
            "bytesRead": "<bytes>", "bytesAdded": "<bytes>", "filesTotal": 40, "snapshotId": "<snapshotId>",
            "vaultId": "<vaultId>", "formatVersion": 1, "warningCount": 0, "jobid": "<job>",
        })
    };
    let job = |uri: &str, result: Value| {
        json!({
            "jobid": "<job>", "status": "COMPLETED", "starttime": "<ms>", "updatedtime": "<ms>", "endtime": "<ms>",
            "operationURI": format!("/strongroom/admin/system/disasterrecovery/stores/{uri}"), "username": "admin",
            "messages": [], "result": result,
        })
    };
    let result = |reply: &Value, operation: &str, more: Value| {
        let mut result = json!({
            "operation": operation, "state": "success", "backupName": "backup_first", "backupStore": "s2",
            "stages": stages(reply),
        });
        result.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        result
    };
    let mut made = registered.clone();
    made["operation"] = json!("Register");
    for (key, value) in [("state", "success"), ("backupName", ""), ("backupStore", "s2")] {
        made[key] = json!(value);
    }
    made["stages"] = stages(&replies[1]);
    let mut restoring = accepted.clone();
    restoring["status"] = json!("success");
    let mut alone = entry(json!(-1));
    alone["warnings"] = json!([]);
    let backed_up =
        json!({"bytesRead": "<bytes>", "bytesAdded": "<bytes>", "filesTotal": 40, "warnings": []});
    let restored =
        json!({"bytesRead": "<bytes>", "bytesReused": "<bytes>", "filesTotal": 40, "warnings": []});
    let expected = [
        accepted.clone(),
        job("register", made),
        json!({"backupStores": [listed(false)]}),
        json!({"backupStores": [listed(false)]}),
        json!({"isReady": true, "status": "success"}),
        done.clone(),
        one,
        accepted,
        job("s2/backups/create", result(&replies[8], "Backup", backed_up)),
        replies[9].clone(),
        json!({"backups": [entry(json!(-1))]}),
        alone,
        done.clone(),
        restoring,
        job("s2/backups/backup_first/restore", result(&replies[14], "Restore", restored)),
        replies[15].clone(),
        done.clone(),
        done,
    ];
    for (place, (reply, expected)) in replies.iter().zip(&expected).enumerate() {
        assert_eq!(reply, expected, "reply {place}");
    }
    assert_eq!(replies.len(), expected.len(), "{printed}");
    let status = &replies[9]["status"];
    for (key, value) in [("state", json!("success")), ("code", json!(3)), ("backupStore", json!("s2"))] {
        assert_eq!(status[key], value, "{status}");
    }
    assert_eq!(replies[15]["error"]["messageCode"], "DR_LOCATION_IN_USE", "{}", replies[15]);
    before.assert_same(&Picture::take(&site.content()), "restored from the bucket");
    fs::remove_dir_all(site.content()).unwrap();
}
