//! What a restore would change, told before it changes anything: the same walk, with eyes alone.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::choice::Fate;
use super::{Existing, RestoreRequest, Start, target};
use crate::pack::BlobKind;
use crate::posix::{self, show};
use crate::repository::Opener;
use crate::tree::{Node, NodeKind};
use crate::walk::directory_of;
use crate::{Control, Error, Id, Index, Repository, Result};

/// What would become of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planned {
    /// It is not there and would be made.
    Made,
    /// It is there with other content, or is something else, and would be made equal.
    MadeEqual,
    /// It is there and not in the snapshot, and would go.
    Removed,
}

/// Is shown each change: path below the target, what becomes of it, bytes to be written.
pub type VisitPlanned<'v> = dyn FnMut(&[u8], Planned, u64) -> Result<()> + 'v;

/// How much a restore would change. Owners, rights, times and attributes of what is there are not compared; a restore
/// sets them all the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RestorePlan {
    /// Entries that would be made.
    pub made: u64,
    /// Entries whose content would change.
    pub made_equal: u64,
    /// Entries whose content is as in the snapshot.
    pub unchanged: u64,
    /// Entries that are kept whatever they are, as was asked for.
    pub kept: u64,
    /// Entries that would be removed; what lies in a removed directory counts too.
    pub removed: u64,
    /// Bytes of content that would be written.
    pub bytes: u64,
}

/// Tells what [`restore`](super::restore) with the same request would change, and shows each change. Reads the files that the restore would read.
pub fn plan_restore(
    repository: &Repository,
    index: &Index,
    request: &RestoreRequest,
    control: &Control,
    visit: &mut VisitPlanned<'_>,
) -> Result<RestorePlan> {
    let mut opener = Opener::new()?;
    let Start { nodes, is_directory, .. } = Start::find(repository, index, request, &mut opener)?;
    let target = rustix::fs::open(&request.target, target::DIRECTORY, rustix::fs::Mode::empty()).ok();
    let mut planner =
        Planner { index, request, control, visit, plan: RestorePlan::default(), buffer: Vec::new() };
    let mut path = Vec::new();
    let root = Level {
        path_length: 0,
        fate: request.choice.of_target(),
        is_made: false,
        names: names_of(&nodes, is_directory && request.remove_others),
        dir: target.map(Arc::new),
        nodes: nodes.into_iter(),
    };
    let mut stack = vec![root];
    while let Some(level) = stack.last_mut() {
        path.truncate(level.path_length);
        let Some(node) = level.nodes.next() else {
            if let Some(Level { dir: Some(dir), names: Some(names), fate, .. }) = stack.pop() {
                planner.others(dir.as_fd(), &mut path, fate, &names)?;
            }
            continue;
        };
        control.check()?;
        path.push(b'/');
        path.extend_from_slice(&node.name);
        let fate = request.choice.fate(&path, node.kind == NodeKind::Dir, level.fate);
        if fate == Fate::LeftOut {
            continue;
        }
        let dir = level.dir.clone();
        if let Some(tree) = directory_of(&node, &path)? {
            let below = repository.read_tree(index, tree, &mut opener)?;
            let fd = dir.as_ref().and_then(|dir| posix::open_dir(dir.as_fd(), &node.name).ok());
            stack.push(Level {
                path_length: path.len(),
                fate,
                is_made: fd.is_none(),
                names: names_of(&below, request.remove_others),
                dir: fd.map(Arc::new),
                nodes: below.into_iter(),
            });
            if fate == Fate::Restored {
                planner.make_way(&path, &mut stack)?;
            }
        } else {
            planner.make_way(&path, &mut stack)?;
            planner.leaf(dir.as_ref().map(|dir| dir.as_fd()), &node, &path)?;
        }
    }
    Ok(planner.plan)
}

/// A directory on the way to the current entry.
struct Level {
    path_length: usize,
    fate: Fate,
    /// It is not there, and nobody was told yet that it would be made.
    is_made: bool,
    /// What the snapshot has in it, in order, if other things would go.
    names: Option<Vec<Vec<u8>>>,
    /// `None`: it is not there.
    dir: Option<Arc<OwnedFd>>,
    nodes: std::vec::IntoIter<Node>,
}

fn names_of(nodes: &[Node], wanted: bool) -> Option<Vec<Vec<u8>>> {
    wanted.then(|| {
        let mut names: Vec<Vec<u8>> = nodes.iter().map(|node| node.name.clone()).collect();
        names.sort_unstable();
        names
    })
}

struct Planner<'a> {
    index: &'a Index,
    request: &'a RestoreRequest,
    control: &'a Control,
    visit: &'a mut VisitPlanned<'a>,
    plan: RestorePlan,
    buffer: Vec<u8>,
}

impl Planner<'_> {
    fn tell(&mut self, path: &[u8], change: Planned, bytes: u64) -> Result<()> {
        let count = match change {
            Planned::Made => &mut self.plan.made,
            Planned::MadeEqual => &mut self.plan.made_equal,
            Planned::Removed => &mut self.plan.removed,
        };
        *count += 1;
        self.plan.bytes += bytes;
        (self.visit)(path, change, bytes)
    }

    /// Tells of directories that would be made on the way to an entry.
    fn make_way(&mut self, path: &[u8], stack: &mut [Level]) -> Result<()> {
        for level in stack.iter_mut().skip(1).filter(|level| level.is_made) {
            level.is_made = false;
            self.tell(&path[..level.path_length], Planned::Made, 0)?;
        }
        Ok(())
    }

    fn leaf(&mut self, dir: Option<BorrowedFd<'_>>, node: &Node, path: &[u8]) -> Result<()> {
        self.control.progress.set_current(&show(path));
        if node.kind == NodeKind::Irregular {
            return Ok(());
        }
        let present = dir.and_then(|dir| Some((dir, posix::stat_at(dir, &node.name).ok()?)));
        let Some((dir, stat)) = present else {
            return self.tell(path, Planned::Made, node.size);
        };
        if self.request.existing.keeps(dir, node) {
            self.plan.kept += 1;
            return Ok(());
        }
        let wrong = match node.kind {
            kind if posix::kind(&stat) != kind => Some(node.size),
            NodeKind::File => self.wrong_bytes(dir, &stat, node)?,
            NodeKind::Symlink => {
                let points_to = rustix::fs::readlinkat(dir, target::os(&node.name), Vec::new());
                let is_same = points_to.ok().map(std::ffi::CString::into_bytes) == node.link_target;
                (!is_same).then_some(0)
            }
            NodeKind::Dev | NodeKind::CharDev => (stat.st_rdev != node.device).then_some(0),
            _ => None,
        };
        match wrong {
            Some(bytes) => self.tell(path, Planned::MadeEqual, bytes),
            None => {
                self.plan.unchanged += 1;
                Ok(())
            }
        }
    }

    /// How much of a file that is there would be written; `None` if it is right as it is.
    fn wrong_bytes(
        &mut self,
        dir: BorrowedFd<'_>,
        stat: &rustix::fs::Stat,
        node: &Node,
    ) -> Result<Option<u64>> {
        if self.request.existing.trusts(stat, node, node.size) {
            return Ok(None);
        }
        if self.request.existing == Existing::MadeEqualUnlessAlike && stat.st_size as u64 != node.size {
            return Ok(Some(node.size));
        }
        let Ok(fd) = posix::open_file(dir, &node.name) else { return Ok(Some(node.size)) };
        let file = std::fs::File::from(fd);
        let (mut at, mut wrong) = (0, 0);
        for id in &node.content {
            self.control.check()?;
            let place = self.index.place(BlobKind::Data, id)?;
            let place = place.ok_or_else(|| Error::damaged(format!("blob {id}"), "it is in no index"))?;
            self.buffer.resize(place.plain_length() as usize, 0);
            let read = std::os::unix::fs::FileExt::read_exact_at(&file, &mut self.buffer, at);
            if read.is_err() || Id::of(&self.buffer) != *id {
                wrong += self.buffer.len() as u64;
            }
            at += self.buffer.len() as u64;
        }
        Ok((wrong > 0 || at != stat.st_size as u64).then_some(wrong))
    }

    /// Tells what would be removed from a directory, and whether nothing but these names would be left in it.
    fn others(
        &mut self,
        dir: BorrowedFd<'_>,
        path: &mut Vec<u8>,
        fate: Fate,
        names: &[Vec<u8>],
    ) -> Result<bool> {
        let present = posix::read_dir(dir).map_err(|e| Error::path("read", show(path), e))?;
        let mut all_gone = true;
        for name in present.iter().filter(|name| names.binary_search(name).is_err()) {
            self.control.check()?;
            let length = path.len();
            path.push(b'/');
            path.extend_from_slice(name);
            all_gone &= self.other(dir, name, path, fate)?;
            path.truncate(length);
        }
        Ok(all_gone)
    }

    fn other(&mut self, dir: BorrowedFd<'_>, name: &[u8], path: &mut Vec<u8>, above: Fate) -> Result<bool> {
        let Ok(stat) = posix::stat_at(dir, name) else { return Ok(true) };
        let is_dir = posix::kind(&stat) == NodeKind::Dir;
        let fate = self.request.choice.fate(path, is_dir, above);
        let is_elsewhere = is_dir && rustix::fs::fstat(dir).is_ok_and(|dir| dir.st_dev != stat.st_dev);
        if fate != Fate::Restored || is_elsewhere {
            return Ok(false);
        }
        if is_dir
            && let Ok(fd) = posix::open_dir(dir, name)
            && !self.others(fd.as_fd(), path, fate, &[])?
        {
            return Ok(false);
        }
        self.tell(path, Planned::Removed, 0)?;
        Ok(true)
    }
}
