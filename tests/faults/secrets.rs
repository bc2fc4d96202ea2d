//! The passcode, the password and the tokens appear nowhere in clear: not in the state, the logs, the replies, the
//! store, nor in any process's arguments or environment.

use std::fs;
use std::path::Path;
use std::process::Command;

use strongroom_tests::client::{granted, job_id};
use strongroom_tests::server::{Launch, Options, Site};

use crate::content::{Content, SMALL};
use crate::gate::Gate;
use crate::vault;

const PASSWORD: &str = "Zanzibar+quince&88";
const PASSCODE: &str = "Kingfisher=over%the?weir";
const WRONG: &str = "Sparrowhawk=under%the?weir";

/// The secret as it is, and as it looks in a form, in JSON, in hex and in base64.
fn disguises(secret: &str) -> Vec<String> {
    let percent: String = secret
        .bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect();
    let hex: String = secret.bytes().map(|b| format!("{b:02x}")).collect();
    vec![secret.to_owned(), percent, hex, base64(secret)]
}

/// As much of it as does not depend on what follows.
fn base64(secret: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |bits: u32| char::from(DIGITS[(bits & 63) as usize]);
    let groups = secret.as_bytes().chunks_exact(3).map(|b| u32::from_be_bytes([0, b[0], b[1], b[2]]));
    groups.flat_map(|bits| [digit(bits >> 18), digit(bits >> 12), digit(bits >> 6), digit(bits)]).collect()
}

#[track_caller]
fn holds_none(place: &str, bytes: &[u8], secrets: &[String]) {
    for secret in secrets {
        let found = bytes.windows(secret.len()).position(|window| window == secret.as_bytes());
        if let Some(at) = found {
            let around = &bytes[at.saturating_sub(120)..(at + secret.len() + 40).min(bytes.len())];
            panic!("{place} holds {secret:?}: {}", String::from_utf8_lossy(around));
        }
    }
}

/// Arguments and environment of a process and all that descend from it.
fn processes(root: u32) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut open = vec![root];
    while let Some(pid) = open.pop() {
        for file in ["cmdline", "environ"] {
            let path = format!("/proc/{pid}/{file}");
            if let Ok(bytes) = fs::read(&path) {
                found.push((path, bytes));
            }
        }
        for task in vault::names(Path::new(&format!("/proc/{pid}/task"))) {
            let children =
                fs::read_to_string(format!("/proc/{pid}/task/{task}/children")).unwrap_or_default();
            open.extend(children.split_whitespace().map(|child| child.parse::<u32>().unwrap()));
        }
    }
    found
}

#[test]
fn no_secret_is_found_in_state_log_replies_store_or_process_list() {
    let gate = Gate::new();
    let site = Site::new(Options {
        component: format!("{}{}", gate.hook("before_backup"), gate.hook("before_restore")),
        log: "trace".to_owned(),
        ..Options::default()
    });
    site.add_user("witness", "administrator", PASSWORD);
    fs::remove_file(site.root().join("password-witness")).unwrap();
    let mut content = Content::new(&site.content(), SMALL, 5);
    let launch = Launch::default();
    let mut server = site.start_as(&launch);
    let mut client = site.stranger();
    client.log_in("witness", PASSWORD);
    let token = client.token.clone().unwrap();
    let given = granted_to_programs(&site);
    let mut secrets: Vec<String> = Vec::new();
    for secret in [PASSWORD, PASSCODE, WRONG, &token].into_iter().chain(given.iter().map(String::as_str)) {
        secrets.extend(disguises(secret));
    }
    // The reply to a log-in holds its token (so that we can find what is there), and nothing else ever does.
    assert!(site.replies().contains(&token));
    let replies_before = site.replies().len();
    let sealed = [("passcode", PASSCODE)];
    let look_at_processes = |pid: u32, secrets: &[String]| {
        let all = processes(pid);
        assert!(all.len() >= 4, "the server and its hook: {}", all.len());
        all.iter().for_each(|(path, bytes)| holds_none(path, bytes, secrets));
    };

    client.register(&site);
    gate.close();
    let create = [("name", "b"), ("passcode", PASSCODE), ("description", "nothing secret")];
    let job = job_id(&client.dr_post("stores/s1/backups/create", &create).ok()).to_owned();
    gate.reached();
    look_at_processes(server.pid(), &secrets);
    // The job is in the state now, with its passcode; on the disk too, when the server dies and comes back.
    look_into_files(&site, &secrets);
    server.kill();
    look_into_files(&site, &secrets);
    gate.open();
    server = site.start_as(&launch);
    assert_eq!(client.ended(&job)["status"], "COMPLETED");

    content.change();
    gate.close();
    let job = job_id(&client.dr_post("stores/s1/backups/b/restore", &sealed).ok()).to_owned();
    gate.reached();
    look_at_processes(server.pid(), &secrets);
    gate.open();
    assert_eq!(client.ended(&job)["status"], "COMPLETED");

    // Mistakes that people make: the wrong passcode, one too short, secrets where they do not belong.
    client.dr_post("stores/s1/backups/b/restore", &[("passcode", WRONG)]).refused(400, "DR_PASSCODE_WRONG");
    client.dr_post("stores/s1/backups/b/validate", &[("passcode", WRONG)]).refused(400, "DR_PASSCODE_WRONG");
    client.dr_post("stores/s1/backups/create", &[("name", "c"), ("passcode", &WRONG[..7])]);
    client.dr_post(
        "stores/s1/backups/create",
        &[("name", "c"), ("passcode", PASSCODE), ("retentionDate", WRONG)],
    );
    client.dr_post("stores/s1/backups/create", &[("passcode", PASSCODE)]);
    client.dr_post("stores/s1/backups/create", &[("name", "c"), ("passcode", PASSCODE), ("f", PASSCODE)]);
    client.dr_post("stores/register", &[("storeName", "s2"), ("settings", PASSCODE)]);
    client.get(&format!("admin/jobs?token={token}")).unwrap();
    site.stranger()
        .post("sharing/rest/generateToken", &[("username", "witness"), ("password", WRONG)])
        .unwrap();
    let page = site.stranger().authorize("code");
    let sign_in =
        [("oauth_state", page.as_str()), ("username", "witness"), ("password", WRONG), ("f", "html")];
    site.stranger().post("sharing/oauth2/signin", &sign_in).unwrap();
    for code in &given {
        let fields = [("grant_type", "authorization_code"), ("client_id", "test"), ("code", code)];
        site.stranger().post("sharing/rest/oauth2/token", &fields).unwrap();
        // That was a code's one try; while it is good its page may show it.
        site.stranger().get(&format!("sharing/rest/oauth2/approval?code={code}")).unwrap();
    }
    site.stranger().get(&format!("sharing/rest/generateToken?username=witness&password={WRONG}")).unwrap();
    client.dr_post("stores/s1/backups/create", &[("name", "c"), ("passcode", &WRONG[..7]), ("f", "html")]);
    client.dr_post("stores/s1/backups/b/restore", &[("passcode", WRONG), ("f", "html")]);
    over_http_2(&site, &token);
    let read = [("passcode", PASSCODE), ("readData", "true")];
    client.completed(&client.dr_post("stores/s1/backups/b/validate", &read).ok());
    client.delete("b").ok();
    for look in ["admin/jobs", "admin/system/disasterrecovery/status", "admin/system/disasterrecovery/stores"]
    {
        client.get(look).unwrap().ok();
    }
    for id in client.jobs() {
        client.job(&id);
    }

    look_into_files(&site, &secrets);
    assert!(server.stop().success());
    look_into_files(&site, &secrets);
    holds_none("a reply", &site.replies().as_bytes()[replies_before..], &secrets);
    assert!(site.log().len() > 100_000, "the log is not as verbose as it can be: {} bytes", site.log().len());
}

/// What the log-in of programs gives out, in headers too: two tokens (one over HTTP/2), a used code, what it was
/// exchanged for, and a code that is still good.
fn granted_to_programs(site: &Site) -> Vec<String> {
    let client = site.stranger();
    let sign_in = |kind| client.sign_in(&client.authorize(kind), "witness", PASSWORD);
    let mut secrets = vec![sign_in("token"), sign_in("code"), sign_in("code")];
    let redirect = ("redirect_uri", "urn:ietf:wg:oauth:2.0:oob");
    let fields =
        [("grant_type", "authorization_code"), ("client_id", "test"), ("code", &secrets[1]), redirect];
    let reply = client.post("sharing/rest/oauth2/token", &fields).unwrap().ok();
    for name in ["access_token", "refresh_token"] {
        secrets.push(reply[name].as_str().unwrap().to_owned());
    }
    let output = Command::new("curl")
        .args(["-s", "--http2", "--write-out", "%{redirect_url} HTTP/%{http_version}", "--cacert"])
        .arg(site.certificate())
        .args(["-d", &format!("username=witness&oauth_state={}", client.authorize("token"))])
        .args([
            "--data-urlencode",
            &format!("password={PASSWORD}"),
            &format!("{}/sharing/oauth2/signin", site.url()),
        ])
        .output()
        .expect("curl: apt-get install curl");
    let said = vault::text(&output);
    secrets.push(granted(said.strip_suffix(" HTTP/2").unwrap_or_else(|| panic!("{said}"))));
    secrets
}

/// HTTP/2 has its own decoder of headers, with a log of its own.
fn over_http_2(site: &Site, token: &str) {
    let restore = format!("{}/admin/system/disasterrecovery/stores/s1/backups/b/restore", site.url());
    let output = Command::new("curl")
        .args(["-s", "--http2", "--write-out", " HTTP/%{http_version}", "--cacert"])
        .arg(site.certificate())
        .args(["-H", &format!("X-Esri-Authorization: Bearer {token}"), "-d", "f=json"])
        .args(["--data-urlencode", &format!("passcode={WRONG}"), &restore])
        .output()
        .expect("curl: apt-get install curl");
    let said = vault::text(&output);
    assert!(said.contains("DR_PASSCODE_WRONG") && said.ends_with("HTTP/2"), "{said}");
}

/// State with its side files, log, store, configuration.
#[track_caller]
fn look_into_files(site: &Site, secrets: &[String]) {
    let files = vault::files(site.root());
    assert!(files.iter().any(|file| file.ends_with("state.db")), "{files:?}");
    for file in files.iter().filter(|file| !file.starts_with(site.content())) {
        let name = file.file_name().unwrap().to_string_lossy();
        // A temporary file may go before it is read.
        let Ok(bytes) = fs::read(file) else { continue };
        holds_none(&file.display().to_string(), &bytes, secrets);
        assert!(!name.contains("witness"), "{name}");
    }
}
