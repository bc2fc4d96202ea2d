//! `strongroom job`: what the server does and did.

use anyhow::Result;
use clap::Subcommand;
use serde_json::Value;

use super::status::stages;
use super::{Place, following, list, number, shown, time};
use crate::client::{self, Client};
use crate::exit::{Exit, Failure};
use crate::progress::printable;
use crate::table::{self, Table};
use crate::words;

/// Arguments of `strongroom job`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    pub place: Place,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// List jobs, the newest first
    List {
        /// So many of them
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: usize,
    },
    /// Show one job
    Show(Job),
    /// Wait for the end of a job, and end with the exit code of how it ended
    Wait(Job),
    /// Ask a job to stop
    Cancel {
        #[command(flatten)]
        job: Job,
        #[command(flatten)]
        waiting: following::Waiting,
    },
}

#[derive(clap::Args, Debug)]
struct Job {
    /// The job's id
    #[arg(value_name = "JOB")]
    id: String,
}

/// Runs one verb.
pub fn run(arguments: Arguments) -> Result<Exit> {
    let place = &arguments.place;
    let client = place.connect()?;
    match &arguments.verb {
        Verb::List { limit } => list_newest(place, &client, *limit),
        Verb::Show(Job { id }) => {
            let job = client.get(&client::job(id))?;
            place.tell(&job, || in_words(&job))
        }
        Verb::Wait(Job { id }) => following::wait(place, &client, id),
        Verb::Cancel { job: Job { id }, waiting } => cancel(place, &client, id, *waiting),
    }
}

/// The interface lists ids alone; the jobs themselves are fetched one by one.
fn list_newest(place: &Place, client: &Client, limit: usize) -> Result<Exit> {
    let ids = client.get("admin/jobs")?;
    let mut jobs = Vec::new();
    for id in list(&ids["jobs"]).iter().filter_map(Value::as_str).take(limit) {
        match client.get(&client::job(id)) {
            Ok(job) => jobs.push(job),
            // Its time was over between the two requests.
            Err(client::Error::Refused { code, .. }) if code == "JOB_NOT_FOUND" => {}
            Err(error) => return Err(error.into()),
        }
    }
    let jobs = Value::Array(jobs);
    place.tell(&jobs, || {
        let mut table = Table::new(["Job", "What", "Status", "Began", "By"]);
        for job in list(&jobs) {
            table.row([
                shown(&job["jobid"]),
                what(job),
                status(job),
                time(&job["starttime"]),
                shown(&job["username"]),
            ]);
        }
        table.text()
    })
}

/// A job that was asked to stop is told as it is then; with `--wait`, as it ended: cancelled is what was wanted.
fn cancel(place: &Place, client: &Client, id: &str, waiting: following::Waiting) -> Result<Exit> {
    let answer = match client.post(&format!("{}/cancel", client::job(id)), &[]) {
        // Nothing stands in the way: there is nothing left to be stopped.
        Err(client::Error::Refused { message, .. })
            if client.get(&client::job(id)).is_ok_and(|job| client::ended(&job).is_some()) =>
        {
            return Err(Failure::new(Exit::Failed, message).into());
        }
        answer => answer?,
    };
    if !waiting.wait {
        return place.tell(&answer, || format!("job {} was asked to stop", printable(id)));
    }
    let job = client::follow(client, id, std::time::Duration::ZERO, &mut |_| Ok(()))?;
    match job["status"].as_str() {
        Some("CANCELLED") => place.tell(&job, || format!("job {} was cancelled", printable(id))),
        _ => following::tell_end(place, &job),
    }
}

/// `Backup of 'nightly'`. What a running job does stands in its URL alone.
fn what(job: &Value) -> String {
    let (result, uri) = (&job["result"], job["operationURI"].as_str().unwrap_or_default());
    let operation = match result["operation"].as_str() {
        Some(operation) => printable(operation),
        None => match uri.rsplit('/').next().unwrap_or_default() {
            "create" | "backup" => "Backup".to_owned(),
            other => printable(other),
        },
    };
    match shown(&result["backupName"]) {
        name if name.is_empty() => operation,
        name => format!("{operation} of '{name}'"),
    }
}

/// The status, or for a completed job its state, which tells more.
fn status(job: &Value) -> String {
    match job["result"]["state"].as_str() {
        Some(state) => printable(state),
        None => shown(&job["status"]).to_lowercase(),
    }
}

fn in_words(job: &Value) -> String {
    let (result, progress) = (&job["result"], &job["progress"]);
    let bytes = |value: &Value| value.as_u64().map(words::bytes).unwrap_or_default();
    let mut lines = vec![
        ("Job", shown(&job["jobid"])),
        ("What", what(job)),
        ("Store", shown(&result["backupStore"])),
        ("Status", status(job)),
        ("Began", time(&job["starttime"])),
        ("Ended", time(&job["endtime"])),
        ("By", shown(&job["username"])),
        ("Stage", shown(&progress["stage"])),
        ("Read", bytes(&result["bytesRead"])),
        ("Added", bytes(&result["bytesAdded"])),
    ];
    if number(&progress["bytesDone"]) > 0 {
        lines.push(("Done", bytes(&progress["bytesDone"])));
    }
    lines.extend(list(&job["messages"]).iter().map(|message| ("Message", shown(message))));
    lines.retain(|(_, value)| !value.is_empty());
    table::pairs(&lines) + "\n" + &stages(&result["stages"])
}
