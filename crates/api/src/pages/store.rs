//! One store: how much is in it, whether it can be used, and what can be done with it.

use super::forms::store_kind_of;
use super::view::{Cell, place_of_store, size};
use super::words::{ago, exact, grouped};
use super::{Fact, Frame, Link, finish, frame, link, links_below};
use crate::dispatch::{Call, now_ms};
use askama::Template;
use recovery::StoreDetail;
use serde_json::Value;

#[derive(Template)]
#[template(path = "store.html")]
struct StorePage {
    frame: Frame,
    kind: String,
    place: String,
    is_default: bool,
    children: Vec<Link>,
    operations: Vec<Link>,
    facts: Vec<Fact>,
    cell: Cell,
}

pub(super) fn page(call: &Call, value: &Value, detail: &StoreDetail) -> String {
    let (children, mut operations) = links_below(call);
    if let Some(kind) = store_kind_of(&detail.store.kind) {
        for link in operations.iter_mut().filter(|link| link.path.ends_with("/update")) {
            link.path.push_str(&format!("?kind={}", kind.word));
        }
    }
    let fact = |title, words: String, exact: &str| Fact { title, words, exact: exact.to_owned() };
    let mut facts = vec![
        fact("Backups", grouped(detail.backup_count), "in its catalogue"),
        fact("Stored", size(detail.bytes_stored), "compressed and without doubles"),
    ];
    if let Some(free) = detail.free_bytes {
        facts.push(fact("Free room", size(free), "where the store lies"));
    }
    facts.push(match detail.last_validated {
        0 => fact("Found ready", "not yet".to_owned(), "Validate looks at it now."),
        when => fact("Found ready", ago(now_ms() - when), &exact(when)),
    });
    finish(&StorePage {
        frame: frame(call),
        kind: detail.store.kind.clone(),
        place: place_of_store(value),
        is_default: detail.store.default,
        children,
        operations,
        facts,
        cell: Cell::of(value, &|key, text, around| link(call, key, text, around)),
    })
}
