//! The relational store: databases of a PostgreSQL server, by the logical way (this page), or by the physical one (`physical`).
//!
//! ```text
//! backup    hooks → one snapshot of each database (`session`) → pg_dump and COPY (`backup`, `copy`) → manifest
//! restore   hooks → each database built under another name (`stage`, `build`) → all renamed in one transaction (`swap`)
//!           → what was there before is dropped
//! drill     a server of our own (`cluster`) → the same restore into it → is all there and right (`prove`)? → it goes (`drill`)
//! recover   names and comments of the databases (`names`) and a note of ours (`trace`) tell how far it came
//! ```
//! `server` is the way there, for connections and tools alike; `docs/postgresql.md` says what is kept and what is not.

mod backup;
mod build;
mod check;
mod cluster;
mod copy;
mod drill;
mod failure;
mod inventory;
mod manifest;
mod names;
mod physical;
mod prove;
mod quote;
mod roles;
mod rows;
mod select;
mod server;
mod session;
mod snapshot;
mod stage;
mod swap;
mod tables;
mod tools;
mod trace;

use std::path::PathBuf;

pub(crate) use cluster::end_cluster;
pub use physical::{PhysicalSettings, RestoredServer, ServerRequest, restore_server};
pub use server::Password;

use crate::{
    Backup, BackupContext, Component, DrillContext, Drilled, Error, Hooks, Kind, LogState, Portion,
    Recovered, RestoreContext, Result, StagedRestore,
};
use names::Names;
use physical::LogWatch;
use server::Server;
use snapshot::Snapshot;
use trace::Trace;

/// Databases of one server, as configured.
#[derive(Clone, Debug)]
pub struct RelationalStoreSettings {
    /// The component's name, unique in the deployment.
    pub name: String,
    /// `postgres://user@host:port/`, without a password. A database behind it is the one to which we connect in order to
    /// ask for the others; else `postgres`.
    pub url: String,
    /// The role's password, if it has one.
    pub password: Option<Password>,
    /// PEM file of the authorities that may vouch for the server; else those of the system.
    pub ca_file: Option<PathBuf>,
    /// Names of databases, or `*` for all.
    pub databases: Vec<String>,
    /// Tables that are read or loaded at once.
    pub connections: usize,
    /// Where `pg_dump` and its like lie; else they are looked for.
    pub tools_directory: Option<PathBuf>,
    /// How it is backed up.
    pub method: Method,
    /// Where servers of our own are made that replay a log.
    pub clusters_directory: PathBuf,
    /// Where a restore keeps an archive of `pg_dump` while it needs it (definitions and large objects), and a note while it is
    /// taken back.
    pub scratch_directory: PathBuf,
    /// Whether a backup may go on without this component.
    pub optional: bool,
    /// Programs to run before and after.
    pub hooks: Hooks,
}

/// How a server is backed up.
#[derive(Clone, Debug)]
pub enum Method {
    /// Its databases, by their rows: at the instant of each backup, into whatever release.
    Logical,
    /// Its files and its log: at any instant, into the same release.
    Physical(PhysicalSettings),
}

/// Databases of a server.
#[derive(Clone, Debug)]
pub(crate) struct RelationalStore {
    settings: RelationalStoreSettings,
    server: Server,
    log: LogWatch,
}

impl RelationalStore {
    pub(crate) fn new(settings: RelationalStoreSettings) -> Result<Self, String> {
        let server = Server::new(&settings.url, settings.password.clone(), settings.ca_file.clone())?;
        Ok(Self { settings, server, log: LogWatch::default() })
    }

    fn trace(&self, names: Names) -> Trace {
        Trace {
            directory: self.settings.scratch_directory.clone(),
            component: self.settings.name.clone(),
            names,
        }
    }
}

impl Component for RelationalStore {
    fn kind(&self) -> Kind {
        Kind::RelationalStore
    }

    fn name(&self) -> &str {
        &self.settings.name
    }

    fn optional(&self) -> bool {
        self.settings.optional
    }

    fn place(&self) -> String {
        self.server.address()
    }

    fn probe(&self) -> Result<()> {
        match &self.settings.method {
            Method::Logical => backup::probe(self),
            Method::Physical(settings) => physical::probe(self, settings),
        }
    }

    fn backup(&self, context: &BackupContext<'_>) -> Result<Backup> {
        self.settings.hooks.before_backup(self, &context.control)?;
        match &self.settings.method {
            Method::Logical => backup::backup(self, context),
            Method::Physical(settings) => physical::backup(self, settings, context),
        }
    }

    fn attend(&self, stop: &(dyn Fn() -> bool + Sync)) {
        if let Method::Physical(settings) = &self.settings.method {
            std::thread::scope(|scope| {
                scope.spawn(|| physical::watch(self, settings, stop));
                physical::attend(self, settings, stop);
            });
        }
    }

    fn log_state(&self) -> Option<LogState> {
        matches!(self.settings.method, Method::Physical(_)).then(|| self.log.get())
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
        control: &repository::Control,
    ) -> Result<()> {
        let manifest = Snapshot::open(repository, index, snapshot)?.contents(control)?;
        let selected = select::select(manifest, portion)?;
        match selected.beside {
            true => select::refuse_taken(&mut swap::aside(&self.server, &[])?, &selected),
            false => Ok(()),
        }
    }

    fn plan(
        &self,
        repository: &repository::Repository,
        index: &repository::Index,
        snapshot: repository::Id,
        portion: &Portion,
        control: &repository::Control,
        visit: &mut repository::VisitPlanned<'_>,
    ) -> Result<repository::RestorePlan> {
        use repository::Planned;
        let selected =
            select::select(Snapshot::open(repository, index, snapshot)?.contents(control)?, portion)?;
        let mut client = swap::aside(&self.server, &[])?;
        select::refuse_taken(&mut client, &selected)?;
        let about = inventory::about(&mut client)?;
        let (present, closed) = inventory::databases(&mut client, about.major())?;
        let mut plan = repository::RestorePlan::default();
        let mut show = |path: String, planned, bytes| {
            match planned {
                Planned::Made => plan.made += 1,
                _ => plan.made_equal += 1,
            }
            plan.bytes += bytes;
            visit(path.as_bytes(), planned, bytes).map_err(|e| Error::engine("the plan was stopped", e))
        };
        for database in &selected.manifest.databases {
            let is_there =
                present.iter().map(|one| &one.name).chain(&closed).any(|name| *name == database.name);
            let planned = match is_there {
                true => Planned::MadeEqual,
                false => Planned::Made,
            };
            let directory = quote::file_name(&database.name);
            show(directory.clone(), planned, 0)?;
            for table in &database.tables {
                let bytes = table.parts.iter().map(|part| part.bytes).sum();
                let (schema, name) = (quote::file_name(&table.schema), quote::file_name(&table.name));
                show(format!("{directory}/{schema}/{name}"), planned, bytes)?;
            }
        }
        Ok(plan)
    }

    fn recover(&self, job_id: &str, _portion: &Portion) -> Result<Recovered> {
        let names = Names::new(job_id, &self.settings.name);
        build::clear_scratch(&self.settings.scratch_directory, &names)?;
        swap::recover(&self.server, &self.trace(names))
    }

    fn after_restore(&self) -> Result<()> {
        self.settings.hooks.after_restore(self)
    }

    fn drill(&self, context: &DrillContext<'_>, drilled: &mut Drilled) -> Result<()> {
        drill::drill(self, context, drilled)
    }
}
