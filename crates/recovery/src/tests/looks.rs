//! Looks into backups beside each other, and the stop of the server beside a look.

use std::time::{Duration, Instant};

use super::gate::Point;
use super::support::*;
use crate::*;

const SESSION: &str = "session";

/// A server with the backup `b1`, open in a session.
async fn opened(site: &Site) -> Recovery {
    let server = site.server_with_store().await;
    make(&server, "b1").await;
    let who = Principal::person("admin".to_owned(), Role::Administrator);
    server.open_files(SESSION, &who, "s", "b1", passcode(PASSCODE)).await.unwrap();
    server
}

type Planned = tokio::task::JoinHandle<Result<Option<Vec<ComponentPlan>>>>;

/// Begins a comparison that stops at the gate.
fn begin_plan(server: &Recovery) -> Planned {
    let server = server.clone();
    let wanted = Wanted { components: vec!["content".to_owned()], ..Wanted::default() };
    tokio::spawn(async move { server.plan_restore(SESSION, ("s", "b1"), &wanted).await })
}

/// Polls for less long than a comparison may take.
async fn soon(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn comparisons_that_take_long_keep_no_listing_waiting() {
    let site = Site::new();
    let server = opened(&site).await;
    site.gate.close(Point::Plan);
    let plans: Vec<_> = (0..6).map(|_| begin_plan(&server)).collect();
    site.gate.reached(Point::Plan).await;
    let listing = server.list_files(SESSION, ("s", "b1"), "content", None, (0, 10)).await.unwrap().unwrap();
    assert_eq!(listing.total, 1);
    assert!(plans.iter().all(|plan| !plan.is_finished()), "it waited for none of them");
    site.gate.open();
    for plan in plans {
        let plan = plan.await.unwrap().unwrap().unwrap();
        assert_eq!(plan[0].plan.as_ref().unwrap().made_equal, 0, "{plan:?}");
    }
}

#[tokio::test]
async fn a_comparison_ends_with_the_server_and_with_whoever_waits_for_it() {
    let site = Site::new();
    let server = opened(&site).await;
    site.gate.close(Point::Plan);
    let left = begin_plan(&server);
    site.gate.reached(Point::Plan).await;
    left.abort();
    soon("nobody waits for it any more", || !site.gate.is_at(Point::Plan)).await;
    let plan = begin_plan(&server);
    site.gate.reached(Point::Plan).await;
    server.stop().await;
    soon("the server stops", || plan.is_finished()).await;
    let planned = plan.await.unwrap().unwrap().unwrap();
    assert!(planned[0].plan.as_ref().unwrap_err().contains("takes too long"), "{planned:?}");
}
