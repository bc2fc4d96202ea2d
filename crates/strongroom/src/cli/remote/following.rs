//! A job that a command has begun, or waits for: on a terminal its stages and a bar, then how it ended.
//!
//! Ctrl-C ends the waiting alone. The job is the server's and goes on.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use repository::Control;
use serde_json::Value;

use super::status::duration_in_words;
use super::{Place, list, number, shown};
use crate::client::{self, Client, Ended, Progressing};
use crate::exit::{Exit, Failure};
use crate::progress::{Bar, printable};
use crate::{interrupt, terminal, words};

/// A server that is silent for so long is not waited for any more: restarts take less.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// Whether the command returns at once or stays until the job has ended.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct Waiting {
    /// Wait for the end of the job, and end with the exit code of how it ended
    #[arg(long)]
    pub wait: bool,
}

/// Begins a job by `ask`. Without `--wait` the job's id is all that is told on standard output.
pub fn begin(
    place: &Place,
    client: &Client,
    waiting: Waiting,
    what: &str,
    ask: impl FnOnce() -> client::Result<Value>,
) -> Result<Exit> {
    if !waiting.wait {
        let accepted = ask()?;
        let Some(id) = accepted["jobid"].as_str() else { return tell_without_job(place, &accepted, what) };
        if place.json {
            terminal::out_json(&accepted)?;
        } else {
            terminal::note(format!("{} has begun; to follow it: strongroom job wait {id}", printable(what)));
            terminal::out(id)?;
        }
        return Ok(Exit::Done);
    }
    // In place before the job begins: Ctrl-C must not end this without a word on what goes on.
    let control = listen()?;
    let accepted = ask()?;
    let Some(id) = accepted["jobid"].as_str() else { return tell_without_job(place, &accepted, what) };
    follow(place, client, id, what, &control)
}

/// Some tasks of the server need no job; what they did stands in their runs.
fn tell_without_job(place: &Place, answer: &Value, what: &str) -> Result<Exit> {
    place.tell(answer, || format!("{} has begun, without a job", printable(what)))
}

/// Waits for a job that runs already.
pub fn wait(place: &Place, client: &Client, id: &str) -> Result<Exit> {
    let control = listen()?;
    // A server that is not there at all is not waited for.
    client.get(&client::job(id))?;
    follow(place, client, id, "the job", &control)
}

fn listen() -> Result<Arc<Control>> {
    let control = Control::new();
    interrupt::cancels_saying(&control, "no longer waiting; once more to quit at once")?;
    Ok(control)
}

fn follow(place: &Place, client: &Client, id: &str, what: &str, control: &Control) -> Result<Exit> {
    let bar = Bar::start(what);
    let mut silent = false;
    let followed = client::follow(client, id, PATIENCE, &mut |told| {
        if control.cancelled.load(Ordering::Relaxed) {
            return Err(left_alone(id).into());
        }
        match told {
            Progressing::At(progress) => {
                silent = false;
                let stage = Some(&progress.stage).filter(|stage| !stage.is_empty());
                if progress.bytes.0 > 0 {
                    let current = if progress.current.is_empty() { stage } else { Some(&progress.current) };
                    bar.at(progress.bytes, progress.files, current.map_or("", String::as_str));
                } else {
                    bar.stage(stage.unwrap_or(&progress.status.to_lowercase()));
                }
            }
            Progressing::Silent(error) if !silent => {
                silent = true;
                if !place.json {
                    bar.note(&format!("{error}; asking again"));
                }
            }
            Progressing::Silent(_) => {}
        }
        Ok(())
    });
    if let Ok(job) = &followed {
        list(&job["result"]["stages"]).iter().filter_map(stage_line).for_each(|line| bar.say(&line));
    }
    drop(bar);
    let followed = match followed {
        Err(error) if error.is::<client::Error>() => {
            Err(error).with_context(|| format!("job {} can no longer be followed", printable(id)))
        }
        other => other,
    };
    tell_end(place, &followed?)
}

/// How a stage ended. Those that had nothing to do are left out.
fn stage_line(stage: &Value) -> Option<String> {
    let paint = terminal::paint_for_stderr();
    let mark = match stage["state"].as_str()? {
        "completed" => paint.green("✓"),
        "completed_with_warnings" => paint.yellow("!"),
        "failed" | "cancelled" => paint.red("✗"),
        _ => return None,
    };
    Some(format!("  {mark} {}  {}", shown(&stage["name"]), duration_in_words(&shown(&stage["duration"]))))
}

fn left_alone(id: &str) -> Failure {
    Failure::new(
        Exit::Interrupted,
        format!(
            "the job goes on; to follow it: strongroom job wait {id}; to stop it: strongroom job cancel {id}"
        ),
    )
}

/// How an ended job ended, in words or as it is.
pub fn tell_end(place: &Place, job: &Value) -> Result<Exit> {
    if place.json {
        terminal::out_json(job)?;
    }
    let exit = match client::ended(job) {
        Some(Ended::Failed(failure) | Ended::Bad(failure)) => return Err(failure.into()),
        Some(Ended::WithWarnings) => Exit::Incomplete,
        Some(Ended::Done) | None => Exit::Done,
    };
    if !place.json {
        for warning in list(&job["result"]["warnings"]) {
            terminal::warn(format!("{}: {}", shown(&warning["item"]), shown(&warning["reason"])));
        }
        // Of a drill.
        for (key, what) in [("proven", "proven"), ("notProven", "not proven")] {
            for line in list(&job["result"][key]) {
                terminal::out(format!("{what}: {}", shown(line)))?;
            }
        }
        terminal::out(summary(job))?;
    }
    Ok(exit)
}

/// One line on a job that did what it should.
fn summary(job: &Value) -> String {
    let result = &job["result"];
    let milliseconds = number(&job["endtime"]).saturating_sub(number(&job["starttime"]));
    let mut told = vec![format!("in {}", words::duration(Duration::from_millis(milliseconds)))];
    if let Some(files) = result["filesTotal"].as_u64() {
        told.push(words::counted(files, "file", "files"));
    }
    if let Some(milliseconds @ 0..) = result["recoveryTime"].as_i64() {
        let time = Duration::from_millis(milliseconds.unsigned_abs());
        told.push(format!("a recovery takes {}", words::duration(time)));
    }
    for (key, what) in [("bytesRead", "read"), ("bytesAdded", "added"), ("bytesReused", "still good")] {
        if let Some(bytes) = result[key].as_u64() {
            told.push(format!("{} {what}", words::bytes(bytes)));
        }
    }
    let with =
        if result["state"] == "completed_with_warnings" { "completed with warnings" } else { "completed" };
    let of = match shown(&result["backupName"]) {
        name if name.is_empty() => String::new(),
        name => format!(" of '{name}'"),
    };
    format!("{}{of}: {with}, {}", shown(&result["operation"]), told.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_end_of_a_job_is_told_in_one_line() {
        let job = json!({"starttime": 1000, "endtime": 4000, "result": {
            "operation": "Backup", "state": "success", "backupName": "nightly", "bytesRead": 2048,
            "bytesAdded": 1024, "filesTotal": 1}});
        assert_eq!(
            summary(&job),
            "Backup of 'nightly': completed, in 3 s, 1 file, 2.0 KiB read, 1.0 KiB added"
        );
    }
}
