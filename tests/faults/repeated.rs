//! Jobs that are interrupted more than once, paused, cancelled; a second server where there is one already.

use std::fs;

use rustix::process::Signal;
use serde_json::Value;
use strongroom_tests::client::job_id;
use strongroom_tests::server::{Options, Site, run, wait_for};
use strongroom_tests::tree::noise;

use crate::content::{Content, SMALL, USUAL, seed};
use crate::gate::Gate;
use crate::vault::{self, Traces};

fn with_hook(gate: &Gate, hook: &str) -> Site {
    Site::new(Options { component: gate.hook(hook), ..Options::default() })
}

fn messages(job: &Value) -> String {
    let messages = job["messages"].as_array().unwrap();
    messages.iter().map(|message| message.as_str().unwrap()).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_backup_interrupted_three_times_fails_and_leaves_nothing() {
    // All data and the snapshot are stored when the hook runs, and the backup is not yet in the catalogue.
    let gate = Gate::new();
    let site = with_hook(&gate, "after_backup");
    let mut content = Content::new(&site.content(), SMALL, seed("three kills"));
    let mut server = site.start();
    let client = server.client();
    client.register(&site);
    client.back_up("kept");
    content.change();
    gate.close();
    let job = job_id(&client.create("doomed").ok()).to_owned();
    for interruption in 1..=3 {
        gate.reached();
        assert_eq!(client.job(&job)["status"], "EXECUTING");
        server.kill();
        if interruption == 3 {
            gate.open();
        }
        server = site.start();
    }
    let ended = client.ended(&job);
    assert_eq!(ended["status"], "FAILED", "{ended}");
    assert!(messages(&ended).contains("3 times"), "{ended}");
    assert_eq!(client.backups(), ["kept"]);
    vault::nothing_half_made(&site);
    vault::verifies(&site.store());
    vault::restic_agrees(&site.store());
    assert_eq!(Traces::of(&site.store()).snapshots, 1, "the snapshot of the one backup that is there");
    client.back_up("doomed");
    assert_eq!(client.backups(), ["doomed", "kept"]);
    vault::verifies(&site.store());
}

#[test]
fn a_restore_interrupted_three_times_fails_and_the_content_is_one_of_the_two_states() {
    for hook in ["before_restore", "after_restore"] {
        let gate = Gate::new();
        let site = with_hook(&gate, hook);
        let mut content = Content::new(&site.content(), SMALL, seed("three kills of a restore"));
        let mut server = site.start();
        let client = server.client();
        client.register(&site);
        client.back_up("b");
        let backed_up = content.tree();
        content.change();
        let changed = content.tree();
        gate.close();
        let job = job_id(&client.restore("b").ok()).to_owned();
        for interruption in 1..=3 {
            gate.reached();
            server.kill();
            if interruption == 3 {
                gate.open();
            }
            server = site.start();
        }
        let ended = client.ended(&job);
        assert_eq!(ended["status"], "FAILED", "{ended}");
        eprintln!("killed three times in {hook}: {}", messages(&ended));
        let expected = if hook == "before_restore" { &changed } else { &backed_up };
        assert!(content.tree() == *expected, "{hook}: {}", content.tree().differences(expected));
        vault::nothing_half_made(&site);
        vault::verifies(&site.store());
        // And another try succeeds.
        content.change();
        client.completed(&client.restore("b").ok());
        assert!(content.tree() == backed_up);
    }
}

#[test]
fn a_stopped_server_pauses_its_backup_and_the_next_start_finishes_the_same_job() {
    let gate = Gate::new();
    let site = with_hook(&gate, "before_backup");
    Content::new(&site.content(), USUAL, seed("pause"));
    let mut server = site.start();
    let client = server.client();
    client.register(&site);
    // Five pauses do not count as interruptions.
    gate.close();
    let job = job_id(&client.create("in the hook").ok()).to_owned();
    for _ in 0..5 {
        gate.reached();
        assert!(server.stop().success());
        server = site.start();
    }
    gate.open();
    assert_eq!(client.ended(&job)["status"], "COMPLETED");

    // And in the middle of the data, of which there is more until it is caught there.
    let mut length = 64 << 20;
    let (name, job) = loop {
        fs::write(site.content().join("large"), noise(length as u64, length)).unwrap();
        let name = format!("in {} MiB of data", length >> 20);
        let packs = Traces::of(&site.store()).packs;
        let job = job_id(&client.create(&name).ok()).to_owned();
        wait_for("the first new pack", || (Traces::of(&site.store()).packs > packs).then_some(()));
        assert!(server.stop().success());
        if !site.store().join(format!("backups/{name}.json")).exists() {
            break (name, job);
        }
        assert!(length < 1 << 30, "it always ended before it was stopped");
        length *= 2;
        server = site.start();
    };
    let server = site.start();
    let ended = client.ended(&job);
    assert_eq!(ended["status"], "COMPLETED", "{ended}");
    assert_eq!(client.jobs().len(), client.backups().len(), "one job for each backup");
    assert!(client.backups().contains(&name), "{:?}", client.backups());
    vault::nothing_half_made(&site);
    vault::verifies(&site.store());
    vault::restic_agrees(&site.store());
    drop(server);
}

#[test]
fn a_cancelled_backup_is_not_listed_and_the_next_one_reuses_what_it_stored() {
    let gate = Gate::new();
    let site = with_hook(&gate, "after_backup");
    let content = Content::new(&site.content(), USUAL, seed("cancel"));
    let server = site.start();
    let client = server.client();
    client.register(&site);
    gate.close();
    let job = job_id(&client.create("cancelled").ok()).to_owned();
    gate.reached();
    client.post(&format!("admin/jobs/{job}/cancel"), &[]).unwrap().ok();
    assert_eq!(client.job(&job)["status"], "CANCELLING");
    gate.open();
    let ended = client.ended(&job);
    assert_eq!(ended["status"], "CANCELLED", "{ended}");
    client.post(&format!("admin/jobs/{job}/cancel"), &[]).unwrap().refused(409, "DR_BUSY");
    assert_eq!(client.backups(), [""; 0]);
    client.dr_get("stores/s1/backups/cancelled").refused(404, "BACKUP_NOT_FOUND");
    vault::nothing_half_made(&site);

    let next = client.back_up("cancelled");
    let added = next["result"]["bytesAdded"].as_u64().unwrap();
    assert!(added < 1 << 20, "{added} bytes were stored again: {next}");
    vault::verifies(&site.store());
    vault::restic_agrees(&site.store());
    let tree = content.tree();
    fs::remove_dir_all(site.content().join("folder 1")).unwrap();
    client.completed(&client.restore("cancelled").ok());
    assert!(content.tree() == tree);
}

#[test]
fn a_second_server_on_the_same_data_directory_is_refused_and_the_first_goes_on() {
    let site = Site::new(Options::default());
    Content::new(&site.content(), SMALL, 1);
    let mut server = site.start();
    let client = server.client();
    client.register(&site);
    let config = site.config().display().to_string();
    let output = run(&["serve", "--config", &config], &[("STRONGROOM_SERVER__LISTEN", "127.0.0.1:1")]);
    let said = vault::text(&output);
    assert_eq!(output.status.code(), Some(11), "{said}");
    assert!(said.contains(&format!("another server (process {})", server.pid())), "{said}");
    assert!(said.contains(&site.data().display().to_string()), "{said}");
    assert!(server.is_alive());
    client.back_up("b");
    assert_eq!(client.backups(), ["b"]);

    // Another one that wants the same port alone says so.
    let other = Site::new(Options::default());
    let config = other.config().display().to_string();
    let listen = site.address().to_string();
    let output = run(&["serve", "--config", &config], &[("STRONGROOM_SERVER__LISTEN", &listen)]);
    assert_eq!(output.status.code(), Some(1), "{}", vault::text(&output));
    assert!(vault::text(&output).contains(&listen), "{}", vault::text(&output));
    client.get("admin").unwrap().ok();
}

#[test]
fn an_idle_server_ends_at_once_when_it_is_asked_to() {
    for signal in [Signal::TERM, Signal::INT] {
        let site = Site::new(Options::default());
        let mut server = site.start();
        server.signal(signal);
        assert!(server.wait().success());
        assert!(!site.log().contains("panicked"), "{}", site.log());
    }
}
