//! `rescue rebuild`: a new server in place of one that is gone, from its own configuration in a backup.
//!
//! Every file goes where it lay, and none is written over. The configuration comes last: until it is there, nothing was made
//! that a server would start with.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use components::{KeptFile, Kind, SystemManifest};
use recovery::store::{CatalogueEntry, Store};
use repository::{Control, Id, Index, Repository};
use serde_json::json;

use super::{Place, time_of};
use crate::exit::{Exit, Failure};
use crate::progress::printable;
use crate::{terminal, words};

/// From what it is rebuilt, and where.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The backup (default: the newest that holds the server's own configuration)
    #[arg(long, value_name = "NAME")]
    backup: Option<String>,
    /// Put all files below this directory, as if it were the root; to look at them
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

/// Rebuilds, and says what to do next.
pub fn run(place: &Place, arguments: &Arguments) -> Result<Exit> {
    let (store, control) = place.open()?;
    let entry = find(&store, arguments.backup.as_deref())?;
    let view = entry.view(&store.identity().name);
    terminal::note(format!("backup {} of {}", printable(&view.name), time_of(view.start_time)));
    let passcode = place.passcode.existing()?;
    let vault = store.open_vault(&entry, &passcode)?;
    let (index, _) = vault.load_readable_index()?;
    let snapshot = own_part(&entry).map(|part| part.snapshot).context("the backup has no such part")?;
    let tree = vault.snapshot(snapshot)?.tree;
    let source = Source { vault, index, tree, control };
    let mut text = Vec::new();
    source.write(SystemManifest::PATH, &mut text)?;
    let manifest = SystemManifest::parse(&text)?;
    let root = std::path::absolute(&arguments.root)?;
    refuse_if_any_is_there(&manifest, &root)?;
    let mut made = Made(Vec::new());
    for file in &manifest.files {
        let to = placed(&root, &file.path);
        put(&source, file, &to, &mut made)
            .with_context(|| format!("cannot write {}; no file was left", to.display()))?;
    }
    made.0.clear();
    for warning in &view.warnings {
        terminal::warn(format!("{}: not in the backup: {}", printable(&warning.item), warning.reason));
    }
    let configuration = manifest.files.last().map(|file| placed(&root, &file.path)).unwrap_or_default();
    if place.json {
        terminal::out_json(&json!({
            "message_type": "summary", "backupName": view.name, "configuration": configuration,
            "files": manifest.files.iter().map(|file| placed(&root, &file.path)).collect::<Vec<_>>(),
        }))?;
        return Ok(Exit::Done);
    }
    for file in &manifest.files {
        terminal::out(format!("{}  {}", placed(&root, &file.path).display(), file.what))?;
    }
    terminal::out(format!(
        "\n{} in their places; they belong to you. The old server must not run any more. Next:\n  \
         strongroom serve --config {}\n  strongroom backup restore {}",
        words::counted(manifest.files.len() as u64, "file", "files"),
        configuration.display(),
        printable(&view.name)
    ))?;
    Ok(Exit::Done)
}

fn own_part(entry: &CatalogueEntry) -> Option<&recovery::store::EntryComponent> {
    entry.components.iter().find(|part| part.kind == Kind::SystemConfiguration)
}

fn find(store: &Store, name: Option<&str>) -> Result<CatalogueEntry> {
    let advice = "only a backup with a component of kind systemConfiguration holds the server's own configuration; \
                  without one make a new server (`strongroom init`), and register the store there: its backups are all in it";
    if let Some(name) = name {
        let entry = store.backup(name)?;
        let entry =
            entry.ok_or_else(|| Failure::usage(format!("there is no backup '{name}' in this store")))?;
        return match own_part(&entry) {
            Some(_) => Ok(entry),
            None => {
                Err(Failure::usage(format!("backup '{name}' does not hold the server's own configuration"))
                    .hint(advice)
                    .into())
            }
        };
    }
    let (entries, damaged) = store.backups()?;
    for finding in &damaged {
        terminal::warn(format!("damaged: {}: {}", finding.file, finding.problem));
    }
    let newest = entries
        .into_iter()
        .filter(|entry| own_part(entry).is_some())
        .max_by_key(|entry| entry.view("").start_time);
    newest.ok_or_else(|| {
        Failure::usage("no backup in this store holds the server's own configuration").hint(advice).into()
    })
}

/// The snapshot, as files.
struct Source {
    vault: Repository,
    index: Index,
    tree: Id,
    control: Arc<Control>,
}

impl Source {
    fn write(&self, path: &str, out: &mut dyn Write) -> Result<()> {
        let found = repository::look_up(&self.vault, &self.index, self.tree, path.as_bytes())?;
        let node = found.flatten().with_context(|| format!("the backup lacks {path}"))?;
        Ok(repository::dump_file(&self.vault, &self.index, &node, &self.control, out)?)
    }
}

fn placed(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn refuse_if_any_is_there(manifest: &SystemManifest, root: &Path) -> Result<()> {
    let mut wanted: Vec<PathBuf> = manifest.files.iter().map(|file| placed(root, &file.path)).collect();
    // What SQLite finds beside a database it takes for a part of it.
    for file in manifest.files.iter().filter(|file| file.what == "state") {
        for beside in ["-wal", "-shm", "-journal"] {
            let mut path = placed(root, &file.path).into_os_string();
            path.push(beside);
            wanted.push(path.into());
        }
    }
    wanted.retain(|path| path.symlink_metadata().is_ok());
    if wanted.is_empty() {
        return Ok(());
    }
    let named: Vec<String> = wanted.iter().map(|path| path.display().to_string()).collect();
    let is = if named.len() == 1 { "is" } else { "are" };
    Err(Failure::usage(format!("{} {is} there already; nothing was changed", named.join(", ")))
        .hint("a rebuild never writes over a server; move it away, or use --root DIR to look at the files elsewhere")
        .into())
}

/// Files that go again unless all of them could be made.
struct Made(Vec<PathBuf>);

impl Drop for Made {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn put(source: &Source, file: &KeptFile, to: &Path, all: &mut Made) -> Result<()> {
    let directory = to.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let made = OpenOptions::new().write(true).create_new(true).mode(file.mode & 0o777).open(to)?;
    all.0.push(to.to_owned());
    let mut out = BufWriter::new(made);
    source.write(&file.path_in_snapshot(), &mut out)?;
    out.into_inner().map_err(|e| e.into_error())?.sync_all()?;
    Ok(File::open(directory)?.sync_all()?)
}
