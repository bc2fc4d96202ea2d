//! The plan over random vaults, checked blob by blob.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use repository::Id;

use super::Limits;
use super::plan::{Known, Pack};
use crate::store::groups::Group;

const BLOB: u64 = 10;

/// A vault as a whole: what lies in each pack, and what each entry needs.
struct Model {
    blobs_of: BTreeMap<Id, BTreeSet<u32>>,
    needs: Vec<BTreeSet<u32>>,
    home: BTreeMap<u32, Id>,
    known: Known,
}

fn pack_id(number: u32) -> Id {
    let mut id = [0; 32];
    id[..4].copy_from_slice(&number.to_be_bytes());
    Id(id)
}

fn random_vault(random: &mut StdRng) -> Model {
    let mut model = Model {
        blobs_of: BTreeMap::new(),
        needs: Vec::new(),
        home: BTreeMap::new(),
        known: Known::default(),
    };
    let blobs = random.random_range(1..60u32);
    let packs = random.random_range(1..15u32);
    for number in 0..packs {
        let count = random.random_range(1..8);
        let content: BTreeSet<u32> = (0..count).map(|_| random.random_range(0..blobs)).collect();
        model.blobs_of.insert(pack_id(number), content);
    }
    let sizes: BTreeMap<Id, u64> =
        model.blobs_of.iter().map(|(id, blobs)| (*id, blobs.len() as u64 * BLOB + 3)).collect();
    // Each pack is in one group or two.
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    let group_count = random.random_range(1..7u32);
    for (id, size) in &sizes {
        for _ in 0..random.random_range(1..3) {
            let name = format!("{:032}", random.random_range(0..group_count));
            groups.entry(name).or_default().packs.insert(*id, *size);
        }
    }
    let names: Vec<String> = groups.keys().cloned().collect();
    for _ in 0..random.random_range(1..5) {
        let mut named = BTreeSet::new();
        let mut needs = BTreeSet::new();
        for _ in 0..random.random_range(1..20) {
            let group = &names[random.random_range(0..names.len())];
            let packs: Vec<&Id> = groups[group].packs.keys().collect();
            let content: Vec<u32> =
                model.blobs_of[packs[random.random_range(0..packs.len())]].iter().copied().collect();
            needs.insert(content[random.random_range(0..content.len())]);
            named.insert(group.clone());
        }
        model.needs.push(needs);
        model.known.entries.push(named.into_iter().collect());
    }
    let living: BTreeSet<&String> = model.known.entries.iter().flatten().collect();
    groups.retain(|id, _| living.contains(id));
    // Now and then a pack is missing that nobody needs from there alone.
    let mut listing: std::collections::HashMap<Id, u64> =
        sizes.iter().map(|(id, size)| (*id, *size)).collect();
    if random.random_ratio(1, 3) {
        let lost = pack_id(random.random_range(0..packs));
        let needed: BTreeSet<u32> = model.needs.iter().flatten().copied().collect();
        let elsewhere = |blob: &u32| {
            let mut others = groups.values().flat_map(|group| group.packs.keys()).filter(|id| **id != lost);
            others.any(|id| model.blobs_of[id].contains(blob))
        };
        if model.blobs_of[&lost].iter().filter(|blob| needed.contains(blob)).all(elsewhere) {
            listing.remove(&lost);
        }
    }
    for (id, group) in &groups {
        if group.packs.keys().any(|pack| !listing.contains_key(pack)) {
            model.known.unsound.insert(id.clone());
        } else if random.random_ratio(1, 8) {
            model.known.frozen.insert(id.clone());
        }
    }
    for blob in model.needs.iter().flatten() {
        let copies: Vec<Id> = groups
            .values()
            .flat_map(|group| group.packs.keys())
            .filter(|id| listing.contains_key(id) && model.blobs_of[id].contains(blob))
            .copied()
            .collect();
        model.home.insert(*blob, copies[random.random_range(0..copies.len())]);
    }
    for (id, blobs) in &model.blobs_of {
        let mut pack = Pack { blob_bytes: blobs.len() as u64 * BLOB, ..Pack::default() };
        for (blob, home) in model.home.iter().filter(|(blob, _)| blobs.contains(blob)) {
            let _ = blob;
            if home == id {
                pack.kept_bytes += BLOB;
            } else {
                pack.elsewhere.insert(*home);
            }
        }
        model.known.packs.insert(*id, pack);
    }
    model.known.groups = groups;
    model.known.listing = listing;
    model
}

/// For each group that exists afterwards, the blobs in its packs.
fn groups_after(model: &Model, plan: &super::plan::Plan) -> BTreeMap<String, BTreeSet<u32>> {
    let known = &model.known;
    let there = |packs: Vec<&Id>| -> BTreeSet<u32> {
        let packs = packs.into_iter().filter(|id| known.listing.contains_key(id));
        packs.flat_map(|id| model.blobs_of[id].iter().copied()).collect()
    };
    let old: BTreeSet<&String> = plan.classes.iter().flat_map(|class| &class.old).collect();
    let mut after: BTreeMap<String, BTreeSet<u32>> = known
        .groups
        .iter()
        .filter(|(id, _)| !old.contains(id))
        .map(|(id, group)| (id.clone(), there(group.packs.keys().collect())))
        .collect();
    for class in plan.classes.iter().filter(|class| !class.is_empty()) {
        let mut blobs = there(class.whole.iter().collect());
        blobs.extend(
            model.home.iter().filter(|(_, home)| class.half_empty.contains(home)).map(|(blob, _)| *blob),
        );
        after.insert(class.id.clone(), blobs);
    }
    after
}

#[test]
fn after_any_compaction_every_entry_names_groups_with_all_that_it_needs() {
    let (mut compacted, mut moved) = (0, 0);
    for seed in 0..4_000 {
        let mut random = StdRng::seed_from_u64(seed);
        let model = random_vault(&mut random);
        let limits = Limits {
            unused_percent_max: random.random_range(0..50),
            stored_bytes_max: if random.random_ratio(1, 4) { random.random_range(0..100) } else { u64::MAX },
        };
        let mut plan = model.known.plan(&limits);
        compacted += usize::from(!plan.classes.is_empty());
        for number in 0..plan.classes.len() {
            moved += plan.classes[number].half_empty.len();
            if random.random_ratio(1, 10)
                && let Some(bad) = plan.classes[number].half_empty.first().copied()
            {
                plan.leave(number, &[bad]);
            }
        }
        let names = plan.names(&model.known).unwrap_or_else(|| panic!("seed {seed}: no names"));
        let after = groups_after(&model, &plan);
        for (entry, named) in names.iter().enumerate() {
            assert!(
                named.iter().all(|id| after.contains_key(id)),
                "seed {seed}: a group that is given up is named"
            );
            for blob in &model.needs[entry] {
                let has = named.iter().any(|id| after[id].contains(blob));
                assert!(has, "seed {seed}: entry {entry} lost blob {blob}\n{plan:?}");
            }
        }
        for frozen in &model.known.frozen {
            assert!(after.contains_key(frozen), "seed {seed}: a frozen group is given up");
        }
    }
    assert!(compacted > 1_000 && moved > 1_000, "{compacted} {moved}");
}

#[test]
fn what_is_left_of_waste_is_within_the_limit_and_nothing_is_done_for_less() {
    for seed in 0..1_000 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut model = random_vault(&mut random);
        model.known.frozen.clear();
        let limits = Limits { unused_percent_max: 20, stored_bytes_max: u64::MAX };
        let plan = model.known.plan(&limits);
        assert!(plan.complete, "seed {seed}");
        let after = groups_after(&model, &plan);
        let packs_after: BTreeSet<Id> = model
            .known
            .groups
            .iter()
            .filter(|(id, _)| after.contains_key(*id))
            .flat_map(|(_, group)| group.packs.keys())
            .chain(plan.classes.iter().flat_map(|class| &class.whole))
            .filter(|id| model.known.listing.contains_key(id))
            .copied()
            .collect();
        let needed: u64 = model.home.len() as u64 * BLOB;
        let waste = |id: &Id| match &model.known.packs[id] {
            pack if pack.kept_bytes == 0 => model.known.listing[id],
            pack => pack.blob_bytes - pack.kept_bytes,
        };
        let left: u64 = packs_after.iter().map(waste).sum();
        assert!(left <= needed / 5, "seed {seed}: {left} of {needed}");
        if model.known.unsound.is_empty() && plan.waste == 0 {
            assert!(plan.classes.is_empty(), "seed {seed}");
        }
    }
}

#[test]
fn a_vault_that_another_program_changed_gets_one_group_for_all() {
    for seed in 0..500 {
        let mut random = StdRng::seed_from_u64(seed);
        let model = random_vault(&mut random);
        let plan = super::plan::Plan::of_everything(&model.known);
        let names = plan.names(&model.known).unwrap();
        let after = groups_after(&model, &plan);
        for (entry, named) in names.iter().enumerate() {
            assert_eq!(named.len(), 1);
            assert!(model.needs[entry].iter().all(|blob| after[&named[0]].contains(blob)), "seed {seed}");
        }
    }
}
