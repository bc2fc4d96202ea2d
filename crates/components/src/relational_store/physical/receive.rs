//! The write-ahead log comes here as it is written, through a slot of the server's that keeps whatever we have not got yet.
//!
//! One receives at a time: the server's keeper ([`attend`]) all the time, or a backup while it runs, if there is no keeper. Confirmed
//! is only what was synced here, so whatever dies, the server or we, the rest is sent again.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use postgres::Client;
use repository::Control;
use sha2::{Digest, Sha256};

use super::super::inventory::{self, get};
use super::super::tools::{self, Tools};
use super::super::{RelationalStore, failure};
use super::PhysicalSettings;
use super::log::Position;
use super::spool::{ServerLog, Spool, receiver_name, take_turn};
use crate::{Error, ErrorKind, LogState, Result};

/// After a failure it is tried again so soon.
const AGAIN_AFTER: Duration = Duration::from_secs(2);
/// So often it is looked how it goes.
const LOOK_EVERY: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(50);
/// A connection that nobody holds any more is gone from the server's views within so long.
const END_TIME: Duration = Duration::from_secs(10);
/// If nothing arrives for so long although there is log, something is wrong.
const ARRIVAL_TIME: Duration = Duration::from_secs(60);
/// A server that says nothing keeps nobody from stopping.
const PATIENCE: &str = "SET statement_timeout = '30s'";
/// Longest name of a slot, in bytes.
const SLOT_BYTES_MAX: usize = 63;
/// So much of a hash stands in a name.
const DIGEST_BYTES: usize = 4;

/// Receives as long as `stop` does not say so, whatever happens on the way.
pub(in super::super) fn attend(
    store: &RelationalStore,
    settings: &PhysicalSettings,
    stop: &dyn Fn() -> bool,
) {
    let mut told = None;
    while !stop() {
        // If somebody else has the turn, he tells how it goes.
        let received = take_turn(&settings.log_directory)
            .and_then(|turn| turn.map(|turn| receive(store, settings, &turn.name, stop)).transpose());
        if store.log.get().failure.is_none() {
            told = None;
        }
        if let Err(error) = received {
            let message = Some(error.message);
            if told != message {
                let why = message.as_deref().unwrap_or_default();
                tracing::warn!(component = store.settings.name, "the write-ahead log is not received: {why}");
            }
            told.clone_from(&message);
            store.log.note(message);
        }
        pause(AGAIN_AFTER, stop);
    }
}

/// Looks now and then how it goes, as long as `stop` does not say so.
pub(in super::super) fn watch(store: &RelationalStore, settings: &PhysicalSettings, stop: &dyn Fn() -> bool) {
    let mut last = (None, Instant::now());
    while !stop() {
        match look(store, settings) {
            Err(error) => {
                store.log.measure(None, None);
                store.log.note_if_none(error.message);
            }
            Ok(Look { is_active, confirmed, behind, held }) => {
                store.log.measure(Some(behind), Some(held));
                // At each new connection it goes back to where its segment begins.
                if behind == 0 || last.0.is_none_or(|last| confirmed > last) {
                    last = (Some(confirmed), Instant::now());
                }
                match is_active && last.1.elapsed() < ARRIVAL_TIME {
                    true => store.log.note(None),
                    false if is_active => store.log.note_if_none("it does not advance".to_owned()),
                    false => store.log.note_if_none("nobody receives it".to_owned()),
                }
            }
        }
        pause(LOOK_EVERY, stop);
    }
}

struct Look {
    is_active: bool,
    confirmed: Position,
    /// Bytes that the server keeps for us.
    behind: u64,
    /// Bytes that lie here.
    held: u64,
}

fn look(store: &RelationalStore, settings: &PhysicalSettings) -> Result<Look> {
    let mut client = connect(store)?;
    let text = "SELECT COALESCE(r.application_name = $2, false), s.restart_lsn::text, \
                  COALESCE(pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn), 0)::int8 \
                FROM pg_replication_slots s LEFT JOIN pg_stat_replication r ON r.pid = s.active_pid WHERE s.slot_name = $1";
    let name = receiver_name(&settings.log_directory)?.unwrap_or_default();
    let row = client
        .query_opt(text, &[&slot_of(&store.settings.name), &name])
        .map_err(|e| failure::server("cannot ask how much of the log waits", &e))?
        .ok_or_else(|| Error::new(ErrorKind::Missing, "there is no replication slot yet"))?;
    let confirmed = get::<Option<String>>(&row, 1)?.as_deref().and_then(Position::parse);
    Ok(Look {
        is_active: get(&row, 0)?,
        confirmed: confirmed.unwrap_or(Position(0)),
        behind: get::<i64>(&row, 2)?.max(0).unsigned_abs(),
        held: spool_of(&mut client, settings)?.held()?,
    })
}

fn pause(time: Duration, stop: &dyn Fn() -> bool) {
    let until = Instant::now() + time;
    while Instant::now() < until && !stop() {
        std::thread::sleep(POLL);
    }
}

/// How the log arrives, as last seen by whoever receives or watches.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct LogWatch(Arc<Mutex<LogState>>);

impl LogWatch {
    fn state(&self) -> MutexGuard<'_, LogState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It failed, or it goes on. Since when it fails stays: each try ends in a failure of its own.
    fn note(&self, failure: Option<String>) {
        let mut state = self.state();
        let since = state.failure.as_ref().map_or_else(SystemTime::now, |(_, since)| *since);
        state.failure = failure.map(|why| (why, since));
    }

    /// It seems to fail, and whoever receives has said nothing better.
    fn note_if_none(&self, why: String) {
        self.state().failure.get_or_insert_with(|| (why, SystemTime::now()));
    }

    fn measure(&self, behind: Option<u64>, held: Option<u64>) {
        let mut state = self.state();
        state.behind_bytes = behind;
        state.held_bytes = held.unwrap_or(state.held_bytes);
    }

    pub(in super::super) fn get(&self) -> LogState {
        self.state().clone()
    }
}

/// Receives until the server ends that, or `stop`.
fn receive(
    store: &RelationalStore,
    settings: &PhysicalSettings,
    name: &str,
    stop: &dyn Fn() -> bool,
) -> Result<()> {
    let fail = |e| Error::io("the write-ahead log ends to arrive", e);
    let slot = slot_of(&store.settings.name);
    let mut client = connect(store)?;
    let about = inventory::about(&mut client)?;
    let tools = Tools::find(store.settings.tools_directory.as_deref(), about.major())?;
    let kept = free_slot(&mut client, &slot, name)?;
    let (time_line, end) = end_of_log(&mut client)?;
    let log = ServerLog { system_identifier: &about.system_identifier, time_line, end, kept };
    let spool = spool_of(&mut client, settings)?;
    spool.prepare(&log)?;
    spool.note_joint()?;
    if kept.is_none() {
        client
            .execute("SELECT pg_create_physical_replication_slot($1, true)", &[&slot])
            .map_err(|e| failure::server(format!("cannot make the replication slot '{slot}'"), &e))?;
        tracing::info!(slot, "a replication slot was made");
    }
    drop(client);
    let mut command = store.server.guarded_tool(&tools.path("pg_receivewal"), store.server.maintenance())?;
    command.env("PGAPPNAME", name).arg("--directory").arg(&settings.log_directory).args(["--slot", &slot]);
    command.args(["--synchronous", "--no-loop", "--no-password"]);
    match tools::run_guarded(command, "pg_receivewal", stop) {
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(()),
        Err(e) => Err(fail(e)),
        Ok(()) => Err(fail(io::Error::other("the server ended it"))),
    }
}

fn connect(store: &RelationalStore) -> Result<Client> {
    let mut client = store.server.connect(store.server.maintenance())?;
    client.batch_execute(PATIENCE).map_err(|e| failure::server("cannot prepare a connection", &e))?;
    Ok(client)
}

/// The branch of the server's log, and where it ends.
pub(super) fn end_of_log(client: &mut Client) -> Result<(u64, Position)> {
    let text = "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8), pg_current_wal_flush_lsn()::text";
    let row = client.query_one(text, &[]).map_err(|e| failure::server("cannot ask for the log's end", &e))?;
    let time_line = u64::from_str_radix(&get::<String>(&row, 0)?, 16).ok();
    let position = Position::parse(&get::<String>(&row, 1)?);
    time_line
        .zip(position)
        .ok_or_else(|| Error::new(ErrorKind::Io, "the server does not tell where its log ends"))
}

/// The directory, with what the server says of segments and pages.
pub(super) fn spool_of(client: &mut Client, settings: &PhysicalSettings) -> Result<Spool> {
    let text = "SELECT (SELECT setting::int8 FROM pg_settings WHERE name = 'wal_segment_size'), current_setting('wal_block_size')::int8";
    let row = client
        .query_one(text, &[])
        .map_err(|e| failure::server("cannot ask for the length of segments", &e))?;
    let bytes = |at| Ok(get::<i64>(&row, at)?.max(1).unsigned_abs());
    Ok(Spool { directory: settings.log_directory.clone(), segment_bytes: bytes(0)?, page_bytes: bytes(1)? })
}

/// The slot of a component, like `strongroom_gis`. Where the name is not one that servers take, a hash keeps it apart from others.
pub(super) fn slot_of(component: &str) -> String {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let plain = format!("strongroom_{component}");
    if component.chars().all(is_plain) && plain.len() <= SLOT_BYTES_MAX {
        return plain;
    }
    let digest = hex::encode(&Sha256::digest(component)[..DIGEST_BYTES]);
    let mut slot: String = plain.to_lowercase().chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    slot.truncate(SLOT_BYTES_MAX - 1 - digest.len());
    format!("{slot}_{digest}")
}

/// Takes the slot from a receiver of ours that outlived whoever started it, and drops one that the server has given up. Returns from
/// where on it keeps the log; `None`: there is none.
fn free_slot(client: &mut Client, slot: &str, name: &str) -> Result<Option<Position>> {
    let fail = |e: postgres::Error| failure::server(format!("cannot use the replication slot '{slot}'"), &e);
    let deadline = Instant::now() + END_TIME;
    loop {
        let found = client
            .query_opt(
                "SELECT s.active_pid, COALESCE(s.wal_status, '') = 'lost', s.restart_lsn::text, COALESCE(r.application_name, '') \
                 FROM pg_replication_slots s LEFT JOIN pg_stat_replication r ON r.pid = s.active_pid WHERE s.slot_name = $1",
                &[&slot],
            )
            .map_err(fail)?;
        let Some(found) = found else { return Ok(None) };
        let Some(holder) = get::<Option<i32>>(&found, 0)? else {
            if !get::<bool>(&found, 1)? {
                let kept = get::<Option<String>>(&found, 2)?.as_deref().and_then(Position::parse);
                return Ok(Some(kept.unwrap_or(Position(0))));
            }
            tracing::warn!(slot, "the server has given up the replication slot; it is made anew");
            client.execute("SELECT pg_drop_replication_slot($1)", &[&slot]).map_err(fail)?;
            continue;
        };
        // One that has just begun, or ends, is not in the view.
        let application = get::<String>(&found, 3)?;
        if application.is_empty() && Instant::now() < deadline {
            std::thread::sleep(POLL);
            continue;
        }
        if application != name || Instant::now() > deadline {
            let message = format!(
                "somebody else receives through the replication slot '{slot}' (process {holder} of the server); does another Strongroom \
                 protect this server under the same name?"
            );
            return Err(Error::new(ErrorKind::Io, message));
        }
        client.execute("SELECT pg_terminate_backend($1)", &[&holder]).map_err(fail)?;
        std::thread::sleep(POLL);
    }
}

/// Receiving while a backup runs, where nobody else does. Ends with this value.
pub(super) struct Meanwhile {
    stop: Arc<AtomicBool>,
    receiver: Option<JoinHandle<()>>,
}

impl Meanwhile {
    pub(super) fn begin(store: &RelationalStore, settings: &PhysicalSettings) -> Result<Self> {
        let (store, settings) = (store.clone(), settings.clone());
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let receiver = std::thread::Builder::new()
            .name("log-receiver".to_owned())
            .spawn(move || attend(&store, &settings, &|| stopped.load(Ordering::Relaxed)))
            .map_err(|e| Error::io("cannot start to receive the write-ahead log", e))?;
        Ok(Self { stop, receiver: Some(receiver) })
    }
}

impl Drop for Meanwhile {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(receiver) = self.receiver.take() {
            let _ = receiver.join();
        }
    }
}

/// Waits until our own receiver has confirmed the log up to a position: it is on our disk then.
pub(super) fn wait_until_received(
    store: &RelationalStore,
    directory: &Path,
    client: &mut Client,
    position: Position,
    control: &Control,
) -> Result<()> {
    let slot = slot_of(&store.settings.name);
    let (mut reached, mut since) = (None, Instant::now());
    loop {
        control.check().map_err(|e| Error::engine("the backup was stopped", e))?;
        // There is none before the first one has begun.
        let confirmed = match receiver_name(directory)? {
            None => None,
            Some(name) => client
                .query_opt(
                    "SELECT COALESCE(s.restart_lsn, '0/0')::text FROM pg_replication_slots s JOIN pg_stat_replication r ON r.pid = s.active_pid \
                     WHERE s.slot_name = $1 AND r.application_name = $2",
                    &[&slot, &name],
                )
                .map_err(|e| failure::server("cannot ask how much of the log was received", &e))?
                .map(|row| get::<String>(&row, 0))
                .transpose()?
                .as_deref()
                .and_then(Position::parse),
        };
        if confirmed.is_some_and(|confirmed| confirmed >= position) {
            return Ok(());
        }
        if confirmed > reached {
            (reached, since) = (confirmed, Instant::now());
        }
        if since.elapsed() > ARRIVAL_TIME {
            let why = store.log.get().failure.map(|(why, _)| format!(": {why}")).unwrap_or_default();
            let seconds = ARRIVAL_TIME.as_secs();
            let message = format!("the write-ahead log did not arrive within {seconds} s{why}");
            return Err(Error::new(ErrorKind::Io, message));
        }
        std::thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_component_has_a_slot_of_its_own_with_a_name_that_servers_take() {
        assert_eq!(slot_of("gis_2"), "strongroom_gis_2");
        let long = "x".repeat(100);
        let names = ["gis-a", "gis_a", "gis.a", "Gis_a", "Zürich", "Zörich", &long, &long[1..]];
        let slots: std::collections::BTreeSet<String> = names.iter().map(|name| slot_of(name)).collect();
        assert_eq!(slots.len(), names.len(), "{slots:?}");
        let fits = |slot: &String| {
            slot.len() <= SLOT_BYTES_MAX
                && slot.bytes().all(|b| b"_".contains(&b) || b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        assert!(slots.iter().all(fits), "{slots:?}");
    }

    #[test]
    fn since_when_the_log_fails_to_arrive_stays_until_it_arrives() {
        let watch = LogWatch::default();
        watch.note(Some("no".to_owned()));
        let since = watch.get().failure.unwrap().1;
        watch.note(Some("still no".to_owned()));
        watch.note_if_none("nobody receives it".to_owned());
        assert_eq!(watch.get().failure, Some(("still no".to_owned(), since)));
        watch.note(None);
        assert_eq!(watch.get().failure, None);
        watch.measure(Some(5), Some(7));
        watch.measure(None, None);
        assert_eq!((watch.get().behind_bytes, watch.get().held_bytes), (None, 7));
    }
}
