//! A repository beside what the model knows of it: which snapshots there are, and what is in each.

use super::super::faults::{Stand, open};
use super::super::*;
use crate::file::{self, Folder};
use crate::repository::Opener;

/// Path below the source, and kind and content of the entry.
pub(super) type Picture = BTreeMap<Vec<u8>, String>;

/// What a snapshot must hold.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Kept {
    pub(super) tags: Vec<String>,
    pub(super) tree: Picture,
}

/// A repository, and what the model knows of it.
pub(super) struct Site {
    pub(super) stand: Stand,
    pub(super) snapshots: BTreeMap<Id, Kept>,
    /// Passcodes beside the first, and whether they open it.
    pub(super) keys: BTreeMap<String, bool>,
}

/// What a step changed.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Changed {
    pub(super) gone: Vec<Id>,
    pub(super) come: Vec<Id>,
}

/// The entry's content as it lies on disk.
pub(super) fn on_disk(root: &Path) -> Picture {
    let mut seen = Picture::new();
    let mut pending = vec![root.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let kind = fs::symlink_metadata(&path).unwrap();
            let content = if kind.is_file() {
                format!("file {}", Id::of(&fs::read(&path).unwrap()))
            } else if kind.is_symlink() {
                format!("link {}", fs::read_link(&path).unwrap().display())
            } else {
                "directory".to_owned()
            };
            seen.insert(path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec(), content);
            if kind.is_dir() {
                pending.push(path);
            }
        }
    }
    seen
}

/// The same as a snapshot has it.
fn in_snapshot(repository: &Repository, index: &Index, id: Id) -> Picture {
    let root = repository.snapshot(id).unwrap().paths[0].clone() + "/";
    let (mut seen, mut opener) = (Picture::new(), Opener::new().unwrap());
    walk(repository, index, id, &mut |path, node| {
        let Some(path) = path.strip_prefix(root.as_bytes()) else { return Ok(()) };
        let content = match node.kind {
            NodeKind::File => {
                let mut content = Vec::new();
                for id in &node.content {
                    content.extend(repository.read_blob(index, BlobKind::Data, *id, &mut opener)?);
                }
                assert_eq!(content.len() as u64, node.size);
                format!("file {}", Id::of(&content))
            }
            NodeKind::Symlink => {
                format!("link {}", String::from_utf8_lossy(node.link_target.as_deref().unwrap()))
            }
            _ => "directory".to_owned(),
        };
        seen.insert(path.to_vec(), content);
        Ok(())
    })
    .unwrap();
    seen
}

impl Site {
    pub(super) fn open(&self) -> Repository {
        open(&self.stand.open()).unwrap()
    }

    /// Does a passcode open it? Nothing but a wrong passcode may be the cause if not.
    pub(super) fn opens(&self, passcode: &str) -> bool {
        match Repository::open(self.stand.open(), &Passcode::new(passcode.to_owned())) {
            Ok(_) => true,
            Err(e) => {
                assert_eq!(e.kind, ErrorKind::WrongPasscode, "{e}");
                false
            }
        }
    }

    /// The passcodes that are known open it, and the removed ones do not.
    pub(super) fn try_keys(&self, told: &str) {
        for (passcode, opens) in &self.keys {
            assert_eq!(self.opens(passcode), *opens, "{told}: {passcode}");
        }
    }

    /// Is there a lock beside which such a one cannot be?
    pub(super) fn blocks(&self, kind: LockKind) -> bool {
        let repository = self.open();
        let stale = Time::now().seconds - 30 * 60;
        file::list(repository.storage(), Folder::Locks).unwrap().into_iter().any(|(id, _)| {
            let text = file::read_text(repository.storage(), repository.key(), Folder::Locks, id).unwrap();
            let lock: serde_json::Value = serde_json::from_slice(&text).unwrap();
            let time = Time::parse(lock["time"].as_str().unwrap()).unwrap();
            time.seconds > stale && (kind == LockKind::Exclusive || lock["exclusive"] == true)
        })
    }

    /// Everything but locks, by name.
    pub(super) fn files(&self) -> Vec<String> {
        let keys = self.stand.open().list_all("").unwrap().into_iter().map(|entry| entry.key);
        let mut keys: Vec<_> = keys.filter(|key| !key.starts_with("locks/")).collect();
        keys.sort();
        keys
    }

    /// Compares the snapshots with the model, which then takes over what may have changed.
    pub(super) fn compare(&mut self, may_go: &[Id], may_come: &[Kept], told: &str) -> Changed {
        let repository = self.open();
        let (there, damaged) = repository.snapshots().unwrap();
        assert_eq!(damaged, [], "{told}");
        let there: BTreeMap<Id, Snapshot> = there.into_iter().collect();
        let mut changed = Changed::default();
        changed.gone.extend(self.snapshots.keys().filter(|id| !there.contains_key(id)));
        for id in &changed.gone {
            assert!(may_go.contains(id), "{told}: snapshot {id} is gone");
            self.snapshots.remove(id);
        }
        let mut index = None;
        for (id, snapshot) in there {
            if let Some(known) = self.snapshots.get(&id) {
                assert_eq!(known.tags, snapshot.tags, "{told}: tags of snapshot {id}");
                continue;
            }
            let index = index.get_or_insert_with(|| repository.load_index(&|_| true).unwrap());
            let kept = Kept { tags: snapshot.tags, tree: in_snapshot(&repository, index, id) };
            assert!(
                may_come.contains(&kept),
                "{told}: nobody made snapshot {id}: {kept:?}, but {may_come:?}"
            );
            self.snapshots.insert(id, kept);
            changed.come.push(id);
        }
        let report = check(&repository, CheckRequest { read_data: true }, &Control::new()).unwrap();
        assert_eq!(report.findings, [], "{told}");
        changed
    }

    /// Every blob of every snapshot.
    pub(super) fn read_all(&self, told: &str) {
        let repository = self.open();
        let index = repository.load_index(&|_| true).unwrap();
        for (id, kept) in &self.snapshots {
            assert_eq!(in_snapshot(&repository, &index, *id), kept.tree, "{told}: snapshot {id}");
        }
    }
}
