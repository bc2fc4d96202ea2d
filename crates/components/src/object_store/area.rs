//! Where a restore keeps its things in the bucket, and how far it has come: the journal.
//!
//! ```text
//! .strongroom-restore-<id>/plan            what becomes of each object, a line each, once all lies ready
//!                         new/<number>     what will be
//!                         old/<number>     what was
//!                         state/<word>     swapping, then finished; or undoing, then undone
//! ```
//! Without a state nothing has changed. From `swapping` on the restore is finished by whoever finds it, unless there is
//! `undoing`; both can be done again and again from `new` and `old`, which go after `finished` or `undone` alone.

use std::collections::HashMap;

use repository::Control;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use storage::{Content, Headers};

use super::compare::Action;
use super::{each, listing, store_error};
use crate::{Error, ErrorKind, Recovered, Result};

/// What the keys of every restore start with. They are never backed up.
pub(super) const STAGING_PREFIX: &str = ".strongroom-restore-";

/// The plan is read in pieces of so much.
const PLAN_PART_BYTES: u64 = 8 << 20;

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
    /// Names what belongs to it.
    pub(super) number: usize,
    pub(super) key: String,
    pub(super) action: Action,
    /// Bytes of what will be.
    pub(super) size: u64,
    /// Bytes of what was.
    pub(super) size_before: u64,
    /// The tag of what was.
    #[serde(default)]
    pub(super) tag_before: String,
}

impl Step {
    /// Bytes of what is there in the end; `None`: nothing is.
    fn after(&self) -> Option<u64> {
        (self.action != Action::Remove).then_some(self.size)
    }

    /// Bytes of what was there at the beginning; `None`: nothing was.
    fn before(&self) -> Option<u64> {
        (self.action != Action::Make).then_some(self.size_before)
    }
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

    pub(super) fn write_plan(&self, plan: &[Step]) -> Result<()> {
        // Of nothing no range could be read.
        let mut text = b"\n".to_vec();
        for step in plan {
            serde_json::to_writer(&mut text, step)
                .map_err(|e| Error::io("cannot write the plan of a restore", e))?;
            text.push(b'\n');
        }
        self.write("plan", text)
    }

    fn read_plan(&self) -> Result<Vec<Step>> {
        let mut read = Vec::new();
        loop {
            let at = read.len() as u64;
            let range = at..at + PLAN_PART_BYTES;
            let part = self
                .content
                .read(&self.key("plan"), Some(range), &Default::default())
                .map_err(store_error)?;
            read.extend(part.body);
            if read.len() as u64 >= part.object.size {
                break;
            }
        }
        let lines = read.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
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
        self.each_step(plan, |step| match step.action {
            Action::Make | Action::Replace => {
                self.content.copy(&self.new_one(step.number), &step.key, step.size, None)
            }
            Action::Remove => self.content.delete(&step.key),
        })
    }

    /// Makes every object what it was. May be done again.
    pub(super) fn backward(&self, plan: &[Step]) -> Result<()> {
        self.enter(State::Undoing)?;
        let back = || {
            self.each_step(plan, |step| match step.action {
                Action::Make => self.content.delete(&step.key),
                Action::Replace | Action::Remove => self.put_back(step),
            })
        };
        back()?;
        // What was given up on the way forward may have been carried out late.
        let mut verified = self.verify(plan, Step::before);
        if verified.is_err() {
            back()?;
            verified = self.verify(plan, Step::before);
        }
        // If somebody else writes by now, nobody may copy over that at the next start.
        self.enter(State::Undone)?;
        verified
    }

    fn put_back(&self, step: &Step) -> storage::Result<()> {
        let copied = self.content.copy(&self.old_one(step.number), &step.key, step.size_before, None);
        let Err(e) = copied else { return Ok(()) };
        // What nobody lets us write over was not written over before either.
        match self.is_untouched(step) {
            Ok(true) => Ok(()),
            _ => Err(e),
        }
    }

    fn is_untouched(&self, step: &Step) -> storage::Result<bool> {
        let there = self.content.look(&step.key)?.filter(|there| {
            there.version.tag.as_ref().is_some_and(|tag| !tag.is_empty() && *tag == step.tag_before)
        });
        // The ETags of some services tell nothing of headers and tags.
        let kept = self.content.look(&self.old_one(step.number))?;
        Ok(there
            .zip(kept)
            .is_some_and(|(there, kept)| there.size == kept.size && there.headers == kept.headers))
    }

    /// All that was written is there in its length, and what was removed is not.
    pub(super) fn verify_forward(&self, plan: &[Step]) -> Result<()> {
        self.verify(plan, Step::after)
    }

    fn verify(&self, plan: &[Step], expected: impl Fn(&Step) -> Option<u64>) -> Result<()> {
        let mut present: HashMap<&str, Option<u64>> =
            plan.iter().map(|step| (step.key.as_str(), None)).collect();
        listing::visit(self.content, "", &Control::default(), &mut |entry| {
            if let Some(size) = present.get_mut(entry.key.as_str()) {
                *size = Some(entry.size);
            }
        })?;
        for step in plan {
            if present.get(step.key.as_str()) != Some(&expected(step)) {
                let message = format!(
                    "'{}' is not as it was left: somebody else writes to {}; stop that and restore again",
                    step.key.escape_debug(),
                    self.content.location()
                );
                return Err(Error::new(ErrorKind::Io, message));
            }
        }
        Ok(())
    }

    fn each_step(&self, plan: &[Step], work: impl Fn(&Step) -> storage::Result<()> + Sync) -> Result<()> {
        // From here on nobody stops it.
        each(self.content, &Control::default(), plan, |step| work(step).map_err(|e| self.stuck(e)))?;
        Ok(())
    }

    fn stuck(&self, error: storage::Error) -> Error {
        if error.kind != storage::ErrorKind::NotFound {
            return store_error(error);
        }
        let message = format!(
            "{error}; what a restore had laid down below '{}' in {} is no longer whole, so it can be neither finished nor undone: \
             remove all of that, and restore again",
            self.key(""),
            self.content.location()
        );
        Error::new(ErrorKind::Damaged, message)
    }

    /// Parts of objects that nobody will end. Not every service lists them, nor lets everybody.
    fn abort_uploads(&self) {
        if let Err(e) = self.content.abort_uploads(&self.key("")) {
            tracing::warn!("what a restore may have left of unfinished uploads stays: {e}");
        }
    }

    /// Removes all of it; that the restore has ended goes last.
    pub(super) fn clear(&self) -> Result<()> {
        self.abort_uploads();
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

    /// Whether every object was put back, whatever was found there afterwards.
    pub(super) fn is_undone(&self) -> Result<bool> {
        Ok(self.state()? == Some(State::Undone))
    }

    pub(super) fn is_empty(&self) -> Result<bool> {
        Ok(self.content.first(&self.key("")).map_err(store_error)?.is_none())
    }

    /// Finishes or undoes what is found here, if there is something.
    pub(super) fn recover(&self) -> Result<Recovered> {
        let recovered = match self.state()? {
            None => Recovered::Undone,
            Some(State::Swapping) => {
                self.forward(&self.read_plan()?)?;
                self.enter(State::Finished)?;
                Recovered::Finished
            }
            Some(State::Undoing) => {
                let undone = self.backward(&self.read_plan()?);
                if !self.is_undone()? {
                    undone?;
                }
                Recovered::Undone
            }
            Some(State::Finished) => Recovered::Finished,
            Some(State::Undone) => Recovered::Undone,
        };
        self.clear()?;
        Ok(recovered)
    }
}
