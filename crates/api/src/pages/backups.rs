//! The backups of a store, or of all, as a time line: newest first, day by day, with plots of how they went.

use super::plots::{self, Course, Span, saved, took};
use super::view::{duration, size};
use super::words::{ago, clock, date, day, several};
use super::{Frame, Link, backup_link, finish, frame, links_below, tone};
use crate::dispatch::Call;
use askama::Template;
use recovery::{BackupView, Proof};
use std::collections::HashMap;
use std::sync::Arc;

/// Backups on one page.
const SHOWN: usize = 40;

/// What the page shows.
#[derive(Debug)]
pub(crate) struct BackupsView {
    /// All of them, newest first.
    pub backups: Vec<Arc<BackupView>>,
    /// By store and backup, when each that the page shows was last shown to be good.
    pub proofs: HashMap<String, HashMap<String, Proof>>,
    pub is_of_one_store: bool,
    /// So many newer ones are left out.
    pub skip: usize,
    pub now: i64,
}

impl BackupsView {
    /// Those of this page.
    pub fn shown(&self) -> &[Arc<BackupView>] {
        let rest = self.backups.get(self.skip..).unwrap_or_default();
        rest.get(..SHOWN).unwrap_or(rest)
    }
}

#[derive(Template)]
#[template(path = "backups.html")]
struct BackupsPage {
    frame: Frame,
    summary: String,
    children: Vec<Link>,
    operations: Vec<Link>,
    /// The spans of the plots; none where there is nothing to draw.
    spans: Vec<SpanLink>,
    course: Option<Course>,
    days: Vec<Day>,
    newer: Option<String>,
    older: Option<String>,
    place: String,
}

struct SpanLink {
    link: Link,
    is_chosen: bool,
}

struct Day {
    name: String,
    backups: Vec<Line>,
}

struct Line {
    link: Link,
    state: String,
    tone: &'static str,
    time: String,
    facts: Vec<(&'static str, String)>,
}

pub(super) fn page(call: &Call, view: &BackupsView) -> String {
    let (children, operations) = links_below(call);
    let skip = view.skip.min(view.backups.len());
    let shown = view.shown();
    let mut days: Vec<Day> = Vec::new();
    for backup in shown {
        let name = day(backup.start_time);
        let proof = view.proofs.get(&backup.store).and_then(|proofs| proofs.get(&backup.name));
        let line = line(call, view, backup, proof.copied().unwrap_or_default());
        match days.last_mut() {
            Some(day) if day.name == name => day.backups.push(line),
            _ => days.push(Day { name, backups: vec![line] }),
        }
    }
    let at = |start: usize| format!("{}?start={}", call.path(), start + 1);
    let chosen = Span::named(call.parameters.text("plots").unwrap_or_default());
    // Two at least are a course of things, and these belong to one store.
    let has_plots = view.is_of_one_store
        && skip == 0
        && view.backups.iter().filter(|backup| backup.is_complete()).nth(1).is_some();
    let span = |span: Span| SpanLink {
        link: Link { text: span.title(), path: format!("{}?plots={}", call.path(), span.word()) },
        is_chosen: span == chosen,
    };
    finish(&BackupsPage {
        frame: frame(call),
        summary: summary(view),
        children,
        operations,
        spans: if has_plots { Span::CHOICES.into_iter().map(span).collect() } else { Vec::new() },
        course: if has_plots { plots::of(&view.backups, chosen, view.now) } else { None },
        days,
        newer: (skip > 0).then(|| at(skip.saturating_sub(SHOWN))),
        older: (skip + shown.len() < view.backups.len()).then(|| at(skip + SHOWN)),
        place: format!("{} to {} of {}", skip + 1, skip + shown.len(), view.backups.len()),
    })
}

fn summary(view: &BackupsView) -> String {
    let Some(newest) = view.backups.iter().find(|backup| backup.is_complete()) else {
        return String::new();
    };
    let count = several(i64::try_from(view.backups.len()).unwrap_or(i64::MAX), "backup");
    let warned = view.backups.iter().filter(|backup| backup.status == "completed_with_warnings").count();
    let warned = if warned > 0 { format!(", {warned} of them with warnings") } else { String::new() };
    format!("{count}{warned}. The newest complete one was begun {}.", ago(view.now - newest.start_time))
}

fn line(call: &Call, view: &BackupsView, backup: &BackupView, proof: Proof) -> Line {
    let mut facts = Vec::new();
    if !view.is_of_one_store {
        facts.push(("Store", backup.store.clone()));
    }
    if backup.status != "in_progress" {
        facts.push(("Content", size(backup.bytes_read)));
        facts.push(("Added", format!("{} ({} % saved)", size(backup.bytes_added), saved(backup))));
        facts.push(("Took", duration(took(backup))));
        facts.push(("Verified", verified(proof, view.now)));
        facts.push(("Kept until", kept_until(backup)));
    }
    facts.push((
        "Made",
        if backup.schedule_type == "SCHEDULED" { "by schedule" } else { "by hand" }.to_owned(),
    ));
    Line {
        link: backup_link(call, &backup.store, &backup.name)
            .unwrap_or_else(|| Link { text: backup.name.clone(), path: call.path() }),
        state: state(backup),
        tone: tone(&backup.status),
        time: clock(backup.start_time),
        facts,
    }
}

/// Its state in words.
pub(super) fn state(backup: &BackupView) -> String {
    match backup.status.as_str() {
        "completed" => "complete".to_owned(),
        "completed_with_warnings" => {
            let count = i64::try_from(backup.warning_count).unwrap_or(i64::MAX);
            format!("complete, with {}", several(count, "warning"))
        }
        "in_progress" => "in progress".to_owned(),
        "deleting" => "being deleted".to_owned(),
        other => other.replace('_', " "),
    }
}

/// When it was last shown that every byte of it can be read.
pub(super) fn verified(proof: Proof, now: i64) -> String {
    match (proof.damaged, proof.verified.max(proof.restored)) {
        (1.., _) => format!("found damaged {}", ago(now - proof.damaged)),
        (_, 0) => "not yet".to_owned(),
        (_, good) if good == proof.restored => format!("{}, by a restore", ago(now - good)),
        (_, good) => ago(now - good),
    }
}

pub(super) fn kept_until(backup: &BackupView) -> String {
    if backup.retention_date < 0 { "somebody deletes it".to_owned() } else { date(backup.retention_date) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_shown_last_counts_and_damage_before_all() {
        let now = 10 * 86_400_000;
        let told = |verified, restored, damaged| super::verified(Proof { verified, restored, damaged }, now);
        assert_eq!(told(0, 0, 0), "not yet");
        assert_eq!(told(now - 7_200_000, 0, 0), "2 hours ago");
        assert_eq!(told(now - 7_200_000, now - 3_600_000, 0), "1 hour ago, by a restore");
        assert_eq!(told(now - 7_200_000, 0, now - 3_600_000), "found damaged 1 hour ago");
    }
}
