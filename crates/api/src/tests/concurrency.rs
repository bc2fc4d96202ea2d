//! What may run together, seen from outside while a job is held at work.

use super::support::{ADMIN, DR, PASSCODE, World, ask};
use recovery::Role;
use serde_json::json;

#[tokio::test]
async fn while_a_backup_runs_it_is_seen_and_a_second_one_or_a_restore_is_refused() {
    let world = World::open().await.with_store().await;
    let backups = format!("{DR}/stores/s1/backups");
    let create = |name: &str| format!("name={name}&passcode={PASSCODE}");
    world.wait(&world.run(&format!("{backups}/create"), &create("b1")).await).await;
    world.hold(true);
    let accepted = world.run(&format!("{backups}/create"), &create("b2")).await;
    let id = accepted["jobid"].as_str().expect("job").to_owned();
    let job_url = format!("{ADMIN}/jobs/{id}");
    let job = world.until(&job_url, |job| job["status"] == "EXECUTING").await;
    assert_eq!((&job["endtime"], job.get("result")), (&json!(0), None), "{job}");
    let status = &world.read(&format!("{DR}/status")).await["status"];
    assert_eq!(
        (&status["state"], &status["code"], &status["completeTime"]),
        (&json!("in_progress"), &json!(2), &json!(0))
    );
    let listed = world.read(&format!("{backups}/b2")).await;
    assert_eq!((&listed["status"], &listed["completeTime"]), (&json!("in_progress"), &json!(0)));

    for (url, form, name) in [
        (format!("{backups}/create"), create("b3"), "DR_BUSY"),
        (format!("{backups}/b1/restore"), format!("passcode={PASSCODE}"), "DR_BUSY"),
        (format!("{backups}/b2/delete"), String::new(), "DR_BACKUP_IN_USE"),
        (format!("{backups}/b2/restore"), format!("passcode={PASSCODE}"), "DR_BACKUP_NOT_RESTORABLE"),
        (format!("{DR}/stores/s1/unregister"), String::new(), "DR_STORE_IN_USE"),
    ] {
        let refused = world.run(&url, &form).await;
        assert_eq!(refused["error"]["messageCode"], name, "{url}: {refused}");
        assert_eq!(refused["error"]["details"][0], format!("jobid={id}"), "{url}: {refused}");
    }

    let page = world.ask(Role::Viewer, "GET", &format!("{job_url}?f=html"), "").await.text;
    assert!(page.contains("http-equiv=\"refresh\"") && page.contains("<progress max=\"100\""), "{page}");
    assert!(page.contains("Backup · in progress"), "{page}");
    assert_eq!(world.ask(Role::Viewer, "POST", &format!("{job_url}/cancel"), "f=json").await.code(), 403);
    let cancelled = world.ask(Role::Operator, "POST", &format!("{job_url}/cancel"), "f=json").await;
    assert_eq!(cancelled.json(), json!({"status": "success"}));
    world.hold(false);
    let job = world.wait(&accepted).await;
    assert_eq!(
        (&job["status"], &job["result"]["state"]),
        (&json!("CANCELLED"), &json!("cancelled")),
        "{job}"
    );
    let status = world.read(&format!("{DR}/status")).await["status"].clone();
    assert_eq!((&status["state"], &status["code"]), (&json!("failed"), &json!(5)));
    assert!(status["message"].to_string().to_lowercase().contains("cancel"), "{status}");
    assert_eq!(world.read(&format!("{backups}/b2")).await["error"]["messageCode"], "BACKUP_NOT_FOUND");
}

#[tokio::test]
async fn while_a_restore_runs_nothing_can_be_changed_and_everything_can_be_read() {
    let world = World::open().await.with_store().await;
    let backups = format!("{DR}/stores/s1/backups");
    let passcode = format!("passcode={PASSCODE}");
    world.wait(&world.run(&format!("{backups}/create"), &format!("name=b1&{passcode}")).await).await;
    world.hold(true);
    let accepted = world.run(&format!("{backups}/b1/restore"), &passcode).await;
    let id = accepted["jobid"].as_str().expect("job").to_owned();
    world.until(&format!("{ADMIN}/jobs/{id}"), |job| job["status"] == "EXECUTING").await;

    for endpoint in crate::endpoints::ENDPOINTS
        .iter()
        .filter(|endpoint| endpoint.refused != crate::endpoints::Refused::Never)
    {
        let url = format!("/strongroom/{}", endpoint.path.replace("{store}", "s1").replace("{backup}", "b1"));
        let refused = world.run(&url, "").await;
        assert_eq!(refused["error"]["messageCode"], "READ_ONLY", "{url}: {refused}");
        let viewer = world.ask(Role::Viewer, "POST", &url, "f=json").await;
        assert_eq!(viewer.code(), 403, "the privilege comes first: {url}");
    }
    let again = world.run(&format!("{backups}/b1/restore"), &passcode).await;
    assert_eq!(again["error"]["messageCode"], "DR_BUSY", "{again}");
    assert_eq!(again["error"]["details"][0], format!("jobid={id}"));
    for path in [format!("{DR}/stores/s1"), backups.clone(), format!("{backups}/b1"), format!("{ADMIN}/jobs")]
    {
        assert!(world.read(&path).await.get("error").is_none(), "{path}");
    }
    assert_eq!(world.run(&format!("{DR}/stores/s1/validate"), "").await["isReady"], true);
    let form =
        world.send(ask("GET", &format!("{backups}/b1/delete")).token(world.token(Role::Administrator))).await;
    assert!(form.text.contains("Delete this backup"), "forms can be looked at");

    world.hold(false);
    assert_eq!(world.wait(&accepted).await["status"], "COMPLETED");
    assert_eq!(world.run(&format!("{backups}/b1/delete"), "").await, json!({"status": "success"}));
}
