//! A machine is lost, and a new one has nothing but the program, the store and the passcode.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use strongroom_tests::server::{self, Options, PASSCODE, Site};
use strongroom_tests::tree::Picture;

fn rescue(store: &Path, arguments: &[&str]) -> (bool, String) {
    let store = store.display().to_string();
    let mut all = vec!["rescue", "rebuild", "--store", &store];
    all.extend_from_slice(arguments);
    let output = server::run(&all, &[("STRONGROOM_PASSCODE", PASSCODE)]);
    let told = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&told).into_owned())
}

#[test]
fn a_lost_server_is_rebuilt_from_store_and_passcode_with_its_users_schedules_and_stores() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs::write(secret.path(), "a word").unwrap();
    let configuration = format!(
        "[[component]]\nkind = \"systemConfiguration\"\nname = \"strongroom\"\n\
         [[notify]]\nkind = \"webhook\"\nname = \"n\"\nurl = \"https://hooks.example.org/x\"\nsecret_file = \"{}\"\n",
        secret.path().display()
    );
    let site = Site::new(Options { configuration, ..Options::default() });
    site.add_user("second", "operator", "another long password");
    fs::write(site.content().join("file"), "content").unwrap();
    let mut server = site.start();
    let client = site.client();
    client.register(&site);
    client.back_up("first");
    let parameters = format!("{{\"name\":\"n\",\"storeName\":\"s1\",\"passcode\":\"{PASSCODE}\"}}");
    let fields = [
        ("title", "nightly"),
        ("type", "CreateBackup"),
        ("minute", "30"),
        ("hour", "2"),
        ("dayOfMonth", "*"),
        ("month", "*"),
        ("dayOfWeek", "?"),
        ("maxOccurrences", "-1"),
        ("parameters", &parameters),
    ];
    let task = client.post("admin/system/tasks/createTask", &fields).unwrap().ok();
    fs::write(site.content().join("file"), "later content").unwrap();
    client.back_up("second");
    let entry = client.dr_get("stores/s1/backups/second").ok();
    assert_eq!(
        (&entry["infrastructures"]["status"], &entry["status"]),
        (&"completed".into(), &"completed".into())
    );
    let accepted = client.dr_post("stores/s1/backups/second/drill", &[("passcode", PASSCODE)]).ok();
    let drill = client.completed(&accepted);
    assert_eq!(drill["result"]["outcome"], "proven", "{drill}");
    assert!(drill["result"]["proven"].to_string().contains("component 'strongroom'"), "{drill}");
    let before = Picture::take(&site.content());
    server.kill();
    drop(server);

    let (done, told) = rescue(&site.store(), &[]);
    assert!(!done && told.contains("are there already; nothing was changed"), "{told}");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let (config, data) = (fs::read(site.config()).unwrap(), site.data());
    let modes = (mode(&site.config()), mode(&data.join("master.key")));
    fs::remove_dir_all(&data).unwrap();
    fs::remove_dir_all(site.content()).unwrap();
    fs::remove_file(site.config()).unwrap();
    fs::remove_file(secret.path()).unwrap();

    // What cannot be made whole is not left.
    let halfway = site.root().join("halfway");
    let obstacle = halfway.join(data.strip_prefix("/").unwrap()).join("tls");
    fs::create_dir_all(obstacle.parent().unwrap()).unwrap();
    fs::write(&obstacle, "not a directory").unwrap();
    let (done, told) = rescue(&site.store(), &["--root", halfway.to_str().unwrap()]);
    assert!(!done && told.contains("no file was left"), "{told}");
    assert_eq!(fs::read_dir(obstacle.parent().unwrap()).unwrap().count(), 1);
    let elsewhere = site.root().join("elsewhere");
    let (done, told) = rescue(&site.store(), &["--backup", "first", "--root", elsewhere.to_str().unwrap()]);
    assert!(done && !site.config().exists(), "{told}");
    // What SQLite would take for a part of the state.
    let stale = data.join("state.db-wal");
    fs::create_dir_all(&data).unwrap();
    fs::write(&stale, "of the lost server").unwrap();
    let (done, told) = rescue(&site.store(), &[]);
    assert!(!done && told.contains("state.db-wal is there already") && !site.config().exists(), "{told}");
    fs::remove_file(&stale).unwrap();
    let (done, told) = rescue(&site.store(), &[]);
    assert!(done && told.contains("strongroom serve --config"), "{told}");
    assert_eq!(fs::read(site.config()).unwrap(), config);
    assert_eq!((mode(&site.config()), mode(&data.join("master.key"))), modes);
    assert_eq!(fs::read_to_string(secret.path()).unwrap(), "a word");
    let output = server::run(
        &["rescue", "rebuild", "--store", site.store().to_str().unwrap()],
        &[("STRONGROOM_PASSCODE", "a wrong passcode")],
    );
    assert_eq!(output.status.code(), Some(12));

    fs::create_dir_all(site.content()).unwrap();
    let _server = site.start();
    let client = site.client();
    assert_eq!(client.backups(), ["first", "second"]);
    // The job whose backup this was ends as what it was.
    let jobs = client.jobs();
    for job in &jobs {
        assert_eq!(client.ended(job)["status"], "COMPLETED", "{jobs:?}");
    }
    let restored = client.completed(&client.restore("second").ok());
    assert!(restored.to_string().contains("rescue rebuild"), "{restored}");
    before.assert_same(&Picture::take(&site.content()), "the content");
    let id = task["taskId"].as_str().unwrap();
    let found = client.get(&format!("admin/system/tasks/{id}")).unwrap().ok();
    assert_eq!(found["title"], "nightly");
    let mut other = site.stranger();
    other.log_in("second", "another long password");
    client.back_up("third");
}

#[test]
fn a_store_without_the_servers_own_configuration_says_what_to_do_instead() {
    let site = Site::new(Options::default());
    let _server = site.start();
    let client = site.client();
    client.register(&site);
    client.back_up("first");
    for arguments in [&[][..], &["--backup", "first"]] {
        let (done, told) = rescue(&site.store(), arguments);
        assert!(!done && told.contains("strongroom init") && told.contains("systemConfiguration"), "{told}");
    }
}
