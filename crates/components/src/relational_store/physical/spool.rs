//! Where the log lies that no backup holds yet.
//!
//! ```text
//! <directory>/<segment>            whole
//! <directory>/<segment>.partial    grows; what was confirmed to the server is on the disk
//! <directory>/lock                 held (flock) by whoever receives
//! <directory>/id                   a random word, by which the server tells our receiver from others
//! <directory>/server               whose log it is, and a random word for what was received without a break
//! <directory>/marked               how far a backup of this run has gone
//! <directory>/joints/              where somebody began to receive (see `joint`)
//! <directory>/left-<n>/            what cannot be gone on with
//! ```
//! A receiver goes on after the last segment that lies here. Where the server cannot send what follows, as it is another one now, or went
//! back to an earlier state, or its slot was made anew, what lies here is put aside, and the log begins anew.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use repository::{Id, Time};
use rustix::fs::{FlockOperation, flock};

use super::log::{Position, Segment};
use crate::{Error, ErrorKind, Result};

const LOCK: &str = "lock";
const ID: &str = "id";
/// So much of a random word.
const ID_CHARS: usize = 8;
const SERVER: &str = "server";
const RUN_CHARS: usize = 16;
const MARKED: &str = "marked";
const LEFT: &str = "left-";
/// So long what was put aside stays: it may be the last that is left of a server.
const LEFT_FOR: Duration = Duration::from_secs(30 * 24 * 3600);
/// So long segments stay here after a backup holds them, for backups into other stores.
const KEEP_FOR: Duration = Duration::from_secs(24 * 3600);

/// The directory, and how the server cuts its log.
#[derive(Clone, Debug)]
pub(super) struct Spool {
    pub directory: PathBuf,
    pub segment_bytes: u64,
    /// Bytes of a page of the log.
    pub page_bytes: u64,
}

/// What the server says of its log.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerLog<'s> {
    pub system_identifier: &'s str,
    pub time_line: u64,
    /// It ends there.
    pub end: Position,
    /// From there on it is kept for us; `None`: there is no slot yet.
    pub kept: Option<Position>,
}

/// A segment that lies here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Received {
    pub segment: Segment,
    pub bytes: u64,
    pub changed: SystemTime,
}

impl Received {
    /// When it was changed last.
    pub(super) fn time(&self) -> Time {
        let since = self.changed.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        Time { seconds, nanoseconds: since.subsec_nanos() }
    }
}

/// Whoever holds this receives.
pub(super) struct Turn {
    /// How the receiver calls itself in the server's views.
    pub name: String,
    _lock: File,
}

impl Spool {
    fn fail(&self, e: io::Error) -> Error {
        fail(&self.directory, e)
    }

    /// All segments, by name.
    pub(super) fn received(&self) -> Result<BTreeMap<String, Received>> {
        let mut found = BTreeMap::new();
        for entry in std::fs::read_dir(&self.directory).map_err(|e| self.fail(e))? {
            let entry = entry.map_err(|e| self.fail(e))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let Some(segment) = Segment::parse(&name, self.segment_bytes) else { continue };
            let about = match entry.metadata() {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue, // It is whole now, under another name.
                other => other.map_err(|e| self.fail(e))?,
            };
            // While a new one is made it is shorter.
            if about.len() == self.segment_bytes {
                let changed = about.modified().map_err(|e| self.fail(e))?;
                found.insert(name, Received { segment, bytes: about.len(), changed });
            }
        }
        Ok(found)
    }

    /// Bytes of all that lies here.
    pub(super) fn held(&self) -> Result<u64> {
        Ok(self.received()?.values().map(|file| file.bytes).sum())
    }

    /// Whether the log is really here up to a position, whatever was confirmed to the server by others: a segment is made at its
    /// whole length, and each of its pages begins with the page's own position. Source: `xlog_internal.h`.
    pub(super) fn holds(&self, time_line: u64, position: Position) -> Result<bool> {
        let last = position.0.saturating_sub(1);
        let (number, page) = (last / self.segment_bytes, last / self.page_bytes * self.page_bytes);
        let fits = |file: &Received| file.segment.number == number && file.segment.time_line == time_line;
        for (name, _) in self.received()?.iter().filter(|(_, file)| fits(file)) {
            let file = match File::open(self.directory.join(name)) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(|e| self.fail(e))?,
            };
            let mut address = [0; 8];
            file.read_exact_at(&mut address, page % self.segment_bytes + 8).map_err(|e| self.fail(e))?;
            // In the order of bytes of the server's machine.
            if u64::from_le_bytes(address) == page || u64::from_be_bytes(address) == page {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Makes ready to receive: what lies here belongs to this log, and the server can send what follows it.
    pub(super) fn prepare(&self, log: &ServerLog<'_>) -> Result<()> {
        self.forget()?;
        if let Some(why) = self.why_not(log)? {
            self.begin_run(log.system_identifier)?;
            self.set_aside(why, &|_| true)?;
            self.forget_joints()?;
        }
        self.clear_half_made()
    }

    /// From this segment on it is another history than before.
    pub(super) fn break_at(&self, system_identifier: &str, first: &Segment) -> Result<()> {
        self.begin_run(system_identifier)?;
        let why = "what follows it is not its continuation";
        self.set_aside(why, &|name| {
            Segment::parse(name, self.segment_bytes)
                .is_none_or(|one| one.number < first.number || one.time_line != first.time_line)
        })?;
        self.forget_joints()
    }

    /// First, so that nobody goes on with what is put aside only in part.
    fn begin_run(&self, system_identifier: &str) -> Result<()> {
        let mut run = Id::random().to_string();
        run.truncate(RUN_CHARS);
        write(&self.directory.join(SERVER), &format!("{system_identifier} {run}")).map_err(|e| self.fail(e))
    }

    /// A random word for the log that was received without a break; another one after whatever may have been one. Only what is of
    /// the same run can be put together by the numbers of its segments.
    pub(super) fn run(&self) -> Result<String> {
        let note = std::fs::read_to_string(self.directory.join(SERVER)).map_err(|e| self.fail(e))?;
        Ok(note.split_once(' ').map(|(_, run)| run.to_owned()).unwrap_or_default())
    }

    /// Keeps how far a backup goes, before there is one.
    pub(super) fn note_mark(&self, run: &str, end: Position) -> Result<()> {
        write(&self.directory.join(MARKED), &format!("{run} {end}")).map_err(|e| self.fail(e))
    }

    /// How far a backup of this run has gone at most. One that goes further is of a life of this directory that was undone, with
    /// the server's perhaps. `None`: nobody knows.
    pub(super) fn marked(&self, run: &str) -> Result<Option<Position>> {
        let note = match std::fs::read_to_string(self.directory.join(MARKED)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|e| self.fail(e))?,
        };
        Ok(note.split_once(' ').filter(|(of, _)| *of == run).and_then(|(_, end)| Position::parse(end)))
    }

    /// Why the log that comes cannot be joined to what came before.
    fn why_not(&self, log: &ServerLog<'_>) -> Result<Option<&'static str>> {
        let note = match std::fs::read_to_string(self.directory.join(SERVER)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Some("nobody knows whose it is")),
            other => other.map_err(|e| self.fail(e))?,
        };
        if note.split_once(' ').map(|(server, _)| server) != Some(log.system_identifier) {
            return Ok(Some("it is another server's"));
        }
        let Some(kept) = log.kept else { return Ok(Some("there is no replication slot any more")) };
        let here = self.received()?;
        let of_line = || here.values().map(|file| file.segment).filter(|one| one.time_line == log.time_line);
        // What comes next, and where the last byte lies at least: a segment that grows is begun anew.
        let next = of_line().map(|one| one.number + u64::from(one.is_whole)).max();
        Ok(match next {
            None if here.is_empty() => None,
            None => Some("the server is on another time line"),
            Some(next) if next * self.segment_bytes > log.end.0 => Some("the server's log ends before it"),
            Some(next) if next < kept.segment(self.segment_bytes) => Some("what follows it was lost"),
            Some(_) => None,
        })
    }

    /// The receiver makes a segment at its whole length before it fills it, and refuses one that it was killed in making.
    fn clear_half_made(&self) -> Result<()> {
        for entry in std::fs::read_dir(&self.directory).map_err(|e| self.fail(e))? {
            let entry = entry.map_err(|e| self.fail(e))?;
            let segment =
                entry.file_name().to_str().and_then(|name| Segment::parse(name, self.segment_bytes));
            if segment.is_some_and(|segment| !segment.is_whole)
                && entry.metadata().map_err(|e| self.fail(e))?.len() != self.segment_bytes
            {
                std::fs::remove_file(entry.path()).map_err(|e| self.fail(e))?;
            }
        }
        Ok(())
    }

    fn set_aside(&self, why: &str, goes: &dyn Fn(&str) -> bool) -> Result<()> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.directory).map_err(|e| self.fail(e))? {
            let name = entry.map_err(|e| self.fail(e))?.file_name();
            // Of another server they may have another length, and other numbers.
            if name.to_str().is_some_and(|name| Segment::is_name(name) && goes(name)) {
                names.push(name);
            }
        }
        if names.is_empty() {
            return Ok(());
        }
        let mut left = (0..).map(|number| self.directory.join(format!("{LEFT}{number}")));
        let Some(left) = left.find(|left| !left.exists()) else { return Ok(()) };
        tracing::warn!(place = %left.display(), "the log that was received cannot be gone on with and is put aside: {why}");
        let set = || {
            DirBuilder::new().mode(0o700).create(&left)?;
            for name in &names {
                std::fs::rename(self.directory.join(name), left.join(name))?;
            }
            File::open(&left)?.sync_all()?;
            File::open(&self.directory)?.sync_all()
        };
        set().map_err(|e| self.fail(e))
    }

    /// What was put aside long ago goes.
    fn forget(&self) -> Result<()> {
        for entry in std::fs::read_dir(&self.directory).map_err(|e| self.fail(e))? {
            let entry = entry.map_err(|e| self.fail(e))?;
            let name = entry.file_name();
            if !name.to_str().is_some_and(|name| name.starts_with(LEFT)) {
                continue;
            }
            let changed = entry.metadata().and_then(|about| about.modified()).map_err(|e| self.fail(e))?;
            if is_older(changed, LEFT_FOR) {
                crate::file_store::remove_tree(&self.directory, &name)?;
            }
        }
        Ok(())
    }

    /// Removes segments that a backup holds, what comes before all that it needs, and what is of other time lines, after a day. The
    /// last one stays: after it the receiver goes on.
    pub(super) fn clear(
        &self,
        time_line: u64,
        needed_from: u64,
        is_held: &dyn Fn(&str, &Received) -> bool,
    ) -> Result<()> {
        let here = self.received()?;
        let last = here.values().map(|file| file.segment.number).max();
        for (name, file) in here {
            let Segment { number, is_whole, time_line: of } = file.segment;
            let is_done = is_whole && (number < needed_from || is_held(&name, &file));
            if (is_done || of != time_line) && Some(number) != last && is_older(file.changed, KEEP_FOR) {
                std::fs::remove_file(self.directory.join(name)).map_err(|e| self.fail(e))?;
            }
        }
        Ok(())
    }
}

fn fail(directory: &Path, e: io::Error) -> Error {
    Error::io(format!("cannot use {}", directory.display()), e)
}

fn is_older(changed: SystemTime, age: Duration) -> bool {
    SystemTime::now().duration_since(changed).unwrap_or_default() > age
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let part = path.with_extension("part");
    std::fs::write(&part, text)?;
    File::open(&part)?.sync_all()?;
    std::fs::rename(&part, path)?;
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// Makes the directory if it is missing. `None`: somebody else receives.
pub(super) fn take_turn(directory: &Path) -> Result<Option<Turn>> {
    let fail = |e: io::Error| fail(directory, e);
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(fail)?;
    let lock = File::options().create(true).append(true).open(directory.join(LOCK)).map_err(fail)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(Turn { name: make_name(directory)?, _lock: lock })),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(e) => Err(fail(e.into())),
    }
}

/// By whoever has the turn, the first time.
fn make_name(directory: &Path) -> Result<String> {
    if let Some(name) = receiver_name(directory)? {
        return Ok(name);
    }
    let mut id = Id::random().to_string();
    id.truncate(ID_CHARS);
    write(&directory.join(ID), &id).map_err(|e| fail(directory, e))?;
    Ok(name_of(&id))
}

fn name_of(id: &str) -> String {
    format!("strongroom_log_{id}")
}

/// How our receiver calls itself in the server's views; `None`: nobody has ever received here.
pub(super) fn receiver_name(directory: &Path) -> Result<Option<String>> {
    let path = directory.join(ID);
    let id = match std::fs::read_to_string(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|e| fail(directory, e))?,
    };
    match id.len() == ID_CHARS && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(Some(name_of(&id))),
        false => Err(Error::new(ErrorKind::Damaged, format!("{} is damaged; remove it", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: u64 = 1 << 20;

    fn spool(dir: &tempfile::TempDir) -> Spool {
        Spool { directory: dir.path().to_owned(), segment_bytes: BYTES, page_bytes: 8192 }
    }

    fn receive(dir: &tempfile::TempDir, name: &str) -> File {
        let file = File::create(dir.path().join(name)).unwrap();
        file.set_len(BYTES).unwrap();
        file
    }

    /// In segments.
    fn log(end: u64, kept: Option<u64>) -> ServerLog<'static> {
        let position = |number| Position(number * BYTES);
        ServerLog { system_identifier: "7001", time_line: 1, end: position(end), kept: kept.map(position) }
    }

    #[test]
    fn log_that_the_server_cannot_go_on_with_is_put_aside_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let spool = spool(&dir);
        let whole = "000000010000000000000004";
        let is_kept = |log: &ServerLog<'_>| {
            spool.prepare(log).unwrap();
            let is_kept = !spool.received().unwrap().is_empty();
            receive(&dir, whole);
            is_kept
        };
        spool.prepare(&log(9, None)).unwrap();
        let run = spool.run().unwrap();
        receive(&dir, whole);
        receive(&dir, "000000020000000000000003");
        assert!(is_kept(&log(9, Some(5))) && is_kept(&log(9, Some(4))) && is_kept(&log(5, Some(5))));
        assert_eq!(spool.run().unwrap(), run);
        assert!(!is_kept(&log(9, Some(6))), "segment 5 is gone");
        assert_ne!(spool.run().unwrap(), run);
        assert!(!is_kept(&log(9, None)), "nothing was kept");
        assert!(!is_kept(&log(4, Some(4))), "the server went back");
        assert!(!is_kept(&ServerLog { time_line: 3, ..log(9, Some(5)) }));
        assert!(!is_kept(&ServerLog { system_identifier: "7002", ..log(9, Some(5)) }));
        std::fs::rename(dir.path().join(whole), dir.path().join(format!("{whole}.partial"))).unwrap();
        assert!(
            !is_kept(&ServerLog { system_identifier: "7002", ..log(9, Some(5)) }),
            "one that grows ends early too"
        );
        let left = (0..6).filter(|number| dir.path().join(format!("left-{number}")).is_dir()).count();
        assert_eq!(left, 6);
        File::open(dir.path().join("left-0"))
            .unwrap()
            .set_modified(SystemTime::now() - 2 * LEFT_FOR)
            .unwrap();
        spool.forget().unwrap();
        assert!(!dir.path().join("left-0").exists() && dir.path().join("left-1").exists());
    }

    #[test]
    fn a_segment_that_was_begun_and_not_made_whole_goes() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("000000010000000000000001.partial"), "short").unwrap();
        std::fs::write(dir.path().join("note"), "short").unwrap();
        spool(&dir).clear_half_made().unwrap();
        let left: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["note"]);
    }

    #[test]
    fn what_a_segment_of_the_whole_length_holds_is_told_by_its_pages() {
        let dir = tempfile::tempdir().unwrap();
        let spool = spool(&dir);
        let file = receive(&dir, "000000010000000000000002.partial");
        let page = 2 * BYTES + 3 * 8192;
        file.write_all_at(&page.to_le_bytes(), 3 * 8192 + 8).unwrap();
        let holds = |line, position| spool.holds(line, Position(position)).unwrap();
        assert!(holds(1, page + 1) && holds(1, page + 8192));
        assert!(!holds(1, page + 8193) && !holds(2, page + 1) && !holds(1, BYTES + 3 * 8192 + 1));
    }

    #[test]
    fn what_backups_need_no_more_goes_after_a_day() {
        let dir = tempfile::tempdir().unwrap();
        let spool = spool(&dir);
        let name = |number| format!("00000001000000000000000{number}");
        for number in 1..=4 {
            let old = if number == 3 { SystemTime::now() } else { SystemTime::now() - 2 * KEEP_FOR };
            receive(&dir, &name(number)).set_modified(old).unwrap();
        }
        receive(&dir, &format!("{}.partial", name(1)))
            .set_modified(SystemTime::now() - 2 * KEEP_FOR)
            .unwrap();
        let left = || spool.received().unwrap().into_keys().collect::<Vec<_>>();
        spool.clear(1, 0, &|_, _| false).unwrap();
        assert_eq!(left().len(), 5);
        // One comes before the first base, one is held, one is young, one grows, and one is the last.
        spool.clear(1, 2, &|_, _| true).unwrap();
        assert_eq!(left(), [format!("{}.partial", name(1)), name(3), name(4)]);
        spool.clear(2, 0, &|_, _| false).unwrap();
        assert_eq!(left(), [name(3), name(4)]);
    }

    #[test]
    fn one_receives_at_a_time_and_keeps_its_name() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(receiver_name(dir.path()).unwrap(), None);
        let first = take_turn(dir.path()).unwrap().unwrap();
        assert!(take_turn(dir.path()).unwrap().is_none());
        assert_eq!(receiver_name(dir.path()).unwrap().as_ref(), Some(&first.name));
        let other = tempfile::tempdir().unwrap();
        assert_ne!(take_turn(other.path()).unwrap().unwrap().name, first.name);
        let name = first.name.clone();
        drop(first);
        // A program that is being started by another test may hold all that is open for a moment.
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        let again = std::iter::repeat_with(|| take_turn(dir.path()).unwrap());
        let again = again.take_while(|_| std::time::Instant::now() < deadline).flatten().next();
        assert_eq!(again.unwrap().name, name);
    }
}
