//! Whether what arrives is the continuation of what lies here.
//!
//! The numbers of segments alone do not tell: a server that was set back to an earlier state while nobody received, and has written
//! past what we hold since, sends segments of the right numbers and another history. So each time when somebody begins to receive, what
//! lies at the end of the log is noted (`joints/`): of a segment that grows a copy, as the server sends it once more from its
//! beginning, which must be the same; of a whole one its name, as the first record behind it must follow its last one (`records`).
//! Before a backup goes on with the log every note was looked at and removed.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use repository::Id;

use super::log::{Position, Segment};
use super::records::Records;
use super::spool::Spool;
use crate::{Error, Result};

const JOINTS: &str = "joints";
/// What is random in the name of a note, so that nobody takes a newer one for the one that he has looked at.
const NOTE_CHARS: usize = 8;
const SEPARATOR: char = '~';

/// What a look at all notes came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Joints {
    /// All that lies here is one log, and the notes are gone.
    Fine,
    /// What follows has not come yet.
    Pending,
    /// From this segment on it is another history.
    Broken(Segment),
}

struct Note {
    path: PathBuf,
    segment: Segment,
}

impl Spool {
    /// Notes where somebody begins to receive.
    pub(super) fn note_joint(&self) -> Result<()> {
        let here = self.received()?;
        let mut latest: Vec<_> = here.iter().collect();
        latest.sort_by_key(|(_, file)| (file.segment.number, file.segment.is_whole));
        // One that was made and not begun tells nothing: then the one before it is the last.
        let mut last = None;
        for (name, file) in latest.into_iter().rev() {
            let content = match file.segment.is_whole {
                true => Vec::new(),
                false => {
                    let read = std::fs::read(self.directory.join(name));
                    written(read.map_err(|e| self.joint_failed(e))?)
                }
            };
            if file.segment.is_whole || !content.is_empty() {
                last = Some((name, file.segment, content));
                break;
            }
        }
        let Some((name, segment, content)) = last else { return Ok(()) };
        // What has come since of one that grows may lie over what was there: the older note tells more.
        if self.notes()?.iter().any(|note| note.segment == segment) {
            return Ok(());
        }
        let mut id = Id::random().to_string();
        id.truncate(NOTE_CHARS);
        let directory = self.directory.join(JOINTS);
        let note = directory.join(format!("{name}{SEPARATOR}{id}"));
        let write = || -> io::Result<()> {
            DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
            let part = directory.join("part");
            std::fs::write(&part, content)?;
            File::open(&part)?.sync_all()?;
            std::fs::rename(&part, &note)?;
            File::open(&directory)?.sync_all()
        };
        write().map_err(|e| self.joint_failed(e))
    }

    /// Looks at all notes; those that are in order go. The log is here until `end`.
    pub(super) fn look_at_joints(&self, end: Position) -> Result<Joints> {
        let mut outcome = Joints::Fine;
        for note in self.notes()? {
            let fits = match note.segment.is_whole {
                true => self.follows(&note.segment)?,
                false => self.has_begun_so(&note, end)?,
            };
            match fits {
                Some(true) => remove(&note.path).map_err(|e| self.joint_failed(e))?,
                Some(false) => {
                    let number = note.segment.number + u64::from(note.segment.is_whole);
                    return Ok(Joints::Broken(Segment { number, ..note.segment }));
                }
                None => outcome = Joints::Pending,
            }
        }
        Ok(outcome)
    }

    /// Nothing is joined any more to what was there.
    pub(super) fn forget_joints(&self) -> Result<()> {
        self.notes()?.iter().try_for_each(|note| remove(&note.path)).map_err(|e| self.joint_failed(e))
    }

    fn notes(&self) -> Result<Vec<Note>> {
        let directory = self.directory.join(JOINTS);
        let entries = match std::fs::read_dir(&directory) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|e| self.joint_failed(e))?,
        };
        let mut notes = Vec::new();
        for entry in entries {
            let path = entry.map_err(|e| self.joint_failed(e))?.path();
            let name =
                path.file_name().and_then(|name| name.to_str()).and_then(|name| name.split_once(SEPARATOR));
            if let Some(segment) = name.and_then(|(name, _)| Segment::parse(name, self.segment_bytes)) {
                notes.push(Note { path, segment });
            }
        }
        Ok(notes)
    }

    /// Whether the segment that grew begins as it did then. `None`: it is not here.
    fn has_begun_so(&self, note: &Note, end: Position) -> Result<Option<bool>> {
        let before = std::fs::read(&note.path).map_err(|e| self.joint_failed(e))?;
        if before.is_empty() {
            return Ok(Some(true));
        }
        // What lies behind the end was not sent again.
        if end.0 < note.segment.number * self.segment_bytes + before.len() as u64 {
            return Ok(Some(false));
        }
        Ok(self.content(&note.segment)?.map(|(now, _)| now.starts_with(&before)))
    }

    /// Whether the first record after a whole segment follows its last one. `None`: there is none yet.
    fn follows(&self, before: &Segment) -> Result<Option<bool>> {
        let after = Segment { number: before.number + 1, ..*before };
        let Some((next, is_whole)) = self.content(&after)? else { return Ok(None) };
        // One that was removed here had been joined before.
        let Some((content, _)) = self.content(before)? else { return Ok(Some(true)) };
        let records = |content, segment: &Segment| {
            Records::of(content, segment.number * self.segment_bytes, self.page_bytes)
        };
        let Some(next) = records(&next, &after) else { return Ok(None) };
        match (next.first(), records(&content, before).and_then(|records| records.last())) {
            // It has not come yet; only of a record longer than a segment it never does, and then nobody knows.
            (None, _) if !is_whole => Ok(None),
            (Some(first), Some(last)) if next.begins_over() => Ok(Some(first.previous == last.previous)),
            (Some(first), Some(last)) => Ok(Some(first.previous == Some(last.position))),
            _ => Ok(Some(false)),
        }
    }

    /// Of a segment of this number, whether it grows or is whole.
    fn content(&self, segment: &Segment) -> Result<Option<(Vec<u8>, bool)>> {
        let here = self.received()?;
        let mut same = here.iter().filter(|(_, file)| {
            file.segment.number == segment.number && file.segment.time_line == segment.time_line
        });
        // Gets another name when it is whole: then it is looked for again.
        let Some((name, file)) = same.next() else { return Ok(None) };
        match std::fs::read(self.directory.join(name)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            other => {
                other.map(|content| Some((content, file.segment.is_whole))).map_err(|e| self.joint_failed(e))
            }
        }
    }

    fn joint_failed(&self, e: io::Error) -> Error {
        Error::io(format!("cannot use {}", self.directory.join(JOINTS).display()), e)
    }
}

/// Of a segment that grows what was written: the rest of it is zeros.
fn written(mut content: Vec<u8>) -> Vec<u8> {
    content.truncate(content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
    content
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
