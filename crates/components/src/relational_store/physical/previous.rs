//! The last physical backup in the same vault, with which the next one goes on.

use std::collections::BTreeMap;

use repository::{Id, Node};

use super::super::RelationalStore;
use super::super::snapshot::Snapshot;
use super::log::Position;
use super::manifest::{LOG, Manifest};
use super::present::Present;
use super::root;
use super::spool::Received;
use crate::{BackupContext, Error, ErrorKind, Result};

/// What it holds.
pub(super) struct Previous {
    pub snapshot: Id,
    pub manifest: Manifest,
    /// Its bases and segments, by name.
    pub bases: BTreeMap<String, Node>,
    pub log: BTreeMap<String, Node>,
}

impl Previous {
    /// `Err`: there is one, and why it cannot be gone on with.
    pub(super) fn find(
        store: &RelationalStore,
        context: &BackupContext<'_>,
        present: &Present,
        (run, end): (&str, Position),
    ) -> Result<Result<Option<Self>, String>> {
        let fail = |e| Error::engine("cannot look for the last backup", e);
        let root = root(store).display().to_string();
        let (snapshots, _) = context.repository.snapshots().map_err(fail)?;
        let last = snapshots
            .into_iter()
            .rev()
            .find(|(_, snapshot)| snapshot.hostname == context.hostname && snapshot.paths == [root.as_str()]);
        let Some((id, _)) = last else { return Ok(Ok(None)) };
        Ok(match Self::read(context, id) {
            Ok(None) => Ok(None),
            Ok(Some(previous)) => match previous.why_not(present, run, end, present.spool.marked(run)?) {
                None => Ok(Some(previous)),
                Some(why) => Err(why.to_owned()),
            },
            // A damaged one is no reason to make none.
            Err(error) if error.kind == ErrorKind::Damaged => Err(error.message),
            Err(error) => return Err(error),
        })
    }

    fn read(context: &BackupContext<'_>, id: Id) -> Result<Option<Self>> {
        let snapshot = Snapshot::open(context.repository, context.index, id)?;
        let Some(manifest) = snapshot.physical_if_any(&context.control)? else { return Ok(None) };
        let (bases, log) = (snapshot.files("")?, snapshot.files(LOG)?);
        Ok(Some(Self { snapshot: id, manifest, bases, log }))
    }

    fn why_not(
        &self,
        present: &Present,
        run: &str,
        end: Position,
        marked: Option<Position>,
    ) -> Option<&'static str> {
        let until = Position::parse(&self.manifest.until_position);
        let manifest = &self.manifest;
        if manifest.system_identifier != present.about.system_identifier {
            Some("it is of another server")
        } else if manifest.server_major() != present.about.major()
            || manifest.segment_bytes != present.spool.segment_bytes
        {
            Some("it is of another release")
        } else if manifest.time_line != present.time_line {
            Some("it is of another time line: the server was restored, or took over from another one")
        } else if until.is_none_or(|until| until > end) {
            Some("it goes further than the server's log, which went back to an earlier state")
        } else if manifest.run != run {
            Some("the log was not received without a break since")
        } else if until > marked.or(until) {
            Some("it goes further than the log here has ever gone, which went back to an earlier state")
        } else if !manifest.bases.last().is_some_and(|base| self.bases.contains_key(&base.file)) {
            Some("it lacks its base")
        } else {
            None
        }
    }

    /// Whether it holds a segment that lies here, as it lies here.
    pub(super) fn holds(&self, name: &str, here: &Received) -> bool {
        self.log.get(name).is_some_and(|node| node.size == here.bytes && node.mtime == here.time())
    }

    /// The first segment that its bases need.
    pub(super) fn first_segment(&self) -> u64 {
        self.manifest.bases.first().map_or(0, |base| base.first_segment)
    }
}
