//! A restore that dies leaves a bucket as before or as after.

use super::*;

fn a_restore_that_is_taken_back_leaves_the_bucket_as_before_also_if_the_line_ends_meanwhile(scene: Scene) {
    let component = scene.component("", 1);
    for key in ["kept", "changed", "removed"] {
        scene.put(key, b"old");
    }
    scene.back_up("b", &component).unwrap();
    scene.put("changed", b"new");
    scene.content().delete("removed").unwrap();
    scene.put("added", b"new");
    let before = scene.everything();
    let swapped = || {
        let mut staged = world::stage(&scene.store, "b", &component, &Portion::default());
        staged.swap().unwrap();
        assert_eq!(scene.content().look("added").unwrap().map(|found| found.size), None);
        staged
    };
    swapped().abandon().unwrap();
    assert_eq!(scene.everything(), before);
    assert_eq!(component.recover("a-restore", &Portion::default()).unwrap(), Recovered::Nothing);

    // It ends as soon as it is known that all is to be taken back.
    let staged = swapped();
    let known = std::sync::atomic::AtomicBool::new(false);
    scene.proxy.plan(move |request| {
        let fault =
            if known.load(std::sync::atomic::Ordering::SeqCst) { Fault::ResetBefore } else { Fault::None };
        known.fetch_or(request.target.contains("state/undoing"), std::sync::atomic::Ordering::SeqCst);
        Fate { fault, ..Fate::default() }
    });
    staged.abandon().unwrap_err();
    scene.proxy.plan(|_| Fate::default());
    assert_eq!(component.recover("a-restore", &Portion::default()).unwrap(), Recovered::Undone);
    assert_eq!(scene.everything(), before);
    assert_eq!(component.recover("a-restore", &Portion::default()).unwrap(), Recovered::Nothing);
}

fn a_restore_that_has_nothing_to_change_may_die_too(scene: Scene) {
    let component = scene.component("", 1);
    scene.put("a", b"1");
    scene.back_up("one", &component).unwrap();
    // The line ends once the swap has begun.
    let begun = std::sync::atomic::AtomicBool::new(false);
    scene.proxy.plan(move |request| {
        let fault =
            if begun.load(std::sync::atomic::Ordering::SeqCst) { Fault::ResetBefore } else { Fault::None };
        begun.fetch_or(request.target.contains("state/swapping"), std::sync::atomic::Ordering::SeqCst);
        Fate { fault, ..Fate::default() }
    });
    scene.restore("one", &component).unwrap_err();
    scene.proxy.plan(|_| Fate::default());
    assert_eq!(component.recover("a-restore", &Portion::default()).unwrap(), Recovered::Finished);
    assert_eq!(component.recover("a-restore", &Portion::default()).unwrap(), Recovered::Nothing);
    assert_eq!(scene.everything().len(), 1);
}

fn a_restore_that_dies_at_any_request_leaves_the_bucket_as_before_or_as_after(scene: Scene) {
    let component = scene.component("", 1);
    let reset = || {
        for (key, _) in scene.everything() {
            scene.content().delete(&key).unwrap();
        }
        for key in ["kept", "changed", "removed"] {
            scene.put(key, b"old");
        }
    };
    let damage = || {
        scene.put("changed", b"new");
        scene.content().delete("removed").unwrap();
        scene.put("added", b"new");
        scene.everything()
    };
    reset();
    let before = scene.everything();
    scene.back_up("b", &component).unwrap();
    damage();
    scene.proxy.counts().reset();
    scene.restore("b", &component).unwrap();
    let requests = scene.proxy.counts().requests();
    assert_eq!(scene.everything(), before);
    let (mut undone, mut finished) = (0, 0);
    for last in 1..=requests {
        let damaged = damage();
        scene.proxy.counts().reset();
        // This request is carried out, and nobody hears of it, nor of any other.
        scene.proxy.plan(move |request| {
            let fault = match request.number.cmp(&last) {
                std::cmp::Ordering::Less => Fault::None,
                std::cmp::Ordering::Equal => Fault::LoseAnswer,
                std::cmp::Ordering::Greater => Fault::ResetBefore,
            };
            Fate { fault, ..Fate::default() }
        });
        let outcome = scene.restore("b", &component);
        scene.proxy.plan(|_| Fate::default());
        let recovered = component.recover("a-restore", &Portion::default()).unwrap();
        let now = scene.everything();
        match recovered {
            Recovered::Finished => {
                assert_eq!(now, before, "{last}");
                finished += 1;
            }
            _ if outcome.is_ok() => assert_eq!(now, before, "{last}"),
            _ => {
                // Either the trace went last, after all was done, or nothing was.
                assert!(now == damaged || (last + 2 > requests && now == before), "{last}: {recovered:?}");
                undone += 1;
            }
        }
        assert_eq!(component.recover("a-restore", &Portion::default()).unwrap(), Recovered::Nothing);
        scene.restore("b", &component).unwrap();
        assert_eq!(scene.everything(), before, "{last}");
    }
    assert!(undone > 0 && finished > 0, "{undone} {finished}");
}

on_each_service! {
    a_restore_that_is_taken_back_leaves_the_bucket_as_before_also_if_the_line_ends_meanwhile,
    a_restore_that_has_nothing_to_change_may_die_too,
    a_restore_that_dies_at_any_request_leaves_the_bucket_as_before_or_as_after,
}
