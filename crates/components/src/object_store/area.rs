//! Where a restore keeps its things in the bucket, and how far it has come: the journal.
//!
//! ```text
//! .strongroom-restore-<id>/plan            what becomes of each object, a line each; its number is its name below
//!                         new/<number>     what will be
//!                         old/<number>     what was
//!                         state/<word>     swapping, then finished; or undoing, then undone
//! ```
//! Without a state nothing has changed. From `swapping` on the restore is finished by whoever finds it, unless there is
//! `undoing`; both can be done again and again from `new` and `old`, which go after `finished` or `undone` alone.

use repository::Control;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use storage::{Content, Headers};

use super::compare::{Action, Change};
use super::{each, store_error};
use crate::{Error, ErrorKind, Recovered, Result};

/// What the keys of every restore start with. They are never backed up.
pub(super) const STAGING_PREFIX: &str = ".strongroom-restore-";

/// How far a restore has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Swapping,
    Finished,
    Undoing,
    Undone,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Swapping => "swapping",
            Self::Finished => "finished",
            Self::Undoing => "undoing",
            Self::Undone => "undone",
        }
    }
}

/// A line of the plan.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Step {
    pub(super) key: String,
    pub(super) action: Action,
}

/// The place of one restore.
#[derive(Clone, Copy)]
pub(super) struct Area<'c> {
    content: &'c dyn Content,
    id: [u8; 8],
}

impl<'c> Area<'c> {
    pub(super) fn new(content: &'c dyn Content, job_id: &str, component: &str) -> Self {
        let digest = Sha256::new().chain_update(job_id).chain_update([0]).chain_update(component).finalize();
        let mut id = [0; 8];
        id.copy_from_slice(&digest[..8]);
        Self { content, id }
    }

    fn key(&self, name: &str) -> String {
        format!("{STAGING_PREFIX}{}/{name}", hex::encode(self.id))
    }

    pub(super) fn new_one(&self, number: usize) -> String {
        self.key(&format!("new/{number}"))
    }

    pub(super) fn old_one(&self, number: usize) -> String {
        self.key(&format!("old/{number}"))
    }

    pub(super) fn write_plan(&self, changes: &[Change]) -> Result<()> {
        let mut text = Vec::new();
        for change in changes {
            let step = Step { key: change.key.clone(), action: change.action };
            serde_json::to_writer(&mut text, &step)
                .map_err(|e| Error::io("cannot write the plan of a restore", e))?;
            text.push(b'\n');
        }
        self.write("plan", text)
    }

    fn read_plan(&self) -> Result<Vec<Step>> {
        let read = self.content.read(&self.key("plan"), None, &Default::default()).map_err(store_error)?;
        let lines = read.body.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        lines
            .map(|line| {
                serde_json::from_slice(line).map_err(|e| {
                    let place = self.content.location();
                    let message = format!("the plan of a restore in {place} is damaged ({e}); restore again");
                    Error::new(ErrorKind::Damaged, message)
                })
            })
            .collect()
    }

    fn write(&self, name: &str, body: Vec<u8>) -> Result<()> {
        self.content.write(&self.key(name), &Headers::default(), body).map_err(store_error)
    }

    pub(super) fn enter(&self, state: State) -> Result<()> {
        self.write(&format!("state/{}", state.word()), b"{}".to_vec())
    }

    /// The last state that was entered.
    fn state(&self) -> Result<Option<State>> {
        let below = self.key("state/");
        let mut words = Vec::new();
        self.content
            .list(&below, &mut |entry| {
                words.extend(entry.key.strip_prefix(&below).map(str::to_owned));
                Ok(())
            })
            .map_err(store_error)?;
        let last_first = [State::Undone, State::Undoing, State::Finished, State::Swapping];
        Ok(last_first.into_iter().find(|state| words.iter().any(|word| word == state.word())))
    }

    /// Makes every object what it is to be. May be done again.
    pub(super) fn forward(&self, plan: &[Step]) -> Result<()> {
        self.each_step(plan, |number, step| match step.action {
            Action::Make | Action::Replace => self.content.copy(&self.new_one(number), &step.key, None),
            Action::Remove => self.content.delete(&step.key),
        })
    }

    /// Makes every object what it was. May be done again.
    pub(super) fn backward(&self, plan: &[Step]) -> Result<()> {
        self.enter(State::Undoing)?;
        self.each_step(plan, |number, step| match step.action {
            Action::Make => self.content.delete(&step.key),
            Action::Replace | Action::Remove => self.content.copy(&self.old_one(number), &step.key, None),
        })?;
        self.enter(State::Undone)
    }

    fn each_step(
        &self,
        plan: &[Step],
        work: impl Fn(usize, &Step) -> storage::Result<()> + Sync,
    ) -> Result<()> {
        let numbered: Vec<(usize, &Step)> = plan.iter().enumerate().collect();
        // From here on nobody stops it.
        each(self.content, &Control::default(), &numbered, |(number, step)| {
            work(*number, step).map_err(store_error)
        })?;
        Ok(())
    }

    /// Removes all of it; that the restore has ended goes last.
    pub(super) fn clear(&self) -> Result<()> {
        self.content.abort_uploads(&self.key("")).map_err(store_error)?;
        let ends = [State::Finished, State::Undone].map(|state| self.key(&format!("state/{}", state.word())));
        let (mut first, mut last) = (Vec::new(), Vec::new());
        self.content
            .list(&self.key(""), &mut |entry| {
                if ends.contains(&entry.key) { &mut last } else { &mut first }.push(entry.key);
                Ok(())
            })
            .map_err(store_error)?;
        for keys in [first, last] {
            each(self.content, &Control::default(), &keys, |key| {
                self.content.delete(key).map_err(store_error)
            })?;
        }
        Ok(())
    }

    /// Finishes or undoes what is found here.
    pub(super) fn recover(&self) -> Result<Recovered> {
        let recovered = match self.state()? {
            None if self.content.has_any(&self.key("")).map_err(store_error)? => Recovered::Undone,
            None => {
                self.content.abort_uploads(&self.key("")).map_err(store_error)?;
                return Ok(Recovered::Nothing);
            }
            Some(State::Swapping) => {
                self.forward(&self.read_plan()?)?;
                self.enter(State::Finished)?;
                Recovered::Finished
            }
            Some(State::Undoing) => {
                self.backward(&self.read_plan()?)?;
                Recovered::Undone
            }
            Some(State::Finished) => Recovered::Finished,
            Some(State::Undone) => Recovered::Undone,
        };
        self.clear()?;
        Ok(recovered)
    }
}
