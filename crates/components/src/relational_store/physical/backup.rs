//! A physical backup: what the last one in this vault holds already, a new base if one is needed, and the log until now.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use postgres::Client;
use repository::{BackupRequest, Fed, FedContent, FedFile, Node, Time};

use super::super::inventory::get;
use super::super::tools::{self, Tools};
use super::super::{RelationalStore, failure};
use super::log::{self, Position, Segment};
use super::manifest::{Base, LOG, MANIFEST, Manifest, shown};
use super::present::Present;
use super::previous::Previous;
use super::receive::{self, Meanwhile, wait_until_received};
use super::spool::Received;
use super::{PhysicalSettings, root};
use crate::{Backup, BackupContext, Error, ErrorKind, Facts, Result, Window};

/// Files that are read at once: the base is one, and segments are small.
const WORKERS: usize = 2;
/// Instants are told in milliseconds.
const TICK: Duration = Duration::from_millis(1);
/// The server's clock is waited for no longer, if it went back.
const CLOCK_MS_MAX: i64 = 10_000;
/// Segments get another name when they are whole: so often they are looked at anew if one is not found.
const LOOKS_MAX: usize = 5;
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Can the server be backed up in this way?
pub(in super::super) fn probe(store: &RelationalStore, settings: &PhysicalSettings) -> Result<()> {
    let mut client = store.server.connect(store.server.maintenance())?;
    let present = Present::ask(store, settings, &mut client)?;
    Tools::find(store.settings.tools_directory.as_deref(), present.about.major()).map(drop)
}

pub(in super::super) fn backup(
    store: &RelationalStore,
    settings: &PhysicalSettings,
    context: &BackupContext<'_>,
) -> Result<Backup> {
    let mut client = store.server.connect(store.server.maintenance())?;
    let present = Present::ask(store, settings, &mut client)?;
    let tools = Tools::find(store.settings.tools_directory.as_deref(), present.about.major())?;
    let receiving = Meanwhile::begin(store, settings)?;
    // From here on nothing of the log is missed, and what came since the last backup is here.
    let (_, end) = receive::end_of_log(&mut client)?;
    wait_until_received(store, &settings.log_directory, &mut client, end, &context.control)?;
    let previous = Previous::find(store, context, &present, end)?;
    if let Ok(Some(previous)) = &previous {
        present.spool.clear(previous.first_segment(), &|name, here| previous.holds(name, here))?;
    }
    let mut run = Run { store, settings, context, tools: &tools, present, client: &mut client };
    let outcome = match previous {
        Err(why) => Err(Failed::Unusable(why)),
        Ok(previous) => run.attempt(previous),
    };
    let outcome = match outcome {
        Err(Failed::Unusable(why)) => {
            let reason = format!(
                "the last backup cannot be gone on with ({why}): a new base is taken, and between that backup and the end of this base \
                 there are instants that this store does not hold"
            );
            context.control.warn(store.settings.name.clone(), reason);
            run.attempt(None)
        }
        other => other,
    };
    drop(receiving);
    outcome.map_err(|failed| match failed {
        Failed::Unusable(why) => {
            Error::new(ErrorKind::Io, format!("the log is not whole: {why}; back up again"))
        }
        Failed::With(error) => error,
        Failed::Echo => Error::new(ErrorKind::Io, "the base of the server could not be taken"),
    })
}

enum Failed {
    /// What the last backup holds cannot be gone on with.
    Unusable(String),
    With(Error),
    /// Something failed that is told elsewhere.
    Echo,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::With(error)
    }
}

struct Run<'r, 'c> {
    store: &'r RelationalStore,
    settings: &'r PhysicalSettings,
    context: &'r BackupContext<'c>,
    tools: &'r Tools,
    present: Present,
    client: &'r mut Client,
}

impl Run<'_, '_> {
    fn attempt(&mut self, previous: Option<Previous>) -> Result<Backup, Failed> {
        let mut request = BackupRequest::new(vec![root(self.store)]);
        request.tags = self.context.tags.clone();
        request.hostname = self.context.hostname.clone();
        request.compression = self.context.compression;
        request.parent = previous.as_ref().map(|previous| previous.snapshot);
        let context = self.context;
        let mut window = Window::default();
        let mut feed = Feed::new(self, previous, &mut window);
        let mut next = || feed.next();
        let outcome = repository::backup_feed(
            context.repository,
            context.index,
            &request,
            &mut next,
            WORKERS,
            &context.control,
        );
        if feed.lost.load(Ordering::Relaxed) {
            return Err(Failed::Unusable("the store has lost a part of it".to_owned()));
        }
        match feed.failed.take() {
            None | Some(Failed::Echo) => {}
            Some(failed) => return Err(failed),
        }
        drop(feed);
        let outcome = outcome.map_err(|e| {
            Error::engine(format!("cannot back up component '{}'", self.store.settings.name), e)
        })?;
        let facts = Facts { window: Some(window), ..self.present.facts.clone() };
        Ok(Backup { outcome, facts })
    }

    /// Milliseconds of the server's clock, and where its log ends.
    fn now(&mut self) -> Result<(i64, Position)> {
        let text = "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::int8, pg_current_wal_insert_lsn()::text";
        let row = self
            .client
            .query_one(text, &[])
            .map_err(|e| failure::server("cannot ask for the log's end", &e))?;
        let position = Position::parse(&get::<String>(&row, 1)?);
        let position =
            position.ok_or_else(|| Error::new(ErrorKind::Io, "the server tells no position of its log"))?;
        Ok((get(&row, 0)?, position))
    }

    /// Right after this instant, which is not before `earliest`, and this position there is a commit in the log, so that a server
    /// that replays it knows when it has got there. All of that is on our disk then.
    fn mark(&mut self, earliest: i64) -> Result<Mark> {
        let (mut time, mut position) = self.now()?;
        while time < earliest {
            if earliest - time > CLOCK_MS_MAX {
                let message =
                    "the server's clock went back while a base was taken; back up again when it is right";
                return Err(Error::new(ErrorKind::Io, message));
            }
            self.context.control.check().map_err(|e| Error::engine("the backup was stopped", e))?;
            std::thread::sleep(TICK);
            (time, position) = self.now()?;
        }
        let fail = |e: postgres::Error| failure::server("cannot write a mark into the log", &e);
        self.client.batch_execute("SET synchronous_commit = local").map_err(fail)?;
        self.client.execute("SELECT pg_logical_emit_message(true, 'strongroom', '')", &[]).map_err(fail)?;
        let (time_line, end) = receive::end_of_log(self.client)?;
        let directory = &self.settings.log_directory;
        wait_until_received(self.store, directory, self.client, end, &self.context.control)?;
        if time_line != self.present.time_line || !self.present.spool.holds(time_line, end)? {
            let message = "the log that was confirmed to the server did not arrive here; back up again";
            return Err(Error::new(ErrorKind::Io, message));
        }
        Ok(Mark { time, position, end })
    }
}

/// The end of what a backup holds.
struct Mark {
    time: i64,
    /// Whatever lies before it was committed by then.
    position: Position,
    /// Until there the log must be there.
    end: Position,
}

/// Names the files of the backup in the order of their paths: bases, log, manifest.
struct Feed<'f, 'r, 'c> {
    run: &'f mut Run<'r, 'c>,
    window: &'f mut Window,
    previous: Option<Previous>,
    bases: Vec<Base>,
    /// Tells when the new base is complete.
    taking: Option<Receiver<bool>>,
    step: Step,
    files: std::vec::IntoIter<FedFile<'r>>,
    /// Something that the last backup held is damaged.
    lost: Arc<AtomicBool>,
    failed: Option<Failed>,
}

enum Step {
    Bases,
    Log,
    Done,
}

impl<'f, 'r, 'c> Feed<'f, 'r, 'c> {
    fn new(run: &'f mut Run<'r, 'c>, previous: Option<Previous>, window: &'f mut Window) -> Self {
        Self {
            run,
            window,
            previous,
            bases: Vec::new(),
            taking: None,
            step: Step::Bases,
            files: Vec::new().into_iter(),
            lost: Arc::default(),
            failed: None,
        }
    }

    fn next(&mut self) -> repository::Result<Option<FedFile<'r>>> {
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
            // Before a new base is taken for nothing.
            let now_at = position.segment(self.run.present.spool.segment_bytes);
            if let Some(last) = now_at.checked_sub(1).filter(|last| *last >= base.first_segment) {
                refuse_gap(base.first_segment, last, &self.there(base.first_segment)?.1)?;
            }
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

    /// Segments from `first` on: those that lie here, and the numbers of these and of those that the last backup holds.
    fn there(&self, first: u64) -> Result<(BTreeMap<String, Received>, BTreeSet<u64>)> {
        let present = &self.run.present;
        let is_of_ours =
            |segment: &Segment| segment.time_line == present.time_line && segment.number >= first;
        let mut here = present.spool.received()?;
        here.retain(|_, file| is_of_ours(&file.segment));
        let before = self.previous.iter().flat_map(|previous| previous.log.keys());
        let before = before.filter_map(|name| Segment::parse(name, present.spool.segment_bytes));
        let before = before.filter(|segment| segment.is_whole && is_of_ours(segment));
        let numbers = here.values().map(|file| file.segment).chain(before).map(|segment| segment.number);
        let numbers = numbers.collect();
        Ok((here, numbers))
    }

    /// The log from the first base until now, and the manifest.
    fn name_log(&mut self) -> Result<Vec<FedFile<'r>>, Failed> {
        let from = self.bases.first().map_or(0, |base| base.ended);
        let mark = self.run.mark(self.bases.last().map_or(0, |base| base.ended))?;
        let mut looks = 1;
        let mut files = loop {
            match self.segments(mark.end) {
                Err(Failed::Unusable(_)) if looks < LOOKS_MAX => std::thread::sleep(LOOK_AGAIN),
                other => break other?,
            }
            looks += 1;
        };
        *self.window = Window { from, until: mark.time };
        let present = &self.run.present;
        let manifest = Manifest {
            format: Manifest::FORMAT,
            server_version: present.about.version,
            system_identifier: present.about.system_identifier.clone(),
            superuser: present.superuser.clone(),
            time_line: present.time_line,
            segment_bytes: present.spool.segment_bytes,
            preload: present.preload.clone(),
            prepared_max: present.prepared_max,
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
        let (here, numbers) = self.there(first)?;
        let segment_bytes = self.run.present.spool.segment_bytes;
        // The position is that of the first byte that was not written yet.
        refuse_gap(first, Position(position.0.saturating_sub(1)).segment(segment_bytes), &numbers)?;
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

fn refuse_gap(first: u64, last: u64, there: &BTreeSet<u64>) -> Result<(), Failed> {
    match log::gap(first, last, there) {
        None => Ok(()),
        Some((from, to)) if from == to => {
            Err(Failed::Unusable(format!("segment {from:X} of the log was never received")))
        }
        Some((from, to)) => {
            Err(Failed::Unusable(format!("segments {from:X} to {to:X} of the log were never received")))
        }
    }
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
