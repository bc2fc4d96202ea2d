//! Rules of forgetting: whatever they are, the same snapshots stay and go as with restic.

use std::collections::BTreeMap;

use repository::{Id, Time};
use serde_json::{Value, json};
use strongroom_tests::tree::noise;

use crate::command::{Place, Ran, restic, restics};
use crate::forge::Forge;
use crate::world::keys;

/// A repository of restic's with a thousand snapshots: three hosts, two sets of paths, tags, several time zones, over
/// five years, some of them at the same second.
fn with_a_thousand_snapshots() -> Place {
    let place = Place::new();
    place.restic(&restic(), ["init"]).expect(0);
    let source = place.path("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("file"), "content").unwrap();
    place.restic(&restic(), ["backup", source.to_str().unwrap()]).expect(0);
    let snapshots = keys(&place.repository(), "snapshots/");
    let id = snapshots[0].rsplit('/').next().unwrap();
    let text = place.restic(&restic(), ["--no-lock", "cat", "snapshot", id]).expect(0).out;
    let model: Value = serde_json::from_str(&text).unwrap();
    std::fs::remove_file(place.repository().join(&snapshots[0])).unwrap();

    let forge = Forge::new(&place);
    let bytes = noise(4711, 1000 * 8);
    for chunk in bytes.chunks_exact(8) {
        let random = u64::from_le_bytes(chunk.try_into().unwrap());
        // Most are recent, as in a repository that was thinned out before.
        let reach = [86_400, 86_400 * 14, 86_400 * 120, 86_400 * 365 * 5][(random % 4) as usize];
        let seconds = 1_780_000_000 - (random >> 8) as i64 % reach;
        let zone = ["Z", "+02:00", "-05:30", "+13:00"][(random >> 3) as usize % 4];
        let mut snapshot = model.clone();
        snapshot["time"] = in_zone(seconds, zone).into();
        snapshot["hostname"] = ["alpha", "beta", "gamma"][(random >> 5) as usize % 3].into();
        snapshot["paths"] =
            [json!(["/srv/a"]), json!(["/srv/b", "/srv/a"])][(random >> 7) as usize % 2].clone();
        snapshot["tags"] =
            [json!(null), json!(["x"]), json!(["x", "y"]), json!(["z"])][(random >> 9) as usize % 4].clone();
        forge.snapshot(&snapshot);
    }
    place
}

fn in_zone(seconds: i64, zone: &str) -> String {
    let offset = match zone {
        "Z" => 0,
        _ => {
            let sign = if zone.starts_with('-') { -1 } else { 1 };
            sign * (zone[1..3].parse::<i64>().unwrap() * 3600 + zone[4..6].parse::<i64>().unwrap() * 60)
        }
    };
    let text = Time { seconds: seconds + offset, nanoseconds: 0 }.text();
    format!("{}{zone}", text.trim_end_matches('Z'))
}

/// Before 0.16 restic did not keep the oldest snapshot of all while a rule has some left to keep.
fn without_oldest(mut told: Value) -> Value {
    for group in told.as_array_mut().unwrap() {
        let only_oldest = |reason: &Value| {
            reason["matches"]
                .as_array()
                .unwrap()
                .iter()
                .all(|one| one.as_str().unwrap().starts_with("oldest"))
        };
        let reasons = group["reasons"].as_array().cloned().unwrap_or_default();
        for reason in reasons.iter().filter(|reason| only_oldest(reason)) {
            let snapshot = reason["snapshot"].clone();
            group["keep"].as_array_mut().unwrap().retain(|one| one["id"] != snapshot["id"]);
            match group["remove"].as_array_mut() {
                Some(remove) => remove.push(snapshot),
                None => group["remove"] = json!([snapshot]),
            }
        }
    }
    told
}

/// Host and paths and tags of each group, with the ids that stay and those that go.
fn groups(told: &Value) -> BTreeMap<String, (Vec<String>, Vec<String>)> {
    let ids = |list: &Value| -> Vec<String> {
        let mut ids: Vec<_> = list
            .as_array()
            .into_iter()
            .flatten()
            .map(|one| one["id"].as_str().or(one["short_id"].as_str()).unwrap()[..8].to_owned())
            .collect();
        ids.sort();
        ids
    };
    let groups = told.as_array().unwrap().iter();
    groups
        .map(|group| {
            let key = format!("{} {} {}", group["host"], group["paths"], group["tags"]);
            (key, (ids(&group["keep"]), ids(&group["remove"])))
        })
        .collect()
}

const POLICIES: &[&[&str]] = &[
    &["--keep-last", "1"],
    &["--keep-last", "7", "--group-by", ""],
    &["--keep-last", "9999"],
    &["--keep-last", "unlimited"],
    &["--keep-hourly", "24"],
    &["--keep-daily", "7"],
    &["--keep-daily", "7", "--group-by", "host"],
    &["--keep-daily", "unlimited", "--group-by", "paths"],
    &["--keep-weekly", "10"],
    &["--keep-weekly", "10", "--group-by", ""],
    &["--keep-weekly", "unlimited", "--group-by", "host,tags"],
    &["--keep-monthly", "12"],
    &["--keep-monthly", "100", "--group-by", ""],
    &["--keep-yearly", "3"],
    &["--keep-yearly", "75", "--group-by", ""],
    &[
        "--keep-last",
        "3",
        "--keep-daily",
        "7",
        "--keep-weekly",
        "5",
        "--keep-monthly",
        "12",
        "--keep-yearly",
        "75",
    ],
    &["-l", "2", "-H", "5", "-d", "4", "-w", "3", "-m", "2", "-y", "1"],
    &["--keep-within", "1d", "--keep-last", "1"],
    &["--keep-within", "2m3d7h", "--keep-last", "1"],
    &["--keep-within", "1y", "--group-by", ""],
    &["--keep-within-hourly", "3d", "--keep-last", "1"],
    &["--keep-within-daily", "1m", "--keep-last", "1"],
    &["--keep-within-weekly", "3m", "--keep-last", "1"],
    &["--keep-within-monthly", "1y", "--keep-last", "1"],
    &["--keep-within-yearly", "5y", "--keep-last", "1"],
    &[
        "--keep-within-daily",
        "7d",
        "--keep-within-weekly",
        "1m",
        "--keep-within-monthly",
        "1y",
        "--keep-last",
        "1",
    ],
    &["--keep-tag", "x", "--keep-last", "1"],
    &["--keep-tag", "x,y", "--keep-tag", "z", "--group-by", ""],
    &["--keep-last", "2", "--tag", "x"],
    &["--keep-last", "2", "--tag", "x,y", "--tag", "z", "--group-by", "tags"],
    &["--keep-daily", "3", "--host", "alpha"],
    &["--keep-daily", "3", "--host", "alpha", "--host", "beta", "--path", "/srv/b"],
    &["--keep-last", "5", "--path", "/srv/a", "--path", "/srv/b"],
    &["--keep-last", "5", "--path", "/srv/nothing"],
];

#[test]
fn a_thousand_snapshots_stay_and_go_as_with_restic_under_dozens_of_policies() {
    let place = with_a_thousand_snapshots();
    for restic in restics() {
        // `unlimited` came with restic 0.16.
        let known = |policy: &&&[&str]| restic.version >= (0, 16) || !policy.contains(&"unlimited");
        for policy in POLICIES.iter().filter(known) {
            let arguments = ["forget", "--dry-run", "--json"].iter().chain(*policy);
            // Some print nothing at all where there is no group.
            let one = |ran: Ran| ran.expect(0).json().pop().unwrap_or(json!([]));
            let mut ours = one(place.repo(arguments.clone()));
            if restic.version < (0, 16) {
                ours = without_oldest(ours);
            }
            let (ours, theirs) = (groups(&ours), groups(&one(place.restic(&restic, arguments))));
            assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>(), "{policy:?}");
            for (group, (keep, remove)) in &ours {
                assert_eq!(*keep, theirs[group].0, "what stays of {group} under {policy:?}");
                assert_eq!(*remove, theirs[group].1, "what goes of {group} under {policy:?}");
            }
        }
    }
    assert_eq!(keys(&place.repository(), "snapshots/").len(), 1000, "a dry run removes nothing");
    let told = place.repo(["forget", "--keep-monthly", "6", "--json"]).expect(0);
    let kept: usize = groups(&told.json()[0]).values().map(|(keep, _)| keep.len()).sum();
    assert_eq!(keys(&place.repository(), "snapshots/").len(), kept);
    place.restic(&restic(), ["check"]).expect(0);
}

#[test]
fn rules_that_would_remove_every_snapshot_of_a_group_remove_nothing_unless_that_is_asked_for() {
    let place = Place::with_repository();
    let forge = Forge::new(&place);
    let empty = Id::of(b"{\"nodes\":[]}\n");
    for host in ["a", "b"] {
        forge.snapshot(&json!({
            "time": "2026-01-01T00:00:00Z", "tree": empty, "paths": ["/p"], "hostname": host, "tags": ["x"],
        }));
    }
    let count = || keys(&place.repository(), "snapshots/").len();
    place.repo(["forget", "--keep-tag", "typo"]).expect(1).expect_text("every snapshot of host a");
    assert_eq!(count(), 2);
    for nothing in [&["forget"][..], &["forget", "--keep-last", "0"], &["forget", "--keep-last", "1", "abcd"]]
    {
        place.repo(nothing).expect(2);
    }
    place.repo(["forget", "--keep-within", "1w"]).expect(2);
    place.repo(["forget", "--group-by", "colour", "--keep-last", "1"]).expect(2);
    assert_eq!(count(), 2);
    place.repo(["forget", "--keep-tag", "typo", "--host", "a", "--unsafe-allow-remove-all"]).expect(0);
    assert_eq!(count(), 1);
}
