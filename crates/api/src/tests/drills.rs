//! Drills of a backup, as programs and people see them.

use super::pages::Browser;
use super::support::{ADMIN, DR, PASSCODE, World};

#[tokio::test]
async fn the_drill_of_a_backup_is_a_job_and_its_report_is_shown_wherever_it_is_asked_for() {
    let world = World::open().await.with_store().await;
    let form = format!("name=b1&passcode={PASSCODE}");
    world.wait(&world.run(&format!("{DR}/stores/s1/backups/create"), &form).await).await;
    let backup = format!("{DR}/stores/s1/backups/b1");
    let browser = Browser::sign_in(&world, "victor").await;
    assert!(browser.get(&backup).await.text.contains("<dt>Drill</dt><dd class=\"large\">none yet</dd>"));
    assert!(browser.get(ADMIN).await.text.contains("Neither a restore nor a drill"));

    let refused = world.run(&format!("{backup}/drill"), "passcode=not the right one").await;
    assert_eq!(refused["error"]["messageCode"], "DR_PASSCODE_WRONG", "{refused}");
    let drill = world.run(&format!("{backup}/drill"), &format!("passcode={PASSCODE}")).await;
    let job = world.wait(&drill).await;
    assert_eq!((&job["status"], &job["result"]["outcome"]), (&"COMPLETED".into(), &"proven".into()), "{job}");
    assert!(job["result"]["recoveryTime"].as_i64().expect("time") >= 0, "{job}");
    let less = world.wait(&world.run(&format!("{backup}/drill"), "").await).await;
    assert_eq!(less["result"]["outcome"], "whole", "{less}");

    let reports = world.run(&format!("{backup}/drills"), "").await;
    let reports = reports["reports"].as_array().expect("reports");
    assert_eq!(reports.len(), 2);
    assert_eq!((&reports[0]["outcome"], &reports[0]["recoveryTime"]), (&"whole".into(), &(-1).into()));
    assert_eq!((&reports[1]["jobid"], &reports[1]["withPasscode"]), (&drill["jobid"], &true.into()));
    assert!(reports[1]["proven"].to_string().contains("files"), "{reports:?}");
    let page = browser.get(&backup).await.text;
    assert!(
        page.contains("packs whole, not restored") && page.contains("<strong>Not proven</strong>"),
        "{page}"
    );
    let page = browser.get(&format!("{backup}/drills")).await.text;
    assert!(page.contains("A recovery takes") && page.contains("not measured (-1)"), "{page}");
    let start = browser.get(ADMIN).await.text;
    assert!(start.contains("the last drill</a>"), "{start}");
    assert!(!start.contains("Neither a restore nor a drill"), "{start}");

    // Who damages a store cannot make the server say that all is well.
    let store = world.directory.path().join("stores");
    let pack = find(&store, "data").expect("a pack");
    let mut bytes = std::fs::read(&pack).expect("pack");
    bytes[50] ^= 1;
    std::fs::write(&pack, bytes).expect("pack");
    let failed = world.wait(&world.run(&format!("{backup}/drill"), "").await).await;
    assert_eq!(
        (&failed["status"], &failed["result"]["outcome"]),
        (&"FAILED".into(), &"failed".into()),
        "{failed}"
    );
    let pack = pack.file_name().and_then(|name| name.to_str()).expect("name");
    assert!(failed["messages"].to_string().contains(pack), "{failed}");
    assert!(browser.get(ADMIN).await.text.contains("The last drill in store"));
    let figures = world.run(&format!("{ADMIN}/jobs"), "").await;
    assert_eq!(figures["jobs"].as_array().map(Vec::len), Some(4));
}

/// The first file below a directory of this name.
fn find(directory: &std::path::Path, under: &str) -> Option<std::path::PathBuf> {
    std::fs::read_dir(directory).ok()?.flatten().find_map(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return find(&path, under);
        }
        path.components().any(|part| part.as_os_str() == under).then_some(path)
    })
}
