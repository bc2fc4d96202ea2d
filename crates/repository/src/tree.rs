//! Directory listings: what a tree blob says of each entry, and its exact text.
//!
//! The text is JSON with restic's order of fields, so that equal directories get equal ids in both programs.
//! Reading accepts everything that restic and rustic write and ignores unknown fields. To move a tree, move its
//! bytes: writing it anew could lose what another program put there.

use std::borrow::Cow;
use std::fmt;
use std::fmt::Write as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::json::visit_lists;
use crate::quote::{push_json_string, quote, unquote};
use crate::time::Time;
use crate::{Error, Id, Result};

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A block device.
    Dev,
    /// A character device.
    CharDev,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// Anything else; kept by name alone.
    #[serde(other)]
    Irregular,
}

impl NodeKind {
    /// restic's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Dir => "dir",
            Self::Symlink => "symlink",
            Self::Dev => "dev",
            Self::CharDev => "chardev",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
            Self::Irregular => "irregular",
        }
    }
}

impl fmt::Display for NodeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Type bits of Go's `os.FileMode`, which the format uses, with the permission bits of POSIX below them.
pub(crate) mod go_mode {
    pub(crate) const DIR: u32 = 1 << 31;
    pub(crate) const SYMLINK: u32 = 1 << 27;
    pub(crate) const DEVICE: u32 = 1 << 26;
    pub(crate) const FIFO: u32 = 1 << 25;
    pub(crate) const SOCKET: u32 = 1 << 24;
    pub(crate) const SETUID: u32 = 1 << 23;
    pub(crate) const SETGID: u32 = 1 << 22;
    pub(crate) const CHAR_DEVICE: u32 = 1 << 21;
    pub(crate) const STICKY: u32 = 1 << 20;
    pub(crate) const IRREGULAR: u32 = 1 << 19;
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Raw bytes of the name.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: NodeKind,
    /// Go's `os.FileMode`; see [`Node::permissions`].
    pub mode: u32,
    /// Time of last change of the content.
    pub mtime: Time,
    /// Time of last reading; equal to `mtime` unless another program recorded it.
    pub atime: Time,
    /// Time of last change of the metadata.
    pub ctime: Time,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Owner's name, if known.
    pub user: Arc<str>,
    /// Group's name, if known.
    pub group: Arc<str>,
    /// Inode number.
    pub inode: u64,
    /// Device that holds it: (device, inode) tells hard links.
    pub device_id: u64,
    /// Length of a file's content.
    pub size: u64,
    /// Number of hard links.
    pub links: u64,
    /// Where a symbolic link points; raw bytes.
    pub link_target: Option<Vec<u8>>,
    /// Extended attributes, ACLs among them.
    pub xattrs: Vec<(String, Vec<u8>)>,
    /// Device number of a device.
    pub device: u64,
    /// Chunks of a file.
    pub content: Vec<Id>,
    /// Listing of a directory.
    pub subtree: Option<Id>,
}

impl Node {
    /// An entry with nothing but name and kind.
    pub(crate) fn new(name: Vec<u8>, kind: NodeKind) -> Self {
        let none: Arc<str> = Arc::from("");
        Self {
            name,
            kind,
            mode: 0,
            mtime: Time::default(),
            atime: Time::default(),
            ctime: Time::default(),
            uid: 0,
            gid: 0,
            user: none.clone(),
            group: none,
            inode: 0,
            device_id: 0,
            size: 0,
            links: 0,
            link_target: None,
            xattrs: Vec::new(),
            device: 0,
            content: Vec::new(),
            subtree: None,
        }
    }

    /// The twelve permission bits of POSIX.
    pub fn permissions(&self) -> u32 {
        let bit = |go: u32, posix: u32| if self.mode & go != 0 { posix } else { 0 };
        self.mode & 0o777
            | bit(go_mode::SETUID, 0o4000)
            | bit(go_mode::SETGID, 0o2000)
            | bit(go_mode::STICKY, 0o1000)
    }

    /// Equal in all that `stat` tells: all but content, listing, link target and extended attributes.
    pub(crate) fn has_metadata_of(&self, other: &Self) -> bool {
        let numbers = |node: &Self| {
            let Self { mode, uid, gid, inode, device_id, size, links, device, .. } = *node;
            (node.kind, mode, uid, gid, inode, device_id, size, links, device)
        };
        let times = |node: &Self| (node.mtime, node.atime, node.ctime);
        numbers(self) == numbers(other)
            && times(self) == times(other)
            && self.name == other.name
            && self.user == other.user
            && self.group == other.group
    }

    /// What two names of one inode must have in common. Without it the inode changed between the two readings, or its
    /// number was given anew.
    pub fn content_mark(&self) -> Id {
        let mut text = format!("{} {} {:?}", self.kind, self.device, self.link_target).into_bytes();
        self.content.iter().for_each(|id| text.extend_from_slice(&id.0));
        Id::of(&text)
    }

    /// The entry's JSON.
    pub(crate) fn text(&self) -> Box<str> {
        let mut text = String::with_capacity(512);
        self.write(&mut text);
        text.into_boxed_str()
    }

    /// Appends the entry's JSON.
    pub(crate) fn write(&self, out: &mut String) {
        out.push_str("{\"name\":");
        push_name(&self.name, out);
        out.push_str(",\"type\":\"");
        out.push_str(self.kind.word());
        out.push('"');
        push_number(out, "mode", u64::from(self.mode));
        for (field, time) in [("mtime", self.mtime), ("atime", self.atime), ("ctime", self.ctime)] {
            let _ = write!(out, ",\"{field}\":\"");
            time.write(out);
            out.push('"');
        }
        let _ = write!(out, ",\"uid\":{},\"gid\":{}", self.uid, self.gid);
        for (field, name) in [("user", &self.user), ("group", &self.group)] {
            if !name.is_empty() {
                let _ = write!(out, ",\"{field}\":");
                push_json_string(name, out);
            }
        }
        push_number(out, "inode", self.inode);
        push_number(out, "device_id", self.device_id);
        push_number(out, "size", self.size);
        push_number(out, "links", self.links);
        if let Some(target) = &self.link_target {
            push_link_target(target, out);
        }
        push_xattrs(&self.xattrs, out);
        push_number(out, "device", self.device);
        if self.kind == NodeKind::File {
            push_content(&self.content, out);
        } else {
            out.push_str(",\"content\":null");
        }
        if let Some(subtree) = self.subtree {
            let _ = write!(out, ",\"subtree\":\"{subtree}\"");
        }
        out.push('}');
    }
}

fn push_name(name: &[u8], out: &mut String) {
    let simple = |b: &u8| b.is_ascii_alphanumeric() || b" ._-+=,@:()[]#~$!%^".contains(b);
    if name.iter().all(simple)
        && let Ok(text) = std::str::from_utf8(name)
    {
        out.push('"');
        out.push_str(text);
        out.push('"');
        return;
    }
    let mut quoted = String::with_capacity(name.len() + 8);
    quote(name, &mut quoted);
    push_json_string(&quoted, out);
}

fn push_number(out: &mut String, field: &str, value: u64) {
    if value != 0 {
        let _ = write!(out, ",\"{field}\":{value}");
    }
}

fn push_link_target(target: &[u8], out: &mut String) {
    out.push_str(",\"linktarget\":");
    let text = String::from_utf8_lossy(target);
    push_json_string(&text, out);
    if matches!(text, Cow::Owned(_)) {
        let _ = write!(out, ",\"linktarget_raw\":\"{}\"", STANDARD.encode(target));
    }
}

fn push_xattrs(xattrs: &[(String, Vec<u8>)], out: &mut String) {
    for (i, (name, value)) in xattrs.iter().enumerate() {
        out.push_str(if i == 0 { ",\"extended_attributes\":[" } else { "," });
        out.push_str("{\"name\":");
        push_json_string(name, out);
        let _ = write!(out, ",\"value\":\"{}\"}}", STANDARD.encode(value));
    }
    if !xattrs.is_empty() {
        out.push(']');
    }
}

fn push_content(content: &[Id], out: &mut String) {
    out.push_str(",\"content\":[");
    for (i, id) in content.iter().enumerate() {
        let _ = write!(out, "{}\"{id}\"", if i == 0 { "" } else { "," });
    }
    out.push(']');
}

/// The text of a tree whose entries, sorted by name, are already JSON.
pub(crate) fn tree_text(nodes: impl Iterator<Item = impl AsRef<str>>) -> Vec<u8> {
    let mut text = String::from("{\"nodes\":[");
    for (i, node) in nodes.enumerate() {
        if i > 0 {
            text.push(',');
        }
        text.push_str(node.as_ref());
    }
    text.push_str("]}\n");
    text.into_bytes()
}

#[derive(Deserialize)]
struct NodeText<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(rename = "type")]
    kind: NodeKind,
    #[serde(default)]
    mode: u32,
    #[serde(borrow, default)]
    mtime: Cow<'a, str>,
    #[serde(borrow, default)]
    atime: Cow<'a, str>,
    #[serde(borrow, default)]
    ctime: Cow<'a, str>,
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
    #[serde(borrow, default)]
    user: Cow<'a, str>,
    #[serde(borrow, default)]
    group: Cow<'a, str>,
    #[serde(default)]
    inode: u64,
    #[serde(default)]
    device_id: u64,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    links: u64,
    #[serde(borrow, default)]
    linktarget: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    linktarget_raw: Option<Cow<'a, str>>,
    #[serde(default)]
    extended_attributes: Option<Vec<XattrText>>,
    #[serde(default)]
    device: u64,
    #[serde(default)]
    content: Option<Vec<Id>>,
    #[serde(default)]
    subtree: Option<Id>,
}

#[derive(Deserialize)]
struct XattrText {
    name: String,
    #[serde(default)]
    value: Option<String>,
}

/// Names of owners repeat from entry to entry; one text serves them all.
struct SameName(Arc<str>);

impl SameName {
    fn get(&mut self, name: &str) -> Arc<str> {
        if *self.0 != *name {
            self.0 = Arc::from(name);
        }
        self.0.clone()
    }
}

/// Reads a tree. Entries whose names are not single path components are refused: a hostile tree must not be able
/// to name anything outside its directory.
pub(crate) fn parse(id: Id, text: &[u8]) -> Result<Vec<Node>> {
    let mut parsed = Vec::new();
    visit_nodes(id, text, &mut |node| {
        parsed.push(node);
        Ok(())
    })?;
    Ok(parsed)
}

/// Reads a tree entry by entry, so that one is in memory at a time.
pub(crate) fn visit_nodes(id: Id, text: &[u8], visit: &mut dyn FnMut(Node) -> Result<()>) -> Result<()> {
    let damaged = |problem: String| Error::damaged(format!("tree {id}"), problem);
    let (mut users, mut groups) = (SameName(Arc::from("")), SameName(Arc::from("")));
    visit_lists(format_args!("tree {id}"), text, &["nodes"], &mut |_, node: NodeText<'_>| {
        let name = unquote(&node.name).ok_or_else(|| damaged("a name is not well quoted".to_owned()))?;
        if !is_component(&name) {
            return Err(damaged(format!("it has an entry of the illegal name '{}'", name.escape_ascii())));
        }
        visit(convert(node, name, &mut users, &mut groups).map_err(damaged)?)
    })?;
    Ok(())
}

/// What an entry of a tree refers to.
#[derive(Deserialize)]
pub(crate) struct References {
    /// Chunks of a file.
    #[serde(default)]
    pub(crate) content: Option<Vec<Id>>,
    /// Listing of a directory.
    #[serde(default)]
    pub(crate) subtree: Option<Id>,
}

/// Reads of a tree only what its entries refer to.
pub(crate) fn visit_references(
    id: Id,
    text: &[u8],
    visit: &mut dyn FnMut(References) -> Result<()>,
) -> Result<()> {
    visit_lists(format_args!("tree {id}"), text, &["nodes"], &mut |_, references| visit(references))?;
    Ok(())
}

fn is_component(name: &[u8]) -> bool {
    !name.is_empty() && name != b"." && name != b".." && !name.contains(&b'/') && !name.contains(&0)
}

fn convert(
    node: NodeText<'_>,
    name: Vec<u8>,
    users: &mut SameName,
    groups: &mut SameName,
) -> Result<Node, String> {
    let time = |text: &str| if text.is_empty() { Some(Time::default()) } else { Time::parse(text) };
    let times = (time(&node.mtime), time(&node.atime), time(&node.ctime));
    let (Some(mtime), Some(atime), Some(ctime)) = times else {
        return Err(format!("a time of '{}' cannot be read", name.escape_ascii()));
    };
    let decode = |text: &str| STANDARD.decode(text).map_err(|e| e.to_string());
    let link_target = match (node.linktarget_raw, node.linktarget) {
        (Some(raw), _) => Some(decode(&raw)?),
        (None, text) => text.map(|text| text.into_owned().into_bytes()),
    };
    let xattrs = node.extended_attributes.unwrap_or_default().into_iter();
    let xattrs: Result<_, String> =
        xattrs.map(|x| Ok((x.name, decode(x.value.as_deref().unwrap_or(""))?))).collect();
    Ok(Node {
        name,
        kind: node.kind,
        mode: node.mode,
        mtime,
        atime,
        ctime,
        uid: node.uid,
        gid: node.gid,
        user: users.get(&node.user),
        group: groups.get(&node.group),
        inode: node.inode,
        device_id: node.device_id,
        size: node.size,
        links: node.links,
        link_target,
        xattrs: xattrs?,
        device: node.device,
        content: node.content.unwrap_or_default(),
        subtree: node.subtree,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(nodes: &[Node]) -> Vec<u8> {
        tree_text(nodes.iter().map(Node::text))
    }

    #[test]
    fn the_empty_tree_has_the_published_id() {
        let id = Id::of(&text_of(&[]));
        assert_eq!(id.to_string(), "ac08ce34ba4f8123618661bef2425f7028ffb9ac740578a3ee88684d2523fee8");
    }

    #[test]
    fn an_entry_reads_back_as_it_was_written() {
        let mut node = Node::new(b"odd \xff \"name\"".to_vec(), NodeKind::Symlink);
        node.mode = go_mode::SYMLINK | 0o777;
        node.link_target = Some(b"to\xfe<there>".to_vec());
        node.xattrs = vec![("user.a".to_owned(), vec![0, 1]), ("user.empty".to_owned(), vec![])];
        node.mtime = Time { seconds: 1, nanoseconds: 5 };
        node.links = 2;
        let mut file = Node::new(b"zfile".to_vec(), NodeKind::File);
        file.content = vec![Id::of(b"1"), Id::of(b"2")];
        file.size = 2;
        file.user = Arc::from("somebody");
        let nodes = [node, file];
        let text = text_of(&nodes);
        assert_eq!(parse(Id::of(&text), &text).unwrap(), nodes);
    }

    #[test]
    fn names_that_lead_out_of_their_directory_are_refused() {
        for name in ["", ".", "..", "a/b", "a\\u0000b", "..\\x2f"] {
            let text = format!(r#"{{"nodes":[{{"name":{},"type":"file"}}]}}"#, serde_json::json!(name));
            let text = text.replace("\\\\u0000", "\\\\x00");
            assert!(parse(Id::of(b""), text.as_bytes()).is_err(), "{name:?}");
        }
    }

    #[test]
    fn null_values_unknown_fields_and_unknown_kinds_are_read() {
        let text = br#"{"nodes":[{"name":"a","type":"weird","new_field":[1],"content":null,
            "extended_attributes":[{"name":"user.x","value":null}]}],"more":1}"#;
        let nodes = parse(Id::of(b""), text).unwrap();
        assert_eq!(nodes[0].kind, NodeKind::Irregular);
        assert_eq!(nodes[0].xattrs, [("user.x".to_owned(), vec![])]);
    }
}
