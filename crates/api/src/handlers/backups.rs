//! Backups in both layouts: list, one, create, update, validate, delete.

use super::{accepted, backup_asked_for, new_passcode, sent_passcode, store_asked_for, stores, success};
use crate::dispatch::{Call, now_ms};
use crate::error::{ApiError, ApiResult};
use crate::pages::{BackupPageView, BackupsView};
use crate::parameters::Parameters;
use crate::path;
use crate::reply::Reply;
use recovery::{BackupComponentView, BackupView, CreateBackup, Deletion, Kind};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;

/// `stores/<store>/backups`, and `backuprestore/backups`: those of all stores.
pub(crate) async fn list(call: Arc<Call>) -> ApiResult<Reply> {
    let page = Page::asked_for(&call.parameters)?;
    let backups = match call.name("store") {
        Some(store) => call.lift(call.site.recovery.backups(store).await)?,
        None => call.lift(call.site.recovery.all_backups().await)?,
    };
    if !call.is_html() {
        return Ok(Reply::Json(page.cut(&backups)));
    }
    let is_of_one_store = call.name("store").is_some();
    let mut view =
        BackupsView { backups, proofs: HashMap::new(), is_of_one_store, skip: page.skip, now: now_ms() };
    let mut shown: HashMap<&str, Vec<&str>> = HashMap::new();
    for backup in view.shown() {
        shown.entry(&backup.store).or_default().push(&backup.name);
    }
    let mut proofs = HashMap::new();
    for (store, names) in shown {
        proofs.insert(store.to_owned(), call.lift(call.site.recovery.proofs(store, &names).await)?);
    }
    view.proofs = proofs;
    Ok(Reply::Backups(Value::Null, Box::new(view)))
}

/// Which part of a list is wanted.
pub(crate) struct Page {
    /// Entries before it.
    pub skip: usize,
    pub num: Option<usize>,
    asked: bool,
}

impl Page {
    /// From `start`, which counts from 1, and `num`; without them everything.
    pub(crate) fn asked_for(parameters: &Parameters) -> ApiResult<Self> {
        let positive = |name| match parameters.integer(name)? {
            None => Ok(None),
            Some(value) => match usize::try_from(value) {
                Ok(value) if value >= 1 => Ok(Some(value)),
                _ => Err(ApiError::invalid(name, "expected a whole number from 1")),
            },
        };
        let (start, num) = (positive("start")?, positive("num")?);
        Ok(Self { skip: start.unwrap_or(1) - 1, num, asked: start.is_some() || num.is_some() })
    }

    /// The reply with that part of the list.
    pub(crate) fn cut(&self, backups: &[Arc<BackupView>]) -> Value {
        let rest = backups.get(self.skip..).unwrap_or_default();
        let shown = self.num.map_or(rest.len(), |num| num.min(rest.len()));
        let mut reply =
            json!({"backups": rest.iter().take(shown).map(|backup| entry(backup)).collect::<Value>()});
        if let (true, Some(object)) = (self.asked, reply.as_object_mut()) {
            let next = if shown < rest.len() { json!(self.skip + shown + 1) } else { json!(-1) };
            object.insert("nextStart".into(), next);
        }
        reply
    }
}

/// One backup; alone it also names what is not in it.
pub(crate) async fn one(call: Arc<Call>) -> ApiResult<Reply> {
    let (store, name) = backup_asked_for(&call).await?;
    let backup = call.lift(call.site.recovery.backup(&store, &name).await)?;
    let mut entry = entry(&backup);
    if let Some(object) = entry.as_object_mut() {
        let warnings = backup.warnings.iter().map(|warning| format!("{}: {}", warning.item, warning.reason));
        object.insert("warnings".into(), warnings.map(Value::String).collect());
    }
    if !call.is_html() {
        return Ok(Reply::Json(entry));
    }
    let mut proofs = call.lift(call.site.recovery.proofs(&backup.store, &[&backup.name]).await)?;
    let proof = proofs.remove(&backup.name).unwrap_or_default();
    let drill = match backup.is_complete() {
        true => call.lift(call.site.recovery.last_drill(&backup.store, &backup.name).await)?,
        false => None,
    };
    Ok(Reply::Backup(entry, Box::new(BackupPageView { backup, proof, drill, now: now_ms() })))
}

/// A backup as documented, each component in the list of its kind.
pub(crate) fn entry(backup: &BackupView) -> Value {
    let of_kind = |kind| backup.components.iter().filter(move |component| component.kind == kind);
    json!({
        "backupName": backup.name, "backupStore": backup.store, "description": backup.description,
        "release": backup.release, "siteName": backup.site_name, "namespace": "",
        "backupType": "FULL", "scheduleType": backup.schedule_type, "status": backup.status,
        "startTime": backup.start_time, "completeTime": backup.complete_time,
        "retentionDate": backup.retention_date,
        "relationalStore": of_kind(Kind::RelationalStore).map(relational_store).collect::<Value>(),
        "objectStore": of_kind(Kind::ObjectStore).map(object_store).collect::<Value>(),
        "infrastructures": infrastructures(&of_kind(Kind::SystemConfiguration).collect::<Vec<_>>()),
        "volumes": of_kind(Kind::FileStore).map(volume).collect::<Value>(),
        "bytesRead": backup.bytes_read, "bytesAdded": backup.bytes_added, "filesTotal": backup.files_total,
        "snapshotId": backup.components.first().map_or("", |component| component.snapshot_id.as_str()),
        "vaultId": backup.vault, "formatVersion": backup.format_version,
        "warningCount": backup.warning_count, "jobid": backup.job_id,
    })
}

fn relational_store(component: &BackupComponentView) -> Value {
    let geodatabase = |name: &String| json!({"gdbName": name, "egdbID": ""});
    let mut entry = json!({
        "name": component.name, "systemDatabases": component.facts.databases,
        "geodatabases": component.facts.geodatabases.iter().map(geodatabase).collect::<Value>(),
        "clusterID": component.facts.cluster, "serverVersion": component.facts.version,
        "files": component.files, "bytes": component.bytes, "bytesAdded": component.bytes_added,
        "startTime": component.start_time, "endTime": component.end_time,
        "status": component.status, "snapshotId": component.snapshot_id,
    });
    if let Some(window) = component.facts.window {
        entry["recoverableFrom"] = json!(window.from);
        entry["recoverableUntil"] = json!(window.until);
    }
    entry
}

fn object_store(component: &BackupComponentView) -> Value {
    json!({
        "name": component.name, "buckets": component.facts.buckets, "clusterID": component.place,
        "files": component.files, "bytes": component.bytes, "bytesAdded": component.bytes_added,
        "startTime": component.start_time, "endTime": component.end_time,
        "status": component.status, "snapshotId": component.snapshot_id,
    })
}

fn volume(component: &BackupComponentView) -> Value {
    json!({
        "name": component.name, "path": component.place, "startTime": component.start_time,
        "endTime": component.end_time, "status": component.status, "files": component.files,
        "bytes": component.bytes, "bytesAdded": component.bytes_added, "snapshotId": component.snapshot_id,
    })
}

/// All parts of the system configuration as one; empty if there is none.
fn infrastructures(components: &[&BackupComponentView]) -> Value {
    let start = components.iter().map(|component| component.start_time).min();
    let end = components.iter().map(|component| component.end_time).max();
    let unlike_completed = components.iter().find(|component| component.status != "completed");
    let status = unlike_completed.map_or("completed", |component| component.status.as_str());
    match (start, end) {
        (Some(start), Some(end)) => json!({"startTime": start, "endTime": end, "status": status}),
        _ => json!({}),
    }
}

/// `backups/create` and `backuprestore/backup`
pub(crate) async fn create(call: Arc<Call>) -> ApiResult<Reply> {
    let parameters = &call.parameters;
    let name = parameters.required("name", "the name of the new backup")?.to_owned();
    let passcode = new_passcode(parameters)?;
    let description = parameters.description().unwrap_or_default().to_owned();
    let retention_date = retention_date(parameters, now_ms())?.unwrap_or(-1);
    let store = match store_asked_for(&call)? {
        Some(store) => store.to_owned(),
        None => call.lift(call.site.recovery.default_store().await)?.ok_or_else(|| {
            ApiError::missing("storeName", "no store is the default one, so the backup's store must be named")
        })?,
    };
    let request = CreateBackup { name, store, passcode, description, retention_date };
    let id = call.lift(call.site.recovery.create_backup(request, call.caller()).await)?;
    accepted(&call, id, "SUBMITTED")
}

/// `retentionDate`, or what the pages ask for instead: `retentionDays` from now.
pub(crate) fn retention_date(parameters: &Parameters, now: i64) -> ApiResult<Option<i64>> {
    const DAY_MS: i64 = 86_400_000;
    /// The year 9999.
    const LATEST_MS: i64 = 253_402_300_799_000;
    let invalid = |message: &str| Err(ApiError::new(400, "DR_RETENTION_INVALID", message));
    let Some(text) = parameters.text("retentionDate") else {
        return match parameters.integer("retentionDays")? {
            None => Ok(None),
            Some(days @ 1..=36_500) => Ok(Some(now + days * DAY_MS)),
            Some(_) => Err(ApiError::invalid("retentionDays", "expected 1 to 36,500 days")),
        };
    };
    match text.trim().parse::<i64>() {
        Ok(-1) => Ok(Some(-1)),
        Err(_) | Ok(..=0 | LATEST_MS..) => invalid(
            "Parameter 'retentionDate' is not valid: expected milliseconds since 1970, or -1 for ever.",
        ),
        Ok(date) if date < 100_000_000_000 => {
            invalid("Parameter 'retentionDate' is not valid: expected milliseconds, not seconds, since 1970.")
        }
        Ok(date) if date <= now => invalid(
            "Parameter 'retentionDate' is not valid: it lies in the past. To remove a backup now, use delete.",
        ),
        Ok(date) => Ok(Some(date)),
    }
}

/// The same as people say it: until the end of a day (UTC), for days from now, or for ever; one of these.
fn retention_typed(parameters: &Parameters, now: i64) -> ApiResult<Option<i64>> {
    let invalid = |expected: &str| {
        let message = format!("Parameter 'retentionDate' is not valid: {expected}.");
        Err(ApiError::new(400, "DR_RETENTION_INVALID", message))
    };
    let for_ever = parameters.boolean("keepForEver")?;
    let date = parameters.text("retentionDate").map(str::trim);
    let said = [for_ever, date.is_some(), parameters.text("retentionDays").is_some()];
    if said.into_iter().filter(|said| *said).count() > 1 {
        return invalid("choose a day, or a number of days, or for ever, and leave the others empty");
    }
    match date {
        _ if for_ever => Ok(Some(-1)),
        // As programs say it, who may want a page too.
        Some(text) if text.parse::<i64>().is_err() => match end_of_day(text) {
            None => invalid("expected a day, such as 2027-01-31"),
            Some(end) if end <= now => invalid("it lies in the past. To remove a backup now, use delete"),
            end => Ok(end),
        },
        _ => retention_date(parameters, now),
    }
}

/// The last millisecond of a day.
fn end_of_day(text: &str) -> Option<i64> {
    let day: jiff::civil::Date = text.parse().ok().filter(|_| text.len() == "2027-01-31".len())?;
    let next = day.tomorrow().ok()?.to_datetime(jiff::civil::Time::midnight());
    Some(jiff::tz::TimeZone::UTC.to_timestamp(next).ok()?.as_millisecond() - 1)
}

/// `backups/<backup>/update`
pub(crate) async fn update(call: Arc<Call>) -> ApiResult<Reply> {
    let is_page = call.is_html();
    let read = if is_page { retention_typed } else { retention_date };
    let retention_date = read(&call.parameters, now_ms())?;
    let description = call.parameters.description().map(str::to_owned);
    if retention_date.is_none() && description.is_none() {
        let expected = if is_page {
            "nothing to change; choose how long it is kept, or write a description"
        } else {
            "nothing to change; send retentionDate or description"
        };
        return Err(ApiError::missing("retentionDate", expected));
    }
    let (store, name) = backup_asked_for(&call).await?;
    call.lift(call.site.recovery.update_backup(&store, &name, retention_date, description).await)?;
    if is_page {
        let stores = format!("{}/admin/system/disasterrecovery/stores", call.site.context_path());
        let path = format!("{stores}/{}/backups/{}", path::encode(&store), path::encode(&name));
        return Ok(Reply::Go { path, cookie: None });
    }
    success()
}

/// `backups/<backup>/validate`; reading all data is a job.
pub(crate) async fn validate(call: Arc<Call>) -> ApiResult<Reply> {
    let read_data = call.parameters.boolean("readData")?;
    let passcode = sent_passcode(&call.parameters)?;
    if read_data && passcode.is_none() {
        return Err(ApiError::missing("passcode", "readData needs the passcode of the backup"));
    }
    let (store, name) = backup_asked_for(&call).await?;
    let recovery = &call.site.recovery;
    match passcode {
        Some(passcode) if read_data => {
            let id =
                call.lift(recovery.verify_backup_as_job(&store, &name, passcode, call.caller()).await)?;
            accepted(&call, id, "SUBMITTED")
        }
        passcode => {
            let validation = call.lift(recovery.validate_backup(&store, &name, passcode).await)?;
            Ok(Reply::Json(stores::validation_entry(&validation)))
        }
    }
}

/// `backups/<backup>/delete`
pub(crate) async fn delete(call: Arc<Call>) -> ApiResult<Reply> {
    let as_job = call.parameters.boolean("async")?;
    let (store, name) = backup_asked_for(&call).await?;
    let deletion = call.site.recovery.delete_backup(&store, &name, as_job, call.caller()).await;
    match call.lift(deletion)? {
        Deletion::Done => success(),
        Deletion::Job(id) => accepted(&call, id, "SUBMITTED"),
    }
}
