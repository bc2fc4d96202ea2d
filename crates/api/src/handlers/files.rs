//! The files of a backup: opened with the passcode, then listed and downloaded for as long as they stay open.

use super::backups::Page;
use super::{backup_asked_for, sent_passcode, success};
use crate::dispatch::Call;
use crate::error::{ApiError, ApiResult};
use crate::outgoing::{self, Blocking};
use crate::pages::{FilesView, file_name};
use crate::path;
use crate::reply::Reply;
use recovery::{BackupView, EntryKind, FileEntry, FileListing};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Entries of a directory in one reply.
pub(crate) const SHOWN: usize = 200;
pub(crate) const SHOWN_MAX: usize = 1000;

/// How often is looked whether the session of a download still holds.
const SESSION_TIME: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 5000 });

/// The session whose open backups are meant.
pub(super) fn session(call: &Call) -> ApiResult<&str> {
    call.credential().ok_or_else(ApiError::token_required)
}

/// Store and backup, which must be there.
pub(super) async fn asked_for(call: &Call) -> ApiResult<BackupView> {
    let (store, name) = backup_asked_for(call).await?;
    call.lift(call.site.recovery.backup(&store, &name).await)
}

/// The path of a backup's page, or of one below it.
pub(super) fn page_of(call: &Call, backup: &BackupView, below: &str) -> String {
    let stores = format!("{}/admin/system/disasterrecovery/stores", call.site.context_path());
    format!("{stores}/{}/backups/{}{below}", path::encode(&backup.store), path::encode(&backup.name))
}

/// The passcode is needed first.
fn closed(call: &Call, backup: &BackupView) -> ApiResult<Reply> {
    if call.is_html() {
        return Ok(Reply::Go { path: page_of(call, backup, "/files/open"), cookie: None });
    }
    let message = format!(
        "Backup '{}' is not open in this session: open it with its passcode at files/open.",
        backup.name
    );
    Err(ApiError::new(409, "DR_FILES_NOT_OPEN", message))
}

/// What the audit log tells of a look: the page, and which component and path.
pub(crate) fn told(call: &Call) -> String {
    let asked = ["component", "path"].map(|name| call.parameters.text(name));
    match asked {
        [Some(component), Some(path)] => format!("{}?component={component}&path={path}", call.path()),
        [Some(component), None] => format!("{}?component={component}", call.path()),
        [None, _] => call.path(),
    }
}

/// `files/open`
pub(crate) async fn open(call: Arc<Call>) -> ApiResult<Reply> {
    let passcode = sent_passcode(&call.parameters)?
        .ok_or_else(|| ApiError::missing("passcode", "the passcode that the backup was created with"))?;
    let (store, name) = backup_asked_for(&call).await?;
    let who = call.principal.as_ref().ok_or_else(ApiError::token_required)?;
    let opened = call.site.recovery.open_files(session(&call)?, who, &store, &name, passcode).await;
    call.lift(opened)?;
    if !call.is_html() {
        return success();
    }
    let backup = asked_for(&call).await?;
    Ok(Reply::Go { path: page_of(&call, &backup, "/files"), cookie: None })
}

/// `files/close`
pub(crate) async fn close(call: Arc<Call>) -> ApiResult<Reply> {
    let backup = asked_for(&call).await?;
    call.site.recovery.close_files(session(&call)?, &backup.store, &backup.name);
    if !call.is_html() {
        return success();
    }
    Ok(Reply::Go { path: page_of(&call, &backup, ""), cookie: None })
}

/// `files`: the components, or a directory of one of them.
pub(crate) async fn list(call: Arc<Call>) -> ApiResult<Reply> {
    let page = Page::asked_for(&call.parameters)?;
    let path = path_asked_for(&call)?;
    let (session, backup) = (session(&call)?, asked_for(&call).await?);
    let recovery = &call.site.recovery;
    let Some(component) = call.parameters.text("component") else {
        if !recovery.has_files_open(session, &backup.store, &backup.name) {
            return closed(&call, &backup);
        }
        let names: Value =
            backup.components.iter().map(|part| json!({"name": part.name, "path": part.place})).collect();
        let value = json!({"backupName": backup.name, "components": names});
        return Ok(Reply::Files(value, Box::new(FilesView { backup, directory: None })));
    };
    let count = page.num.unwrap_or(SHOWN).min(SHOWN_MAX);
    let place = (backup.store.as_str(), backup.name.as_str());
    let part = (page.skip as u64, count);
    let listed = recovery.list_files(session, place, component, path.as_deref(), part).await;
    match call.lift(listed)? {
        None => closed(&call, &backup),
        Some(listing) => {
            let value = listing_entry(&backup, component, &listing, page.skip);
            let directory = Some((component.to_owned(), listing, page.skip));
            Ok(Reply::Files(value, Box::new(FilesView { backup, directory })))
        }
    }
}

fn path_asked_for(call: &Call) -> ApiResult<Option<Vec<u8>>> {
    let decode = |text: &str| {
        file_name::decode(text).ok_or_else(|| ApiError::invalid("path", "a percent sign has no two digits"))
    };
    call.parameters.text("path").map(decode).transpose()
}

fn listing_entry(backup: &BackupView, component: &str, listing: &FileListing, skip: usize) -> Value {
    let behind = skip + listing.entries.len();
    let next = if (behind as u64) < listing.total && !listing.entries.is_empty() {
        json!(behind + 1)
    } else {
        json!(-1)
    };
    json!({
        "backupName": backup.name, "component": component, "path": file_name::encode(&listing.path),
        "total": listing.total, "nextStart": next,
        "entries": listing.entries.iter().map(file_entry).collect::<Value>(),
    })
}

fn file_entry(entry: &FileEntry) -> Value {
    let mut object = Map::new();
    object.insert("name".into(), json!(file_name::encode(&entry.name)));
    object.insert("kind".into(), json!(file_name::kind(entry.kind)));
    object.insert("modified".into(), json!(entry.modified));
    if entry.kind == EntryKind::File {
        object.insert("bytes".into(), json!(entry.size));
    }
    if let Some(target) = &entry.link_target {
        object.insert("target".into(), json!(file_name::encode(target)));
    }
    Value::Object(object)
}

/// `files/download`: the content of one file, whatever it is, for a browser to keep and not to show.
pub(crate) async fn download(call: Arc<Call>) -> ApiResult<Reply> {
    let component = call.parameters.required("component", "the name of a component of the backup")?;
    let path = path_asked_for(&call)?
        .ok_or_else(|| ApiError::missing("path", "the path of a file in the component"))?;
    let (session, backup) = (session(&call)?, asked_for(&call).await?);
    let place = (backup.store.as_str(), backup.name.as_str());
    let opened = call.site.recovery.open_file(session, place, component, &path).await;
    let Some(file) = call.lift(opened)? else { return closed(&call, &backup) };
    let who = call.principal.as_ref().ok_or_else(ApiError::token_required)?;
    let turn = call.site.streams.downloads.begin(&who.username).ok_or_else(|| {
        ApiError::new(409, "DR_BUSY", "Too many files are being downloaded just now; try again in a moment.")
    })?;
    let (writer, content) = outgoing::stream(Some(file.size()));
    let (name, runtime) = (file.name().to_vec(), tokio::runtime::Handle::current());
    let request_id = call.request_id.clone();
    let (end, ended) = watch::channel(false);
    tokio::spawn(end_with_the_session(call, end));
    tokio::task::spawn_blocking(move || {
        let written = file.write_to(&mut Blocking { writer: &writer, runtime: runtime.clone(), ended });
        // Whoever reads no more must not hold the place.
        drop(turn);
        if let Err(error) = written {
            tracing::warn!(request_id, %error, "a download broke off");
            runtime.block_on(writer.break_off());
        }
    });
    Ok(Reply::Download(name, content))
}

/// Says when who downloads may do so no longer: signed out, removed, revoked, under a lower role, or
/// when the time of the token is over. Ends with the download.
async fn end_with_the_session(call: Arc<Call>, end: watch::Sender<bool>) {
    let recovery = &call.site.recovery;
    let needed = call.endpoint.and_then(|endpoint| endpoint.role);
    let before = call.principal.as_ref().map(|principal| &principal.username);
    loop {
        tokio::select! {
            () = end.closed() => return,
            () = tokio::time::sleep(SESSION_TIME) => {}
        }
        match recovery.authenticate(call.credential().unwrap_or_default()).await {
            // The state does not answer just now: that is no news of the session.
            Err(_) => {}
            Ok(Some(who)) if Some(&who.username) == before && needed.is_none_or(|role| who.role >= role) => {}
            Ok(_) => {
                end.send_replace(true);
                return;
            }
        }
    }
}
