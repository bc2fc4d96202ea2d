//! `repo tag`: changes the tags of snapshots. A snapshot whose tags change gets a new id and remembers its first.

use anyhow::Result;
use repository::{LockKind, TagChange};
use serde_json::json;

use super::filter::{Filter, tag_lists};
use super::place::Place;
use crate::exit::{Exit, Failure};
use crate::{terminal, words};

/// Which tags of which snapshots.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Snapshots by id or prefix, or `latest` (default: all)
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<String>,
    #[command(flatten)]
    filter: Filter,
    /// These tags alone; an empty text takes all away
    #[arg(long, value_name = "TAG[,TAG…]", conflicts_with_all = ["add", "remove"])]
    set: Vec<String>,
    /// Add these
    #[arg(long, value_name = "TAG[,TAG…]")]
    add: Vec<String>,
    /// Take these away
    #[arg(long, value_name = "TAG[,TAG…]")]
    remove: Vec<String>,
}

/// Runs the verb.
pub fn run(place: &Place, arguments: &Arguments) -> Result<Exit> {
    let tags = |texts: &[String]| -> Vec<String> {
        let mut tags: Vec<String> = Vec::new();
        for tag in tag_lists(texts).into_iter().flatten().filter(|tag| !tag.is_empty()) {
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        tags
    };
    let change = match (&arguments.set, &arguments.add, &arguments.remove) {
        (set, _, _) if !set.is_empty() => TagChange::Set(tags(set)),
        (_, add, remove) if add.is_empty() && remove.is_empty() => {
            return Err(Failure::usage("which tags?").hint("use --set, --add or --remove").into());
        }
        (_, add, remove) => TagChange::Edit { add: tags(add), remove: tags(remove) },
    };
    let (repository, control) = place.open()?;
    let lock = place.lock(&repository, LockKind::Exclusive)?;
    let repository = repository.under(&lock);
    let (chosen, unreadable) = arguments.filter.choose(&repository, &arguments.snapshots)?;
    let mut changed = 0;
    for (id, _) in chosen {
        control.check()?;
        let Some(new) = repository::change_tags(&repository, id, &change)? else { continue };
        changed += 1;
        if place.json {
            terminal::out_json(&json!({
                "message_type": "changed", "old_snapshot_id": id, "new_snapshot_id": new,
            }))?;
        } else {
            terminal::out(format!("{} is {} now", id.short(), new.short()))?;
        }
    }
    if place.json {
        terminal::out_json(&json!({"message_type": "summary", "changed_snapshots": changed}))?;
    } else {
        terminal::out(format!("changed {}", words::counted(changed, "snapshot", "snapshots")))?;
    }
    Ok(if unreadable { Exit::Damaged } else { Exit::Done })
}
