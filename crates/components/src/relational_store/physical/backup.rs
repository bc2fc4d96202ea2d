//! A physical backup: it goes on with what the last one in this vault holds, or begins anew and says why.

use std::time::Duration;

use postgres::Client;
use repository::BackupRequest;

use super::super::RelationalStore;
use super::super::tools::Tools;
use super::feed::Feed;
use super::joint::Joints;
use super::log::Position;
use super::present::Present;
use super::previous::Previous;
use super::receive::{self, Meanwhile, wait_until_received};
use super::{PhysicalSettings, root};
use crate::{Backup, BackupContext, Error, ErrorKind, Facts, Result};

/// Files that are read at once: the base is one, and segments are small.
const WORKERS: usize = 2;
/// So often something is looked for.
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
    if let Joints::Broken(first) = present.spool.look_at_joints(end)? {
        present.spool.break_at(&present.about.system_identifier, &first)?;
    }
    let log = present.spool.run()?;
    let previous = Previous::find(store, context, &present, (&log, end))?;
    if let Ok(Some(previous)) = &previous {
        let (spool, first) = (&present.spool, previous.first_segment());
        spool.clear(present.time_line, first, &|name, here| previous.holds(name, here))?;
    }
    let mut run = Run { store, settings, context, tools: &tools, present, client: &mut client, log, end };
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

/// Why an attempt came to nothing.
pub(super) enum Failed {
    /// What the last backup holds cannot be gone on with.
    Unusable(String),
    With(Error),
    /// Something failed that is told elsewhere.
    Echo,
}

/// Looks again where something was not found: segments get another name when they are whole.
pub(super) fn again<T>(mut look: impl FnMut() -> Result<T, Failed>) -> Result<T, Failed> {
    for _ in 1..LOOKS_MAX {
        match look() {
            Err(Failed::Unusable(_)) => std::thread::sleep(LOOK_AGAIN),
            other => return other,
        }
    }
    look()
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::With(error)
    }
}

/// One backup.
pub(super) struct Run<'r, 'c> {
    pub(super) store: &'r RelationalStore,
    pub(super) settings: &'r PhysicalSettings,
    pub(super) context: &'r BackupContext<'c>,
    pub(super) tools: &'r Tools,
    pub(super) present: Present,
    pub(super) client: &'r mut Client,
    /// What was received without a break.
    pub(super) log: String,
    /// Where the server's log ended when the backup began; until there it is here.
    pub(super) end: Position,
}

impl Run<'_, '_> {
    fn attempt(&mut self, previous: Option<Previous>) -> Result<Backup, Failed> {
        let mut request = BackupRequest::new(vec![root(self.store)]);
        request.tags = self.context.tags.clone();
        request.hostname = self.context.hostname.clone();
        request.compression = self.context.compression;
        request.parent = previous.as_ref().map(|previous| previous.snapshot);
        let context = self.context;
        let mut feed = Feed::new(self, previous);
        let mut next = || feed.next();
        let outcome = repository::backup_feed(
            context.repository,
            context.index,
            &request,
            &mut next,
            WORKERS,
            &context.control,
        );
        if feed.lost.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(Failed::Unusable("the store has lost a part of it".to_owned()));
        }
        match feed.failed.take() {
            None | Some(Failed::Echo) => {}
            Some(failed) => return Err(failed),
        }
        let window = feed.window;
        let outcome = outcome.map_err(|e| {
            Error::engine(format!("cannot back up component '{}'", self.store.settings.name), e)
        })?;
        let facts = Facts { window: Some(window), ..self.present.facts.clone() };
        Ok(Backup { outcome, facts })
    }
}
