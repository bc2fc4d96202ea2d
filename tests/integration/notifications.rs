//! Notifications from outside: the real server, killed and started again, and receivers that fail.

use std::collections::HashSet;
use std::process::{Command, Stdio};

use notify::sinks::{Answer, MailSink, Manner, WebSink};
use serde_json::Value;
use strongroom_tests::server::{Options, Site, wait_for};
use strongroom_tests::services::{MailServer, free_port};

const SECRET: &str = "webhook-secret-4711";

/// A site that tells a web server and a mail server.
fn site(web: &WebSink, mail_port: u16) -> (Site, tempfile::TempDir) {
    let secrets = tempfile::tempdir().unwrap();
    let secret = secrets.path().join("secret");
    std::fs::write(&secret, SECRET).unwrap();
    let site = Site::new(Options {
        configuration: format!(
            "[security]\nallowed_addresses = [\"127.0.0.1\"]\n\
             [[notify]]\nkind = \"webhook\"\nname = \"hook\"\nurl = \"{}\"\nsecret_file = \"{}\"\nallow_http = true\n\
             [[notify]]\nkind = \"mail\"\nname = \"people\"\nhost = \"127.0.0.1\"\nport = {mail_port}\ntls = \"none\"\n\
             from = \"dr@example.org\"\nto = [\"ops@example.org\"]\nevents = [\"backup.completed\", \"backup.failed\"]\n",
            web.url("/hook"),
            secret.display(),
        ),
        ..Options::default()
    });
    (site, secrets)
}

fn told(web: &WebSink) -> Vec<Value> {
    web.taken().iter().map(|request| serde_json::from_slice(&request.body).unwrap()).collect()
}

#[test]
fn a_server_killed_while_its_targets_fail_tells_everything_once_it_is_back() {
    let web = WebSink::web(vec![Answer::Silence]).unwrap();
    let mail = MailSink::mail(vec![Manner::Busy]).unwrap();
    let (site, _secrets) = site(&web, mail.address().port());
    let mut server = site.start();
    let client = server.client();
    client.register(&site);
    client.back_up("b1");
    wait_for("the first attempt", || (!web.taken().is_empty()).then_some(()));
    server.kill();
    drop(server);
    web.set(vec![Answer::Status(500), Answer::Status(200)]);
    mail.set(vec![Manner::DropInData, Manner::Accept]);
    let mut server = site.start();
    let delivered = || {
        let reply = server.client().get("admin/notifications").unwrap().ok();
        let targets = reply["targets"].as_array().cloned().unwrap_or_default();
        targets.iter().all(|target| target["delivered"] == 1 && target["waiting"] == 0).then_some(())
    };
    wait_for("both targets", delivered);
    let ids: HashSet<String> = told(&web).iter().map(|body| body["delivery"].to_string()).collect();
    assert_eq!(ids.len(), 1, "one delivery, however often it was tried");
    assert_eq!(mail.taken().len(), 1);
    assert!(mail.taken()[0].contains("backup 'b1' of store 's1' completed"), "{:?}", mail.taken());
    let before = web.taken().len();
    server.stop();
    drop(server);
    let server = site.start();
    server.client().back_up("b2");
    wait_for("the next one", || (web.taken().len() > before).then_some(()));
    assert_eq!(told(&web)[before]["backup"], "b2", "what was taken is not sent again");
    for text in [site.log(), site.replies()] {
        assert!(!text.contains(SECRET) && !text.contains("/hook\""), "a secret was told");
    }
}

/// A mail server that others wrote takes what we send.
#[test]
fn a_real_mail_server_takes_our_mail() {
    let venv = std::env::var_os("XDG_CACHE_HOME")
        .map(std::path::PathBuf::from)
        .unwrap_or_else(|| std::path::Path::new(&std::env::var("HOME").unwrap()).join(".cache"))
        .join("strongroom-test/aiosmtpd");
    if !venv.join("ready").exists() {
        println!("-- NOT TESTED with aiosmtpd: scripts/test installs it");
        return;
    }
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut sink = Command::new(venv.join("bin/python"))
        .args(["-u", "-m", "aiosmtpd", "-n", "-c", "aiosmtpd.handlers.Debugging", "stdout", "-l"])
        .arg(format!("127.0.0.1:{port}"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("the mail server", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
    let web = WebSink::web(vec![Answer::Status(200)]).unwrap();
    let (site, _secrets) = site(&web, port);
    let server = site.start();
    let reply = server.client().post("admin/notifications/test", &[("target", "people")]).unwrap().ok();
    sink.kill().unwrap();
    let printed = sink.wait_with_output().unwrap().stdout;
    let printed = String::from_utf8_lossy(&printed);
    assert_eq!(reply["status"], "success", "{reply}");
    assert!(printed.contains("Subject: Strongroom") && printed.contains("asked for this test"), "{printed}");
}

const PASSWORD: &str = "mail-password-4711";

/// What a mail server shows, and the site that writes to it with a password.
struct Post {
    files: tempfile::TempDir,
    port: u16,
}

impl Post {
    fn new() -> Self {
        let post = Self { files: tempfile::tempdir().unwrap(), port: free_port() };
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(post.file("certificate.pem"), made.cert.pem()).unwrap();
        std::fs::write(post.file("key.pem"), made.signing_key.serialize_pem()).unwrap();
        std::fs::write(post.file("password"), PASSWORD).unwrap();
        post
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.files.path().join(name)
    }

    fn server(&self, mode: &str, password: &str) -> Option<MailServer> {
        let shown = (self.file("certificate.pem"), self.file("key.pem"));
        MailServer::start(self.port, mode, (&shown.0, &shown.1), password)
    }

    fn site(&self, tls: &str, is_trusted: bool) -> Site {
        let trust = match is_trusted {
            true => format!("ca_file = \"{}\"\n", self.file("certificate.pem").display()),
            false => String::new(),
        };
        Site::new(Options {
            configuration: format!(
                "[[notify]]\nkind = \"mail\"\nname = \"people\"\nhost = \"localhost\"\nport = {}\ntls = \"{tls}\"\n\
                 username = \"strongroom\"\npassword_file = \"{}\"\n{trust}\
                 from = \"dr@example.org\"\nto = [\"ops@example.org\"]\n",
                self.port,
                self.file("password").display(),
            ),
            ..Options::default()
        })
    }
}

fn try_out(site: &Site) -> Value {
    site.client().post("admin/notifications/test", &[("target", "people")]).unwrap().ok()
}

#[test]
fn mail_goes_over_tls_and_with_a_log_in_to_a_real_mail_server() {
    for tls in ["starttls", "tls"] {
        let post = Post::new();
        let Some(mail) = post.server(tls, PASSWORD) else { return };
        let site = post.site(tls, true);
        let _server = site.start();
        let reply = try_out(&site);
        assert_eq!(reply["status"], "success", "{tls}: {reply}");
        let heard = mail.heard();
        let commands: Vec<_> = heard.iter().map(|told| told["heard"].as_str().unwrap()).collect();
        assert_eq!(commands, ["AUTH", "MAIL", "DATA"], "{tls}: {heard:?}");
        assert!(heard.iter().all(|told| told["protected"] == true), "{tls}: {heard:?}");
        assert!(mail.mails()[0].contains("asked for this test"), "{tls}: {heard:?}");
        assert!(!site.log().contains(PASSWORD) && !mail.mails()[0].contains(PASSWORD));
    }
}

#[test]
fn mail_that_cannot_be_sent_safely_is_not_sent_and_waits_until_it_can() {
    // What the mail server offers, whether its certificate is trusted, the password that it takes, what is told.
    for (offered, wanted, is_trusted, password, told) in [
        ("plain", "starttls", true, PASSWORD, "STARTTLS"),
        ("starttls", "starttls", false, PASSWORD, "certificate"),
        ("tls", "tls", false, PASSWORD, "certificate"),
        ("starttls", "starttls", true, "another", "535"),
    ] {
        let post = Post::new();
        let Some(mail) = post.server(offered, password) else { return };
        let site = post.site(wanted, is_trusted);
        let server = site.start();
        let reply = try_out(&site);
        let first = &reply["deliveries"][0];
        assert_eq!((&reply["status"], &first["status"]), (&"failed".into(), &"waiting".into()), "{reply}");
        let why = first["error"].as_str().unwrap();
        let says = why.to_uppercase().contains(&told.to_uppercase());
        assert!(says && !why.contains(PASSWORD), "{offered}, {is_trusted}: {why}");
        let target = site.client().get("admin/notifications").unwrap().ok()["targets"][0].clone();
        assert_eq!((&target["waiting"], &target["delivered"]), (&1.into(), &0.into()), "{target}");
        assert_eq!(target["lastError"], why);
        let heard = mail.heard();
        let has = |what: &str| heard.iter().any(|line| line["heard"] == what);
        assert!(!has("MAIL") && !has("DATA"), "{offered}: {heard:?}");
        assert!(!has("AUTH") || password != PASSWORD, "no password to whom it is not for: {heard:?}");
        assert!(heard.iter().all(|line| line["protected"] == true), "{offered}: {heard:?}");
        if offered == "plain" {
            // Upgraded by its owner, it gets the same mail.
            drop(mail);
            let mail = post.server(wanted, password).unwrap();
            wait_for("the next attempt", || (mail.mails().len() == 1).then_some(()));
        }
        drop(server);
        assert!(!site.log().contains(PASSWORD));
    }
}
