//! What a restore would change, told before it changes anything: the same walk, with eyes alone.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use rustix::io::Errno;

use super::choice::Fate;
use super::others::{names_of, others_in, same_file_system};
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
    let opened = rustix::fs::open(&request.target, target::DIRECTORY, rustix::fs::Mode::empty());
    let target = there(opened).map_err(|e| Error::path("open", request.target.display(), e))?;
    let mut planner =
        Planner { index, request, control, visit, plan: RestorePlan::default(), buffer: Vec::new() };
    let mut path = Vec::new();
    let root = Level {
        path_length: 0,
        fate: request.choice.of_target(),
        to_tell: None,
        names: (is_directory && request.remove_others).then(|| names_of(&nodes)),
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
            let (fd, to_tell) = match &dir {
                Some(dir) => planner.directory(dir.as_fd(), &node, &path)?,
                None => (None, Some(Planned::Made)),
            };
            // What begins on another file system is not emptied.
            let is_here = dir.as_ref().zip(fd.as_ref()).is_some_and(|(a, b)| same_file_system(a, b));
            let names = (is_here && level.names.is_some()).then(|| names_of(&below));
            let (dir, nodes) = (fd.map(Arc::new), below.into_iter());
            stack.push(Level { path_length: path.len(), fate, to_tell, names, dir, nodes });
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
    /// What would become of it, if anything, and nobody was told yet.
    to_tell: Option<Planned>,
    /// What the snapshot has in it, in order, if other things would go.
    names: Option<Vec<Vec<u8>>>,
    /// `None`: it is not there.
    dir: Option<Arc<OwnedFd>>,
    nodes: std::vec::IntoIter<Node>,
}

/// What was found, or that it is not there.
fn there<T>(found: rustix::io::Result<T>) -> rustix::io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e),
    }
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
        for level in stack.iter_mut().skip(1) {
            if let Some(planned) = level.to_tell.take() {
                self.tell(&path[..level.path_length], planned, 0)?;
            }
        }
        Ok(())
    }

    fn fail(&self, what: &str, path: &[u8], e: Errno) -> Error {
        let mut whole = self.request.target.as_os_str().as_bytes().to_vec();
        whole.extend_from_slice(path);
        Error::path(what, show(&whole), e)
    }

    /// The directory of the target that the snapshot has there too, and what would become of what is there.
    fn directory(
        &self,
        above: BorrowedFd<'_>,
        node: &Node,
        path: &[u8],
    ) -> Result<(Option<OwnedFd>, Option<Planned>)> {
        match posix::open_dir(above, &node.name) {
            Ok(fd) => Ok((Some(fd), None)),
            Err(Errno::NOENT) => Ok((None, Some(Planned::Made))),
            Err(Errno::NOTDIR | Errno::LOOP) if self.request.existing.gives_way_to_directories() => {
                Ok((None, Some(Planned::MadeEqual)))
            }
            Err(Errno::NOTDIR | Errno::LOOP) => Err(self.fail("make", path, Errno::EXIST)),
            Err(e) => Err(self.fail("open", path, e)),
        }
    }

    fn leaf(&mut self, dir: Option<BorrowedFd<'_>>, node: &Node, path: &[u8]) -> Result<()> {
        self.control.progress.set_current(&show(path));
        if node.kind == NodeKind::Irregular {
            return Ok(());
        }
        let Some(dir) = dir else { return self.tell(path, Planned::Made, node.size) };
        let stat = there(posix::stat_at(dir, &node.name)).map_err(|e| self.fail("look at", path, e))?;
        let Some(stat) = stat else { return self.tell(path, Planned::Made, node.size) };
        if self.request.existing.keeps(dir, node) {
            self.plan.kept += 1;
            return Ok(());
        }
        if posix::kind(&stat) == NodeKind::Dir {
            let inside = posix::open_dir(dir, &node.name).map_err(|e| self.fail("open", path, e))?;
            if !others_in(inside.as_fd(), path, &[])?.is_empty() {
                // So the restore would end.
                return Err(self.fail("replace", path, Errno::NOTEMPTY));
            }
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
        let mut all_gone = true;
        for name in others_in(dir, path, names)? {
            self.control.check()?;
            let length = path.len();
            path.push(b'/');
            path.extend_from_slice(&name);
            all_gone &= self.other(dir, &name, path, fate)?;
            path.truncate(length);
        }
        Ok(all_gone)
    }

    fn other(&mut self, dir: BorrowedFd<'_>, name: &[u8], path: &mut Vec<u8>, above: Fate) -> Result<bool> {
        let Ok(stat) = posix::stat_at(dir, name) else { return Ok(true) };
        let is_dir = posix::kind(&stat) == NodeKind::Dir;
        let fate = self.request.choice.fate(path, is_dir, above);
        if fate != Fate::Restored {
            return Ok(false);
        }
        if is_dir {
            let Ok(fd) = posix::open_dir(dir, name) else { return Ok(false) };
            if !same_file_system(&dir, &fd) || !self.others(fd.as_fd(), path, fate, &[])? {
                return Ok(false);
            }
        }
        self.tell(path, Planned::Removed, 0)?;
        Ok(true)
    }
}
