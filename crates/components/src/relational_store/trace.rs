//! The notes of a restore on our own disk.
//!
//! ```text
//! strongroom_restore_<job>.json   it builds databases, and which
//! strongroom_undo_<job>.json      the same note, under the name that says that they are to be taken back
//! ```
//! The names of the databases alone would say that what was swapped in is to be finished; and the server may be away when it
//! turns out that it is not.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::names::Names;
use crate::{Error, Result};

/// Where the notes of a restore are, and whose.
pub(super) struct Trace {
    pub directory: PathBuf,
    pub component: String,
    pub names: Names,
}

#[derive(Serialize, Deserialize)]
struct Built {
    component: String,
    /// The name of each in the end, and its number in the server's catalogue.
    databases: Vec<(String, u32)>,
}

impl Trace {
    fn note(&self) -> PathBuf {
        self.directory.join(self.names.note_file())
    }

    pub(super) fn undo(&self) -> PathBuf {
        self.directory.join(self.names.undo_file())
    }

    fn fail(&self, e: std::io::Error) -> Error {
        Error::io(format!("cannot write or read the notes of a restore in {}", self.directory.display()), e)
    }

    /// Written before a database is made, and again when all are.
    pub(super) fn write(&self, databases: &[(String, u32)]) -> Result<()> {
        let built = Built { component: self.component.clone(), databases: databases.to_vec() };
        let text = serde_json::to_vec(&built).map_err(|e| self.fail(e.into()))?;
        let write = || {
            std::fs::create_dir_all(&self.directory)?;
            let part = self.note().with_extension("part");
            let mut file = std::fs::File::create(&part)?;
            file.write_all(&text)?;
            file.sync_all()?;
            std::fs::rename(&part, self.note())?;
            self.sync()
        };
        write().map_err(|e| self.fail(e))
    }

    fn sync(&self) -> std::io::Result<()> {
        std::fs::File::open(&self.directory)?.sync_all()
    }

    pub(super) fn turn_to_undo(&self) -> Result<()> {
        std::fs::rename(self.note(), self.undo()).and_then(|()| self.sync()).map_err(|e| self.fail(e))
    }

    pub(super) fn read(&self, path: &Path) -> Result<Vec<(String, u32)>> {
        let text = std::fs::read(path).map_err(|e| self.fail(e))?;
        let built: Built = serde_json::from_slice(&text).map_err(|e| self.fail(e.into()))?;
        Ok(built.databases)
    }

    /// What was built; nothing if there is no note.
    pub(super) fn built(&self) -> Result<Vec<(String, u32)>> {
        let note = self.note();
        if note.exists() { self.read(&note) } else { Ok(Vec::new()) }
    }

    pub(super) fn component_of_note(&self) -> Option<String> {
        let built: Built = serde_json::from_slice(&std::fs::read(self.note()).ok()?).ok()?;
        Some(built.component)
    }

    /// The restore has ended, one way or the other.
    pub(super) fn remove(&self) -> Result<()> {
        for path in [self.note(), self.note().with_extension("part"), self.undo()] {
            match std::fs::remove_file(path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(self.fail(e)),
                _ => {}
            }
        }
        Ok(())
    }
}
