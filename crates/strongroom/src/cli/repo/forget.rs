//! `repo forget`: removes snapshots; the data that only they needed goes with `--prune`, or a later `repo prune`.

use anyhow::Result;
use repository::{
    Count, GroupBy, GroupKey, Id, KeepPolicy, LockKind, Span, Time, Verdict, apply_policy, group_snapshots,
};
use serde_json::{Value, json};

use super::filter::{Filter, tag_lists};
use super::look::snapshot_json;
use super::place::Place;
use super::prune;
use crate::exit::{Exit, Failure};
use crate::progress::printable;
use crate::{terminal, words};

/// What goes and what stays.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Snapshots to remove: ids or prefixes
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<String>,
    #[command(flatten)]
    keep: Keep,
    #[command(flatten)]
    filter: Filter,
    /// The rules are applied to each group of snapshots that have these in common: host, paths, tags
    #[arg(long, short = 'g', value_name = "WHAT[,WHAT…]", default_value = "host,paths")]
    group_by: String,
    /// Say what would go, remove nothing
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// Free the space at once
    #[arg(long)]
    prune: bool,
    /// Let the rules remove every snapshot of a group
    #[arg(long)]
    unsafe_allow_remove_all: bool,
    #[command(flatten)]
    pruning: prune::Tolerance,
}

/// The rules; a snapshot stays if any of them keeps it.
#[derive(clap::Args, Debug)]
#[group(id = "keep")]
struct Keep {
    /// Keep the newest N snapshots (-1 or unlimited: all)
    #[arg(long, short = 'l', value_name = "N", value_parser = count, allow_negative_numbers = true)]
    keep_last: Option<Count>,
    /// Keep the newest snapshot of each of the last N hours that have one
    #[arg(long, short = 'H', value_name = "N", value_parser = count, allow_negative_numbers = true)]
    keep_hourly: Option<Count>,
    /// The same for days
    #[arg(long, short = 'd', value_name = "N", value_parser = count, allow_negative_numbers = true)]
    keep_daily: Option<Count>,
    /// The same for weeks
    #[arg(long, short = 'w', value_name = "N", value_parser = count, allow_negative_numbers = true)]
    keep_weekly: Option<Count>,
    /// The same for months
    #[arg(long, short = 'm', value_name = "N", value_parser = count, allow_negative_numbers = true)]
    keep_monthly: Option<Count>,
    /// The same for years
    #[arg(long, short = 'y', value_name = "N", value_parser = count, allow_negative_numbers = true)]
    keep_yearly: Option<Count>,
    /// Keep what is not older, reckoned from the newest snapshot, than this: 1y5m7d2h
    #[arg(long, value_name = "SPAN", value_parser = span)]
    keep_within: Option<Span>,
    /// Keep hourly snapshots that are not older than this
    #[arg(long, value_name = "SPAN", value_parser = span)]
    keep_within_hourly: Option<Span>,
    /// The same for daily ones
    #[arg(long, value_name = "SPAN", value_parser = span)]
    keep_within_daily: Option<Span>,
    /// The same for weekly ones
    #[arg(long, value_name = "SPAN", value_parser = span)]
    keep_within_weekly: Option<Span>,
    /// The same for monthly ones
    #[arg(long, value_name = "SPAN", value_parser = span)]
    keep_within_monthly: Option<Span>,
    /// The same for yearly ones
    #[arg(long, value_name = "SPAN", value_parser = span)]
    keep_within_yearly: Option<Span>,
    /// Keep snapshots with all of these tags; may be given several times
    #[arg(long, value_name = "TAG[,TAG…]")]
    keep_tag: Vec<String>,
}

impl Keep {
    fn policy(&self) -> KeepPolicy {
        // To keep 0 is not to use the rule, as restic has it.
        let count = |count: Option<Count>| match count {
            Some(Count::Some(0)) | None => Count::None,
            Some(count) => count,
        };
        KeepPolicy {
            last: count(self.keep_last),
            hourly: count(self.keep_hourly),
            daily: count(self.keep_daily),
            weekly: count(self.keep_weekly),
            monthly: count(self.keep_monthly),
            yearly: count(self.keep_yearly),
            within: self.keep_within.unwrap_or_default(),
            within_hourly: self.keep_within_hourly.unwrap_or_default(),
            within_daily: self.keep_within_daily.unwrap_or_default(),
            within_weekly: self.keep_within_weekly.unwrap_or_default(),
            within_monthly: self.keep_within_monthly.unwrap_or_default(),
            within_yearly: self.keep_within_yearly.unwrap_or_default(),
            tags: tag_lists(&self.keep_tag),
        }
    }
}

fn count(text: &str) -> Result<Count, String> {
    match text {
        "-1" | "unlimited" => Ok(Count::All),
        _ => text.parse().map(Count::Some).map_err(|_| "write a number, -1 or unlimited".to_owned()),
    }
}

fn span(text: &str) -> Result<Span, String> {
    Span::parse(text).ok_or_else(|| "write years, months, days and hours like 1y5m7d2h".to_owned())
}

fn group_by(text: &str) -> Result<GroupBy, Failure> {
    let mut by = GroupBy { host: false, paths: false, tags: false };
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        match word {
            "host" | "hosts" => by.host = true,
            "path" | "paths" => by.paths = true,
            "tag" | "tags" => by.tags = true,
            _ => {
                let word = word.escape_debug();
                return Err(Failure::usage(format!("snapshots cannot be grouped by '{word}'"))
                    .hint("use host, paths, tags, or a comma-separated list of them"));
            }
        }
    }
    Ok(by)
}

/// Snapshots that belong together, and what becomes of each.
#[derive(Debug)]
struct Group {
    key: GroupKey,
    verdicts: Vec<Verdict>,
}

impl Group {
    fn removed(&self) -> impl Iterator<Item = &Verdict> {
        self.verdicts.iter().filter(|verdict| !verdict.stays())
    }

    fn kept(&self) -> impl Iterator<Item = &Verdict> {
        self.verdicts.iter().filter(|verdict| verdict.stays())
    }
}

/// Removes the snapshots.
pub fn run(place: &Place, arguments: &Arguments) -> Result<Exit> {
    let policy = arguments.keep.policy();
    let by = group_by(&arguments.group_by)?;
    match (arguments.snapshots.is_empty(), policy.is_empty()) {
        (true, true) => {
            return Err(Failure::usage("forget what?")
                .hint("name snapshots, or use --keep-last N or another rule with a number above 0")
                .into());
        }
        (false, false) => {
            return Err(Failure::usage("snapshots are named, and there is a rule too")
                .hint("use one of both")
                .into());
        }
        _ => {}
    }
    let (repository, control) = place.open()?;
    let lock = place.lock(&repository, LockKind::Exclusive)?;
    let (snapshots, unreadable) = arguments.filter.choose(&repository, &arguments.snapshots)?;
    let groups: Vec<Group> = if policy.is_empty() {
        let doomed = |(id, snapshot)| Verdict { id, snapshot, reasons: Vec::new() };
        vec![Group { key: GroupKey::default(), verdicts: snapshots.into_iter().map(doomed).collect() }]
    } else {
        let now = Time::now();
        let decide = |(key, snapshots)| Group { key, verdicts: apply_policy(&policy, snapshots, now) };
        group_snapshots(snapshots, by).into_iter().map(decide).collect()
    };
    if !policy.is_empty()
        && !arguments.unsafe_allow_remove_all
        && let Some(group) = groups.iter().find(|group| group.kept().next().is_none())
    {
        let message =
            format!("nothing was removed: these rules would remove every snapshot of {}", named(&group.key));
        return Err(Failure::new(Exit::Failed, message)
            .hint("look at them with --dry-run --unsafe-allow-remove-all")
            .into());
    }
    tell(&groups, by, place.json, arguments)?;
    if !arguments.dry_run {
        let repository = repository.under(&lock);
        for verdict in groups.iter().flat_map(Group::removed) {
            control.check()?;
            repository.delete_snapshot(verdict.id)?;
        }
    }
    // Pruning takes the exclusive lock itself.
    drop(lock);
    let removed: Vec<Id> = groups.iter().flat_map(Group::removed).map(|verdict| verdict.id).collect();
    let exit = if unreadable { Exit::Damaged } else { Exit::Done };
    if arguments.prune && !removed.is_empty() {
        let forgotten = if arguments.dry_run { removed } else { Vec::new() };
        prune::now(place, &repository, &control, &arguments.pruning, arguments.dry_run, forgotten)?;
    }
    Ok(exit)
}

fn named(key: &GroupKey) -> String {
    let parts = [
        (!key.hostname.is_empty()).then(|| format!("host {}", printable(&key.hostname))),
        (!key.paths.is_empty()).then(|| format!("paths {}", printable(&words::joined(&key.paths)))),
        (!key.tags.is_empty()).then(|| format!("tags {}", printable(&words::joined(&key.tags)))),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "the repository".to_owned() } else { parts.join(", ") }
}

fn tell(groups: &[Group], by: GroupBy, as_json: bool, arguments: &Arguments) -> Result<()> {
    if as_json {
        terminal::out_json(&groups.iter().map(|group| group_json(group, by)).collect::<Vec<_>>())?;
        return Ok(());
    }
    let verb = if arguments.dry_run { "would remove" } else { "remove" };
    let (mut kept, mut removed) = (0, 0);
    let by_rules = arguments.snapshots.is_empty();
    for group in groups {
        if by_rules {
            terminal::out(format!("snapshots of {}:", named(&group.key)))?;
        }
        for Verdict { id, snapshot, reasons } in &group.verdicts {
            let paths = words::joined(&snapshot.paths);
            let time = super::look::time_of(&snapshot.time);
            if reasons.is_empty() {
                removed += 1;
                terminal::out(format!("{verb} {}  {time}  {}", id.short(), printable(&paths)))?;
            } else {
                kept += 1;
                terminal::out(format!(
                    "keep {}  {time}  {}",
                    id.short(),
                    printable(&words::joined(reasons))
                ))?;
            }
        }
    }
    let kept = if kept > 0 { format!(", kept {}", words::count(kept)) } else { String::new() };
    let verb = if arguments.dry_run { "would remove" } else { "removed" };
    terminal::out(format!("{verb} {}{kept}", words::counted(removed, "snapshot", "snapshots")))?;
    Ok(())
}

/// A group in the form of `restic forget --json`: what is empty is null.
fn group_json(group: &Group, by: GroupBy) -> Value {
    let one = |verdict: &Verdict| snapshot_json(verdict.id, &verdict.snapshot);
    let list = |verdicts: Vec<Value>| if verdicts.is_empty() { Value::Null } else { Value::Array(verdicts) };
    let texts =
        |used: bool, texts: &[String]| if used && !texts.is_empty() { json!(texts) } else { Value::Null };
    let reasons = group.kept().map(|verdict| json!({"snapshot": one(verdict), "matches": verdict.reasons}));
    json!({
        "tags": texts(by.tags, &group.key.tags), "host": group.key.hostname,
        "paths": texts(by.paths, &group.key.paths), "keep": list(group.kept().map(one).collect()),
        "remove": list(group.removed().map(one).collect()), "reasons": list(reasons.collect()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_groups_are_read_as_restic_reads_them() {
        assert_eq!(count("5"), Ok(Count::Some(5)));
        assert_eq!(count("-1"), Ok(Count::All));
        assert_eq!(count("unlimited"), Ok(Count::All));
        assert!(count("-2").is_err() && count("many").is_err());
        assert_eq!(group_by("host,paths").unwrap(), GroupBy::default());
        assert_eq!(group_by("").unwrap(), GroupBy { host: false, paths: false, tags: false });
        assert!(group_by("colour").is_err());
    }
}
