//! The start page and the figures for monitoring: what they say of a deployment in each state.

use super::support::{ADMIN, Answer, DR, PASSCODE, World, ask};
use recovery::Role;

async fn start(world: &World, role: Role) -> String {
    world.ask(role, "GET", ADMIN, "").await.text
}

async fn metrics(world: &World) -> Answer {
    world.ask(Role::Viewer, "GET", &format!("{ADMIN}/metrics"), "").await
}

/// The value of a sample, with its labels as they are written.
fn value(page: &str, sample: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {sample} in {page}")).parse().expect("number")
}

async fn backed_up(world: &World, name: &str) {
    let form = format!("name={name}&passcode={PASSCODE}");
    let job = world.wait(&world.run(&format!("{DR}/stores/s1/backups/create"), &form).await).await;
    assert_eq!(job["status"], "COMPLETED", "{job}");
}

#[tokio::test]
async fn the_start_page_says_what_is_missing_until_everything_is_protected() {
    let world = World::open().await;
    let page = start(&world, Role::Administrator).await;
    assert!(
        page.contains("Not protected") && page.contains("There is no backup store: register one."),
        "{page}"
    );
    let world = world.with_store().await;
    let page = start(&world, Role::Administrator).await;
    assert!(page.contains("Not protected") && page.contains("There is no backup yet: create one."), "{page}");

    backed_up(&world, "b1").await;
    let page = start(&world, Role::Viewer).await;
    assert!(page.contains("</span> Protected"), "{page}");
    assert!(page.contains("No schedule makes backups by itself"), "{page}");
    assert!(page.contains("just now") && page.contains(&format!("{DR}/stores/s1/backups/b1")), "{page}");
    assert!(page.contains("Neither a restore nor a drill was carried out yet."));

    let task = format!(
        "type=CreateBackup&minute=30&hour=2&dayOfMonth=*&month=*&dayOfWeek=?&name=n&storeName=s1&passcode={PASSCODE}"
    );
    assert_eq!(world.run(&format!("{ADMIN}/system/tasks/createTask"), &task).await["success"], true);
    let restored =
        world.run(&format!("{DR}/stores/s1/backups/b1/restore"), &format!("passcode={PASSCODE}")).await;
    assert_eq!(world.wait(&restored).await["status"], "COMPLETED");
    let page = start(&world, Role::Operator).await;
    assert!(page.contains("Nothing needs you now."), "{page}");
    assert!(page.contains("as <a href") && page.contains("the last restore"), "{page}");
    assert!(page.contains("/admin/system/tasks/"), "an operator may see the schedule");
    assert!(!start(&world, Role::Viewer).await.contains("/admin/system/tasks"), "a viewer may not");
}

#[tokio::test]
async fn a_store_out_of_reach_is_an_alarm_and_does_not_break_the_page() {
    let world = World::open().await.with_store().await;
    backed_up(&world, "b1").await;
    let root = world.directory.path().join("stores");
    std::fs::rename(&root, world.directory.path().join("elsewhere")).expect("rename");
    let page = start(&world, Role::Viewer).await;
    assert!(page.contains("Not protected") && page.contains("is out of reach"), "{page}");
    let figures = metrics(&world).await.text;
    assert_eq!(value(&figures, "strongroom_store_up{store=\"s1\"}"), 0.0);
    assert_eq!(value(&figures, "strongroom_protected"), 0.0);
    assert!(!figures.contains("strongroom_store_backups{"), "what is not known is not said");
}

#[tokio::test]
async fn a_failed_schedule_and_read_only_mode_are_told() {
    let world = World::open().await.with_store().await;
    backed_up(&world, "b1").await;
    let task = "type=VerifyBackups&title=<b>check</b>&minute=30&hour=2&dayOfMonth=*&month=*&dayOfWeek=?&storeName=s1&passcode=another passcode";
    let made = world.run(&format!("{ADMIN}/system/tasks/createTask"), task).await;
    let url = format!("{ADMIN}/system/tasks/{}", made["taskId"].as_str().expect("id"));
    world.run(&format!("{url}/run"), "").await;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let runs = world.ask(Role::Operator, "GET", &format!("{url}/runs?f=json"), "").await.json();
        if runs["result"][0]["status"] == "failed" {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{runs}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    world.run(&format!("{ADMIN}/mode/update"), "isReadOnly=true").await;
    let page = start(&world, Role::Administrator).await;
    assert!(page.contains("failed: Backup &#39;b1&#39;"), "{page}");
    assert!(!page.contains("<b>check</b>") && page.contains("&#60;b&#62;check"), "names are escaped: {page}");
    assert!(page.contains("The server is read-only"), "{page}");
    let figures = metrics(&world).await.text;
    assert_eq!(value(&figures, "strongroom_read_only"), 1.0);
    let id = made["taskId"].as_str().expect("id");
    let labels = "{id=\"ID\",task=\"<b>check</b>\",type=\"VerifyBackups\",store=\"s1\"}".replace("ID", id);
    assert_eq!(value(&figures, &format!("strongroom_task_last_run_ok{labels}")), 0.0);
}

#[tokio::test]
async fn a_key_that_ends_soon_is_told_to_those_who_can_see_keys() {
    let world = World::open().await.with_store().await;
    backed_up(&world, "b1").await;
    let keys = format!("{ADMIN}/keys");
    let create = format!("{keys}/create");
    world.run(&create, "name=lasts&role=viewer&expirationDays=15").await;
    assert!(!start(&world, Role::Administrator).await.contains("API key &#39;"));
    world.run(&create, "name=ends soon&role=viewer&expirationDays=14").await;
    let page = start(&world, Role::Administrator).await;
    assert!(page.contains("API key &#39;ends soon&#39; ends at "), "{page}");
    assert!(page.contains(&format!("href=\"{keys}\"")) && page.contains("Protected"), "{page}");
    assert!(!start(&world, Role::Operator).await.contains("ends soon"), "who sees no keys is told of none");
    let own = world.run(&create, "name=own&role=administrator&operations=read&expirationDays=15").await;
    let asked = ask("GET", &format!("{ADMIN}?f=html")).token(own["key"].as_str().expect("key"));
    let page = world.send(asked).await.text;
    assert!(page.contains("Protected") && !page.contains("ends soon"), "a key sees no other: {page}");
    world.run(&create, "name=sooner&role=viewer&expirationDays=3").await;
    let page = start(&world, Role::Administrator).await;
    assert!(page.contains("2 API keys end within 14 days, &#39;sooner&#39; first, at "), "{page}");
    let list = world.ask(Role::Administrator, "GET", &keys, "").await.text;
    assert_eq!(list.matches("class=\"line mild\"").count(), 2, "{list}");
    assert!(list.contains("(in 2 days)") || list.contains("(in 71 hours)"), "{list}");
}

#[tokio::test]
async fn figures_are_in_the_openmetrics_format_and_come_from_the_store() {
    let world = World::open().await.with_store().await;
    backed_up(&world, "b1").await;
    let answer = metrics(&world).await;
    assert_eq!(answer.header("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let page = &answer.text;
    assert!(page.ends_with("# EOF\n"));
    let now = jiff::Timestamp::now().as_second() as f64;
    let last = value(page, "strongroom_store_last_backup_timestamp_seconds{store=\"s1\"}");
    assert!((now - 600.0..=now + 1.0).contains(&last), "{last}");
    assert_eq!(value(page, "strongroom_store_backups{store=\"s1\"}"), 1.0);
    assert_eq!(value(page, "strongroom_jobs{operation=\"Backup\",status=\"COMPLETED\"}"), 1.0);
    // Each family is announced once, before its samples, and no sample stands without one.
    let mut announced: Vec<&str> = Vec::new();
    for line in page.lines().filter(|line| *line != "# EOF") {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let name = rest.split(' ').next().expect("name");
            assert!(!announced.contains(&name), "{name} twice");
            announced.push(name);
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().expect("name");
            assert_eq!(announced.last(), Some(&name), "{line}");
        }
    }
}

#[tokio::test]
async fn what_is_protected_is_listed_with_its_last_good_backup_and_what_is_missing() {
    let world = World::open().await.with_store().await;
    let path = format!("{ADMIN}/system/components");
    let one = async || world.read(&path).await["components"][0].clone();
    let before = one().await;
    assert_eq!((&before["name"], &before["kind"]), (&"content".into(), &"fileStore".into()));
    assert_eq!(before["target"], world.directory.path().join("content").display().to_string());
    assert_eq!((&before["isMissing"], &before["backupTime"]), (&false.into(), &0.into()));
    let create = format!("{DR}/stores/s1/backups/create");
    world.wait(&world.run(&create, &format!("name=b1&passcode={PASSCODE}")).await).await;
    let after = world.until(&path, |reply| reply["components"][0]["backupName"] == "b1").await;
    assert!(after["components"][0]["backupTime"].as_i64() > Some(0), "{after}");
    std::fs::remove_dir_all(world.directory.path().join("content")).expect("gone");
    let gone = one().await;
    assert_eq!(gone["isMissing"], true);
    assert!(gone["problem"].as_str().expect("why").contains("content"), "{gone}");
    let page = world.ask(Role::Viewer, "GET", &path, "").await.text;
    assert!(page.contains("<th scope=\"col\">Last backup</th>") && page.contains("b1"), "{page}");
}

/// The names of figures in a text.
fn figures_in(text: &str) -> Vec<&str> {
    let is_part = |c: char| c.is_ascii_lowercase() || c == '_';
    let places = text.match_indices("strongroom_").map(|(at, _)| &text[at..]);
    places.map(|rest| rest.split(|c| !is_part(c)).next().expect("a part")).collect()
}

#[tokio::test]
async fn rules_and_dashboard_ask_for_figures_that_are_served() {
    let rules = include_str!("../../../../docs/alerts.yml");
    let dashboard = include_str!("../../../../docs/grafana-dashboard.json");
    let parsed: serde_json::Value = serde_json::from_str(dashboard).expect("JSON");
    assert!(parsed["panels"].as_array().expect("panels").len() > 10);
    let world = World::open().await;
    let page = metrics(&world).await.text;
    for text in [rules, dashboard] {
        let names = figures_in(text);
        assert!(names.len() > 10);
        for name in names {
            assert!(page.contains(&format!("# TYPE {name} ")), "{name} is not served");
        }
    }
    // And every figure is explained.
    let told = include_str!("../../../../docs/monitoring.md");
    for name in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
        let is_told = told.lines().filter(|line| line.starts_with("| `strongroom_")).any(|line| {
            let (first, rest) = line[3..].split_once('`').expect("a name");
            let ends = rest.split('`').filter_map(|word| word.strip_prefix('…'));
            first == name || ends.into_iter().any(|end| name.ends_with(end) && shares_a_start(first, name))
        });
        assert!(is_told, "docs/monitoring.md does not tell of {name}");
    }
}

/// Whether two names differ at their ends alone.
fn shares_a_start(one: &str, other: &str) -> bool {
    one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count() > "strongroom_xxx".len()
}

#[tokio::test]
async fn a_verification_and_how_long_jobs_took_are_figures() {
    let world = World::open().await.with_store().await;
    backed_up(&world, "b1").await;
    let form = format!("passcode={PASSCODE}&readData=true&async=true");
    let job = world.wait(&world.run(&format!("{DR}/stores/s1/backups/b1/validate"), &form).await).await;
    assert_eq!(job["status"], "COMPLETED", "{job}");
    let page = metrics(&world).await.text;
    let now = jiff::Timestamp::now().as_second() as f64;
    let last = value(&page, "strongroom_store_last_verification_timestamp_seconds{store=\"s1\"}");
    assert!((now - 600.0..=now + 1.0).contains(&last), "{last}");
    assert!(value(&page, "strongroom_job_last_duration_seconds{operation=\"Backup\"}") >= 0.0);
    assert!(value(&page, "strongroom_store_last_backup_read_bytes{store=\"s1\"}") > 0.0);
}
