//! What Google alone has: objects that it unpacks, numbers of versions for each object, and headers that change by themselves.

use super::*;

fn google(scene: &Scene) -> &Google {
    match &scene.server {
        Server::Double(google) => google,
        Server::Process(_) => panic!("it is a double"),
    }
}

fn scene() -> Scene {
    Scene::of(Kinds::Google).unwrap()
}

#[test]
fn what_the_service_would_unpack_is_read_as_it_lies_there() {
    let scene = scene();
    let packed = Headers { content_encoding: Some("gzip".into()), ..Headers::default() };
    scene.content().write("packed", &packed, noise(9 << 20)).unwrap();
    let before = scene.everything();
    let component = scene.component("", 1);
    assert_eq!(scene.back_up("b", &component).unwrap().warnings, []);
    scene.content().delete("packed").unwrap();
    scene.restore("b", &component).unwrap();
    assert!(scene.everything() == before, "it came back as it was");
}

#[test]
fn a_change_of_headers_alone_is_backed_up_and_taken_back() {
    let scene = scene();
    let component = scene.component("", 1);
    scene.put("a", b"1");
    scene.back_up("one", &component).unwrap();
    let before = scene.everything();
    google(&scene).say("a", "x-goog-meta-owner", "somebody");
    let changed = scene.everything();
    assert_ne!(changed, before);
    scene.back_up("two", &component).unwrap();
    scene.restore("one", &component).unwrap();
    assert_eq!(scene.everything(), before);
    scene.restore("two", &component).unwrap();
    assert_eq!(scene.everything(), changed);
}

#[test]
fn an_object_that_is_exchanged_while_it_is_read_is_read_on_as_it_was_where_versions_are_kept() {
    let scene = scene();
    google(&scene).keep_versions();
    let component = scene.component("", 1);
    let long = noise(20 << 20);
    scene.put("long", &long);
    let (content, path) = (scene.content(), scene.path("long"));
    scene.proxy.plan(move |request| {
        // Once its beginning is read.
        if request.target.starts_with(&format!("{path}?generation=")) {
            content.write("long", &Headers::default(), b"other".to_vec()).unwrap();
        }
        Fate::default()
    });
    let entry = scene.back_up("b", &component).unwrap();
    assert_eq!((entry.warnings.as_slice(), entry.components[0].bytes), ([].as_slice(), 20 << 20));
    scene.proxy.plan(|_| Fate::default());
    scene.restore("b", &component).unwrap();
    assert!(scene.everything()["long"].1 == long);
}

#[test]
fn parts_that_nobody_puts_together_are_given_up_and_an_end_whose_answer_is_lost_is_known_for_our_own() {
    let scene = scene();
    let content = ObjectStorage::content(&scene.place("", &scene.proxy.url(), 3)).unwrap();
    for key in ["area/half", "elsewhere"] {
        content.upload(key, &Headers::default()).unwrap().part(noise(1 << 20)).unwrap();
    }
    content.abort_uploads("area/").unwrap();
    assert_eq!(google(&scene).open_uploads(), 1);
    let lost = std::sync::atomic::AtomicBool::new(false);
    scene.proxy.plan(move |request| {
        let ends = request.method == "POST" && request.target.contains("uploadId=");
        let first = ends && !lost.swap(true, std::sync::atomic::Ordering::SeqCst);
        Fate { fault: if first { Fault::LoseAnswer } else { Fault::None }, ..Fate::default() }
    });
    let mut upload = content.upload("whole", &Headers::default()).unwrap();
    upload.part(noise(6 << 20)).unwrap();
    upload.end().unwrap();
    assert!(scene.everything()["whole"].1 == noise(6 << 20));
}
