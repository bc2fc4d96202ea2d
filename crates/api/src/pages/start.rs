//! The start page: am I protected, when was the last good backup, how long would recovery take, what needs me now.

use super::words::{ago, ahead, exact, length};
use super::{Frame, Link, finish, frame, links_below, view};
use crate::dispatch::Call;
use crate::path;
use askama::Template;
use recovery::{NeedPlace, Overview, Severity, StoreOverview};

#[derive(Template)]
#[template(path = "start.html")]
struct StartPage {
    frame: Frame,
    is_protected: bool,
    needs: Vec<NeedRow>,
    last: Option<Fact>,
    next: Option<Fact>,
    running: Option<Fact>,
    restored: Option<Fact>,
    proven: Option<Fact>,
    stores: Vec<StoreLine>,
    children: Vec<Link>,
}

struct NeedRow {
    is_alarm: bool,
    text: String,
    link: Option<String>,
}

/// A time or duration in words, what it is of, and where that is shown.
struct Fact {
    words: String,
    exact: String,
    link: Link,
}

struct StoreLine {
    link: Link,
    kind: String,
    is_default: bool,
    problem: Option<String>,
    backups: usize,
    newest: Option<Fact>,
    room: String,
}

/// The page of an overview.
pub(super) fn page(call: &Call, overview: &Overview) -> String {
    let mut frame = frame(call);
    frame.title = "Start".to_owned();
    let admin = format!("{}/admin", call.site.context_path());
    let (now, dr) = (overview.now, format!("{admin}/system/disasterrecovery"));
    let backup_link = |store: &str, name: &str| Link {
        text: name.to_owned(),
        path: format!("{dr}/stores/{}/backups/{}", path::encode(store), path::encode(name)),
    };
    let job_link = |id: &str, text: String| Link { text, path: format!("{admin}/jobs/{}", path::encode(id)) };
    let has_role = |role| call.principal.as_ref().is_some_and(|principal| principal.role >= role);
    let may_see_tasks = has_role(recovery::Role::Operator);
    let is_person = call.principal.as_ref().is_some_and(|principal| principal.key.is_none());
    let may_see_keys = is_person && has_role(recovery::Role::Administrator);
    let need_link = |place: &NeedPlace| match place {
        NeedPlace::Stores => Some(format!("{dr}/stores")),
        NeedPlace::Store(name) => Some(format!("{dr}/stores/{}", path::encode(name))),
        NeedPlace::Job(id) => Some(format!("{admin}/jobs/{}", path::encode(id))),
        NeedPlace::Mode => Some(format!("{admin}/mode")),
        NeedPlace::Tasks if may_see_tasks => Some(format!("{admin}/system/tasks")),
        NeedPlace::Task(id) if may_see_tasks => Some(format!("{admin}/system/tasks/{}", path::encode(id))),
        NeedPlace::Notifications if may_see_tasks => Some(format!("{admin}/notifications")),
        NeedPlace::Keys if may_see_keys => Some(format!("{admin}/keys")),
        NeedPlace::Keys
        | NeedPlace::Tasks
        | NeedPlace::Task(_)
        | NeedPlace::Notifications
        | NeedPlace::Configuration => None,
    };
    let store_line = |of: &StoreOverview| StoreLine {
        link: Link {
            text: of.store.name.clone(),
            path: format!("{dr}/stores/{}", path::encode(&of.store.name)),
        },
        kind: of.store.kind.clone(),
        is_default: of.store.default,
        problem: of.problem.clone(),
        backups: of.backups,
        newest: of.newest.as_ref().map(|newest| Fact {
            words: ago(now - newest.start_time),
            exact: exact(newest.start_time),
            link: backup_link(&of.store.name, &newest.name),
        }),
        room: of.free_bytes.map_or("not known".to_owned(), view::size),
    };
    finish(&StartPage {
        is_protected: overview.is_protected(),
        needs: overview
            .needs
            .iter()
            // Which keys there are is nobody else's business, and no key's.
            .filter(|need| may_see_keys || need.place != NeedPlace::Keys)
            .map(|need| NeedRow {
                is_alarm: need.severity == Severity::Alarm,
                text: need.text.clone(),
                link: need_link(&need.place),
            })
            .collect(),
        last: overview.last_good().map(|backup| Fact {
            words: ago(now - backup.start_time),
            exact: exact(backup.start_time),
            link: backup_link(&backup.store, &backup.name),
        }),
        next: overview.next_backup().map(|task| Fact {
            words: ahead(task.next_run - now),
            exact: exact(task.next_run),
            link: Link {
                text: task.title.clone(),
                path: if may_see_tasks {
                    format!("{admin}/system/tasks/{}", path::encode(&task.id))
                } else {
                    String::new()
                },
            },
        }),
        running: overview.running.as_ref().map(|job| Fact {
            words: format!("{} %", job.progress.as_ref().map_or(0, |progress| progress.percent)),
            exact: exact(job.start_time),
            link: job_link(&job.id, format!("{} of {}", job.operation, job.backup)),
        }),
        proven: overview.last_proven().map(|(store, report)| Fact {
            words: ago(now - report.end_time),
            exact: exact(report.end_time),
            link: backup_link(store, &report.backup),
        }),
        restored: recovery_time(overview, &backup_link, &job_link),
        stores: overview.stores.iter().map(store_line).collect(),
        children: links_below(call).0,
        frame,
    })
}

/// As long as the last drill or restore took, whichever was later.
fn recovery_time(
    overview: &Overview,
    backup_link: &dyn Fn(&str, &str) -> Link,
    job_link: &dyn Fn(&str, String) -> Link,
) -> Option<Fact> {
    let drill = overview.last_proven();
    if let Some((store, report)) = drill
        && overview.restored.as_ref().is_none_or(|restored| restored.ended < report.end_time)
    {
        let link = backup_link(store, &report.backup);
        return Some(Fact {
            words: length(report.recovery_time),
            exact: exact(report.end_time),
            link: Link { text: "the last drill".to_owned(), ..link },
        });
    }
    overview.restored.as_ref().map(|restored| Fact {
        words: length(restored.took_ms),
        exact: exact(restored.ended),
        link: job_link(&restored.job_id, "the last restore".to_owned()),
    })
}
