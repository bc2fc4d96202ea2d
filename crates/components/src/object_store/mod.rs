//! The object store: a bucket, or the part of it below a prefix.
//!
//! ```text
//! backup    hooks → listing (`listing`) → each object that is new or changed is read (`backup`) → a file in the snapshot
//! restore   hooks → what differs (`compare`) → laid down in the bucket, with what was there (`stage`) → the service copies
//!           each to its place → verified by a listing → what was laid down goes
//! recover   what lies in the bucket tells how far it came (`area`)
//! ```
//! A key becomes a path by the rules of `names`. Tag and headers of an object are attributes of its file. What is kept and
//! what is not says `docs/buckets.md`.

mod area;
mod backup;
mod compare;
mod keys;
mod listing;
mod names;
mod stage;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use repository::Control;
use storage::{Content, ObjectPlace, ObjectStorage};

use crate::{
    Backup, BackupContext, Component, DrillContext, Drilled, Error, ErrorKind, Hooks, Kind, Portion,
    Recovered, RestoreContext, Result, StagedRestore, file_store,
};
use area::Area;
use compare::Action;
use keys::Keys;

/// Attribute of a file: the object's ETag.
const ETAG: &str = "user.strongroom.etag";
/// Attribute of a file: what the service kept beside the object's content, as JSON.
const HEADERS: &str = "user.strongroom.headers";
const THREADS_MAX: usize = 64;
/// A question on which something waits is answered so soon, or not.
const SOON: Duration = Duration::from_secs(15);

/// A protected bucket, as configured.
#[derive(Clone, Debug)]
pub struct ObjectStoreSettings {
    /// The component's name, unique in the deployment.
    pub name: String,
    /// Bucket, prefix, and how they are reached.
    pub place: ObjectPlace,
    /// Whether a backup may go on without this component.
    pub optional: bool,
    /// Programs to run before and after.
    pub hooks: Hooks,
}

/// A bucket.
#[derive(Clone, Debug)]
pub(crate) struct ObjectStore {
    settings: ObjectStoreSettings,
    content: Arc<dyn Content>,
    /// For questions on which a start, or a page, waits.
    impatient: Arc<dyn Content>,
}

impl ObjectStore {
    pub(crate) fn new(settings: ObjectStoreSettings) -> Result<Self, String> {
        let open = |place| ObjectStorage::content(place).map_err(|e| e.reason);
        let mut soon = settings.place.clone();
        let limits = &mut soon.options.limits;
        (limits.attempts, limits.deadline) = (limits.attempts.min(3), limits.deadline.min(SOON));
        limits.silence = limits.silence.min(SOON);
        Ok(Self { content: open(&settings.place)?, impatient: open(&soon)?, settings })
    }

    /// The path of the content in a snapshot: bucket and prefix.
    fn root(&self) -> PathBuf {
        let place = &self.settings.place;
        Path::new("/").join(&place.bucket).join(&place.prefix)
    }
}

impl Component for ObjectStore {
    fn kind(&self) -> Kind {
        Kind::ObjectStore
    }

    fn name(&self) -> &str {
        &self.settings.name
    }

    fn optional(&self) -> bool {
        self.settings.optional
    }

    fn place(&self) -> String {
        self.content.location()
    }

    fn probe(&self) -> Result<()> {
        self.impatient.first("").map(drop).map_err(store_error)
    }

    fn backup(&self, context: &BackupContext<'_>) -> Result<Backup> {
        self.settings.hooks.before_backup(self, &context.control)?;
        backup::backup(self, context)
    }

    fn after_backup(&self) -> Result<()> {
        self.settings.hooks.after_backup(self)
    }

    fn stage(&self, context: &RestoreContext<'_>) -> Result<Box<dyn StagedRestore>> {
        self.recover(context.job_id, &context.portion)?;
        self.settings.hooks.before_restore(self, &context.control)?;
        stage::stage(self, context)
    }

    fn check(
        &self,
        repository: &repository::Repository,
        index: &repository::Index,
        snapshot: repository::Id,
        portion: &Portion,
        _control: &repository::Control,
    ) -> Result<()> {
        Keys::find(portion, (repository, index, snapshot)).map(drop)
    }

    fn plan(
        &self,
        repository: &repository::Repository,
        index: &repository::Index,
        snapshot: repository::Id,
        portion: &Portion,
        control: &Control,
        visit: &mut repository::VisitPlanned<'_>,
    ) -> Result<repository::RestorePlan> {
        use repository::Planned;
        let compared = compare::compare(self, (repository, index, snapshot), portion, control)?;
        let mut plan = repository::RestorePlan { unchanged: compared.kept, ..Default::default() };
        for change in &compared.changes {
            let (planned, count) = match change.action {
                Action::Make => (Planned::Made, &mut plan.made),
                Action::Replace => (Planned::MadeEqual, &mut plan.made_equal),
                Action::Remove => (Planned::Removed, &mut plan.removed),
            };
            *count += 1;
            plan.bytes += change.bytes();
            visit(change.key.as_bytes(), planned, change.bytes())
                .map_err(|e| Error::engine("the plan was stopped", e))?;
        }
        Ok(plan)
    }

    fn recover(&self, job_id: &str, _portion: &Portion) -> Result<Recovered> {
        let area = Area::new(&*self.content, job_id, &self.settings.name);
        if Area::new(&*self.impatient, job_id, &self.settings.name).is_empty()? {
            return Ok(Recovered::Nothing);
        }
        area.recover()
    }

    fn after_restore(&self) -> Result<()> {
        self.settings.hooks.after_restore(self)
    }

    fn drill(&self, context: &DrillContext<'_>, drilled: &mut Drilled) -> Result<()> {
        file_store::drill_files(self, &self.settings.hooks, context, drilled, &|_| Ok(()))?;
        let text = "that a service takes the objects of component '{}': they were restored as files, with their headers beside them";
        drilled.not_proven.push(text.replace("{}", &self.settings.name));
        Ok(())
    }
}

/// An error of the bucket.
fn store_error(error: storage::Error) -> Error {
    let kind = match error.kind {
        storage::ErrorKind::NotFound => ErrorKind::Missing,
        storage::ErrorKind::NoSpace => ErrorKind::NoSpace,
        storage::ErrorKind::Forbidden => ErrorKind::Forbidden,
        _ => ErrorKind::Io,
    };
    Error::new(kind, error.to_string())
}

/// What `work` makes of each thing, in the same order, with as many requests at once as the service likes; or its first
/// error, and then not all of it was done.
fn each<T: Sync, R: Send>(
    content: &dyn Content,
    control: &Control,
    things: &[T],
    work: impl Fn(&T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let threads = content.parallelism().clamp(1, THREADS_MAX);
    repository::each(threads, things, |thing| {
        control.check().map_err(|e| Error::engine("the work was stopped", e))?;
        work(thing)
    })
}
