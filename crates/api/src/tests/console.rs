//! The console: the time line of backups, the page of one, and a job that is followed as it runs.

use super::pages::{Browser, without_our_script};
use super::support::{ADMIN, DR, PASSCODE, World, ask};
use http_body_util::BodyExt;
use hyper::Request;
use recovery::Role;
use serde_json::{Value, json};

async fn backed_up(world: &World, name: &str) {
    let form = format!("name={name}&passcode={PASSCODE}");
    let job = world.wait(&world.run(&format!("{DR}/stores/s1/backups/create"), &form).await).await;
    assert_eq!(job["status"], "COMPLETED", "{job}");
}

#[tokio::test]
async fn backups_stand_on_a_time_line_with_what_people_ask_of_them() {
    let world = World::open().await.with_store().await;
    let browser = Browser::sign_in(&world, "victor").await;
    let list = format!("{DR}/stores/s1/backups");
    assert!(browser.get(&list).await.text.contains("There is nothing here yet."));
    for name in ["b1", "b2"] {
        backed_up(&world, name).await;
    }
    let verify = format!("passcode={PASSCODE}&readData=true");
    world.wait(&world.run(&format!("{DR}/stores/s1/backups/b1/validate"), &verify).await).await;
    let page = browser.get(&list).await.text;
    assert!(page.contains("2 backups. The newest complete one was begun just now."), "{page}");
    let (b2, b1) =
        (page.find("backups/b2\">b2</a>").expect("b2"), page.find("backups/b1\">b1</a>").expect("b1"));
    assert!(b2 < b1, "newest first");
    assert!(page[b1..].contains("<dt>Verified</dt><dd>just now</dd>"), "{page}");
    assert!(page[b2..b1].contains("<dt>Verified</dt><dd>not yet</dd>"), "{page}");
    assert_eq!(page.matches("<svg").count(), 4, "plots, each with a text that says the same");
    assert_eq!(page.matches("role=\"img\" aria-label=\"").count(), 4);
    assert!(!page.contains("/create\""), "a viewer sees no button that would be refused");
    let all = browser.get(&format!("{DR}/backuprestore/backups")).await.text;
    assert!(all.contains("<dt>Store</dt><dd>s1</dd>"), "{all}");
}

#[tokio::test]
async fn a_long_list_of_backups_is_shown_page_by_page() {
    let world = World::open().await.with_store().await;
    backed_up(&world, "seed").await;
    // Entries of another run of the same: what the page shows of a backup is public.
    let catalogue = world.directory.path().join("stores");
    let seed = find(&catalogue, "seed.json");
    let text = std::fs::read_to_string(&seed).expect("entry");
    for number in 0..99 {
        let name = format!("b{number:02}");
        std::fs::write(seed.with_file_name(format!("{name}.json")), renamed(&text, &name)).expect("entry");
    }
    let browser = Browser::sign_in(&world, "admin").await;
    let list = format!("{DR}/stores/s1/backups");
    let (mut seen, mut path) = (0, list.clone());
    for expected in [40, 40, 20] {
        let page = browser.get(&path).await.text;
        let shown = page.matches("class=\"name\"").count();
        assert_eq!(shown, expected, "{page}");
        assert!(page.len() < 100_000, "{}", page.len());
        seen += shown;
        path = format!("{list}?start={}", seen + 1);
        assert_eq!(page.contains(&path), seen < 100, "a link to the older ones: {page}");
    }
    for span in ["newest", "30", "90", "365", "all", "nonsense"] {
        let page = browser.get(&format!("{list}?plots={span}")).await.text;
        assert!(page.len() < 100_000, "{span}: {}", page.len());
        assert_eq!(page.matches("aria-current=\"true\"").count(), 1, "{page}");
        assert_eq!(page.matches("<svg").count(), 4, "{page}");
        let stands_for = if matches!(span, "newest" | "nonsense") { "each backup" } else { "each day" };
        assert!(page.contains(&format!("One bar for {stands_for}")), "{span}: {page}");
        assert!(
            page.contains("<th scope=\"col\">Saved by deduplication</th>"),
            "the same as a table: {page}"
        );
    }
    let beyond = browser.get(&format!("{list}?start=5000")).await.text;
    assert!(beyond.contains("There is nothing here yet."), "{beyond}");
}

/// The file of this name somewhere below.
fn find(directory: &std::path::Path, name: &str) -> std::path::PathBuf {
    let mut pending = vec![directory.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(directory).expect("directory") {
            let path = entry.expect("entry").path();
            match path.file_name() {
                Some(found) if found == name => return path,
                _ if path.is_dir() => pending.push(path),
                _ => {}
            }
        }
    }
    panic!("there is no {name}");
}

/// The text of an entry under another name, with the checksum that belongs to it.
fn renamed(text: &str, name: &str) -> String {
    use sha2::Digest;
    let text = text.replace("\"name\":\"seed\"", &format!("\"name\":\"{name}\""));
    let at = text.rfind(",\"checksum\":\"").expect("checksum");
    let sum = hex::encode(sha2::Sha256::digest(&text[..at]));
    format!("{},\"checksum\":\"{sum}\"}}", &text[..at])
}

#[tokio::test]
async fn the_page_of_a_backup_says_what_is_in_it_and_what_can_be_done() {
    let world = World::open().await.with_store().await;
    backed_up(&world, "b1").await;
    let backup = format!("{DR}/stores/s1/backups/b1");
    let page = Browser::sign_in(&world, "admin").await.get(&backup).await.text;
    for part in ["Complete</h2>", "<dt>Content</dt>", "<dt>Verified</dt><dd class=\"large\">not yet</dd>"] {
        assert!(page.contains(part), "{part} in {page}");
    }
    for button in ["assistant", "validate", "update", "delete", "files"] {
        assert!(page.contains(&format!("href=\"{backup}/{button}\"")), "{button} in {page}");
    }
    assert!(page.contains(&format!("{backup}/files?component=content")), "{page}");
    let viewer = Browser::sign_in(&world, "victor").await.get(&backup).await.text;
    assert!(!viewer.contains("/assistant") && !viewer.contains("/files"), "{viewer}");

    let update = "description=<script>alert(1)</script>";
    world.run(&format!("{backup}/update"), update).await;
    let page = Browser::sign_in(&world, "admin").await.get(&backup).await.text;
    assert!(!without_our_script(&page).contains("<script"), "{page}");
}

/// The events of a job as they come, until the stream ends.
async fn events(world: &World, id: &str, query: &str) -> Vec<(String, Value)> {
    let request = Request::builder()
        .uri(format!("{ADMIN}/jobs/{id}/events{query}"))
        .header("x-esri-authorization", format!("Bearer {}", world.token(Role::Viewer)))
        .header("accept", "text/event-stream")
        .body(http_body_util::Full::new(hyper::body::Bytes::new()))
        .expect("request");
    let response = crate::dispatch::respond(world.site.clone(), request, [127, 0, 0, 1].into()).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let (mut body, mut text) = (response.into_body(), String::new());
    while let Some(frame) = body.frame().await {
        let data = frame.expect("whole").into_data().expect("data");
        text.push_str(std::str::from_utf8(&data).expect("text"));
        if text.contains("\"in_progress\"") && world.directory.path().join("hold").exists() {
            world.hold(false);
        }
    }
    let told = text.split("\n\n").filter_map(|block| block.strip_prefix("event: "));
    told.map(|block| {
        let (name, data) = block.split_once("\ndata: ").expect("data");
        (name.to_owned(), serde_json::from_str(data).expect("JSON"))
    })
    .collect()
}

#[tokio::test]
async fn a_running_job_is_told_event_by_event_until_its_end() {
    let world = World::open().await.with_store().await;
    world.hold(true);
    let form = format!("name=b1&passcode={PASSCODE}");
    let accepted = world.run(&format!("{DR}/stores/s1/backups/create"), &form).await;
    let id = accepted["jobid"].as_str().expect("id");
    let page = Browser::sign_in(&world, "victor").await.get(&format!("{ADMIN}/jobs/{id}")).await.text;
    assert!(page.contains(&format!("data-events=\"{ADMIN}/jobs/{id}/events\"")), "{page}");
    assert!(page.contains("<noscript><meta http-equiv=\"refresh\""), "without scripts it goes too: {page}");
    // It is let go once it was seen at work.
    let told = events(&world, id, "").await;
    assert!(told.iter().any(|(_, job)| job["state"] == "in_progress"), "{told:?}");
    let (last, end) = (&told[told.len() - 2], &told[told.len() - 1]);
    assert_eq!((last.0.as_str(), &last.1["state"]), ("job", &json!("success")), "{told:?}");
    assert_eq!(last.1["stages"][0]["name"], "Validation");
    assert_eq!(end.0, "end");
    for query in ["", "?f=json", "?f=html"] {
        assert_eq!(events(&world, id, query).await.len(), 2, "of one that has ended, that alone: {query}");
    }
}

#[tokio::test]
async fn followers_have_a_limit_and_end_with_the_session_and_the_server() {
    let world = World::open().await.with_store().await;
    world.hold(true);
    let form = format!("name=b1&passcode={PASSCODE}");
    let accepted = world.run(&format!("{DR}/stores/s1/backups/create"), &form).await;
    let path = format!("{ADMIN}/jobs/{}/events", accepted["jobid"].as_str().expect("id"));
    let follow = || {
        let request = Request::builder()
            .uri(&path)
            .header("x-esri-authorization", format!("Bearer {}", world.token(Role::Operator)))
            .body(http_body_util::Full::new(hyper::body::Bytes::new()))
            .expect("request");
        crate::dispatch::respond(world.site.clone(), request, [127, 0, 0, 1].into())
    };
    let mut open = Vec::new();
    for _ in 0..64 {
        open.push(follow().await.into_body());
    }
    let refused = world.ask(Role::Viewer, "GET", &path, "").await;
    assert!(refused.text.contains("DR_BUSY"), "{}", refused.text);
    drop(open.split_off(1));
    world.recovery.revoke_tokens("olga").await.expect("revoked");
    let ended = open.remove(0).collect().await;
    assert!(ended.is_ok(), "whose session has ended is told nothing more");
    let viewer = world.token(Role::Viewer).to_owned();
    let last = world.send(ask("GET", &path).token(&viewer));
    let stop = async {
        tokio::task::yield_now().await;
        world.site.stopping.send_replace(true);
    };
    let (last, ()) = tokio::join!(last, stop);
    assert!(last.text.contains("event: job") && !last.text.contains("event: end"), "{}", last.text);
    world.hold(false);
}

#[tokio::test]
async fn the_assistant_shows_what_would_change_and_restores_what_was_chosen_by_name() {
    let world = World::open().await.with_store().await;
    backed_up(&world, "b1").await;
    let content = world.directory.path().join("content");
    std::fs::write(content.join("a.txt"), "damaged, and longer").expect("file");
    std::fs::write(content.join("new.txt"), "came later").expect("file");
    let browser = Browser::sign_in(&world, "admin").await;
    let (first, plan) =
        (format!("{DR}/stores/s1/backups/b1/assistant"), format!("{DR}/stores/s1/backups/b1/assistant/plan"));
    assert_eq!(browser.get(&plan).await.header("location"), first, "not before the passcode");
    for (form, told) in [
        (format!("component.content=true&passcode={PASSCODE}x"), "DR_PASSCODE_WRONG"),
        (format!("passcode={PASSCODE}"), "choose at least one"),
    ] {
        let page = browser.submit(&first, &form).await.text;
        assert!(page.contains(told) && !page.contains(PASSCODE), "{page}");
    }
    let opened = browser.submit(&first, &format!("component.content=true&passcode={PASSCODE}")).await;
    let plan = opened.header("location").to_owned();
    assert!(plan.ends_with("/assistant/plan?component.content=true"), "{}", opened.text);
    let page = browser.get(&plan).await.text;
    for (title, figure) in [("Added", "0"), ("Changed", "1"), ("Removed", "1"), ("Unchanged", "0")] {
        let cell = format!("<td data-title=\"{title}\" class=\"number\">{figure}</td>");
        assert!(page.contains(&cell), "{cell} in {page}");
    }
    for (title, name) in [("Changed in content", "a.txt"), ("Removed from content", "new.txt")] {
        let from =
            page.find(&format!("<summary>{title}</summary>")).unwrap_or_else(|| panic!("{title} in {page}"));
        let list = page[from..].split("</details>").next().expect("list");
        assert!(list.contains(&format!("<li>{name}</li>")), "{name} in {list}");
        assert_eq!(list.matches("<li").count(), 1, "{list}");
    }
    assert!(!page.contains("Added to content"), "{page}");
    assert!(content.join("new.txt").exists(), "nothing is changed by looking");
    let wrong = browser.submit(&plan, &format!("confirmation=b2&passcode={PASSCODE}")).await.text;
    assert!(wrong.contains("type the backup&#39;s name, b1"), "{wrong}");
    let begun = browser.submit(&plan, &format!("confirmation=b1&passcode={PASSCODE}")).await;
    let job = begun.header("location").rsplit('/').next().expect("job").to_owned();
    let ended = world.wait(&json!({"jobid": job})).await;
    assert_eq!(ended["status"], "COMPLETED", "{ended}");
    assert_eq!(std::fs::read_to_string(content.join("a.txt")).expect("file"), "first");
    assert!(!content.join("new.txt").exists());
    let page = browser.get(&plan).await.text;
    assert!(page.contains("Nothing would change."), "{page}");
    for role in [Role::Viewer, Role::Operator] {
        assert_eq!(world.ask(role, "POST", &first, "f=json").await.code(), 403);
    }
    let log = world.recovery.audit("", None, 100).await.expect("audit");
    assert!(log.iter().any(|line| line.entry.job_id == job && line.entry.path.ends_with("/assistant/plan")));
}

#[tokio::test]
async fn the_assistant_restores_a_part_alone_and_the_page_of_its_job_says_so() {
    let world = World::open().await.with_store().await;
    let content = world.directory.path().join("content");
    std::fs::create_dir(content.join("photos")).expect("directory");
    std::fs::write(content.join("photos/one"), "first").expect("file");
    backed_up(&world, "b1").await;
    std::fs::write(content.join("photos/one"), "damaged, and longer").expect("file");
    std::fs::write(content.join("a.txt"), "changed, and stays so").expect("file");
    let browser = Browser::sign_in(&world, "admin").await;
    let first = format!("{DR}/stores/s1/backups/b1/assistant");
    let form = format!("component.content=true&only=content/photos&passcode={PASSCODE}");
    let plan = browser.submit(&first, &form).await.header("location").to_owned();
    let page = browser.get(&plan).await.text;
    assert!(page.contains("Only <strong>content/photos</strong>"), "{page}");
    assert!(page.contains("<li>photos/one</li>") && !page.contains("a.txt"), "{page}");
    let begun = browser.submit(&plan, &format!("confirmation=b1&passcode={PASSCODE}")).await;
    let job = begun.header("location").rsplit('/').next().expect("job").to_owned();
    assert_eq!(world.wait(&json!({"jobid": job})).await["status"], "COMPLETED");
    assert_eq!(std::fs::read_to_string(content.join("photos/one")).expect("file"), "first");
    assert_eq!(std::fs::read_to_string(content.join("a.txt")).expect("file"), "changed, and stays so");
    let page = browser.get(&format!("{ADMIN}/jobs/{job}")).await.text;
    assert!(page.contains("Only: content/photos"), "{page}");
    for (only, told) in [("content/nothing", "holds no"), ("nothing/x", "COMPONENT/PATH")] {
        let form = format!("f=json&only={only}&passcode={PASSCODE}");
        let refused = world.run(&format!("{DR}/stores/s1/backups/b1/restore"), &form).await;
        assert_eq!(refused["error"]["messageCode"], "PARAM_INVALID", "{refused}");
        assert!(refused["error"]["message"].to_string().contains(told), "{refused}");
    }
}

#[tokio::test]
async fn the_names_of_what_would_change_are_told_up_to_a_number_and_the_rest_is_counted() {
    let world = World::open().await.with_store().await;
    backed_up(&world, "b1").await;
    let later = world.directory.path().join("content/later <b>");
    std::fs::create_dir(&later).expect("directory");
    for number in 0..200 {
        std::fs::write(later.join(format!("{number:03}")), "came later").expect("file");
    }
    let browser = Browser::sign_in(&world, "admin").await;
    let first = format!("{DR}/stores/s1/backups/b1/assistant");
    let opened = browser.submit(&first, &format!("component.content=true&passcode={PASSCODE}")).await;
    let page = browser.get(opened.header("location")).await.text;
    assert!(page.contains("<td data-title=\"Removed\" class=\"number\">201</td>"), "{page}");
    assert_eq!(page.matches("<li>later &#60;b&#62;").count(), 50, "{page}");
    assert!(page.contains("and 151 more") && !page.contains("<b>"), "{page}");
}

#[tokio::test]
async fn back_leads_from_a_short_last_page_of_files_to_the_whole_page_before_it() {
    let world = World::open().await.with_store().await;
    for number in 0..449 {
        std::fs::write(world.directory.path().join(format!("content/{number:03}")), "x").expect("file");
    }
    backed_up(&world, "b1").await;
    let browser = Browser::sign_in(&world, "admin").await;
    let files = format!("{DR}/stores/s1/backups/b1/files");
    let opened = browser.submit(&format!("{files}/open"), &format!("passcode={PASSCODE}")).await;
    assert_eq!(opened.header("location"), files, "{}", opened.text);
    let link = |page: &str, rel: &str| {
        let from = page.find(&format!("rel=\"{rel}\" href=\"")).unwrap_or_else(|| panic!("no {rel}: {page}"));
        let link = page[from..].split('"').nth(3).expect("link");
        link.replace("&#38;", "&")
    };
    let start = |link: &str| {
        let (_, start) = link.split_once("start=").unwrap_or(("", "1"));
        start.split('&').next().expect("number").to_owned()
    };
    let last = browser.get(&format!("{files}?component=content&start=401")).await.text;
    assert!(last.contains("401 to 450 of 450 entries"), "{last}");
    assert_eq!(start(&link(&last, "prev")), "201");
    let before = browser.get(&link(&last, "prev")).await.text;
    assert!(before.contains("201 to 400 of 450 entries"), "{before}");
    assert_eq!((start(&link(&before, "prev")), start(&link(&before, "next"))), ("1".into(), "401".into()));
    // Pages of another length stay so.
    let last = browser.get(&format!("{files}?component=content&start=401&num=100")).await.text;
    let before = browser.get(&link(&last, "prev")).await.text;
    assert!(before.contains("301 to 400 of 450 entries"), "{before}");
}

#[tokio::test]
async fn the_settings_are_changed_by_plain_fields_and_a_refused_form_comes_back_as_it_was_typed() {
    let world = World::open().await;
    let browser = Browser::sign_in(&world, "admin").await;
    let (settings, update) = (format!("{DR}/settings"), format!("{DR}/settings/update"));
    let page = browser.get(&update).await.text;
    assert!(page.contains("in minutes</label>") && !page.contains("name=\"settings\""), "{page}");
    let before = world.read(&settings).await;
    for (typed, told, kept) in [
        ("timeoutInMinutes=soon&size=64Gi", "Expected a whole number.", "value=\"64Gi\""),
        ("timeoutInMinutes=90&size=big", "It must be a quantity like 64Gi.", "value=\"90\""),
        ("size=64Gi&labels=fast", "Expected one label a line, as name=value.", ">fast</textarea>"),
        ("provisioningType=STATIC&labels=a=%3Cb%3E&size=1x", "quantity", "selected>STATIC</option>"),
        ("timeoutInMinutes=43201", "Expected 1 to 43,200 minutes", "value=\"43201\""),
        ("timeoutInMinutes=&size=", "Nothing is filled in that is to change.", "<form"),
    ] {
        let page = browser.submit(&update, typed).await.text;
        assert!(page.contains(told) && page.contains(kept) && !page.contains("<b>"), "{typed}: {page}");
        assert_eq!(page.matches("aria-invalid=\"true\"").count(), 1, "{page}");
    }
    assert_eq!(world.read(&settings).await, before, "what is refused changes nothing");
    let done = browser.submit(&update, "timeoutInMinutes=240&provisioningType=&size=&labels=").await;
    assert_eq!(done.status.as_u16(), 303, "{}", done.text);
    assert_eq!(world.read(&settings).await, json!({"timeoutInSeconds": 14_400}));
    let volume = "timeoutInMinutes=&provisioningType=STATIC&size=64Gi&labels=disk=fast";
    browser.submit(&update, volume).await;
    let now = world.read(&settings).await;
    assert_eq!(
        (&now["timeoutInSeconds"], &now["stagingVolumeConfig"]["labels"]),
        (&json!(14_400), &json!({"disk": "fast"})),
        "what is left empty stays as it is"
    );
}

#[tokio::test]
async fn people_choose_a_day_or_days_or_for_ever_for_a_backup_to_be_kept() {
    let world = World::open().await.with_store().await;
    backed_up(&world, "b1").await;
    let backup = format!("{DR}/stores/s1/backups/b1");
    let update = format!("{backup}/update");
    let browser = Browser::sign_in(&world, "admin").await;
    let page = browser.get(&update).await.text;
    assert!(
        page.contains("<input type=\"date\" id=\"retentionDate\"") && !page.contains("Millisec"),
        "{page}"
    );
    for (typed, told) in [
        ("retentionDate=2020-02-29", "It lies in the past."),
        ("retentionDate=2099-02-30", "Expected a day, such as 2027-01-31."),
        ("retentionDate=9999-12-31", "Expected a day, such as 2027-01-31."),
        ("retentionDate=20990228", "seconds"),
        ("retentionDate=2099-02-28&retentionDays=3", "Choose a day, or a number of days, or for ever"),
        ("retentionDays=3&keepForEver=true", "Choose a day, or a number of days, or for ever"),
        ("retentionDays=0", "Expected 1 to 36,500 days."),
        ("retentionDate=&retentionDays=&description=", "Nothing to change; choose how long it is kept"),
    ] {
        let page = browser.submit(&update, typed).await.text;
        assert!(page.contains(told), "{typed}: {page}");
        let date = typed.split('&').next().and_then(|first| first.strip_prefix("retentionDate="));
        let kept = format!("value=\"{}\"", date.unwrap_or("3"));
        assert!(page.contains(&kept) || typed.ends_with("=0"), "{typed}: {page}");
    }
    let kept = async || world.read(&backup).await["retentionDate"].clone();
    assert_eq!(kept().await, json!(-1), "what is refused changes nothing");
    let typed = "retentionDate=2099-02-28&retentionDays=&description=";
    let done = browser.submit(&update, typed).await;
    assert_eq!(done.status.as_u16(), 303, "{}", done.text);
    assert_eq!(kept().await, json!(4_076_006_399_999_i64), "to the end of the day");
    browser.submit(&update, "retentionDate=&keepForEver=true").await;
    assert_eq!(kept().await, json!(-1));
    browser.submit(&update, "retentionDays=3").await;
    assert!(kept().await.as_i64().is_some_and(|date| date > 0));
    let of_a_program = world.run(&update, "retentionDate=2099-02-28").await;
    assert_eq!(of_a_program["error"]["messageCode"], "DR_RETENTION_INVALID", "programs have milliseconds");
}

#[tokio::test]
async fn the_pages_of_tasks_users_and_keys_speak_to_people() {
    let world = World::open().await.with_store().await;
    let tasks = format!("{ADMIN}/system/tasks");
    let form = format!(
        "type=CreateBackup&title=Each night&name=nightly&storeName=s1&passcode={PASSCODE}&retentionDays=30&minute=0\
         &hour=2&dayOfMonth=*&month=*&dayOfWeek=?"
    );
    let task = world.run(&format!("{tasks}/createTask"), &form).await["taskId"].clone();
    world.run(&format!("{ADMIN}/keys/create"), "name=k&role=viewer&operations=read").await;
    let browser = Browser::sign_in(&world, "admin").await;
    for (path, titles) in [
        (format!("{tasks}/{}", task.as_str().expect("id")), &["Each is kept for", "Name of the backups"][..]),
        (format!("{ADMIN}/users/victor"), &["User name", "Added"]),
        (format!("{ADMIN}/keys/k"), &["In which stores", "Last used"]),
        (format!("{DR}/settings"), &["Longest time of a backup"]),
        (format!("{ADMIN}/mode"), &["Read-only"]),
    ] {
        let page = browser.get(&path).await.text;
        for title in titles {
            assert!(page.contains(&format!("<th scope=\"row\">{title}</th>")), "{title} in {page}");
        }
        let mut keys = page.split("<th scope=\"row\">").skip(1).filter_map(|rest| rest.split('<').next());
        assert!(keys.all(|key| key.starts_with(char::is_uppercase)), "{page}");
        assert!(!page.contains(">true<") && !page.contains(">false<"), "{page}");
    }
}
