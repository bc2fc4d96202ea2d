//! What is protected, as it is now: each configured component, whether it is there, and its last good backup.
//!
//! A file system that hangs keeps the thread that looks at it. One look at all components is under way at a time,
//! whoever asks; who asks meanwhile waits a while and is told that there is no answer.

use std::sync::Arc;
use std::time::Duration;

use components::Kind;

use crate::recovery::{Inner, blocking};
use crate::{BackupView, Result};

const LOOK_TIME_MAX: Duration = Duration::from_secs(10);

/// One protected thing.
#[derive(Clone, Debug)]
pub struct ComponentView {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Where its content lies.
    pub place: String,
    /// Why it cannot be backed up now, if it cannot.
    pub problem: Option<String>,
    /// The newest backup that holds it, of those that are the newest of their store and lack nothing.
    pub last_backup: Option<Arc<BackupView>>,
}

impl Inner {
    /// All components, in the order of the configuration.
    pub async fn components(self: &Arc<Self>) -> Result<Vec<ComponentView>> {
        let problems = self.component_problems().await;
        let overview = self.overview().await?;
        let newest: Vec<&Arc<BackupView>> =
            overview.stores.iter().filter_map(|store| store.newest.as_ref()).collect();
        let view = |(component, problem): (&Arc<dyn components::Component>, Option<String>)| {
            let holds = |backup: &&&Arc<BackupView>| {
                let is_it = |part: &crate::BackupComponentView| {
                    part.kind == component.kind() && part.name == component.name()
                };
                backup.components.iter().any(is_it)
            };
            let last = newest.iter().filter(holds).max_by_key(|backup| backup.start_time);
            ComponentView {
                kind: component.kind(),
                name: component.name().to_owned(),
                place: component.place(),
                problem,
                last_backup: last.map(|backup| Arc::clone(backup)),
            }
        };
        Ok(self.settings.components.iter().zip(problems).map(view).collect())
    }

    async fn component_problems(self: &Arc<Self>) -> Vec<Option<String>> {
        let look = async {
            let turn = self.component_look.clone().lock_owned().await;
            let all = self.settings.components.clone();
            blocking(move || {
                let _turn = turn;
                Ok(all.iter().map(|one| one.probe().err().map(|e| e.to_string())).collect::<Vec<_>>())
            })
            .await
        };
        let why = match tokio::time::timeout(LOOK_TIME_MAX, look).await {
            Ok(Ok(problems)) => return problems,
            Ok(Err(error)) => error.message,
            Err(_) => format!("No answer for {} s; does its file system hang?", LOOK_TIME_MAX.as_secs()),
        };
        vec![Some(why); self.settings.components.len()]
    }
}
