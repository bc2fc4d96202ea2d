//! `strongroom status`: the server, and what became of the last backup or restore.

use anyhow::Result;
use serde_json::{Value, json};

use super::{Place, list, shown, time};
use crate::client::DISASTER_RECOVERY;
use crate::exit::Exit;
use crate::table::{self, Table};

/// Arguments of `strongroom status`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    pub place: Place,
}

/// Tells it. The exit code says whether it could be told, not how the operation ended.
pub fn run(arguments: Arguments) -> Result<Exit> {
    let place = &arguments.place;
    let client = place.connect()?;
    let version = client.get("admin")?["strongroomVersion"].clone();
    let mut answer = client.get(&format!("{DISASTER_RECOVERY}/status"))?;
    answer["server"] = json!(client.server().base());
    answer["strongroomVersion"] = version;
    place.tell(&answer, || in_words(&answer))
}

fn in_words(answer: &Value) -> String {
    let last = &answer["status"];
    let mut lines =
        vec![("Server", shown(&answer["server"])), ("Version", shown(&answer["strongroomVersion"]))];
    if last["state"] == "none" {
        lines.push(("Last", "no backup and no restore yet".to_owned()));
        return table::pairs(&lines);
    }
    lines.extend([
        ("Last", format!("{} of '{}'", shown(&last["operation"]), shown(&last["backupName"]))),
        ("Store", shown(&last["backupStore"])),
        ("State", shown(&last["state"])),
        ("Began", time(&last["startTime"])),
        ("Ended", time(&last["completeTime"])),
        ("Job", shown(&last["jobid"])),
        ("Message", shown(&last["message"])),
    ]);
    lines.retain(|(_, value)| !value.is_empty());
    let stages = stages(&last["stages"]);
    table::pairs(&lines) + "\n" + &stages
}

/// The steps of a job and how long each took.
pub fn stages(told: &Value) -> String {
    let mut table = Table::new(["Stage", "State", "Duration"]);
    for stage in list(told) {
        let duration = shown(&stage["duration"]);
        table.row([shown(&stage["name"]), shown(&stage["state"]), duration_in_words(&duration)]);
    }
    if list(told).is_empty() { String::new() } else { format!("\n{}", table.text()) }
}

/// `3.1 s` of `3096 millis (~ 0 minutes)`, as the interface writes it.
pub fn duration_in_words(told: &str) -> String {
    let milliseconds = told.split(' ').next().and_then(|number| number.parse().ok());
    milliseconds
        .map_or_else(|| told.to_owned(), |ms| crate::words::duration(std::time::Duration::from_millis(ms)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_the_interface_become_short() {
        assert_eq!(duration_in_words("3096 millis (~ 0 minutes)"), "3.1 s");
        assert_eq!(duration_in_words("a while"), "a while");
    }

    #[test]
    fn what_somebody_wrote_cannot_command_the_terminal() {
        let told =
            in_words(&json!({"status": {"state": "success", "backupName": "a\u{1b}[2Jb", "stages": []}}));
        assert!(!told.contains('\u{1b}'), "{told:?}");
    }
}
