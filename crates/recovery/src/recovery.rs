//! The facade: everything that the interface, the command line and the schedules may ask of the domain.
//!
//! Each method names a thing that a user does; the work is in the module of its noun (`users`, `stores`,
//! `backups`, `restores`, `jobs`, `retention`). Whatever changes something runs as a task of its own, so that a client
//! that hangs up in the middle leaves no half of it.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use secrecy::SecretString;
use tokio::sync::{Mutex, Semaphore};

use crate::browse::{Browsing, ComponentPlan, FileListing, OpenedFile};
use crate::clock::JumpWatch;
use crate::drills::REPORTS_SHOWN;
use crate::jobs::Runner;
use crate::looks::Looks;
use crate::notices::Bell;
use crate::ownership::{Ownership, refuse_network};
use crate::restores::WrongPasscodes;
use crate::retention::{RetentionReport, Silences, Sweeps};
use crate::secrets::MasterKey;
use crate::state::State;
use crate::store::cache::Caches;
use crate::stores::Gates;
use crate::{
    AuditEntry, AuditView, BackupView, Caller, ComponentView, CreateBackup, Deletion, DeliveryView,
    DisasterSettings, DrillReport, Error, ErrorKind, JobFigures, JobView, KeyView, Mode, NewKey, Overview,
    Passcode, Principal, Proof, Purpose, RegisterStore, RestoreBackup, Result, Role, RunStatus, RunView,
    Settings, StoreDetail, StoreView, TargetView, TaskChange, TaskKind, TaskView, UserView, Validation,
    Wanted,
};

/// So many password hashes or passcode derivations are computed at a time; each takes tens of MiB.
const DERIVATIONS_MAX: usize = 2;

/// The running domain; cheap to clone. When the last clone is dropped without [`Recovery::stop`], running jobs
/// end as if the process had been killed.
#[derive(Clone)]
pub struct Recovery {
    pub(crate) inner: Arc<Inner>,
    _alive: Arc<Alive>,
}

/// What all methods and background tasks share.
pub(crate) struct Inner {
    pub settings: Settings,
    pub state: State,
    pub key: MasterKey,
    /// Names this server in stores (`owner.json`, running backups, restic locks); made once, kept in the state.
    pub server_id: String,
    /// Names this process in leases.
    pub instance: String,
    /// Who may compute a password hash just now.
    pub password_turns: Semaphore,
    /// Who may derive a key from a passcode just now.
    pub passcode_turns: Semaphore,
    /// Who may validate a backup just now.
    pub validation_turns: Semaphore,
    /// Held while a store is being registered, so that two never get one place.
    pub registration: Mutex<()>,
    /// Deletions and reclaiming, one at a time per store.
    pub gates: Gates,
    /// Held while space is being freed; deletions need not wait for that.
    pub reclaiming: Mutex<()>,
    pub sweeps: Sweeps,
    pub silences: Silences,
    /// Looks into stores for the start page.
    pub looks: Looks,
    /// What was read of the stores' catalogues, for lists.
    pub caches: Caches,
    /// Held while somebody looks at the components.
    pub component_look: Arc<Mutex<()>>,
    /// Wakes those who deliver notifications.
    pub bell: Bell,
    pub wrong_passcodes: WrongPasscodes,
    /// Backups whose files somebody looks at.
    pub browsing: Browsing,
    pub clock: JumpWatch,
    pub runner: Arc<Runner>,
    /// Last, so that the data directory is free only when all else is gone.
    _ownership: Option<Ownership>,
}

/// Ends the background work with the last handle.
struct Alive(Arc<Runner>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.kill();
    }
}

/// What to do if another process has the data directory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum IfTaken {
    Refuse,
    /// Only for what the state database alone guards, like users.
    WorkBeside,
}

impl Inner {
    async fn open(settings: Settings, if_taken: IfTaken) -> Result<Self> {
        let (data, state_dir) =
            (settings.data_directory.clone(), settings.state_file.parent().map(ToOwned::to_owned));
        let ownership = blocking(move || {
            let ownership = match Ownership::take(&data) {
                Ok(ownership) => Some(ownership),
                Err(e) if e.kind == ErrorKind::AlreadyRunning && if_taken == IfTaken::WorkBeside => None,
                Err(e) => return Err(e),
            };
            if let Some(directory) = state_dir.filter(|directory| *directory != data) {
                refuse_network(&directory)?;
            }
            Ok(ownership)
        })
        .await?;
        let state = State::open(&settings.state_file).await?;
        let sealed_with = state.meta_if_any("master_key_id").await?;
        let (file, may_make) = (settings.master_key_file.clone(), sealed_with.is_none());
        let key = blocking(move || MasterKey::load(&file, may_make)).await?;
        if state.meta("master_key_id", &key.id()).await? != key.id() {
            let message = format!(
                "the master key {} is not the one that the state {} was sealed with; put the right one back",
                settings.master_key_file.display(),
                settings.state_file.display()
            );
            return Err(Error::new(ErrorKind::Configuration, message));
        }
        let server_id = state.meta("server_id", &new_server_id()).await?;
        Ok(Self {
            runner: Arc::new(Runner::new(settings.lease)),
            settings,
            state,
            key,
            server_id,
            instance: uuid::Uuid::new_v4().to_string(),
            password_turns: Semaphore::new(DERIVATIONS_MAX),
            passcode_turns: Semaphore::new(DERIVATIONS_MAX),
            validation_turns: Semaphore::new(DERIVATIONS_MAX),
            registration: Mutex::new(()),
            gates: Gates::default(),
            reclaiming: Mutex::new(()),
            sweeps: Sweeps::default(),
            silences: Silences::default(),
            looks: Looks::default(),
            caches: Caches::default(),
            component_look: Arc::default(),
            bell: Bell::new(),
            wrong_passcodes: WrongPasscodes::default(),
            browsing: Browsing::default(),
            clock: JumpWatch::new(),
            _ownership: ownership,
        })
    }
}

/// Host name, for people, and a UUID, for certainty.
fn new_server_id() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host: String =
        host.trim().chars().filter(|c| c.is_ascii_alphanumeric() || "-.".contains(*c)).take(64).collect();
    let host = if host.is_empty() { "strongroom" } else { &host };
    format!("{host}/{}", uuid::Uuid::new_v4())
}

/// Runs work that blocks (files, key derivation, the engine) away from the request threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(died(e)))
}

/// Runs a change to its end, even if whoever asked for it is gone.
async fn detached<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    tokio::spawn(work).await.unwrap_or_else(|e| Err(died(e)))
}

fn died(error: tokio::task::JoinError) -> Error {
    Error::new(ErrorKind::Internal, format!("work ended before it was done: {error}")).because(error)
}

impl Recovery {
    /// Takes the data directory for this process, opens and migrates the state, loads or makes the master key.
    pub async fn open(settings: Settings) -> Result<Recovery> {
        Self::open_as(settings, IfTaken::Refuse).await
    }

    /// Opens the state for the management of users alone, also beside a running server: the database guards those
    /// by itself. Not to be [`Recovery::start`]ed.
    pub async fn open_for_users(settings: Settings) -> Result<Recovery> {
        Self::open_as(settings, IfTaken::WorkBeside).await
    }

    async fn open_as(settings: Settings, if_taken: IfTaken) -> Result<Recovery> {
        let inner = Arc::new(Inner::open(settings, if_taken).await?);
        let alive = Arc::new(Alive(inner.runner.clone()));
        Ok(Recovery { inner, _alive: alive })
    }

    /// Takes up interrupted jobs, then runs new ones, the system tasks and reclaiming, until `stop`.
    pub async fn start(&self) -> Result<()> {
        self.inner.start().await
    }

    /// Running jobs pause at the next safe point (they go on at the next start); returns when none runs, 20 s at most.
    pub async fn stop(&self) {
        self.inner.runner.stop().await;
        self.inner.state.settle().await;
    }

    /// True once the state database answers.
    pub async fn ready(&self) -> bool {
        self.inner.state.answers().await
    }

    /// What `jobsUrl` starts with.
    pub fn public_url(&self) -> &str {
        &self.inner.settings.public_url
    }

    /// Adds a user; the name is unique without regard to case.
    pub async fn add_user(&self, username: &str, password: &SecretString, role: Role) -> Result<()> {
        let (inner, username, password) = (self.inner.clone(), username.to_owned(), password.clone());
        detached(async move { inner.add_user(&username, &password, role).await }).await
    }

    /// Sets a password and ends the user's sessions.
    pub async fn set_password(&self, username: &str, password: &SecretString) -> Result<()> {
        let (inner, username, password) = (self.inner.clone(), username.to_owned(), password.clone());
        detached(async move { inner.update_user(&username, None, Some(&password)).await }).await
    }

    /// Removes a user and ends the user's sessions. The last administrator stays.
    pub async fn remove_user(&self, username: &str) -> Result<()> {
        self.inner.remove_user(username).await
    }

    /// Gives a user another role, another password, or both, and ends the user's sessions. The last administrator stays
    /// one.
    pub async fn update_user(
        &self,
        username: &str,
        role: Option<Role>,
        password: Option<&SecretString>,
    ) -> Result<()> {
        let (inner, username, password) = (self.inner.clone(), username.to_owned(), password.cloned());
        detached(async move { inner.update_user(&username, role, password.as_ref()).await }).await
    }

    /// Ends all sessions of a user.
    pub async fn revoke_tokens(&self, username: &str) -> Result<()> {
        self.inner.revoke_tokens(username).await
    }

    /// Makes a key for programs; returns it, which nobody can tell again, and its end.
    pub async fn create_key(&self, new: NewKey, created_by: &str) -> Result<(SecretString, i64)> {
        let (inner, created_by) = (self.inner.clone(), created_by.to_owned());
        detached(async move { inner.create_key(new, &created_by).await }).await
    }

    /// All keys by name, those too whose end has come.
    pub async fn keys(&self) -> Result<Vec<KeyView>> {
        self.inner.keys().await
    }

    /// One key.
    pub async fn key(&self, name: &str) -> Result<KeyView> {
        self.inner.key(name).await
    }

    /// Makes a key worthless at once.
    pub async fn revoke_key(&self, name: &str) -> Result<()> {
        let (inner, name) = (self.inner.clone(), name.to_owned());
        detached(async move { inner.revoke_key(&name).await }).await
    }

    /// Adds an entry to the audit log. Of log-ins that succeed one after another, the first is told.
    pub async fn record(&self, entry: AuditEntry, is_log_in: bool) {
        self.inner.record(entry, is_log_in).await;
    }

    /// The audit log, newest first, from below the id `before`; of one user if a name is given. 1,000 entries at most.
    pub async fn audit(&self, username: &str, before: Option<i64>, count: i64) -> Result<Vec<AuditView>> {
        self.inner.audit(username, before, count).await
    }

    /// The jobs that were submitted last, newest first.
    pub async fn recent_jobs(&self, count: i64) -> Result<Vec<JobView>> {
        self.inner.recent_jobs(count).await
    }

    /// All users by name.
    pub async fn users(&self) -> Result<Vec<UserView>> {
        self.inner.users().await
    }

    /// `LoginFailed` for unknown user, wrong password, and while locked out (burst of 5 free, then growing delay per
    /// user and address).
    pub async fn log_in(&self, username: &str, password: &SecretString, address: &str) -> Result<Principal> {
        let (inner, username, password) = (self.inner.clone(), username.to_owned(), password.clone());
        let address = address.to_owned();
        // A task of its own: a client that hangs up before the answer must not escape the count of failures.
        detached(async move { inner.log_in(&username, &password, &address).await }).await
    }

    /// Somebody whom the sign-in provider vouches for, which has checked who it is: the user of that name, made if need be.
    /// `NameInvalid` where the name cannot be one, `Forbidden` where it belongs to another account there.
    pub async fn sign_in_by_provider(
        &self,
        issuer: &str,
        subject: &str,
        username: &str,
        role: Role,
    ) -> Result<Principal> {
        let (inner, issuer, subject) = (self.inner.clone(), issuer.to_owned(), subject.to_owned());
        let username = username.to_owned();
        detached(async move { inner.sign_in_by_provider(&issuer, &subject, &username, role).await }).await
    }

    /// Ends the sessions of those whom another provider than this vouched for; without one, of all.
    pub async fn end_other_provider_sessions(&self, issuer: Option<&str>) -> Result<()> {
        self.inner.end_other_provider_sessions(issuer).await
    }

    /// A token valid for `minutes` (1..=20160): text and expiry in epoch ms. Kept as SHA-256 only.
    pub async fn issue_token(&self, principal: &Principal, minutes: u32) -> Result<(SecretString, i64)> {
        self.inner.issue_token(principal, minutes).await
    }

    /// Who holds this token or key; `None` if unknown, expired or revoked, or the user is gone.
    pub async fn authenticate(&self, token: &str) -> Result<Option<Principal>> {
        self.inner.authenticate(token).await
    }

    /// Like [`Recovery::issue_token`], for another purpose; `facts` come back with it.
    pub async fn issue_grant(
        &self,
        principal: &Principal,
        purpose: Purpose,
        minutes: u32,
        facts: &str,
    ) -> Result<(SecretString, i64)> {
        self.inner.issue_grant(principal, purpose, minutes, facts).await
    }

    /// Who holds this code or refresh token, and its facts.
    pub async fn grant(&self, token: &str, purpose: Purpose) -> Result<Option<(Principal, String)>> {
        self.inner.grant(token, purpose).await
    }

    /// Like [`Recovery::grant`], once: whoever asks again gets nothing.
    pub async fn take_grant(&self, token: &str, purpose: Purpose) -> Result<Option<(Principal, String)>> {
        let (inner, token) = (self.inner.clone(), token.to_owned());
        detached(async move { inner.take_grant(&token, purpose).await }).await
    }

    /// A signature of this server, or of another one under the same master key, over a text that a caller keeps for
    /// us.
    pub fn sign(&self, purpose: &str, text: &str) -> String {
        self.inner.key.sign(purpose, text)
    }

    /// Whether we have signed this text for this purpose.
    pub fn is_signed(&self, purpose: &str, text: &str, signature: &str) -> bool {
        self.inner.key.is_signed(purpose, text, signature)
    }

    /// Ends a session, or what a code or refresh token was good for.
    pub async fn revoke_token(&self, token: &str) -> Result<()> {
        self.inner.revoke_token(token).await
    }

    /// All registered stores by name.
    pub async fn stores(&self) -> Result<Vec<StoreView>> {
        self.inner.stores().await
    }

    /// One store, with what had to be counted in it.
    pub async fn store(&self, name: &str) -> Result<StoreDetail> {
        self.inner.store(name).await
    }

    /// Registers a place as a store, making or adopting what is there.
    pub async fn register_store(&self, request: RegisterStore) -> Result<StoreView> {
        let inner = self.inner.clone();
        detached(async move { inner.register_store(request).await }).await
    }

    /// Takes another credential for a store in a bucket, once it has opened the store.
    pub async fn renew_credential(&self, name: &str, credentials: crate::Credentials) -> Result<()> {
        let (inner, name) = (Arc::clone(&self.inner), name.to_owned());
        detached(async move { inner.renew_credential(&name, credentials).await }).await
    }

    /// Registers as a job (async=true); returns its id.
    pub async fn register_store_as_job(&self, request: RegisterStore, caller: Caller) -> Result<String> {
        let inner = self.inner.clone();
        detached(async move { inner.register_store_as_job(request, caller).await }).await
    }

    /// Gives or takes the default flag.
    pub async fn update_store(&self, name: &str, default: bool) -> Result<()> {
        let (inner, name) = (self.inner.clone(), name.to_owned());
        detached(async move { inner.update_store(&name, default).await }).await
    }

    /// Whether a store can be reached and used; never an error for a store that cannot.
    pub async fn validate_store(&self, name: &str) -> Result<Validation> {
        self.inner.validate_store(name).await
    }

    /// Forgets a store; what lies in it stays.
    /// With an active schedule on it: refused, or with `pause_tasks` the schedule is paused.
    pub async fn unregister_store(&self, name: &str, pause_tasks: bool) -> Result<()> {
        let (inner, name) = (self.inner.clone(), name.to_owned());
        detached(async move { inner.unregister_store(&name, pause_tasks).await }).await
    }

    /// Name of the default store.
    pub async fn default_store(&self) -> Result<Option<String>> {
        self.inner.default_store().await
    }

    /// Newest first; backups in progress too.
    pub async fn backups(&self, store: &str) -> Result<Vec<Arc<BackupView>>> {
        self.inner.backups(store).await
    }

    /// Those of all stores that can be reached, newest first.
    pub async fn all_backups(&self) -> Result<Vec<Arc<BackupView>>> {
        self.inner.all_backups().await
    }

    /// One backup.
    pub async fn backup(&self, store: &str, name: &str) -> Result<BackupView> {
        self.inner.backup(store, name).await
    }

    /// When each of these backups of a store, a page of them at most, was last verified or restored here, by name; those
    /// that never were are missing.
    pub async fn proofs(&self, store: &str, backups: &[&str]) -> Result<HashMap<String, Proof>> {
        self.inner.proofs(store, backups).await
    }

    /// Opens a backup so that its files can be looked at in the session of this token, until that session has not
    /// looked for ten minutes, closes it or ends.
    pub async fn open_files(
        &self,
        session: &str,
        who: &Principal,
        store: &str,
        name: &str,
        passcode: Passcode,
    ) -> Result<()> {
        let (inner, session, user) = (self.inner.clone(), session.to_owned(), who.username.clone());
        let (store, name) = (store.to_owned(), name.to_owned());
        // A task of its own: a client that hangs up before the answer must not escape the count of wrong passcodes.
        detached(async move { inner.open_files(&session, &user, &store, &name, passcode).await }).await
    }

    /// Whether a backup is open in the session of this token.
    pub fn has_files_open(&self, session: &str, store: &str, name: &str) -> bool {
        self.inner.opened(session, store, name).is_some()
    }

    /// Entries of a directory of a component, from the place `skip` on; `None` if the backup is not open in this session.
    pub async fn list_files(
        &self,
        session: &str,
        (store, name): (&str, &str),
        component: &str,
        path: Option<&[u8]>,
        (skip, count): (u64, usize),
    ) -> Result<Option<FileListing>> {
        self.inner.list_files(session, (store, name), component, path, (skip, count)).await
    }

    /// A file of a component, ready to be read; `None` if the backup is not open in this session.
    pub async fn open_file(
        &self,
        session: &str,
        (store, name): (&str, &str),
        component: &str,
        path: &[u8],
    ) -> Result<Option<OpenedFile>> {
        self.inner.open_file(session, (store, name), component, path).await
    }

    /// What a restore would change, each component compared with what is there now; `None` if the backup is not
    /// open in this session.
    pub async fn plan_restore(
        &self,
        session: &str,
        place: (&str, &str),
        wanted: &Wanted,
    ) -> Result<Option<Vec<ComponentPlan>>> {
        self.inner.plan_restore(session, place, wanted).await
    }

    /// Forgets the opened backup.
    pub fn close_files(&self, session: &str, store: &str, name: &str) {
        self.inner.close_files(session, store, name);
    }

    /// By name alone, as in release 10.9: in `store` if given; else in the only store that has it; else in the
    /// default store if it has it; else `Ambiguous`. Returns the store.
    pub async fn find_backup(&self, name: &str, store: Option<&str>) -> Result<String> {
        self.inner.find_backup(name, store).await
    }

    /// All checks, then a durable job; returns its id.
    pub async fn create_backup(&self, request: CreateBackup, caller: Caller) -> Result<String> {
        let inner = self.inner.clone();
        detached(async move { inner.create_backup(request, caller).await }).await
    }

    /// Changes retention date or description.
    pub async fn update_backup(
        &self,
        store: &str,
        name: &str,
        retention_date: Option<i64>,
        description: Option<String>,
    ) -> Result<()> {
        let (inner, store, name) = (self.inner.clone(), store.to_owned(), name.to_owned());
        detached(async move { inner.update_backup(&store, &name, retention_date, description).await }).await
    }

    /// Takes a backup out of the catalogue, at once or as a job; its space is freed later.
    pub async fn delete_backup(
        &self,
        store: &str,
        name: &str,
        as_job: bool,
        caller: Caller,
    ) -> Result<Deletion> {
        let (inner, store, name) = (self.inner.clone(), store.to_owned(), name.to_owned());
        detached(async move { inner.delete_backup(&store, &name, as_job, caller).await }).await
    }

    /// Whether a backup is all there; with the passcode also whether it opens.
    pub async fn validate_backup(
        &self,
        store: &str,
        name: &str,
        passcode: Option<Passcode>,
    ) -> Result<Validation> {
        self.inner.validate_backup(store, name, passcode).await
    }

    /// Reads and checks every blob of a backup, as a job.
    pub async fn verify_backup_as_job(
        &self,
        store: &str,
        name: &str,
        passcode: Passcode,
        caller: Caller,
    ) -> Result<String> {
        let (inner, store, name) = (self.inner.clone(), store.to_owned(), name.to_owned());
        detached(async move { inner.verify_backup_as_job(&store, &name, passcode, caller).await }).await
    }

    /// Restores a backup into scratch and checks it there, as a job; without a passcode reads every pack of it.
    pub async fn drill_backup(
        &self,
        store: &str,
        name: &str,
        passcode: Option<Passcode>,
        caller: Caller,
    ) -> Result<String> {
        let (inner, store, name) = (self.inner.clone(), store.to_owned(), name.to_owned());
        detached(async move { inner.drill_backup(&store, &name, passcode, caller).await }).await
    }

    /// The newest reports on a backup.
    pub async fn drill_reports(&self, store: &str, name: &str) -> Result<Vec<DrillReport>> {
        self.inner.drill_reports(store, name, REPORTS_SHOWN).await
    }

    /// The last report on a backup.
    pub async fn last_drill(&self, store: &str, name: &str) -> Result<Option<DrillReport>> {
        Ok(self.inner.drill_reports(store, name, 1).await?.into_iter().next())
    }

    /// All checks (passcode included), then a durable job; `None` with `validate_only`.
    pub async fn restore_backup(&self, request: RestoreBackup, caller: Caller) -> Result<Option<String>> {
        let inner = self.inner.clone();
        detached(async move { inner.restore_backup(request, caller).await }).await
    }

    /// Ids of all jobs, newest first.
    pub async fn jobs(&self) -> Result<Vec<String>> {
        self.inner.state.job_ids().await
    }

    /// One job.
    pub async fn job(&self, id: &str) -> Result<JobView> {
        self.inner.job(id).await
    }

    /// Stops a job if it can still be undone; `Busy` otherwise.
    pub async fn cancel_job(&self, id: &str) -> Result<()> {
        let (inner, id) = (self.inner.clone(), id.to_owned());
        detached(async move { inner.cancel_job(&id).await }).await
    }

    /// The last submitted backup or restore.
    pub async fn last_operation(&self) -> Result<Option<JobView>> {
        self.inner.last_operation().await
    }

    /// Why changes are refused now, if they are: a restore runs, or somebody made this server read-only.
    pub async fn read_only_reason(&self) -> Result<Option<String>> {
        self.inner.read_only_reason().await
    }

    /// Why even a backup is refused now, if it is: a restore runs.
    pub async fn restoring_reason(&self) -> Result<Option<String>> {
        self.inner.restoring_reason().await
    }

    /// Whether changes are refused.
    pub async fn mode(&self) -> Result<Mode> {
        self.inner.mode().await
    }

    /// Refuses changes from now on, or allows them again.
    pub async fn set_mode(&self, mode: Mode) -> Result<()> {
        let inner = self.inner.clone();
        detached(async move { inner.set_mode(mode).await }).await
    }

    /// The settings of disaster recovery.
    pub async fn disaster_settings(&self) -> Result<DisasterSettings> {
        self.inner.disaster_settings().await
    }

    /// Changes them; `edit` gets them as they are.
    pub async fn update_disaster_settings(
        &self,
        edit: impl FnOnce(&mut DisasterSettings) + Send + 'static,
    ) -> Result<()> {
        let inner = self.inner.clone();
        detached(async move { inner.update_disaster_settings(edit).await }).await
    }

    /// The deployment at one look: what is protected, how well, and what needs somebody.
    pub async fn overview(&self) -> Result<Overview> {
        self.inner.overview().await
    }

    /// What is protected, as it is now.
    pub async fn components(&self) -> Result<Vec<ComponentView>> {
        self.inner.components().await
    }

    /// Who is told of what happens, and whether that arrives.
    pub async fn targets(&self) -> Result<Vec<TargetView>> {
        self.inner.targets().await
    }

    /// Tells one target, or all if the name is empty, that this is a test; answers what became of the first attempts.
    pub async fn test_notification(&self, target: &str, username: &str) -> Result<Vec<DeliveryView>> {
        let (inner, target, username) = (self.inner.clone(), target.to_owned(), username.to_owned());
        detached(async move { inner.test_notification(&target, &username).await }).await
    }

    /// What monitoring asks of the jobs that are kept.
    pub async fn job_figures(&self) -> Result<JobFigures> {
        self.inner.state.job_figures().await
    }

    /// All system tasks, oldest first.
    pub async fn tasks(&self) -> Result<Vec<TaskView>> {
        self.inner.tasks().await
    }

    /// One task.
    pub async fn task(&self, id: &str) -> Result<TaskView> {
        self.inner.task(id).await
    }

    /// Makes a task of that kind; returns its id.
    pub async fn create_task(&self, kind: TaskKind, change: TaskChange, owner: &str) -> Result<String> {
        let (inner, owner) = (self.inner.clone(), owner.to_owned());
        detached(async move { inner.create_task(kind, change, &owner).await }).await
    }

    /// Changes a task; it counts from its next run on.
    pub async fn update_task(&self, id: &str, change: TaskChange) -> Result<()> {
        let (inner, id) = (self.inner.clone(), id.to_owned());
        detached(async move { inner.update_task(&id, change).await }).await
    }

    /// Lets a task run by itself, or not any more.
    pub async fn enable_task(&self, id: &str, active: bool) -> Result<()> {
        let (inner, id) = (self.inner.clone(), id.to_owned());
        detached(async move { inner.enable_task(&id, active).await }).await
    }

    /// Forgets a task and the records of its runs; backups stay.
    pub async fn delete_task(&self, id: &str) -> Result<()> {
        let (inner, id) = (self.inner.clone(), id.to_owned());
        detached(async move { inner.delete_task(&id).await }).await
    }

    /// Begins a run now: its id, and that of its job if it has one. `Busy` where a run by schedule would wait.
    pub async fn run_task(&self, id: &str, caller: Caller) -> Result<(String, Option<String>)> {
        let (inner, id) = (self.inner.clone(), id.to_owned());
        detached(async move { inner.run_task(&id, caller).await }).await
    }

    /// A task's runs, newest first.
    pub async fn runs(&self, task: &str) -> Result<Vec<RunView>> {
        self.inner.runs(task).await
    }

    /// One run of a task.
    pub async fn run(&self, task: &str, id: &str) -> Result<RunView> {
        self.inner.run(task, id).await
    }

    /// Writes into the record of a run that has ended.
    pub async fn update_run(
        &self,
        task: &str,
        id: &str,
        status: Option<RunStatus>,
        result: Option<String>,
    ) -> Result<()> {
        let (inner, task, id) = (self.inner.clone(), task.to_owned(), id.to_owned());
        detached(async move { inner.update_run(&task, &id, status, result).await }).await
    }

    /// Removes the record of a run that has ended.
    pub async fn delete_run(&self, task: &str, id: &str) -> Result<()> {
        let (inner, task, id) = (self.inner.clone(), task.to_owned(), id.to_owned());
        detached(async move { inner.delete_run(&task, &id).await }).await
    }

    /// The retention cleaner, now instead of at its next run.
    pub async fn run_retention_now(&self) -> Result<RetentionReport> {
        let inner = self.inner.clone();
        detached(async move { inner.run_retention().await }).await
    }
}
