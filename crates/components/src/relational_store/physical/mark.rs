//! The end of what a backup holds: a mark in the log, and the log until there on our disk.

use std::time::Duration;

use super::super::failure;
use super::super::inventory::get;
use super::backup::{Failed, Run, again};
use super::joint::Joints;
use super::log::Position;
use super::receive::{self, wait_until_received};
use crate::{Error, ErrorKind, Result};

/// Instants are told in milliseconds.
const TICK: Duration = Duration::from_millis(1);
/// The server's clock is waited for no longer, if it went back.
const CLOCK_MS_MAX: i64 = 10_000;

/// The end of what a backup holds.
pub(super) struct Mark {
    pub(super) time: i64,
    /// Whatever lies before it was committed by then.
    pub(super) position: Position,
    /// Until there the log must be there.
    pub(super) end: Position,
}

impl Run<'_, '_> {
    /// Milliseconds of the server's clock, and where its log ends.
    pub(super) fn now(&mut self) -> Result<(i64, Position)> {
        let text = "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::int8, pg_current_wal_insert_lsn()::text";
        let row = self
            .client
            .query_one(text, &[])
            .map_err(|e| failure::server("cannot ask for the log's end", &e))?;
        let position = Position::parse(&get::<String>(&row, 1)?);
        let position =
            position.ok_or_else(|| Error::new(ErrorKind::Io, "the server tells no position of its log"))?;
        Ok((get(&row, 0)?, position))
    }

    /// Right after this instant, which is not before `earliest`, and this position there is a commit in the log, so that a server
    /// that replays it knows when it has got there. All of that is on our disk then.
    pub(super) fn mark(&mut self, earliest: i64) -> Result<Mark, Failed> {
        let (mut time, mut position) = self.now()?;
        while time < earliest {
            if earliest - time > CLOCK_MS_MAX {
                let message =
                    "the server's clock went back while a base was taken; back up again when it is right";
                return Err(Error::new(ErrorKind::Io, message).into());
            }
            self.context.control.check().map_err(|e| Error::engine("the backup was stopped", e))?;
            std::thread::sleep(TICK);
            (time, position) = self.now()?;
        }
        let fail = |e: postgres::Error| failure::server("cannot write a mark into the log", &e);
        self.client.batch_execute("SET synchronous_commit = local").map_err(fail)?;
        self.client.execute("SELECT pg_logical_emit_message(true, 'strongroom', '')", &[]).map_err(fail)?;
        let (_, end) = receive::end_of_log(self.client)?;
        let directory = &self.settings.log_directory;
        wait_until_received(self.store, directory, self.client, end, &self.context.control)?;
        let spool = &self.present.spool;
        let is_one = || -> Result<bool> {
            Ok(spool.holds(self.present.time_line, end)?
                && spool.look_at_joints(end)? == Joints::Fine
                && spool.run()? == self.log)
        };
        again(|| match is_one()? {
            true => {
                spool.note_mark(&self.log, position)?;
                Ok(Mark { time, position, end })
            }
            false => {
                let message = "the log that was confirmed to the server did not arrive here; back up again";
                Err(Failed::Unusable(message.to_owned()))
            }
        })
        .map_err(|failed| match failed {
            Failed::Unusable(message) => Failed::With(Error::new(ErrorKind::Io, message)),
            other => other,
        })
    }
}
