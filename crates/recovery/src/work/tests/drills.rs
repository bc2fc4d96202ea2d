//! Which reports of drills are believed.

use repository::Control;

use super::support::*;
use crate::DrillReport;
use crate::clock::now_ms;
use crate::drills::{FAILED, PROVEN};
use crate::work::{DrillTask, run_drill};

#[test]
fn reports_from_the_future_of_no_backup_or_without_a_signature_decide_nothing() {
    let world = World::new();
    let entry = world.back_up("one").unwrap();
    let task = DrillTask {
        job_id: "drill".to_owned(),
        server_id: SERVER.to_owned(),
        name: "one".to_owned(),
        store_name: "local".to_owned(),
        passcode: Some(passcode(PASSCODE)),
        components: vec![world.component()],
        directory: world.dir.path().join("drills"),
    };
    let honest = run_drill(&world.store, &task, &Control::new(), &Seen::default()).unwrap();
    assert_eq!(honest.outcome, PROVEN);
    let vault = world.store.open_vault(&entry, &passcode(PASSCODE)).unwrap();
    let day = 24 * 3600 * 1000;
    let in_a_year = DrillReport { end_time: now_ms() + 365 * day, ..honest.clone() };
    let of_none = DrillReport { backup: "ghost".to_owned(), end_time: now_ms() + 1000, ..honest.clone() };
    let of_another = DrillReport { run: "other".to_owned(), end_time: now_ms() + 2000, ..honest.clone() };
    for signed in [in_a_year, of_none, of_another] {
        world.store.write_report(&signed, Some(&vault)).unwrap();
    }
    let unsigned = DrillReport { end_time: now_ms() + 3000, ..honest.clone() };
    world.store.write_report(&unsigned, None).unwrap();
    assert_eq!(world.store.last_drills().unwrap(), (Some(honest.clone()), None));

    let failed = DrillReport { outcome: FAILED.to_owned(), end_time: now_ms() + 4000, ..honest.clone() };
    world.store.write_report(&failed, None).unwrap();
    assert_eq!(world.store.last_drills().unwrap(), (Some(honest), Some(failed)));
}
