//! One backup: is it whole, what is in it, what is not, and what can be done with it.

use super::backups::{kept_until, state, verified};
use super::files;
use super::plots::{saved, took};
use super::view::{Cell, duration, size};
use super::words::{ago, exact, grouped, instant, length};
use super::{Fact, Frame, Link, finish, frame, link, links_below, tone};
use crate::dispatch::Call;
use crate::path;
use askama::Template;
use recovery::{BackupComponentView, BackupView, DrillReport, Kind, Proof};
use serde_json::Value;

/// More warnings are counted, not listed.
const WARNINGS_SHOWN: usize = 100;

/// What the page shows.
#[derive(Debug)]
pub(crate) struct BackupPageView {
    pub backup: BackupView,
    pub proof: Proof,
    /// The last drill of it.
    pub drill: Option<DrillReport>,
    pub now: i64,
}

#[derive(Template)]
#[template(path = "backup.html")]
struct BackupPage {
    frame: Frame,
    tone: &'static str,
    state: String,
    description: String,
    job: Option<Link>,
    facts: Vec<Fact>,
    operations: Vec<Button>,
    components: Vec<Part>,
    drill: Option<DrillReport>,
    warnings: Vec<(String, String)>,
    more_warnings: usize,
    cell: Cell,
}

struct Button {
    link: Link,
    is_main: bool,
}

struct Part {
    name: String,
    files: Option<String>,
    kind: &'static str,
    place: String,
    /// Which instants it holds, if there are several.
    window: Option<String>,
    count: String,
    content: String,
    added: String,
    took: String,
    state: String,
}

pub(super) fn page(call: &Call, value: &Value, view: &BackupPageView) -> String {
    let BackupPageView { backup, proof, drill, now } = view;
    let jobs = format!("{}/admin/jobs", call.site.context_path());
    let is_running = backup.status == "in_progress";
    let (children, operations) = links_below(call);
    // By far the most of those who come here want one of the first two.
    let buttons = children.into_iter().map(|link| match link.path.ends_with("/files") {
        true => Link { text: "Look at its files".to_owned(), ..link },
        false => link,
    });
    let step_by_step = |link: Link| match link.path.strip_suffix("/restore") {
        Some(backup) => Link { path: format!("{backup}/assistant"), ..link },
        None => link,
    };
    let buttons = buttons.chain(operations.into_iter().map(step_by_step));
    let looks = files::is_allowed(call) && backup.is_complete();
    finish(&BackupPage {
        frame: frame(call),
        tone: tone(&backup.status),
        state: state(backup),
        description: backup.description.clone(),
        job: (!backup.job_id.is_empty()).then(|| Link {
            text: if is_running { "Follow it" } else { "The job that made it" }.to_owned(),
            path: format!("{jobs}/{}", path::encode(&backup.job_id)),
        }),
        facts: if is_running { Vec::new() } else { facts(backup, *proof, drill.as_ref(), *now) },
        drill: drill.clone(),
        operations: if is_running {
            Vec::new()
        } else {
            buttons.map(|link| Button { is_main: link.path.ends_with("/assistant"), link }).collect()
        },
        components: backup.components.iter().map(|part| component(call, part, looks)).collect(),
        warnings: backup
            .warnings
            .iter()
            .take(WARNINGS_SHOWN)
            .map(|warning| (warning.item.clone(), warning.reason.clone()))
            .collect(),
        more_warnings: backup.warnings.len().saturating_sub(WARNINGS_SHOWN),
        cell: Cell::of(value, &|key, text, around| link(call, key, text, around)),
    })
}

fn facts(backup: &BackupView, proof: Proof, drill: Option<&DrillReport>, now: i64) -> Vec<Fact> {
    let fact = |title, words: String, exact: String| Fact { title, words, exact };
    vec![
        fact("Begun", ago(now - backup.start_time), exact(backup.start_time)),
        fact("Took", duration(took(backup)), format!("until {}", exact(backup.complete_time))),
        fact("Content", size(backup.bytes_read), format!("{} files", grouped(backup.files_total))),
        fact("Added to the store", size(backup.bytes_added), format!("{} % saved", saved(backup))),
        fact(
            "Verified",
            verified(proof, now),
            match proof.verified.max(proof.restored) {
                0 => "Validate reads every byte of it, given its passcode.".to_owned(),
                when => exact(when),
            },
        ),
        match drill {
            None => fact("Drill", "none yet".to_owned(), "A drill restores it into scratch.".to_owned()),
            Some(drill) if drill.is_proven() => fact(
                "Recovery took",
                length(drill.recovery_time),
                format!("in a drill {}", ago(now - drill.end_time)),
            ),
            Some(drill) => fact("Drill", drill_word(drill), exact(drill.end_time)),
        },
        fact(
            "Kept until",
            kept_until(backup),
            match backup.schedule_type.as_str() {
                "SCHEDULED" => "made by schedule".to_owned(),
                _ => "made by hand".to_owned(),
            },
        ),
    ]
}

fn drill_word(drill: &DrillReport) -> String {
    if drill.failures.is_empty() { "packs whole, not restored" } else { "failed" }.to_owned()
}

fn component(call: &Call, part: &BackupComponentView, looks: bool) -> Part {
    let took = u64::try_from(part.end_time - part.start_time).unwrap_or(0);
    Part {
        files: looks.then(|| files::address(&call.path(), &part.name, None, 0)),
        name: part.name.clone(),
        kind: kind(part.kind),
        place: part.place.clone(),
        window: part
            .facts
            .window
            .map(|window| format!("any instant from {} to {}", instant(window.from), instant(window.until))),
        count: grouped(part.files),
        content: size(part.bytes),
        added: size(part.bytes_added),
        took: duration(took),
        state: part.status.replace('_', " "),
    }
}

/// A kind of component in words.
fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::RelationalStore => "databases",
        Kind::ObjectStore => "buckets",
        Kind::FileStore => "files",
        Kind::SystemConfiguration => "system configuration",
    }
}
