//! Measures the engine on a repository of any number of blobs, whose packs are only pretended:
//!
//! ```sh
//! cargo build --release -p repository --features test-support --example large_index
//! large_index DIRECTORY BLOBS make          index files for BLOBS blobs, and a snapshot that needs a tenth of them
//! large_index DIRECTORY BLOBS load          the index from its files; with `cached` from the local cache
//! large_index DIRECTORY BLOBS backup PATH   a real backup beside them; `restore` of one file from it
//! large_index DIRECTORY BLOBS check         the structure
//! large_index DIRECTORY BLOBS prune         the plan
//! ```
//! Each prints its time and the most memory that the process had.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use repository::synthetic::{PretendedPacks, Size, write};
use repository::{
    BackupRequest, CheckRequest, Control, Cost, LockOwner, Passcode, PruneRequest, Repository, RestoreRequest,
};
use storage::{Directory, DirectoryOptions};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, directory, blobs, action, rest @ ..] = &arguments[..] else {
        println!("large_index DIRECTORY BLOBS make|load|cached|backup PATH|restore FILE|check|prune");
        return;
    };
    let blobs: u64 = blobs.replace('_', "").parse().unwrap();
    let directories = 1000;
    let size = Size { blobs, blobs_per_pack: 250, directories, blobs_per_file: blobs / 10 / directories };
    let root = Path::new(directory);
    let store = Directory::create_root(&root.join("repository"), DirectoryOptions::default()).unwrap();
    let storage = PretendedPacks::over(Arc::new(store), size);
    let passcode = Passcode::new("only pretended".to_owned());
    let owner = LockOwner { hostname: "example".to_owned(), username: String::new() };
    let control = Control::new();
    let started = Instant::now();
    if action == "make" {
        let repository = Repository::init(storage, &passcode, Cost::DEFAULT).unwrap();
        write(&repository, &size).unwrap();
        println!("make: {:.1} s", started.elapsed().as_secs_f64());
        return;
    }
    let mut repository = Repository::open(storage, &passcode).unwrap();
    if action != "load" {
        repository = repository.with_cache(&root.join("cache"));
    }
    match (action.as_str(), rest) {
        ("load" | "cached", []) => {
            let index = repository.load_index(&|_| true).unwrap();
            println!("{} blobs", index.blob_count());
        }
        ("backup", [path]) => {
            let index = repository.load_index(&|_| true).unwrap();
            let request = BackupRequest::new(vec![PathBuf::from(path)]);
            let outcome = repository::backup(&repository, &index, &request, &control).unwrap();
            println!("{:?}", outcome.summary);
        }
        ("restore", [file]) => {
            let index = repository.load_index(&|_| true).unwrap();
            let request = RestoreRequest {
                subpath: Some(file.as_bytes().to_vec()),
                verify: true,
                ..RestoreRequest::new(repository.find_snapshot("latest").unwrap().0, root.join("restored"))
            };
            let outcome = repository::restore(&repository, &index, &request, &control).unwrap();
            println!("{outcome:?}");
        }
        ("check", []) => {
            let report = repository::check(&repository, CheckRequest::default(), &control).unwrap();
            println!("{} packs, findings: {:?}", report.packs, report.findings);
        }
        ("prune", []) => {
            let request = PruneRequest { dry_run: true, ..PruneRequest::default() };
            println!("{:?}", repository::prune(&repository, &owner, &request, &control).unwrap());
        }
        _ => println!("what is '{action}'?"),
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    println!("{action}: {:.1} s, {peak}", started.elapsed().as_secs_f64());
}
