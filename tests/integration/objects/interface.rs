//! Buckets over the interface of a server.

use super::*;

fn buckets_are_backed_up_and_restored_over_the_interface_and_their_keys_are_told_nobody(scene: Scene) {
    scene.put("map/tile 1", b"one");
    let secret = TempDir::with_prefix("strongroom-").unwrap();
    let file = secret.path().join("secret");
    let held = if scene.kind == Kinds::Google { google_account() } else { scene.secret().to_owned() };
    std::fs::write(&file, format!("{held}\n")).unwrap();
    let component = scene.lines("map", &scene.rights(&file));
    let site = Site::new(Options { configuration: component, log: "trace".to_owned(), ..Options::default() });
    let _server = site.start();
    let client = site.client();
    client.register(&site);
    client.back_up("b");
    let entry = client.dr_get("stores/s1/backups/b").ok();
    let store = &entry["objectStore"][0];
    assert_eq!((&store["name"], &store["buckets"][0]), (&"uploads".into(), &scene.bucket.as_str().into()));
    assert_eq!((&store["files"], &store["bytes"]), (&1.into(), &3.into()));
    // A restore would take what lies in a store there for objects that should not be there.
    let inside = scene.settings("map/backups");
    let inside = [("storeName", "inside"), ("settings", &inside.to_string())];
    let refused = client.dr_post("stores/register", &inside).refused(400, "PARAM_INVALID");
    assert!(refused.text.contains("lie inside each other"));
    assert!(store["clusterID"].as_str().unwrap().ends_with(&format!("/{}/map", scene.bucket)), "{store}");

    scene.content().delete("map/tile 1").unwrap();
    scene.put("map/later", b"not in the backup");
    std::fs::write(site.content().join("later"), "not in the backup").unwrap();
    let planned = client
        .dr_post(
            "stores/s1/backups/b/restore",
            &[("passcode", strongroom_tests::server::PASSCODE), ("validateOnly", "true")],
        )
        .ok();
    assert_eq!(planned["isReady"], true, "{planned}");
    client.completed(&client.restore("b").ok());
    assert_eq!(scene.everything().keys().collect::<Vec<_>>(), ["map/tile 1"]);
    assert!(!site.content().join("later").exists());
    let told = [site.log(), site.replies()].concat();
    assert!(!told.contains(scene.secret()), "a secret is told");
}

on_each_service! {
    buckets_are_backed_up_and_restored_over_the_interface_and_their_keys_are_told_nobody,
}
