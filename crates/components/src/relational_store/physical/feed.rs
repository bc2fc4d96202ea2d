//! Names the files of a physical backup to the engine: bases, log, manifest.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};

use repository::{Fed, FedContent, FedFile, Node, Time};

use super::super::tools;
use super::backup::{Failed, Run, again};
use super::log::{self, Position, Segment};
use super::manifest::{Base, LOG, MANIFEST, Manifest, shown};
use super::previous::Previous;
use super::spool::Received;
use crate::{Error, ErrorKind, Result, Window};

/// What is named next, in the order of the paths.
pub(super) struct Feed<'f, 'r, 'c> {
    run: &'f mut Run<'r, 'c>,
    previous: Option<Previous>,
    bases: Vec<Base>,
    /// Tells when the new base is complete.
    taking: Option<Receiver<bool>>,
    step: Step,
    files: std::vec::IntoIter<FedFile<'r>>,
    /// Something that the last backup held is damaged.
    pub(super) lost: Arc<AtomicBool>,
    pub(super) failed: Option<Failed>,
    /// The instants that the backup holds, when all is named.
    pub(super) window: Window,
}

enum Step {
    Bases,
    Log,
    Done,
}

impl<'f, 'r, 'c> Feed<'f, 'r, 'c> {
    pub(super) fn new(run: &'f mut Run<'r, 'c>, previous: Option<Previous>) -> Self {
        Self {
            run,
            previous,
            bases: Vec::new(),
            taking: None,
            step: Step::Bases,
            files: Vec::new().into_iter(),
            lost: Arc::default(),
            failed: None,
            window: Window::default(),
        }
    }

    pub(super) fn next(&mut self) -> repository::Result<Option<FedFile<'r>>> {
        self.try_next().map_err(|failed| {
            let message = match &failed {
                Failed::Unusable(why) => why.clone(),
                Failed::With(error) => error.message.clone(),
                Failed::Echo => "nobody takes the base".to_owned(),
            };
            self.failed = Some(failed);
            repository::Error::new(repository::ErrorKind::Source, message)
        })
    }

    fn try_next(&mut self) -> Result<Option<FedFile<'r>>, Failed> {
        loop {
            if let Some(file) = self.files.next() {
                return Ok(Some(file));
            }
            let files = match self.step {
                Step::Bases => {
                    self.step = Step::Log;
                    self.name_bases()?
                }
                Step::Log => {
                    self.step = Step::Done;
                    self.finish_base()?;
                    self.name_log()?
                }
                Step::Done => return Ok(None),
            };
            self.files = files.into_iter();
        }
    }

    /// The last one's newest base, and a new one if that has become old: both, so that there is no instant in between that no
    /// backup holds.
    fn name_bases(&mut self) -> Result<Vec<FedFile<'r>>, Failed> {
        let (now, position) = self.run.now()?;
        let mut files = Vec::new();
        let mut next_number = 1;
        let mut is_due = true;
        if let Some(previous) = &self.previous
            && let Some(base) = previous.manifest.bases.last()
            && let Some(node) = previous.bases.get(&base.file)
        {
            if base.ended > now {
                return Err(Failed::Unusable("it was made when the server's clock was ahead".to_owned()));
            }
            // Before a new base is taken for nothing.
            again(|| self.there(base.first_segment, self.run.end))?;
            files.push(kept(vec![base.file.clone().into_bytes()], node, &self.lost));
            let every = i64::try_from(self.run.settings.base_every.as_millis()).unwrap_or(i64::MAX);
            is_due = !(0..every).contains(&now.saturating_sub(base.started));
            next_number = number_of(&base.file) + 1;
            self.bases.push(base.clone());
        }
        if is_due {
            let file = format!("base-{next_number:06}.tar");
            let first_segment = position.segment(self.run.present.spool.segment_bytes);
            let base = Base { file: file.clone(), first_segment, started: now, ended: now };
            self.bases.push(base);
            files.push(self.take_base(file)?);
        }
        Ok(files)
    }

    fn take_base(&mut self, name: String) -> Result<FedFile<'r>> {
        let run = &*self.run;
        let mut command =
            run.store.server.tool(&run.tools.path("pg_basebackup"), run.store.server.maintenance())?;
        command.args([
            "--pgdata=-",
            "--format=tar",
            "--wal-method=none",
            "--checkpoint=fast",
            "--no-password",
        ]);
        command.arg("--label=strongroom");
        let (send, taken) = channel();
        self.taking = Some(taken);
        let control = Arc::clone(&run.context.control);
        let content: FedContent<'r> = Box::new(move |out| {
            let outcome = tools::start(command).and_then(|running| tools::run(running, &control, out));
            let _ = send.send(outcome.is_ok());
            outcome.map(|()| Fed::Whole)
        });
        Ok(fresh(vec![name.into_bytes()], content))
    }

    /// From its end on the server can be had at any instant.
    fn finish_base(&mut self) -> Result<(), Failed> {
        let Some(taking) = self.taking.take() else { return Ok(()) };
        // Whoever took it tells why not.
        if !taking.recv().unwrap_or(false) {
            return Err(Failed::Echo);
        }
        let (ended, _) = self.run.now()?;
        if let Some(base) = self.bases.last_mut() {
            base.ended = ended + 1;
        }
        Ok(())
    }

    /// The segments from `first` on that lie here. With those that the last backup holds there is none missing up to the position,
    /// which is that of the first byte that was not written yet.
    fn there(&self, first: u64, position: Position) -> Result<BTreeMap<String, Received>, Failed> {
        let last = Position(position.0.saturating_sub(1)).segment(self.run.present.spool.segment_bytes);
        let present = &self.run.present;
        let is_of_ours =
            |segment: &Segment| segment.time_line == present.time_line && segment.number >= first;
        let mut here = present.spool.received()?;
        here.retain(|_, file| is_of_ours(&file.segment));
        let before = self.previous.iter().flat_map(|previous| previous.log.keys());
        let before = before.filter_map(|name| Segment::parse(name, present.spool.segment_bytes));
        let before = before.filter(|segment| segment.is_whole && is_of_ours(segment));
        let numbers = here.values().map(|file| file.segment).chain(before).map(|segment| segment.number);
        match log::gap(first, last, &numbers.collect()) {
            None => Ok(here),
            Some((from, to)) => {
                Err(Failed::Unusable(format!("segments {from:X} to {to:X} of the log were never received")))
            }
        }
    }

    /// The log from the first base until now, and the manifest.
    fn name_log(&mut self) -> Result<Vec<FedFile<'r>>, Failed> {
        let from = self.bases.first().map_or(0, |base| base.ended);
        let mark = self.run.mark(self.bases.last().map_or(0, |base| base.ended))?;
        let mut files = again(|| self.segments(mark.end))?;
        self.window = Window { from, until: mark.time };
        let present = &self.run.present;
        // The log begins where these were other ones, perhaps.
        let before = self.previous.as_ref().map(|previous| &previous.manifest);
        let manifest = Manifest {
            format: Manifest::FORMAT,
            server_version: present.about.version,
            system_identifier: present.about.system_identifier.clone(),
            superuser: present.superuser.clone(),
            run: self.run.log.clone(),
            named: self.run.store.settings.databases.clone(),
            time_line: present.time_line,
            segment_bytes: present.spool.segment_bytes,
            preload: both(before.map(|one| one.preload.as_str()).unwrap_or_default(), &present.preload),
            prepared_max: present.prepared_max.max(before.map_or(0, |one| one.prepared_max)),
            databases: present.databases.clone(),
            bases: std::mem::take(&mut self.bases),
            until: mark.time,
            until_position: mark.position.to_string(),
        };
        let component = &self.run.store.settings.name;
        tracing::info!(component, until = shown(mark.time), "the log is here until now");
        let text = serde_json::to_vec_pretty(&manifest)
            .map_err(|e| Error::new(ErrorKind::Io, format!("cannot write {MANIFEST}: {e}")))?;
        let content: FedContent<'r> = Box::new(move |out| out.write_all(&text).map(|()| Fed::Whole));
        files.push(fresh(vec![MANIFEST.into()], content));
        Ok(files)
    }

    /// Names all segments from the first base up to the position.
    fn segments(&self, position: Position) -> Result<Vec<FedFile<'r>>, Failed> {
        let first = self.bases.first().map_or(0, |base| base.first_segment);
        let here = self.there(first, position)?;
        let segment_bytes = self.run.present.spool.segment_bytes;
        let none = BTreeMap::new();
        let before = self.previous.as_ref().map_or(&none, |previous| &previous.log);
        let held = before.iter().filter(|(name, _)| {
            // One that grew is here, or has become whole.
            let segment = Segment::parse(name, segment_bytes).filter(|segment| segment.is_whole);
            segment.is_some_and(|segment| segment.number >= first) && !here.contains_key(*name)
        });
        let path = |name: &String| vec![LOG.as_bytes().to_vec(), name.clone().into_bytes()];
        let mut files: Vec<FedFile<'r>> =
            held.map(|(name, node)| kept(path(name), node, &self.lost)).collect();
        for (name, received) in &here {
            files.push(segment(path(name), self.run.present.spool.directory.join(name), received)?);
        }
        files.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(files)
    }
}

/// All of two lists of libraries.
fn both(one: &str, other: &str) -> String {
    let names = one.split(',').chain(other.split(',')).map(str::trim).filter(|name| !name.is_empty());
    let mut all: Vec<&str> = Vec::new();
    for name in names {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all.join(", ")
}

fn number_of(base: &str) -> u64 {
    base.trim_start_matches("base-").trim_end_matches(".tar").parse().unwrap_or(0)
}

fn fresh(path: Vec<Vec<u8>>, content: FedContent<'_>) -> FedFile<'_> {
    FedFile { path, mtime: Time::now(), attributes: Vec::new(), same_if_size: None, content }
}

/// A file that the last backup holds. It is asked for its content only if the store has lost that.
fn kept<'a>(path: Vec<Vec<u8>>, node: &Node, lost: &Arc<AtomicBool>) -> FedFile<'a> {
    let lost = Arc::clone(lost);
    let content: FedContent<'a> = Box::new(move |_| {
        lost.store(true, Ordering::Relaxed);
        Err(io::Error::other("the store has lost it, and it is nowhere else"))
    });
    FedFile { path, mtime: node.mtime, attributes: Vec::new(), same_if_size: Some(node.size), content }
}

/// A segment that lies here. One that grows is opened now: it gets another name when it is whole.
fn segment<'a>(path: Vec<Vec<u8>>, place: PathBuf, received: &Received) -> Result<FedFile<'a>, Failed> {
    let is_whole = received.segment.is_whole;
    let opened = match is_whole {
        true => None,
        false => match File::open(&place) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(Failed::Unusable("a segment has become whole just now".to_owned()));
            }
            other => Some(other.map_err(|e| Error::io("cannot open a segment of the log", e))?),
        },
    };
    let content: FedContent<'a> = Box::new(move |out: &mut dyn Write| {
        let mut file = opened.map_or_else(|| File::open(&place), Ok)?;
        io::copy(&mut file, out).map(|_| Fed::Whole)
    });
    let same_if_size = is_whole.then_some(received.bytes);
    Ok(FedFile { path, mtime: received.time(), attributes: Vec::new(), same_if_size, content })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restore_loads_the_libraries_of_all_of_the_log() {
        assert_eq!(both("", "timescaledb"), "timescaledb");
        assert_eq!(both("pg_cron, timescaledb", "timescaledb,pgaudit"), "pg_cron, timescaledb, pgaudit");
    }
}
