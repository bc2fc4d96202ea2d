//! `strongroom backup`: make, look at, prove, restore and delete backups.

use std::io::{BufRead, IsTerminal, Write};

use anyhow::{Context, Result};
use clap::Subcommand;
use serde_json::Value;

use super::following::{self, Waiting};
use super::keeping::Keeping;
use super::{Place, list, number, shown, time, validated};
use crate::client::{self, Client, DISASTER_RECOVERY};
use crate::exit::{Exit, Failure};
use crate::passcode::PasscodeSource;
use crate::progress::printable;
use crate::table::{self, Table};
use crate::{terminal, words};

/// Arguments of `strongroom backup`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    pub place: Place,
    /// The store [default: the default store, or the only one]
    #[arg(long, value_name = "STORE", global = true)]
    store: Option<String>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// List the backups of a store, the newest first
    List,
    /// Show one backup, its components, and what is not in it
    Show(Name),
    /// Make a backup of all components
    Create(Create),
    /// Replace the present content by that of a backup
    Restore(Restore),
    /// Ask whether a backup is sound; with its passcode also whether that opens it
    Validate(Validate),
    /// Restore a backup into scratch on the server, check it there, and tell how long a recovery takes
    Drill(Drill),
    /// Change how long a backup is kept, or its description
    Update(Update),
    /// Delete a backup, without asking; this cannot be taken back
    Delete(Name),
}

#[derive(clap::Args, Debug)]
struct Name {
    /// The backup's name
    #[arg(value_name = "BACKUP")]
    name: String,
}

#[derive(clap::Args, Debug)]
struct Create {
    #[command(flatten)]
    backup: Name,
    /// What it is about, for people
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    #[command(flatten)]
    keeping: Keeping,
    #[command(flatten)]
    passcode: PasscodeSource,
    #[command(flatten)]
    waiting: Waiting,
}

#[derive(clap::Args, Debug)]
struct Restore {
    #[command(flatten)]
    backup: Name,
    /// Only this component, by name or kind; may be repeated
    #[arg(long = "component", value_name = "COMPONENT")]
    components: Vec<String>,
    /// Only this part of a component: a database (gis/city), a table (gis/city/public/roads), a
    /// prefix of a bucket (uploads/photos/), a directory (content/photos); may be repeated
    #[arg(long, value_name = "COMPONENT/PATH")]
    only: Vec<String>,
    /// The new name that the one database of --only gets; the present ones are not touched
    #[arg(long, value_name = "NAME", requires = "only")]
    into: Option<String>,
    /// Restore what the backup holds as NAME into another configured component of the same kind, whose content it replaces; that of
    /// its own name stays. Only these components, unless others are named; may be repeated
    #[arg(long, value_name = "NAME=COMPONENT")]
    target: Vec<String>,
    /// Restore databases whose log is backed up as they were then: a time like 2026-05-04T11:59:30Z, or milliseconds since 1970
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Check everything, the passcode too, and change nothing
    #[arg(long, conflicts_with = "yes")]
    validate_only: bool,
    /// Do not ask whether the present content may be replaced
    #[arg(long, short = 'y')]
    yes: bool,
    #[command(flatten)]
    passcode: PasscodeSource,
    #[command(flatten)]
    waiting: Waiting,
}

#[derive(clap::Args, Debug)]
struct Validate {
    #[command(flatten)]
    backup: Name,
    /// Read and check every byte, as a job; needs the passcode
    #[arg(long)]
    read_data: bool,
    #[command(flatten)]
    passcode: PasscodeSource,
    #[command(flatten)]
    waiting: Waiting,
}

#[derive(clap::Args, Debug)]
struct Drill {
    #[command(flatten)]
    backup: Name,
    /// Restore nothing and only read every pack, which proves less
    #[arg(long, conflicts_with = "passcode_file")]
    packs_only: bool,
    #[command(flatten)]
    passcode: PasscodeSource,
    #[command(flatten)]
    waiting: Waiting,
}

#[derive(clap::Args, Debug)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true)
    .args(["keep_days", "keep_until", "keep_forever", "description"]))]
struct Update {
    #[command(flatten)]
    backup: Name,
    #[command(flatten)]
    keeping: Keeping,
    /// Keep it until it is deleted by hand
    #[arg(long, conflicts_with_all = ["keep_days", "keep_until"])]
    keep_forever: bool,
    /// What it is about, for people
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

/// Runs one verb.
pub fn run(arguments: Arguments) -> Result<Exit> {
    let place = &arguments.place;
    let client = place.connect()?;
    let store = store_meant(&client, arguments.store.as_deref())?;
    match &arguments.verb {
        Verb::List => list_all(place, &client, &store),
        Verb::Show(Name { name }) => {
            let backup = client.get(&client::backup(&store, name))?;
            place.tell(&backup, || in_words(&backup))
        }
        Verb::Create(wanted) => create(place, &client, &store, wanted),
        Verb::Restore(wanted) => restore(place, &client, &store, wanted),
        Verb::Validate(wanted) => validate(place, &client, &store, wanted),
        Verb::Drill(wanted) => drill(place, &client, &store, wanted),
        Verb::Update(wanted) => update(place, &client, &store, wanted),
        Verb::Delete(Name { name }) => {
            let answer = client.post(&format!("{}/delete", client::backup(&store, name)), &[])?;
            place.tell(&answer, || format!("deleted backup '{}'", printable(name)))
        }
    }
}

/// The store that was named, else the default one, else the only one.
pub fn store_meant(client: &Client, named: Option<&str>) -> Result<String> {
    if let Some(name) = named {
        return Ok(name.to_owned());
    }
    let answer = client.get(&format!("{DISASTER_RECOVERY}/stores"))?;
    let stores = list(&answer["backupStores"]);
    let default = stores.iter().find(|store| store["default"] == Value::Bool(true));
    let meant = match (default, stores) {
        (Some(store), _) => store,
        (None, [only]) => only,
        (None, []) => {
            return Err(Failure::new(Exit::NoRepository, "the server has no store")
                .hint("register one: strongroom store register NAME --location DIRECTORY --default")
                .into());
        }
        (None, several) => {
            let failure = Failure::usage("no store is the default one: say which with --store");
            return Err(several.iter().fold(failure, |f, store| f.hint(shown(&store["name"]))).into());
        }
    };
    Ok(client.text(meant, "name")?.to_owned())
}

fn list_all(place: &Place, client: &Client, store: &str) -> Result<Exit> {
    let answer = client.get(&format!("{}/backups", client::store(store)))?;
    place.tell(&answer["backups"], || {
        let mut table = Table::new(["Backup", "Made", "Status", "Files", "Read", "Added", "Kept until"]);
        for backup in list(&answer["backups"]) {
            table.row([
                shown(&backup["backupName"]),
                time(&backup["startTime"]),
                shown(&backup["status"]),
                words::count(number(&backup["filesTotal"])),
                words::bytes(number(&backup["bytesRead"])),
                words::bytes(number(&backup["bytesAdded"])),
                kept_until(backup),
            ]);
        }
        table.text()
    })
}

fn kept_until(backup: &Value) -> String {
    match backup["retentionDate"].as_i64() {
        Some(1..) => time(&backup["retentionDate"]),
        _ => "for ever".to_owned(),
    }
}

fn in_words(backup: &Value) -> String {
    let mut lines = vec![
        ("Backup", shown(&backup["backupName"])),
        ("Store", shown(&backup["backupStore"])),
        ("Description", shown(&backup["description"])),
        ("Status", shown(&backup["status"])),
        ("Began", time(&backup["startTime"])),
        ("Ended", time(&backup["completeTime"])),
        ("Kept until", kept_until(backup)),
        ("Files", words::count(number(&backup["filesTotal"]))),
        ("Read", words::bytes(number(&backup["bytesRead"]))),
        ("Added", words::bytes(number(&backup["bytesAdded"]))),
        ("Vault", shown(&backup["vaultId"])),
        ("Job", shown(&backup["jobid"])),
    ];
    lines.extend(list(&backup["warnings"]).iter().map(|warning| ("Not in it", shown(warning))));
    lines.retain(|(_, value)| !value.is_empty());
    let mut table = Table::new(["Component", "Kind", "Place", "Status"]);
    for (kind, component) in components(backup) {
        table.row([
            component_name(component),
            kind.to_owned(),
            component_place(component),
            shown(&component["status"]),
        ]);
    }
    format!("{}\n\n{}", table::pairs(&lines), table.text())
}

/// Each component under the word for its kind, as `--component` takes it.
fn components(backup: &Value) -> impl Iterator<Item = (&'static str, &Value)> {
    let lists =
        [("fileStore", "volumes"), ("relationalStore", "relationalStore"), ("objectStore", "objectStore")];
    let listed =
        lists.into_iter().flat_map(|(kind, key)| list(&backup[key]).iter().map(move |one| (kind, one)));
    let system = Some(&backup["infrastructures"]).filter(|one| one.get("status").is_some());
    listed.chain(system.map(|one| ("systemConfiguration", one)))
}

fn component_name(component: &Value) -> String {
    shown(component.get("name").or_else(|| component.get("clusterID")).unwrap_or(&Value::Null))
}

fn component_place(component: &Value) -> String {
    shown(component.get("path").unwrap_or_else(|| &component["buckets"][0]))
}

fn create(place: &Place, client: &Client, store: &str, wanted: &Create) -> Result<Exit> {
    let name = wanted.backup.name.as_str();
    let retention = wanted.keeping.parameter()?;
    let passcode = wanted.passcode.for_something_new()?;
    let mut fields = vec![("name", name), ("passcode", passcode.expose())];
    fields.extend(wanted.description.as_deref().map(|text| ("description", text)));
    fields.extend(retention.as_ref().map(|(key, value)| (*key, value.as_str())));
    following::begin(place, client, wanted.waiting, &format!("backup '{name}'"), || {
        client.post(&format!("{}/backups/create", client::store(store)), &fields)
    })
}

fn restore(place: &Place, client: &Client, store: &str, wanted: &Restore) -> Result<Exit> {
    let name = wanted.backup.name.as_str();
    if let Some(word) = wanted.components.iter().find(|word| word.contains(',') || word.trim().is_empty()) {
        return Err(Failure::usage(format!("'{}' is the name of no component", word.escape_debug())).into());
    }
    let path = client::backup(store, name);
    // What gets a new name replaces nothing.
    if !wanted.validate_only && !wanted.yes && wanted.into.is_none() {
        let backup = client.get(&path)?;
        confirm(place, &backup, wanted)?;
    }
    let passcode = wanted.passcode.existing()?;
    let components = wanted.components.join(",");
    let only = Value::from(wanted.only.clone()).to_string();
    let mut fields = vec![("passcode", passcode.expose())];
    if !components.is_empty() {
        fields.push(("components", &components));
    }
    if !wanted.only.is_empty() {
        fields.push(("only", &only));
    }
    fields.extend(wanted.into.as_deref().map(|name| ("into", name)));
    let target = Value::from(wanted.target.clone()).to_string();
    if !wanted.target.is_empty() {
        fields.push(("target", &target));
    }
    fields.extend(wanted.at.as_deref().map(|at| ("recoveryTime", at)));
    if wanted.validate_only {
        fields.push(("validateOnly", "true"));
        let answer = client.post(&format!("{path}/restore"), &fields)?;
        return place
            .tell(&answer, || format!("backup '{}' can be restored; nothing was changed", printable(name)));
    }
    following::begin(place, client, wanted.waiting, &format!("the restore of '{name}'"), || {
        client.post(&format!("{path}/restore"), &fields)
    })
}

/// Asks whether what is there now may be replaced. Where nobody can be asked, it may not.
fn confirm(place: &Place, backup: &Value, wanted: &Restore) -> Result<()> {
    let asks = std::io::stdin().is_terminal() && std::io::stderr().is_terminal() && !place.json;
    if !asks {
        return Err(Failure::usage(
            "a restore replaces the present content, and there is nobody to be asked",
        )
        .hint("use --yes; or --validate-only, which changes nothing")
        .into());
    }
    let made = time(&backup["startTime"]);
    terminal::note(format!(
        "This replaces the present content by that of '{}', made {made}:",
        shown(&backup["backupName"])
    ));
    let chosen = [wanted.components.as_slice(), &wanted.only, &wanted.target].concat();
    if chosen.is_empty() {
        for (kind, component) in self::components(backup) {
            terminal::note(format!(
                "  {} ({kind})  {}",
                component_name(component),
                component_place(component)
            ));
        }
    } else {
        terminal::note(format!("  {}", printable(&chosen.join(", "))));
    }
    let _ = write!(std::io::stderr().lock(), "Replace it? [y/N] ");
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).context("cannot read the answer")?;
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::new(Exit::Failed, "nothing was changed").into()),
    }
}

fn validate(place: &Place, client: &Client, store: &str, wanted: &Validate) -> Result<Exit> {
    let name = wanted.backup.name.as_str();
    let path = format!("{}/validate", client::backup(store, name));
    if wanted.read_data {
        let passcode = wanted.passcode.existing()?;
        let fields = [("passcode", passcode.expose()), ("readData", "true")];
        return following::begin(
            place,
            client,
            wanted.waiting,
            &format!("the validation of '{name}'"),
            || client.post(&path, &fields),
        );
    }
    let passcode = wanted.passcode.if_given()?;
    let fields: Vec<_> = passcode.iter().map(|passcode| ("passcode", passcode.expose())).collect();
    let answer = client.post(&path, &fields)?;
    validated(place, &answer, &format!("backup '{name}'"), Exit::Damaged)
}

fn drill(place: &Place, client: &Client, store: &str, wanted: &Drill) -> Result<Exit> {
    let name = wanted.backup.name.as_str();
    let passcode = match wanted.packs_only {
        true => None,
        false => Some(wanted.passcode.existing()?),
    };
    let fields: Vec<_> = passcode.iter().map(|passcode| ("passcode", passcode.expose())).collect();
    following::begin(place, client, wanted.waiting, &format!("the drill of '{name}'"), || {
        client.post(&format!("{}/drill", client::backup(store, name)), &fields)
    })
}

fn update(place: &Place, client: &Client, store: &str, wanted: &Update) -> Result<Exit> {
    let retention = match wanted.keep_forever {
        true => Some(("retentionDate", "-1".to_owned())),
        false => wanted.keeping.parameter()?,
    };
    let mut fields = Vec::new();
    fields.extend(wanted.description.as_deref().map(|text| ("description", text)));
    fields.extend(retention.as_ref().map(|(key, value)| (*key, value.as_str())));
    let name = wanted.backup.name.as_str();
    let answer = client.post(&format!("{}/update", client::backup(store, name)), &fields)?;
    place.tell(&answer, || format!("updated backup '{}'", printable(name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_kind_of_component_is_listed_under_the_word_that_restore_takes() {
        let backup = json!({
            "volumes": [{"name": "content", "path": "/srv/content"}], "objectStore": [{"clusterID": "up", "buckets": ["b"]}],
            "relationalStore": [], "infrastructures": {"status": "completed"}});
        let told: Vec<_> = components(&backup)
            .map(|(kind, one)| (kind, component_name(one), component_place(one)))
            .collect();
        let text = |a: &str| a.to_owned();
        assert_eq!(
            told,
            [
                ("fileStore", text("content"), text("/srv/content")),
                ("objectStore", text("up"), text("b")),
                ("systemConfiguration", text(""), text("")),
            ]
        );
    }
}
