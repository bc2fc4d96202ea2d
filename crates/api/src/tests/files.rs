//! The files of a backup: who may look, what is shown of names that somebody else chose, and how long.

use super::pages::{Browser, without_our_script};
use super::support::{ADMIN, Answer, DR, PASSCODE, World, ask};
use recovery::Role;
use serde_json::Value;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

const OTHER_PASSCODE: &str = "another passcode";

/// A world with a backup `b1` of these files.
async fn with_files(files: &[(&[u8], &[u8])]) -> World {
    let world = World::open().await.with_store().await;
    for (name, content) in files {
        let path = content_directory(&world).join(OsStr::from_bytes(name));
        std::fs::create_dir_all(path.parent().expect("parent")).expect("directory");
        std::fs::write(path, content).expect("file");
    }
    let form = format!("name=b1&passcode={PASSCODE}");
    let job = world.wait(&world.run(&format!("{DR}/stores/s1/backups/create"), &form).await).await;
    assert_eq!(job["status"], "COMPLETED", "{job}");
    world
}

/// Bytes that cannot be compressed.
fn noise(length: usize) -> Vec<u8> {
    use sha2::Digest;
    let blocks = (0..length.div_ceil(32) as u64).flat_map(|n| sha2::Sha256::digest(n.to_be_bytes()));
    blocks.take(length).collect()
}

fn content_directory(world: &World) -> PathBuf {
    world.directory.path().join("content")
}

fn files() -> String {
    format!("{DR}/stores/s1/backups/b1/files")
}

async fn open(world: &World) {
    let done = world.run(&format!("{}/open", files()), &format!("passcode={PASSCODE}")).await;
    assert_eq!(done["status"], "success", "{done}");
}

async fn get(world: &World, below: &str) -> Answer {
    world.ask(Role::Administrator, "GET", &format!("{}{below}", files()), "").await
}

async fn list(world: &World, query: &str) -> Value {
    get(world, &format!("?f=json&{query}")).await.json()
}

/// A text in a query.
fn quoted(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// A name as the interface writes it: bytes that are no text, and the percent sign, as `%XX`.
fn named(name: &[u8]) -> String {
    let mut text = String::new();
    for chunk in name.utf8_chunks() {
        text.push_str(&chunk.valid().replace('%', "%25"));
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("%{byte:02X}")));
    }
    text
}

async fn audit(world: &World) -> Vec<(String, String, String)> {
    let log = world.recovery.audit("", None, 1000).await.expect("audit");
    log.into_iter().map(|view| (view.entry.operation, view.entry.path, view.entry.message_code)).collect()
}

#[tokio::test]
async fn the_files_of_a_backup_are_listed_and_downloaded_as_they_were() {
    let large = noise(5_000_000);
    let world = with_files(&[(b"empty", b""), (b"dir/inner.txt", b"inner"), (b"large.bin", &large)]).await;
    std::os::unix::fs::symlink("/etc/passwd", content_directory(&world).join("dir/link")).expect("link");
    let refused = list(&world, "").await;
    assert_eq!(refused["error"]["messageCode"], "DR_FILES_NOT_OPEN");
    open(&world).await;
    assert_eq!(list(&world, "").await["components"][0]["name"], "content");
    let top = list(&world, "component=content").await;
    let root = content_directory(&world).display().to_string();
    assert_eq!((&top["path"], &top["total"]), (&Value::from(root.clone()), &Value::from(4)), "{top}");
    let names: Vec<_> = top["entries"].as_array().expect("list").iter().map(|e| e["name"].clone()).collect();
    assert_eq!(names, ["a.txt", "dir", "empty", "large.bin"]);
    assert_eq!(
        (&top["entries"][3]["kind"], &top["entries"][3]["bytes"]),
        (&"file".into(), &5_000_000.into())
    );

    for (path, content) in [("empty", &b""[..]), ("dir/inner.txt", b"inner"), ("large.bin", &large)] {
        let path = format!("{root}/{path}");
        let answer = get(&world, &format!("/download?component=content&path={}", quoted(&path))).await;
        assert!(answer.bytes == content, "{path}: {}", answer.text.chars().take(300).collect::<String>());
        assert_eq!(answer.header("content-type"), "application/octet-stream");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("cache-control"), "no-store");
        assert!(answer.header("content-disposition").starts_with("attachment; filename="));
        assert!(answer.header("content-security-policy").contains("sandbox"));
    }
    let head = world
        .ask(
            Role::Administrator,
            "HEAD",
            &format!("{}/download?component=content&path={root}/large.bin", files()),
            "",
        )
        .await;
    assert_eq!((head.header("content-length"), head.bytes.len()), ("5000000", 0));
    let parts = list(&world, "component=content&start=2&num=2").await;
    assert_eq!((&parts["entries"][0]["name"], &parts["nextStart"]), (&"dir".into(), &4.into()), "{parts}");

    let told = audit(&world).await;
    let download = |told: &&(String, String, String)| told.0 == "download of a file";
    assert!(told.iter().filter(download).any(|(_, path, _)| path.ends_with("dir/inner.txt")), "{told:?}");
    let looks = told
        .iter()
        .filter(|(what, path, _)| what == "files of a backup" && path.contains("backups/b1/files"));
    assert!(looks.count() >= 3, "every look: {told:?}");
}

#[tokio::test]
async fn what_is_no_file_or_not_there_is_refused_with_the_reason() {
    let world = with_files(&[(b"dir/inner.txt", b"inner")]).await;
    std::os::unix::fs::symlink("/etc/passwd", content_directory(&world).join("link")).expect("link");
    let form = format!("name=b2&passcode={PASSCODE}");
    world.wait(&world.run(&format!("{DR}/stores/s1/backups/create"), &form).await).await;
    let b2 = format!("{DR}/stores/s1/backups/b2/files");
    world.run(&format!("{b2}/open"), &format!("passcode={PASSCODE}")).await;
    let root = content_directory(&world).display().to_string();
    for (path, code) in [
        (format!("{root}/dir"), "PARAM_INVALID"),
        (format!("{root}/link"), "PARAM_INVALID"),
        (format!("{root}/nope"), "PARAM_INVALID"),
        (format!("{root}/dir/../a.txt"), "PARAM_INVALID"),
        ("/etc/passwd".to_owned(), "PARAM_INVALID"),
        ("/".to_owned(), "PARAM_INVALID"),
        ("%zz".to_owned(), "PARAM_INVALID"),
        ("x".repeat(100_000), "PARAM_INVALID"),
        (String::new(), "PARAM_MISSING"),
    ] {
        let asked = format!("f=json&component=content&path={}", quoted(&path));
        let answer = world.run(&format!("{b2}/download"), &asked).await;
        assert_eq!(answer["error"]["messageCode"], code, "{path}: {answer}");
    }
    let unknown = world.run(&format!("{b2}/download"), "component=nope&path=/a").await;
    assert_eq!(unknown["error"]["messageCode"], "PARAM_INVALID");
    let file = world.run(&b2, &format!("component=content&path={}", quoted(&format!("{root}/link")))).await;
    assert!(file["error"]["message"].as_str().is_some_and(|text| text.contains("is no directory")), "{file}");
    assert_eq!(list(&world, "").await["error"]["messageCode"], "DR_FILES_NOT_OPEN", "b1 is another backup");
}

#[tokio::test]
async fn no_name_in_a_backup_does_harm_on_a_page_or_in_a_header() {
    let names: &[&[u8]] = &[
        b"<script>alert(1)",
        b"\"><img src=x onerror=alert(1)>",
        b"a\r\nSet-Cookie: x=y",
        b"100%",
        b"%2e%2e%2f",
        b"back\\slash",
        b"\xff\xfe no text",
        b" blank ",
        "x\u{202e}gpj.exe".as_bytes(),
        "\u{e4}\u{f6}\u{fc}.txt".as_bytes(),
        b"a&b=c#d?e+f;g",
        b"{{ 7 * 7 }}",
        b"...",
        b"-rf",
    ];
    let files: Vec<(&[u8], &[u8])> = names.iter().map(|name| (*name, *name)).collect();
    let world = with_files(&files).await;
    open(&world).await;
    let page = without_our_script(&get(&world, "?component=content").await.text);
    for raw in ["<script", "<img", "\u{202e}", "a\r\nSet", "onerror=alert(1)>"] {
        assert!(!page.contains(raw), "{raw:?} in {page}");
    }
    assert!(page.contains("x\\u{202e}gpj.exe"), "what would deceive is shown: {page}");
    let root = content_directory(&world).display().to_string();
    for name in names {
        let path = quoted(&format!("{root}/{}", named(name)));
        let answer = get(&world, &format!("/download?component=content&path={path}")).await;
        assert!(answer.bytes == *name, "{}: {}", name.escape_ascii(), answer.text);
        let told = answer.header("content-disposition");
        assert_eq!(told.matches('"').count(), 2, "{told}");
        assert!(answer.headers.get("set-cookie").is_none());
    }
    // Each link of the page leads to the very file.
    let links: Vec<String> = page
        .split("href=\"")
        .filter_map(|rest| rest.split('"').next())
        .filter(|link| link.contains("/files/download?"))
        .map(|link| link.replace("&amp;", "&").replace("&#38;", "&"))
        .collect();
    assert_eq!(links.len(), names.len() + 1);
    let mut read: Vec<Vec<u8>> = Vec::new();
    for link in &links {
        read.push(world.ask(Role::Administrator, "GET", link, "").await.bytes);
    }
    assert!(names.iter().all(|name| read.iter().any(|content| content == name)));
}

#[tokio::test]
async fn a_wrong_passcode_opens_nothing_and_is_counted_and_told_in_the_audit_log() {
    let world = with_files(&[]).await;
    let path = format!("{}/open", files());
    let wrong = world.run(&path, &format!("passcode={OTHER_PASSCODE}")).await;
    let restore =
        world.run(&format!("{DR}/stores/s1/backups/b1/restore"), &format!("passcode={OTHER_PASSCODE}")).await;
    assert_eq!(wrong["error"]["messageCode"], "DR_PASSCODE_WRONG");
    assert_eq!(wrong["error"]["message"], restore["error"]["message"], "the same words as everywhere");
    assert_eq!(list(&world, "").await["error"]["messageCode"], "DR_FILES_NOT_OPEN");
    let short = world.run(&path, "passcode=short").await;
    assert_eq!(short["error"]["messageCode"], "DR_PASSCODE_SHORT");
    let told = audit(&world).await;
    let refused = |told: &&(String, String, String)| told.2 == "DR_PASSCODE_WRONG" && told.1 == path;
    assert_eq!(told.iter().filter(refused).count(), 1, "{told:?}");
    for role in [Role::Viewer, Role::Operator] {
        let form = format!("f=json&passcode={PASSCODE}");
        assert_eq!(
            world.ask(role, "POST", &path, &form).await.code(),
            403,
            "who may not restore may not look"
        );
        assert_eq!(world.ask(role, "GET", &format!("{}?f=json", files()), "").await.code(), 403);
    }
    let browser = Browser::sign_in(&world, "admin").await;
    let page = browser.submit(&path, &format!("passcode={OTHER_PASSCODE}")).await;
    assert!(page.text.contains("DR_PASSCODE_WRONG") && !page.text.contains(OTHER_PASSCODE), "{}", page.text);
}

#[tokio::test]
async fn what_is_open_belongs_to_its_session_and_ends_with_it() {
    let world = with_files(&[]).await;
    let (first, other) = (Browser::sign_in(&world, "admin").await, Browser::sign_in(&world, "admin").await);
    let asked = first.get(&files()).await;
    assert_eq!(asked.header("location"), format!("{}/open", files()), "the passcode first");
    let opened = first.submit(&format!("{}/open", files()), &format!("passcode={PASSCODE}")).await;
    assert_eq!(
        (opened.status.as_u16(), opened.header("location")),
        (303, files().as_str()),
        "{}",
        opened.text
    );
    let directory = format!("{}?component=content", files());
    assert!(first.get(&directory).await.text.contains("a.txt"));
    assert_eq!(other.get(&directory).await.status.as_u16(), 303, "another session of the same user");
    assert_eq!(list(&world, "component=content").await["error"]["messageCode"], "DR_FILES_NOT_OPEN");

    let closed = first.submit(&format!("{}/close", files()), "").await;
    assert_eq!(closed.header("location"), files().strip_suffix("/files").expect("backup"));
    assert_eq!(first.get(&directory).await.status.as_u16(), 303);

    first.submit(&format!("{}/open", files()), &format!("passcode={PASSCODE}")).await;
    let token = first.cookie.split('=').nth(1).expect("token").to_owned();
    assert!(world.recovery.has_files_open(&token, "s1", "b1"));
    first.submit_from(ADMIN, &format!("{ADMIN}/logout"), "").await;
    assert!(!world.recovery.has_files_open(&token, "s1", "b1"), "signed out");

    first_again(&world).await;
}

/// Whoever ends a user's sessions closes what is open in them.
async fn first_again(world: &World) {
    open(world).await;
    assert!(world.recovery.has_files_open(world.token(Role::Administrator), "s1", "b1"));
    world.recovery.revoke_tokens("admin").await.expect("revoked");
    assert!(!world.recovery.has_files_open(world.token(Role::Administrator), "s1", "b1"));
}

#[tokio::test]
async fn a_download_whose_content_is_gone_breaks_off_and_is_no_whole_file() {
    let world = with_files(&[(b"noise", &noise(3_000_000))]).await;
    open(&world).await;
    let path = format!("{}/noise", content_directory(&world).display());
    let mut pending = vec![world.directory.path().join("stores")];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(directory).expect("directory") {
            let path = entry.expect("entry").path();
            let is_pack = path.components().any(|part| part.as_os_str() == "data");
            match path.is_dir() {
                true => pending.push(path),
                // The packs of listings are small.
                false if is_pack && path.metadata().expect("size").len() > 100_000 => {
                    std::fs::remove_file(path).expect("removed");
                }
                false => {}
            }
        }
    }
    let asked = ask("GET", &format!("{}/download?component=content&path={path}", files()));
    assert!(
        world.broken_off(asked.token(world.token(Role::Administrator))).await,
        "it ended as if it were whole"
    );
}

#[tokio::test]
async fn a_download_ends_soon_after_its_session_and_frees_its_place() {
    use http_body_util::{BodyExt, Full};
    let world = with_files(&[(b"noise", &noise(5_000_000))]).await;
    let path = format!("{}/noise", content_directory(&world).display());
    for how in ["signed out", "removed", "another role"] {
        let password = secrecy::SecretString::from(super::support::PASSWORD);
        world.recovery.add_user("anna", &password, Role::Administrator).await.expect("user");
        let anna = recovery::Principal::person("anna".to_owned(), Role::Administrator);
        let (token, _) = world.recovery.issue_token(&anna, 60).await.expect("token");
        let token = secrecy::ExposeSecret::expose_secret(&token).to_owned();
        let passcode = recovery::Passcode::new(PASSCODE.to_owned());
        world.recovery.open_files(&token, &anna, "s1", "b1", passcode).await.expect("opened");
        let request = hyper::Request::builder()
            .uri(format!("{}/download?component=content&path={path}", files()))
            .header("x-esri-authorization", format!("Bearer {token}"))
            .body(Full::new(hyper::body::Bytes::new()))
            .expect("request");
        let reply = crate::dispatch::respond(world.site.clone(), request, [127, 0, 0, 1].into()).await;
        assert_eq!(reply.headers()["content-type"], "application/octet-stream");
        let mut body = reply.into_body();
        body.frame().await.expect("frame").expect("content");
        match how {
            "signed out" => world.recovery.revoke_token(&token).await.expect("signed out"),
            "another role" => {
                world.recovery.update_user("anna", Some(Role::Viewer), None).await.expect("role");
            }
            _ => world.recovery.remove_user("anna").await.expect("removed"),
        }
        // Nobody reads meanwhile: the place is free all the same.
        let downloads = &world.site.streams.downloads;
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while (0..4).map(|_| downloads.begin("anna")).collect::<Option<Vec<_>>>().is_none() {
            assert!(std::time::Instant::now() < deadline, "{how}: it goes on");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert!(body.collect().await.is_err(), "{how}: it ended as if it were whole");
        if how != "removed" {
            world.recovery.remove_user("anna").await.expect("removed");
        }
    }
}
