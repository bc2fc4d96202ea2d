//! `repo find`: where something is in the snapshots.

use std::collections::HashSet;

use anyhow::Result;
use repository::{Id, Index, Node, Pattern, Patterns, Search, Snapshot, Wanted};
use serde_json::{Value, json};

use super::filter::Filter;
use super::look::{long_line, node_json};
use super::place::Place;
use super::{stopped, times};
use crate::exit::{Exit, Failure};
use crate::progress::printable;
use crate::{terminal, words};

/// What is looked for and where.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Patterns of names or paths; or, with --blob, --tree or --pack, ids
    #[arg(required = true, value_name = "PATTERN")]
    patterns: Vec<String>,
    #[command(flatten)]
    filter: Filter,
    /// Only in this snapshot; may be given several times
    #[arg(long = "snapshot", short = 's', value_name = "SNAPSHOT")]
    snapshots: Vec<String>,
    /// Upper and lower case are the same
    #[arg(long, short = 'i')]
    ignore_case: bool,
    /// Mode, owner, size and time too
    #[arg(long, short = 'l')]
    long: bool,
    /// Only what changed at this time or later
    #[arg(long, short = 'O', value_name = "TIME")]
    oldest: Option<String>,
    /// Only what changed at this time or before
    #[arg(long, short = 'N', value_name = "TIME")]
    newest: Option<String>,
    /// Look for files that consist of this blob
    #[arg(long, group = "kind")]
    blob: bool,
    /// Look for directories with this listing
    #[arg(long, group = "kind")]
    tree: bool,
    /// Look for everything that lies in this pack
    #[arg(long, group = "kind")]
    pack: bool,
}

impl Arguments {
    fn wanted(&self, index: &Index) -> Result<Wanted> {
        let id = |text: &String| -> Result<Id, Failure> {
            text.parse().map_err(|_| {
                Failure::usage(format!("'{}' is no id", text.escape_debug())).hint("give all 64 digits")
            })
        };
        if self.blob || self.tree {
            return Ok(Wanted::Blobs(self.patterns.iter().map(id).collect::<Result<_, _>>()?));
        }
        if self.pack {
            let mut blobs = HashSet::new();
            for text in &self.patterns {
                let known = repository::blobs_in_pack(index, id(text)?)?;
                blobs
                    .extend(known.ok_or_else(|| {
                        Failure::new(Exit::Failed, format!("no index lists a pack {text}"))
                    })?);
            }
            return Ok(Wanted::Blobs(blobs));
        }
        let pattern = |text: &String| Pattern { text: text.clone(), ignore_case: self.ignore_case };
        Ok(Wanted::Paths(Patterns::new(&self.patterns.iter().map(pattern).collect::<Vec<_>>())?))
    }
}

/// Runs the search.
pub fn run(place: &Place, arguments: &Arguments) -> Result<Exit> {
    let time = |text: &Option<String>| text.as_deref().map(times::parse).transpose();
    let window = (time(&arguments.oldest)?, time(&arguments.newest)?);
    let (repository, control) = place.open_to_look()?;
    let _lock = place.lock_for_reading(&repository)?;
    let (chosen, unreadable) = arguments.filter.choose(&repository, &arguments.snapshots)?;
    let index = repository.load_index(&|_| true)?;
    let wanted = arguments.wanted(&index)?;
    let by_blob = matches!(wanted, Wanted::Blobs(_));
    let mut search = Search::new(&repository, &index, &control, wanted, window)?;
    let (mut all, mut hits) = (Vec::new(), 0);
    for (id, snapshot) in &chosen {
        let mut matches = Vec::new();
        search.run(snapshot.tree, &mut |path, tree, node| {
            let name = String::from_utf8_lossy(path);
            hits += 1;
            if place.json {
                let mut one = if by_blob {
                    json!({"path": name, "snapshot": id, "time": snapshot.time,
                        "object_type": if node.subtree.is_some() { "tree" } else { "blob" }})
                } else {
                    full_json(&name, node)
                };
                if let (true, Some(tree)) = (by_blob, tree) {
                    one["parent_tree"] = json!(tree);
                }
                matches.push(one);
                return Ok(());
            }
            if matches.is_empty() {
                matches.push(Value::Null);
                terminal::out(title(*id, snapshot)).map_err(stopped)?;
            }
            // The root of a snapshot has neither mode nor time.
            let line =
                if arguments.long && tree.is_some() { long_line(&name, node) } else { printable(&name) };
            terminal::out(line).map_err(stopped)
        })?;
        match (place.json, matches.is_empty()) {
            (true, false) if by_blob => all.append(&mut matches),
            (true, false) => {
                all.push(json!({"hits": matches.len(), "snapshot": id, "matches": matches}));
            }
            (false, false) => terminal::out("")?,
            _ => {}
        }
    }
    if place.json {
        terminal::out_json(&all)?;
    } else if hits == 0 {
        terminal::note("nothing found");
    }
    Ok(if unreadable { Exit::Damaged } else { Exit::Done })
}

fn title(id: Id, snapshot: &Snapshot) -> String {
    let time = super::look::time_of(&snapshot.time);
    format!("in snapshot {} of {time}, {}:", id.short(), printable(&words::joined(&snapshot.paths)))
}

/// An entry as `restic find --json` tells it.
fn full_json(path: &str, node: &Node) -> Value {
    let mut value = node_json(path, node);
    if let Some(object) = value.as_object_mut() {
        object.shift_remove("struct_type");
        object.shift_remove("message_type");
        object.shift_remove("name");
        for (field, value) in [
            ("user", json!(&*node.user)),
            ("group", json!(&*node.group)),
            ("device_id", json!(node.device_id)),
            ("links", json!(node.links)),
        ] {
            if value != json!("") && value != json!(0) {
                object.insert(field.to_owned(), value);
            }
        }
    }
    value
}
