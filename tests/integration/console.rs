//! The console in a real browser: a person goes the whole way through it, with scripts and without.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use strongroom_tests::browser::Browser;
use strongroom_tests::server::{ADMIN, Options, PASSCODE, PASSWORD, Site};
use strongroom_tests::services::{ACCESS_KEY, SECRET_KEY, Service};

/// Where the browser's pictures of all pages go, for whoever wants to look.
fn pictures() -> PathBuf {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/console");
    fs::create_dir_all(&directory).unwrap();
    directory
}

#[test]
fn a_person_goes_the_whole_way_with_scripts_and_without_and_nothing_is_wrong_with_any_page() {
    let Some(browser) = Browser::find() else { return };
    let site = Site::new(Options::default());
    let reports = site.content().join("reports");
    fs::create_dir_all(&reports).unwrap();
    for (name, text) in [
        ("plain.txt", "plain"),
        ("M\u{e4}rz <b>&.txt", "not to be rendered"),
        ("x\u{202e}txt.exe", "what it is called"),
        ("100%.txt", "100"),
    ] {
        fs::write(reports.join(name), text).unwrap();
    }
    for number in 0..250 {
        fs::write(site.content().join(format!("file-{number:03}.dat")), vec![7; 1000 + number]).unwrap();
    }
    std::os::unix::fs::symlink("reports", site.content().join("link")).unwrap();
    let _server = site.start();
    let service = Service::s3();
    let bucket = service.as_ref().map(|service| {
        serde_json::json!({
            "endpoint": service.url(), "buckets": [service.bucket(), service.bucket()], "accessKey": ACCESS_KEY,
            "secretKey": SECRET_KEY,
        })
    });
    let told = serde_json::json!({
        "modules": browser.modules, "browser": browser.program, "url": site.url(), "username": ADMIN,
        "password": PASSWORD, "passcode": PASSCODE, "store": site.store(), "other": site.store().with_file_name("second"), "bucket": bucket,
        "content": site.content(), "shots": pictures(),
    });
    let mut person = Command::new(browser.node);
    person.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/integration/console.mjs")).arg(told.to_string());
    let walk = person.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&walk.stdout), String::from_utf8_lossy(&walk.stderr));
    assert!(walk.status.success(), "{out}\n{err}");
    assert!(out.starts_with("looked at "), "{out}\n{err}");
    print!("{out}");
}
