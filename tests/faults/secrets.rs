//! The passcode, the password and the tokens appear nowhere in clear: not in the state, the logs, the replies, the
//! store, nor in any process's arguments or environment.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};

use strongroom_tests::client::{granted, job_id};
use strongroom_tests::server::{Launch, Options, Site};
use strongroom_tests::services::{Provider, Service};

use crate::content::{Content, SMALL};
use crate::gate::Gate;
use crate::vault;

const PASSWORD: &str = "Zanzibar+quince&88";
const PASSCODE: &str = "Kingfisher=over%the?weir";
const WRONG: &str = "Sparrowhawk=under%the?weir";

/// The secret as it is, and as it looks in a form or a URL, in hex and in base64 wherever it begins.
fn disguises(secret: &str) -> Vec<String> {
    let percent: String = secret
        .bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect();
    let hex: String = secret.bytes().map(|b| format!("{b:02x}")).collect();
    let form = percent.replace("%20", "+");
    let mut all = vec![secret.to_owned(), form, percent.to_lowercase(), percent, hex];
    // After one or two other bytes the same bytes look otherwise; what these bytes touch is cut off.
    all.extend(
        [(0, 0), (1, 2), (2, 3)]
            .map(|(before, cut)| base64(&format!("{}{secret}", "x".repeat(before)))[cut..].to_owned()),
    );
    all
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
            match fs::read(&path) {
                Ok(bytes) => found.push((path, bytes)),
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                    println!("NOT TESTED: {path} can be read by root alone");
                }
                Err(_) => {}
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

/// Lets a process leave a core file of any size, and crashes it as its own abort would.
fn crash(pid: u32) {
    let unlimited =
        Command::new("prlimit").args([&format!("--pid={pid}"), "--core=unlimited"]).status().unwrap();
    assert!(unlimited.success());
    assert!(Command::new("kill").args(["-ABRT", &pid.to_string()]).status().unwrap().success());
}

#[test]
fn a_server_that_crashes_with_a_passcode_in_memory_leaves_no_core_file() {
    let scratch = tempfile::tempdir().unwrap();
    let mut other: Child = Command::new("sleep").arg("600").current_dir(scratch.path()).spawn().unwrap();
    crash(other.id());
    if !other.wait().unwrap().core_dumped() {
        println!("NOT TESTED: no process leaves a core file on this machine");
        return;
    }
    let gate = Gate::new();
    let site = Site::new(Options { component: gate.hook("before_backup"), ..Options::default() });
    Content::new(&site.content(), SMALL, 5);
    let mut server = site.start();
    let client = server.client();
    client.register(&site);
    gate.close();
    client.dr_post("stores/s1/backups/create", &[("name", "b"), ("passcode", PASSCODE)]).ok();
    gate.reached();
    crash(server.pid());
    let ended: ExitStatus = server.wait();
    gate.open();
    assert_eq!(ended.signal(), Some(6), "{ended}");
    assert!(!ended.core_dumped(), "{ended}");
}

/// Plants a secret at every place of the interface that takes one, in every way in which it takes it.
#[test]
fn no_secret_that_any_operation_takes_comes_back_or_lies_anywhere_in_clear() {
    let planted = |what: &str| format!("planted {what}/Q7&z=9");
    let [added, updated, own, flat, inside, backup, wrong, secret_key, other_key] =
        ["added", "updated", "own", "flat", "inside", "backup", "wrong", "secret-key", "other-key"]
            .map(planted);
    let [webhook, mail, provider] = ["webhook", "mail", "provider"].map(planted);
    let files = tempfile::tempdir().unwrap();
    let in_a_file = |name: &str, secret: &str| {
        let path = files.path().join(name);
        fs::write(&path, secret).unwrap();
        path.display().to_string()
    };
    let site = Site::new(Options {
        log: "trace".to_owned(),
        // Nobody listens there: each attempt fails, and is told about.
        configuration: format!(
            "[security]\nallowed_addresses = [\"127.0.0.1\"]\n\
             [[notify]]\nkind = \"webhook\"\nname = \"hook\"\nurl = \"https://127.0.0.1:1/\"\nsecret_file = \"{}\"\n\
             [[notify]]\nkind = \"mail\"\nname = \"people\"\nhost = \"127.0.0.1\"\nport = 1\nusername = \"dr\"\n\
             password_file = \"{}\"\nfrom = \"dr@example.org\"\nto = [\"ops@example.org\"]\n",
            in_a_file("webhook", &webhook),
            in_a_file("mail", &mail),
        ),
        ..Options::default()
    });
    // A real provider if there is one, so that the secret is sent; else its place alone.
    let there = Provider::start(&format!("{}/admin/oidc/callback", site.url()));
    let issuer = there.as_ref().map_or("http://127.0.0.1:1".to_owned(), Provider::issuer);
    let settings = [
        ("ISSUER", issuer.clone()),
        ("CLIENT_ID", "strongroom RS256".to_owned()),
        ("CLIENT_SECRET_FILE", in_a_file("provider", &provider)),
        ("ROLE_CLAIM", "groups".to_owned()),
        ("ADMINISTRATOR_VALUES", "[\"dr-admins\"]".to_owned()),
    ];
    let environment = settings.map(|(key, value)| (format!("STRONGROOM_OIDC__{key}"), value)).to_vec();
    Content::new(&site.content(), SMALL, 9);
    let mut server = site.start_as(&Launch { environment, ..Launch::default() });
    let client = server.client();
    client.register(&site);
    let post = |path: &str, fields: &[(&str, &str)]| client.post(path, fields).unwrap();

    // People.
    post("admin/users/add", &[("username", "ulla"), ("role", "administrator"), ("password", &added)]).ok();
    post("admin/users/ulla/update", &[("password", &updated)]).ok();
    let mut ulla = site.stranger();
    ulla.log_in("ulla", &updated);
    let mut secrets = vec![ulla.token.clone().unwrap()];
    ulla.post("admin/password", &[("password", &updated), ("newPassword", &own)]).unwrap().ok();
    ulla.log_in("ulla", &own);
    secrets.push(ulla.token.clone().unwrap());
    let made = post("admin/keys/create", &[("name", "k"), ("role", "operator")]).ok();
    secrets.push(made["key"].as_str().unwrap().to_owned());
    let told_before = site.replies().len();

    // Schedules, in both forms.
    let when = [("minute", "0"), ("hour", "3"), ("dayOfMonth", "1"), ("month", "1"), ("dayOfWeek", "?")];
    let mut fields = vec![
        ("type", "CreateBackup"),
        ("title", "flat"),
        ("name", "flat"),
        ("storeName", "s1"),
        ("passcode", &*flat),
    ];
    fields.extend(when);
    let task = post("admin/system/tasks/createTask", &fields).ok()["taskId"].as_str().unwrap().to_owned();
    let parameters = serde_json::json!({"name": "inside", "storeName": "s1", "passcode": inside}).to_string();
    let mut fields = vec![("type", "CreateBackup"), ("title", "inside"), ("parameters", &*parameters)];
    fields.extend(when);
    post("admin/system/tasks/createTask", &fields).ok();
    client.completed(&post(&format!("admin/system/tasks/{task}/run"), &[]).ok());

    // Backups, and looks into one.
    client
        .completed(&client.dr_post("stores/s1/backups/create", &[("name", "b"), ("passcode", &backup)]).ok());
    for passcode in [&wrong, &backup] {
        for operation in ["validate", "files/open"] {
            client.dr_post(&format!("stores/s1/backups/b/{operation}"), &[("passcode", passcode)]);
        }
        client.dr_post("stores/s1/backups/b/restore", &[("passcode", passcode), ("validateOnly", "true")]);
    }

    // A bucket's credential: of one that is there, if there is a server, and of one that is not.
    let service = Service::s3();
    let url = service.as_ref().map_or("http://127.0.0.1:1".to_owned(), Service::url);
    let bucket = service.as_ref().map_or("nowhere".to_owned(), Service::bucket);
    let credential = |secret: &str| serde_json::json!({"type": "ACCESS-KEY", "secret": {"accessKey": "AKIA", "secretKey": secret}});
    let settings = serde_json::json!({"type": "S3", "provider": {"cloudServices": [{"usage": "BACKUP", "connection": {
        "bucketName": bucket, "region": "us-east-1", "endpointUrl": url, "allowHttp": true, "credential": credential(&secret_key),
    }}]}});
    let settings = settings.to_string();
    let register = |others: &[(&str, &str)]| {
        let mut fields = vec![("storeName", "s2"), ("settings", &*settings)];
        fields.extend(others);
        client.dr_post("stores/register", &fields)
    };
    if service.is_some() {
        register(&[]).ok();
        let changed = serde_json::json!({"credential": credential(&other_key)}).to_string();
        client.dr_post("stores/s2/update", &[("settings", &changed)]).ok();
        client.dr_post("stores/s2/validate", &[]).ok();
    }
    register(&[("isDefault", &other_key)]).refused(400, "PARAM_INVALID");
    // Mistakes: a secret where JSON is expected, a secret under another name's limit.
    client.dr_post("stores/register", &[("storeName", "s4"), ("settings", &secret_key)]);
    post(
        "admin/system/tasks/createTask",
        &[("type", "CreateBackup"), ("parameters", &inside), ("passcode", &flat)],
    );
    post("admin/users/add", &[("username", "ulla"), ("role", "nobody"), ("password", &added)]);

    // A session of the pages, and a way to the provider and back with a code that it does not know.
    let agent = site.browser_agent();
    let form = [("username", "ulla"), ("password", &*own)];
    let signed_in = agent
        .post(format!("{}/admin/login", site.url()))
        .header("accept", "text/html")
        .send_form(form)
        .unwrap();
    let cookie = signed_in.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let start = agent.get(format!("{}/admin", site.url())).header("cookie", &cookie).call().unwrap();
    assert!(start.into_body().read_to_string().unwrap().contains("ulla"));
    secrets.push(cookie.split_once('=').unwrap().1.to_owned());
    let sent = agent.get(format!("{}/admin/oidc/start", site.url())).call().unwrap();
    if let Some(there) = sent.headers().get("location").filter(|_| there.is_some()) {
        let state =
            there.to_str().unwrap().split(['?', '&']).find_map(|pair| pair.strip_prefix("state=")).unwrap();
        let attempt = sent.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap();
        let back = format!("{}/admin/oidc/callback?state={state}&code=unknown&iss={issuer}", site.url());
        agent.get(back).header("cookie", attempt).call().unwrap();
    }
    for target in ["hook", "people"] {
        post("admin/notifications/test", &[("target", target)]);
    }

    // Whatever can be read, as JSON and as a page.
    for path in [
        "admin",
        "admin/users",
        "admin/users/ulla",
        "admin/keys",
        "admin/keys/k",
        "admin/audit",
        "admin/metrics",
        "admin/jobs",
        "admin/mode",
        "admin/system",
        "admin/system/tasks",
        &format!("admin/system/tasks/{task}"),
        &format!("admin/system/tasks/{task}/runs"),
        "admin/openapi.json",
        "admin/notifications",
        "sharing/rest/portals/self",
        "sharing/rest/community/self",
        "admin/system/disasterrecovery",
        "admin/system/disasterrecovery/status",
        "admin/system/disasterrecovery/settings",
        "admin/system/disasterrecovery/stores",
        "admin/system/disasterrecovery/stores/s1",
        "admin/system/disasterrecovery/stores/s2",
        "admin/system/disasterrecovery/stores/s1/backups",
        "admin/system/disasterrecovery/stores/s1/backups/b",
        "admin/system/disasterrecovery/stores/s1/backups/b/files",
        "admin/system/disasterrecovery/backuprestore/backups",
    ] {
        client.get(path).unwrap();
        client.post(path, &[("f", "html")]).unwrap();
    }
    for id in client.jobs() {
        client.job(&id);
    }

    secrets.extend([
        added, updated, own, flat, inside, backup, wrong, secret_key, other_key, webhook, mail, provider,
    ]);
    let secrets: Vec<String> = secrets.iter().flat_map(|secret| disguises(secret)).collect();
    holds_none("a reply", &site.replies().as_bytes()[told_before..], &secrets);
    processes(server.pid()).iter().for_each(|(path, bytes)| holds_none(path, bytes, &secrets));
    let look = || {
        for file in vault::files(site.root()).iter().filter(|file| !file.starts_with(site.content())) {
            if let Ok(bytes) = fs::read(file) {
                holds_none(&file.display().to_string(), &bytes, &secrets);
            }
        }
    };
    // With what SQLite has not yet moved into the database, and once it has.
    assert!(site.data().join("state.db-wal").exists());
    look();
    assert!(server.stop().success());
    look();
    assert!(site.log().len() > 100_000, "the log is not as verbose as it can be: {} bytes", site.log().len());
}
