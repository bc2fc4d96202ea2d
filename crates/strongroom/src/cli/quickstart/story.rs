//! The story itself, told through the server's interface: what a user would do, and what a disaster does.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use recovery::store::{CatalogueEntry, Store};
use repository::Control;
use serde_json::{Value, json};

use super::manifest::{Difference, Manifest};
use super::setup::{Prepared, USERNAME};
use super::show::Show;
use super::summary::{self, Figures};
use super::{damage, go_on};
use crate::cli::repo::open_storage;
use crate::cli::rescue::{Rescue, restore_into};
use crate::client::{self, Client, Ended, Progressing, Server, Trust};
use crate::exit::{self, Exit, Failure};
use crate::{progress, words};

const STORE: &str = "quickstart";
/// Longer than anybody watches.
const TOKEN_MINUTES: u32 = 720;
/// So many differences are shown one by one.
const SHOWN: usize = 10;

/// Tells it from the log-in to the summary.
pub fn tell(prepared: &Prepared, url: &str, show: &Show, control: &Arc<Control>) -> Result<Exit> {
    let trust = Trust::Certificates(prepared.certificate.clone());
    let mut client = Client::new(Server::parse(url)?, &trust)?;
    client.log_in(USERNAME, &prepared.password.0, TOKEN_MINUTES)?;
    show.done("logged in over HTTPS", "with that certificate and no other")?;
    settle(&client, prepared, show, control)?;
    let before = fingerprint(&prepared.content, "every file fingerprinted", 0, show, control)?;
    let (files, bytes) = before.size();

    show.section("Back up")?;
    register_store(&client, prepared, show)?;
    let name = format!("quickstart-{}", jiff::ZonedDateTime::now().strftime("%Y%m%d-%H%M%S"));
    let backup = back_up(&client, prepared, &name, (files, bytes), show, control)?;

    let store = Store::open(open_storage(&prepared.store().display().to_string(), "store")?)?;
    let entry = store.backup(&name)?.context("the backup is not in the store's catalogue")?;
    let recovered = if prepared.protected {
        restore_beside(prepared, &store, &entry, &name, show, control)?
    } else {
        strike(prepared, &before, &name, show)?;
        restore(&client, prepared, &name, show, control)?
    };

    show.section("Prove")?;
    let after = fingerprint(&recovered.place, "every file read again", bytes, show, control)?;
    let differences = told_apart(before.differences(&after), prepared, &before, show)?;
    prove(&before, &differences, show)?;
    summary::show(
        &Figures {
            name: &name,
            files,
            bytes,
            backup_time: backup.time,
            stored: stored(&client)?,
            added: backup.added,
            recovery_time: recovered.time,
            entries: before.entries.len() as u64,
            identical: before.entries.len().saturating_sub(differences.len()) as u64,
            vault: &entry.view(STORE).vault,
            restored: &recovered.place,
        },
        prepared,
        url,
        show,
    )?;
    match (differences.is_empty(), backup.warnings) {
        (false, _) => {
            Err(Failure::new(Exit::Damaged, "the restored content is not what was backed up").into())
        }
        (true, 0) => Ok(Exit::Done),
        (true, _) => Ok(Exit::Incomplete),
    }
}

/// Ends what an earlier run left: a job that goes on, or content that was damaged and not yet restored.
fn settle(client: &Client, prepared: &Prepared, show: &Show, control: &Arc<Control>) -> Result<()> {
    let status = client.get("admin/system/disasterrecovery/status")?;
    let status = &status["status"];
    if matches!(status["state"].as_str(), Some("submitted" | "in_progress")) {
        let what =
            format!("the {} of an earlier run goes on", client.text(status, "operation")?.to_lowercase());
        show.attention(&what)?;
        if let Err(error) = follow(client, status, (&what, 0), show, control) {
            go_on(control)?;
            show.attention(&format!("it failed: {error:#}"))?;
        }
    }
    let marker = marker(prepared);
    let name = match std::fs::read_to_string(&marker) {
        Ok(name) => name.trim().to_owned(),
        Err(_) => return Ok(()),
    };
    show.attention(&format!("an earlier run ended between disaster and recovery: restoring {name}"))?;
    let time = restore_in_place(client, prepared, &name, show, control).map_err(|error| {
        Failure::new(exit::classify(&error), format!("{error:#}"))
            .hint(format!("to go on with the content as it is, remove {}", marker.display()))
    })?;
    Ok(show.done("content is as it was", &format!("in {}", words::duration(time)))?)
}

/// Names the backup to restore as long as the content is damaged.
fn marker(prepared: &Prepared) -> PathBuf {
    prepared.directory.join("content-is-damaged")
}

/// `expected`: how many bytes there are, if that is known.
fn fingerprint(
    place: &Path,
    what: &str,
    expected: u64,
    show: &Show,
    control: &Arc<Control>,
) -> Result<Manifest> {
    let running = show.running(what);
    let (mut files, mut bytes) = (0, 0);
    let manifest = Manifest::take(place, &mut |file| {
        files += file.map_or(0, |_| 1);
        bytes += file.unwrap_or(0);
        running.at((bytes, expected), files, "");
        go_on(control)
    })?;
    let elapsed = running.elapsed();
    drop(running);
    let (files, bytes) = manifest.size();
    let size = format!("{}, {}", words::counted(files, "file", "files"), words::bytes(bytes));
    show.done(what, &format!("SHA-256 of {size} in {}", words::duration(elapsed)))?;
    Ok(manifest)
}

fn register_store(client: &Client, prepared: &Prepared, show: &Show) -> Result<()> {
    let place = prepared.store();
    let known = client.get("admin/system/disasterrecovery/stores")?;
    let known = known["backupStores"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_known = known.iter().any(|store| store["name"] == STORE);
    if !is_known {
        let settings = json!({"type": "FILESYSTEM", "rootDir": place}).to_string();
        let fields = [("storeName", STORE), ("isDefault", "true"), ("settings", settings.as_str())];
        client.post("admin/system/disasterrecovery/stores/register", &fields)?;
    }
    let validated = client.post(&format!("{}/validate", store_path()), &[])?;
    if validated["isReady"] != json!(true) {
        return Err(Failure::new(
            Exit::NoRepository,
            format!("the store is not ready: {}", validated["details"]),
        )
        .into());
    }
    let what = if is_known { "store there already" } else { "store registered" };
    Ok(show.done(what, &format!("{STORE}, in {}", place.display()))?)
}

fn store_path() -> String {
    client::store(STORE)
}

/// What came of the backup.
struct BackedUp {
    time: Duration,
    added: u64,
    warnings: usize,
}

fn back_up(
    client: &Client,
    prepared: &Prepared,
    name: &str,
    (files, bytes): (u64, u64),
    show: &Show,
    control: &Arc<Control>,
) -> Result<BackedUp> {
    let started = Instant::now();
    let fields =
        [("name", name), ("passcode", prepared.passcode.expose()), ("description", "made by quickstart")];
    let accepted = client.post(&format!("{}/backups/create", store_path()), &fields)?;
    let result = follow(client, &accepted, ("backing up", bytes), show, control)?;
    let time = started.elapsed();
    let number = |key: &str| result[key].as_u64().unwrap_or_default();
    show.done(
        &format!("backup {name}"),
        &format!(
            "{}, {} in {} ({})",
            words::counted(files, "file", "files"),
            words::bytes(number("bytesRead")),
            words::duration(time),
            words::rate(number("bytesRead"), time)
        ),
    )?;
    let warnings = result["warnings"].as_array().map(Vec::as_slice).unwrap_or_default();
    for warning in warnings.iter().take(SHOWN) {
        show.attention(&format!("not in the backup: {}", warning.as_str().unwrap_or(&warning.to_string())))?;
    }
    if !warnings.is_empty() && !prepared.protected {
        // Only what is safe may be damaged.
        return Err(
            Failure::new(Exit::Incomplete, "the backup is not complete, so the story ends here").into()
        );
    }
    let validated = client.post(
        &format!("{}/validate", client::backup(STORE, name)),
        &[("passcode", prepared.passcode.expose())],
    )?;
    if validated["isReady"] != json!(true) {
        return Err(Failure::new(
            Exit::Damaged,
            format!("the backup is not sound: {}", validated["details"]),
        )
        .into());
    }
    show.done("backup validated", "the passcode opens it, everything that it needs is there")?;
    Ok(BackedUp { time, added: number("bytesAdded"), warnings: warnings.len() })
}

fn strike(prepared: &Prepared, before: &Manifest, name: &str, show: &Show) -> Result<()> {
    show.section("Disaster")?;
    let marker = marker(prepared);
    std::fs::write(&marker, name).with_context(|| format!("cannot write {}", marker.display()))?;
    let harms = damage::strike(&prepared.content, before)?;
    for harm in &harms {
        show.lost(&format!("{} {}", words::count(harm.count), harm.what), &format!("e.g. {}", harm.example))?;
    }
    Ok(())
}

/// What came of the recovery.
struct Recovered {
    time: Duration,
    place: PathBuf,
}

fn restore(
    client: &Client,
    prepared: &Prepared,
    name: &str,
    show: &Show,
    control: &Arc<Control>,
) -> Result<Recovered> {
    show.section("Recover")?;
    let time = restore_in_place(client, prepared, name, show, control)?;
    Ok(Recovered { time, place: prepared.content.clone() })
}

fn restore_in_place(
    client: &Client,
    prepared: &Prepared,
    name: &str,
    show: &Show,
    control: &Arc<Control>,
) -> Result<Duration> {
    let started = Instant::now();
    let path = format!("{}/restore", client::backup(STORE, name));
    let accepted = client.post(&path, &[("passcode", prepared.passcode.expose())])?;
    show.done("passcode accepted", &format!("job {}", client.text(&accepted, "jobid")?))?;
    let result = follow(client, &accepted, ("restoring", 0), show, control)?;
    let time = started.elapsed();
    show.done("restored in place", &restored_text(&result, time))?;
    match std::fs::remove_file(marker(prepared)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e.into()),
        _ => Ok(time),
    }
}

fn restored_text(result: &Value, time: Duration) -> String {
    match (result["filesTotal"].as_u64(), result["bytesReused"].as_u64()) {
        (Some(files), Some(reused)) if reused > 0 => format!(
            "{} in {}; {} were still good and not fetched",
            words::counted(files, "file", "files"),
            words::duration(time),
            words::bytes(reused)
        ),
        (Some(files), _) => {
            format!("{} in {}", words::counted(files, "file", "files"), words::duration(time))
        }
        _ => format!("in {}", words::duration(time)),
    }
}

/// A directory of the person's own is never changed: the backup is restored beside it, as a rescue does.
fn restore_beside(
    prepared: &Prepared,
    store: &Store,
    entry: &CatalogueEntry,
    name: &str,
    show: &Show,
    control: &Arc<Control>,
) -> Result<Recovered> {
    show.section("Recover")?;
    let place = prepared.directory.join("restored").join(name);
    let started = Instant::now();
    let rescue = Rescue { store, entry, passcode: &prepared.passcode, components: &[], target: &place };
    let follower = progress::Follower::start(control, progress::Work::Restore, false);
    let outcome = restore_into(&rescue, control);
    drop(follower);
    let outcome = outcome?;
    let time = started.elapsed();
    show.done(
        "restored beside, by the store alone",
        &format!(
            "{}, {} in {}",
            words::counted(outcome.files, "file", "files"),
            words::bytes(outcome.bytes),
            words::duration(time)
        ),
    )?;
    Ok(Recovered { time, place })
}

/// `expected`: how many bytes there will be, for as long as the job does not know it.
fn follow(
    client: &Client,
    accepted: &Value,
    (what, expected): (&str, u64),
    show: &Show,
    control: &Arc<Control>,
) -> Result<Value> {
    let running = show.running(what);
    let id = client.text(accepted, "jobid")?;
    // The server is in this process: one that is silent is no longer there.
    let mut job = client::follow(client, id, Duration::ZERO, &mut |told| {
        let Progressing::At(progress) = told else { return go_on(control) };
        let (done, total) = progress.bytes;
        let total = if total == 0 { expected } else { total };
        if done > 0 && done < total {
            running.at((done, total), progress.files, &progress.current);
        } else {
            running.stage(if progress.stage.is_empty() { what } else { &progress.stage });
        }
        go_on(control)
    })?;
    match client::ended(&job) {
        Some(Ended::Failed(failure) | Ended::Bad(failure)) => Err(failure.into()),
        Some(Ended::Done | Ended::WithWarnings) | None => Ok(job["result"].take()),
    }
}

/// Files of a live directory go on changing: what differs now from the restored copy because the original has
/// changed since is told apart, and is no failure of the restore.
fn told_apart(
    differences: Vec<Difference>,
    prepared: &Prepared,
    before: &Manifest,
    show: &Show,
) -> Result<Vec<Difference>> {
    if !prepared.protected || differences.is_empty() {
        return Ok(differences);
    }
    let now = Manifest::take(&prepared.content, &mut |_| Ok(()))?;
    let changed: Vec<_> = before.differences(&now).into_iter().map(|difference| difference.path).collect();
    let (moved, real): (Vec<_>, Vec<_>) =
        differences.into_iter().partition(|difference| changed.contains(&difference.path));
    if !moved.is_empty() {
        let many = words::counted(moved.len() as u64, "entry", "entries");
        show.attention(&format!("{many} changed in your directory while this ran, and cannot be compared"))?;
    }
    Ok(real)
}

fn prove(before: &Manifest, differences: &[Difference], show: &Show) -> Result<()> {
    let all = before.entries.len() as u64;
    for difference in differences.iter().take(SHOWN) {
        show.lost(&difference.path.display().to_string(), difference.what)?;
    }
    if differences.is_empty() {
        let what = format!("{} of {} identical", words::count(all), words::counted(all, "entry", "entries"));
        show.done(&what, "content, mode, owner, time, links, attributes")?;
    } else {
        show.lost(&words::counted(differences.len() as u64, "entry differs", "entries differ"), "")?;
    }
    Ok(())
}

/// What all backups of the store take up.
fn stored(client: &Client) -> Result<u64> {
    Ok(client.get(&store_path())?["bytesStored"].as_u64().unwrap_or_default())
}
