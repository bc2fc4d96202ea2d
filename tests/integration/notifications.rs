//! Notifications from outside: the real server, killed and started again, and receivers that fail.

use std::collections::HashSet;
use std::process::{Command, Stdio};

use notify::sinks::{Answer, MailSink, Manner, WebSink};
use serde_json::Value;
use strongroom_tests::server::{Options, Site, wait_for};

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
