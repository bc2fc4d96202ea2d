//! `rescue verify`: looks for damage in a store.
//!
//! Without the passcode: every file is read and compared with its name, which is its hash (`--scrub`).
//! With it, and one backup named: its seal, index and trees, and every blob that it needs is opened.
//! With it, and no backup named: the whole store is scrubbed, and each backup that the passcode opens is checked.

use std::sync::Arc;

use anyhow::Result;
use recovery::ErrorKind;
use recovery::store::Store;
use recovery::work::{scrub, verify_backup};
use repository::{CheckReport, Control, Finding, Passcode};

use super::Place;
use crate::cli::repo::tell_report;
use crate::exit::Exit;
use crate::progress::{Follower, Work, printable};
use crate::terminal;

/// What is looked at.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Only this backup
    #[arg(long, value_name = "NAME")]
    backup: Option<String>,
    /// Use no passcode: compare every file of the store with its own hash
    #[arg(long, conflicts_with = "backup")]
    scrub: bool,
}

/// Runs the verification.
pub fn run(place: &Place, arguments: &Arguments) -> Result<Exit> {
    let (store, control) = place.open()?;
    let passcode = if arguments.scrub { None } else { Some(place.passcode.existing()?) };
    let follower = Follower::start(&control, Work::Check, place.json);
    let report = match (&passcode, &arguments.backup) {
        (None, _) => scrub(&store, &control).map_err(Into::into),
        (Some(passcode), Some(name)) => {
            verify_backup(&store, name, Some(passcode), true, &control).map_err(Into::into)
        }
        (Some(passcode), None) => everything(&store, passcode, &control),
    };
    drop(follower);
    tell_report(&report?, place.json)
}

fn everything(store: &Store, passcode: &Passcode, control: &Arc<Control>) -> Result<CheckReport> {
    let mut report = scrub(store, control)?;
    let (entries, damaged) = store.backups()?;
    add_findings(&mut report, damaged);
    let mut refused = None;
    let mut opened = 0;
    for entry in &entries {
        let name = entry.view(&store.identity().name).name;
        match verify_backup(store, &name, Some(passcode), false, control) {
            Ok(found) => {
                opened += 1;
                add_findings(&mut report, found.findings);
            }
            Err(e) if e.kind == ErrorKind::PasscodeWrong => {
                terminal::note(format!("backup {} is sealed with another passcode", printable(&name)));
                refused = Some(e);
            }
            Err(e) if e.kind == ErrorKind::Damaged => {
                let finding = Finding { file: format!("backup {name}"), problem: e.message };
                add_findings(&mut report, vec![finding]);
            }
            Err(e) => return Err(e.into()),
        }
    }
    match refused {
        Some(e) if opened == 0 => Err(e.into()),
        _ => Ok(report),
    }
}

fn add_findings(report: &mut CheckReport, findings: Vec<Finding>) {
    for finding in findings {
        if !report.findings.iter().any(|known| known.file == finding.file) {
            report.findings.push(finding);
        }
    }
}
