//! Where stores may lie.

use std::os::unix::fs::symlink;

use super::*;
use crate::tests::support;

#[test]
fn roots_outside_the_allowed_directories_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().canonicalize().unwrap();
    let allowed = base.join("allowed");
    fs::create_dir_all(allowed.join("there")).unwrap();
    fs::create_dir_all(base.join("outside/deep")).unwrap();
    fs::create_dir_all(base.join("allowed-not")).unwrap();
    symlink(base.join("outside"), allowed.join("link")).unwrap();
    symlink(allowed.join("there"), base.join("inward")).unwrap();
    symlink(base.join("nowhere"), allowed.join("dangling")).unwrap();
    fs::write(allowed.join("file"), "x").unwrap();
    let mut settings = support::settings(&base);
    settings.allowed_directories = vec![allowed.clone()];

    for good in ["allowed", "allowed/there", "allowed/new", "allowed/new/deep er/ü", "inward", "inward/x"] {
        let resolved = allowed_root(&base.join(good), &settings).unwrap();
        assert!(resolved.starts_with(&allowed), "{good}: {}", resolved.display());
    }
    let bad = [
        "outside",
        "outside/new",
        "allowed/../outside",
        "allowed/there/..",
        "allowed-not",
        "allowed/link",
        "allowed/link/deep",
        "allowed/link/new",
        "allowed/dangling",
        "allowed/dangling/x",
        "allowed/file",
        "allowed/file/x",
        "",
    ];
    for bad in bad {
        let error = allowed_root(&base.join(bad), &settings).unwrap_err();
        assert_eq!(error.kind, ErrorKind::ParameterInvalid, "{bad}");
    }
    let error = allowed_root(&base.join("outside"), &settings).unwrap_err();
    assert!(error.message.contains(&allowed.display().to_string()), "{error}");
    assert!(allowed_root(Path::new("allowed"), &settings).is_err(), "relative");
    assert!(allowed_root(Path::new("/"), &settings).is_err());
}

#[test]
fn a_store_and_what_it_protects_never_lie_inside_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().canonicalize().unwrap();
    let mut settings = support::settings(&base);
    settings.allowed_directories = vec![base.clone()];
    settings.components = vec![support::files("content", &base.join("srv/content"))];
    for bad in ["srv/content", "srv/content/store", "srv"] {
        let error = allowed_root(&base.join(bad), &settings).unwrap_err();
        assert!(error.message.contains("protected place"), "{bad}: {error}");
    }
    allowed_root(&base.join("srv/content2"), &settings).unwrap();
    settings.hosted_directory = base.join("srv/content/stores");
    assert!(hosted_root("s", &settings).unwrap_err().message.contains("protected place"));
    settings.hosted_directory = base.join("srv/stores");
    assert_eq!(hosted_root("s", &settings).unwrap(), base.join("srv/stores/s"));
}
