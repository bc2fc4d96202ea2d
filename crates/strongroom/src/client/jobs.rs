//! Follows a job of the server to its end. The job is the server's: it goes on whether anybody looks or not, and
//! after a restart of the server too, so a server that is silent for a while is waited for.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Client, Error, job};
use crate::exit::{Exit, Failure};

const PAUSE_MIN: Duration = Duration::from_millis(120);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How far a job is.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// The job's status.
    pub status: String,
    /// What is being done.
    pub stage: String,
    /// Bytes done and to be done; 0 while unknown.
    pub bytes: (u64, u64),
    /// Files done.
    pub files: u64,
    /// What is being read or written.
    pub current: String,
}

/// What is told while a job is followed.
#[derive(Debug)]
pub enum Progressing {
    /// It is so far.
    At(Progress),
    /// The server does not answer just now.
    Silent(Error),
}

/// How a job ended.
#[derive(Debug)]
pub enum Ended {
    /// With everything.
    Done,
    /// But for what its warnings name.
    WithWarnings,
    /// It did what it should, and what it found is bad.
    Bad(Failure),
    /// It failed or was cancelled.
    Failed(Failure),
}

/// Waits for the end of a job and returns it. `tell` hears how far it is, and may give up. A server that is silent is
/// waited for as long as `patience` says.
pub fn follow(
    client: &Client,
    id: &str,
    patience: Duration,
    tell: &mut dyn FnMut(&Progressing) -> anyhow::Result<()>,
) -> anyhow::Result<Value> {
    let (path, started) = (job(id), Instant::now());
    let mut heard = Instant::now();
    loop {
        let told = match client.get(&path) {
            Ok(job) if ended(&job).is_some() => return Ok(job),
            Ok(job) => {
                heard = Instant::now();
                Progressing::At(progress(&job))
            }
            Err(error) if error.may_pass() && heard.elapsed() < patience => Progressing::Silent(error),
            Err(error) => return Err(error.into()),
        };
        tell(&told)?;
        // The longer it takes, the less often it is asked for.
        std::thread::sleep((started.elapsed() / 50).clamp(PAUSE_MIN, PAUSE_MAX));
    }
}

fn progress(job: &Value) -> Progress {
    let told = &job["progress"];
    let number = |key: &str| told[key].as_u64().unwrap_or_default();
    let words = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Progress {
        status: words(&job["status"]),
        stage: words(&told["stage"]),
        bytes: (number("bytesDone"), number("bytesTotal")),
        files: number("filesDone"),
        current: words(&told["current"]),
    }
}

/// How a job ended, if it has.
pub fn ended(job: &Value) -> Option<Ended> {
    let result = &job["result"];
    match job["status"].as_str().unwrap_or_default() {
        "COMPLETED" if result["isReady"] == Value::Bool(false) => {
            let details = texts(&result["details"]);
            Some(Ended::Bad(with_hints(Failure::new(Exit::Damaged, "the backup is not sound"), details)))
        }
        "COMPLETED" if result["state"] == "completed_with_warnings" => Some(Ended::WithWarnings),
        "COMPLETED" => Some(Ended::Done),
        "FAILED" => Some(Ended::Failed(failure(job, "the job failed and does not say why"))),
        "CANCELLED" => Some(Ended::Failed(failure(job, "the job was cancelled"))),
        _ => None,
    }
}

/// The first of its messages, the others as advice.
fn failure(job: &Value, without_any: &str) -> Failure {
    let mut messages = texts(&job["messages"]).into_iter();
    let first = messages.next().unwrap_or_else(|| without_any.to_owned());
    with_hints(Failure::new(Exit::Failed, first), messages.collect())
}

fn with_hints(failure: Failure, lines: Vec<String>) -> Failure {
    lines.into_iter().fold(failure, Failure::hint)
}

fn texts(list: &Value) -> Vec<String> {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::classify;
    use serde_json::json;

    #[test]
    fn a_job_ends_in_four_ways_and_not_before() {
        for status in ["SUBMITTED", "EXECUTING", "CANCELLING", "UNAVAILABLE", "", "SOMETHING_NEW"] {
            assert!(ended(&json!({"status": status})).is_none(), "{status}");
        }
        let completed = |result: Value| ended(&json!({"status": "COMPLETED", "result": result}));
        assert!(matches!(completed(json!({"state": "success"})), Some(Ended::Done)));
        assert!(matches!(completed(json!({"state": "completed_with_warnings"})), Some(Ended::WithWarnings)));
        let Some(Ended::Bad(bad)) = completed(json!({"isReady": false, "details": ["pack ab is gone"]}))
        else {
            panic!("not bad");
        };
        assert_eq!(classify(&bad.into()), Exit::Damaged);
        let Some(Ended::Failed(failed)) =
            ended(&json!({"status": "FAILED", "messages": ["the disk is full", "store s1"]}))
        else {
            panic!("not failed");
        };
        assert_eq!(failed.to_string(), "the disk is full");
        assert!(matches!(ended(&json!({"status": "CANCELLED"})), Some(Ended::Failed(_))));
    }
}
