//! `strongroom schedule`: backups that the server makes by itself, and its other tasks.

use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;
use serde_json::Value;

use super::backup::store_meant;
use super::following::{self, Waiting};
use super::{Place, list, shown, time};
use crate::client::{self, Client};
use crate::exit::{Exit, Failure};
use crate::passcode::{self, PasscodeSource};
use crate::progress::printable;
use crate::table::{self, Table};

/// Arguments of `strongroom schedule`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    pub place: Place,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// List the schedules and the server's other tasks
    List,
    /// Show one of them
    Show(Name),
    /// Make backups at certain times from now on
    Create(Create),
    /// Change when it runs, how long its backups are kept, or their passcode
    Update(Update),
    /// Let it run again
    Enable(Name),
    /// Let it run no more, until it is enabled
    Disable(Name),
    /// Remove it; the backups that it made stay
    Delete(Name),
    /// Run it now
    Run {
        #[command(flatten)]
        schedule: Name,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// List when it ran and what became of it, the newest first
    Runs(Name),
}

#[derive(clap::Args, Debug)]
struct Name {
    /// Its name, or its id
    #[arg(value_name = "SCHEDULE")]
    name: String,
}

/// When it runs.
#[derive(clap::Args, Debug)]
struct When {
    /// Every day at this time
    #[arg(long, value_name = "HH:MM", conflicts_with = "cron")]
    at: Option<String>,
    /// Minute, hour, day of the month, month, day of the week (1 is Sunday), as in "30 2 * * ?"
    #[arg(long, value_name = "FIELDS")]
    cron: Option<String>,
    /// The time zone of these times, such as Europe/Berlin [default: UTC]
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
}

#[derive(clap::Args, Debug)]
#[command(group = clap::ArgGroup::new("when").required(true).args(["at", "cron"]))]
struct Create {
    #[command(flatten)]
    schedule: Name,
    #[command(flatten)]
    when: When,
    /// The store [default: the default store, or the only one]
    #[arg(long, value_name = "STORE")]
    store: Option<String>,
    /// Keep each backup for so many days [default: until it is deleted]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    keep_days: Option<u32>,
    /// What its backups are about, for people
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    #[command(flatten)]
    passcode: PasscodeSource,
}

#[derive(clap::Args, Debug)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true)
    .args(["at", "cron", "time_zone", "keep_days", "keep_forever", "description", "passcode_file"]))]
struct Update {
    #[command(flatten)]
    schedule: Name,
    #[command(flatten)]
    when: When,
    /// Keep each backup from now on for so many days
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    keep_days: Option<u32>,
    /// Keep each backup from now on until it is deleted
    #[arg(long, conflicts_with = "keep_days")]
    keep_forever: bool,
    /// What its backups are about, for people
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// File that holds another passcode for the backups from now on
    #[arg(long, value_name = "FILE")]
    passcode_file: Option<PathBuf>,
}

type Fields = Vec<(&'static str, String)>;

/// Runs one verb.
pub fn run(arguments: Arguments) -> Result<Exit> {
    let place = &arguments.place;
    let client = &place.connect()?;
    match &arguments.verb {
        Verb::List => list_all(place, client),
        Verb::Show(Name { name }) => {
            let task = client.get(&client::task(&id_of(client, name)?))?;
            place.tell(&task, || in_words(&task))
        }
        Verb::Create(wanted) => create(place, client, wanted),
        Verb::Update(wanted) => update(place, client, wanted),
        Verb::Enable(schedule) => change(place, client, schedule, "enable", "enabled"),
        Verb::Disable(schedule) => change(place, client, schedule, "disable", "disabled"),
        Verb::Delete(schedule) => change(place, client, schedule, "delete", "deleted"),
        Verb::Run { schedule, waiting } => run_now(place, client, schedule, *waiting),
        Verb::Runs(Name { name }) => runs(place, client, name),
    }
}

fn tasks(client: &Client) -> Result<Value> {
    Ok(client.get(client::TASKS)?["result"].take())
}

/// The interface knows tasks by id alone. A name that several have names none.
fn id_of(client: &Client, name: &str) -> Result<String> {
    let tasks = tasks(client)?;
    if let Some(task) = list(&tasks).iter().find(|task| task["taskId"] == name) {
        return Ok(client.text(task, "taskId")?.to_owned());
    }
    let named: Vec<_> = list(&tasks).iter().filter(|task| task["taskTitle"] == name).collect();
    match named.as_slice() {
        [task] => Ok(client.text(task, "taskId")?.to_owned()),
        [] => Err(Failure::new(Exit::Failed, format!("there is no schedule '{}'", printable(name)))
            .hint("strongroom schedule list tells which there are")
            .into()),
        several => {
            let failure = Failure::usage(format!("'{}' names several schedules: use an id", printable(name)));
            Err(several.iter().fold(failure, |f, task| f.hint(shown(&task["taskId"]))).into())
        }
    }
}

fn list_all(place: &Place, client: &Client) -> Result<Exit> {
    let tasks = tasks(client)?;
    place.tell(&tasks, || {
        let mut table = Table::new(["Schedule", "Does", "State", "When", "Next", "Last"]);
        for task in list(&tasks) {
            table.row([
                shown(&task["taskTitle"]),
                shown(&task["taskType"]),
                shown(&task["taskState"]),
                when(task),
                time(&task["nextRun"]),
                time(&task["lastStart"]),
            ]);
        }
        table.text()
    })
}

/// `30 2 * * ?  Europe/Berlin`, in the order in which `--cron` takes it.
fn when(task: &Value) -> String {
    let fields =
        ["minute", "hour", "dayOfMonth", "month", "dayOfWeek"].map(|key| shown(&task["cronSchedule"][key]));
    let zone = match shown(&task["timeZone"]) {
        zone if zone.is_empty() => "UTC".to_owned(),
        zone => zone,
    };
    format!("{}  {zone}", fields.join(" "))
}

fn in_words(task: &Value) -> String {
    let parameters = &task["parameters"];
    let kept = match parameters["retentionOffset"].as_i64() {
        Some(offset @ 1..) => crate::words::counted(offset.unsigned_abs() / 86_400_000, "day", "days"),
        _ if task["taskType"] == "CreateBackup" => "for ever".to_owned(),
        _ => String::new(),
    };
    let mut lines = vec![
        ("Schedule", shown(&task["taskTitle"])),
        ("Does", shown(&task["taskType"])),
        ("State", shown(&task["taskState"])),
        ("When", when(task)),
        ("Next", time(&task["nextRun"])),
        ("Last", time(&task["lastStart"])),
        ("Store", shown(&parameters["storeName"])),
        ("Backups", shown(&parameters["name"])),
        ("Description", shown(&parameters["description"])),
        ("Kept", kept),
        ("Id", shown(&task["taskId"])),
    ];
    lines.retain(|(_, value)| !value.is_empty());
    table::pairs(&lines)
}

impl When {
    /// The five fields and the zone, as far as they were said.
    fn fields(&self) -> Result<Fields> {
        let mut fields = Fields::new();
        let cron = match (&self.at, &self.cron) {
            (Some(at), _) => {
                let time: Option<(u8, u8)> = at
                    .split_once(':')
                    .and_then(|(hour, minute)| Some((hour.parse().ok()?, minute.parse().ok()?)));
                let Some((hour, minute)) = time else {
                    return Err(Failure::usage(format!("'{}' is no time of the day", at.escape_debug()))
                        .hint("write --at 02:30")
                        .into());
                };
                Some(format!("{minute} {hour} * * ?"))
            }
            (None, cron) => cron.clone(),
        };
        if let Some(cron) = cron {
            let parts: Vec<_> = cron.split_whitespace().collect();
            let [minute, hour, day, month, weekday] = parts.as_slice() else {
                return Err(Failure::usage(format!("--cron takes five fields, not {}", parts.len()))
                    .hint("minute, hour, day of the month, month, day of the week: --cron \"30 2 * * ?\"")
                    .into());
            };
            let named = [
                ("minute", minute),
                ("hour", hour),
                ("dayOfMonth", day),
                ("month", month),
                ("dayOfWeek", weekday),
            ];
            fields.extend(named.map(|(name, field)| (name, (*field).to_owned())));
        }
        fields.extend(self.time_zone.clone().map(|zone| ("timeZone", zone)));
        Ok(fields)
    }
}

fn create(place: &Place, client: &Client, wanted: &Create) -> Result<Exit> {
    let name = &wanted.schedule.name;
    let mut fields = wanted.when.fields()?;
    fields.push(("type", "CreateBackup".to_owned()));
    fields.push(("title", name.clone()));
    fields.push(("name", name.clone()));
    fields.push(("storeName", store_meant(client, wanted.store.as_deref())?));
    fields.extend(wanted.keep_days.map(|days| ("retentionDays", days.to_string())));
    fields.extend(wanted.description.clone().map(|text| ("description", text)));
    let passcode = wanted.passcode.for_something_new()?;
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .chain([("passcode", passcode.expose())])
        .collect();
    let answer = client.post(&format!("{}/createTask", client::TASKS), &fields)?;
    let next = client.text(&answer, "taskId").and_then(|id| client.get(&client::task(id)));
    let next = next.map(|task| time(&task["nextRun"])).unwrap_or_default();
    place.tell(&answer, || format!("schedule '{}' makes its first backup at {next}", printable(name)))
}

fn update(place: &Place, client: &Client, wanted: &Update) -> Result<Exit> {
    let mut fields = wanted.when.fields()?;
    fields.extend(wanted.keep_days.map(|days| ("retentionDays", days.to_string())));
    if wanted.keep_forever {
        fields.push(("retentionDays", "-1".to_owned()));
    }
    fields.extend(wanted.description.clone().map(|text| ("description", text)));
    // Only when it is asked for: a variable that happens to be set must not change what is sealed with what.
    let passcode = match &wanted.passcode_file {
        Some(file) => Some(passcode::new(Some(file), passcode::VARIABLE)?),
        None => None,
    };
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .chain(passcode.iter().map(|passcode| ("passcode", passcode.expose())))
        .collect();
    let name = &wanted.schedule.name;
    let answer = client.post(&format!("{}/update", client::task(&id_of(client, name)?)), &fields)?;
    place.tell(&answer, || format!("updated schedule '{}'", printable(name)))
}

fn change(place: &Place, client: &Client, schedule: &Name, operation: &str, done: &str) -> Result<Exit> {
    let path = client::task(&id_of(client, &schedule.name)?);
    let answer = client.post(&format!("{path}/{operation}"), &[])?;
    place.tell(&answer, || format!("{done} schedule '{}'", printable(&schedule.name)))
}

fn run_now(place: &Place, client: &Client, schedule: &Name, waiting: Waiting) -> Result<Exit> {
    let path = format!("{}/run", client::task(&id_of(client, &schedule.name)?));
    let what = format!("the run of '{}'", schedule.name);
    following::begin(place, client, waiting, &what, || client.post(&path, &[]))
}

fn runs(place: &Place, client: &Client, name: &str) -> Result<Exit> {
    let answer = client.get(&format!("{}/runs", client::task(&id_of(client, name)?)))?;
    place.tell(&answer["result"], || {
        let mut table = Table::new(["Began", "Status", "Result", "Job"]);
        for run in list(&answer["result"]) {
            table.row([
                time(&run["created"]),
                shown(&run["status"]),
                shown(&run["result"]),
                shown(&run["jobid"]),
            ]);
        }
        table.text()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(at: Option<&str>, cron: Option<&str>) -> Result<Vec<String>> {
        let text = |text: &str| text.to_owned();
        let when = When { at: at.map(text), cron: cron.map(text), time_zone: None };
        Ok(when.fields()?.into_iter().map(|(_, value)| value).collect())
    }

    #[test]
    fn a_time_of_the_day_and_five_fields_say_the_same() {
        assert_eq!(told(Some("02:30"), None).unwrap(), ["30", "2", "*", "*", "?"]);
        assert_eq!(told(None, Some("30 2  * * ?")).unwrap(), ["30", "2", "*", "*", "?"]);
        assert!(told(None, None).unwrap().is_empty());
        for wrong in ["2", "2:", "half past two", "02:30:00"] {
            assert!(told(Some(wrong), None).is_err(), "{wrong}");
        }
        for wrong in ["", "30 2 * *", "0 30 2 * * ?"] {
            assert!(told(None, Some(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn when_it_runs_is_shown_as_it_is_typed() {
        let schedule =
            json!({"minute": "30", "hour": "2", "dayOfMonth": "*", "month": "*", "dayOfWeek": "?"});
        assert_eq!(
            when(&json!({"cronSchedule": schedule, "timeZone": "Europe/Berlin"})),
            "30 2 * * ?  Europe/Berlin"
        );
    }
}
