//! Groups: which packs and index files one backup brought into its vault. Written once, before the backup's entry.
//!
//! The server that deletes has no passcode and cannot read the vault's index; groups tell it what it may remove.
//! A group lists the packs with their sizes, and each index file with the packs that it speaks of, for an index
//! file may go only when none of its packs is needed any more.
//!
//! File: `SRGRP\x01`, vault (16 bytes), count of packs (u32), then id (32) and size (u64) of each, sorted by id;
//! count of index files (u32), then of each its id (32), a count (u32) and that many places in the list of packs
//! (u32); at the end the SHA-256 of all before. Numbers are little-endian.

use std::collections::BTreeMap;

use repository::Id;
use sha2::{Digest, Sha256};
use storage::ErrorKind;

use super::{Store, failure, layout};
use crate::{Error, ErrorKind as Kind, Result};

const MAGIC: &[u8; 6] = b"SRGRP\x01";
/// Room for ten million packs.
const GROUP_BYTES_MAX: u64 = 1 << 29;

/// The packs and index files of one backup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Group {
    /// The vault, as 32 hexadecimal digits.
    pub vault: String,
    /// Packs with their sizes.
    pub packs: BTreeMap<Id, u64>,
    /// Index files, each with those of its packs that are in `packs`.
    pub indexes: BTreeMap<Id, Vec<Id>>,
}

impl Group {
    /// Nothing in it.
    pub fn is_empty(&self) -> bool {
        self.packs.is_empty() && self.indexes.is_empty()
    }

    /// The file's bytes.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let count = |n: usize| {
            u32::try_from(n)
                .map(u32::to_le_bytes)
                .map_err(|_| Error::new(Kind::Internal, "a backup has more packs than a group can list"))
        };
        let vault = hex::decode(&self.vault).ok().filter(|v| v.len() == 16);
        let vault =
            vault.ok_or_else(|| Error::new(Kind::Internal, format!("'{}' is no vault", self.vault)))?;
        let mut bytes = Vec::with_capacity(64 + self.packs.len() * 40);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&vault);
        bytes.extend_from_slice(&count(self.packs.len())?);
        for (id, size) in &self.packs {
            bytes.extend_from_slice(&id.0);
            bytes.extend_from_slice(&size.to_le_bytes());
        }
        let places: BTreeMap<Id, usize> = self.packs.keys().enumerate().map(|(i, id)| (*id, i)).collect();
        bytes.extend_from_slice(&count(self.indexes.len())?);
        for (id, packs) in &self.indexes {
            let of_index: Vec<usize> = packs.iter().filter_map(|pack| places.get(pack).copied()).collect();
            bytes.extend_from_slice(&id.0);
            bytes.extend_from_slice(&count(of_index.len())?);
            for place in of_index {
                bytes.extend_from_slice(&count(place)?);
            }
        }
        let digest = Sha256::digest(&bytes);
        bytes.extend_from_slice(&digest);
        Ok(bytes)
    }

    /// The group in a file's bytes, or why there is none.
    pub fn decode(bytes: &[u8]) -> std::result::Result<Group, String> {
        let (body, digest) = bytes
            .len()
            .checked_sub(32)
            .and_then(|at| bytes.split_at_checked(at))
            .ok_or_else(|| format!("it has only {} bytes", bytes.len()))?;
        if Sha256::digest(body).as_slice() != digest {
            return Err("its checksum does not match its content".to_owned());
        }
        let mut reader = Reader(body);
        if reader.take::<6>()? != *MAGIC {
            return Err("it does not start like a group, or is of a newer format".to_owned());
        }
        let vault = hex::encode(reader.take::<16>()?);
        let mut packs = Vec::new();
        for _ in 0..reader.number()? {
            packs.push((Id(reader.take()?), u64::from_le_bytes(reader.take()?)));
        }
        let mut indexes = BTreeMap::new();
        for _ in 0..reader.number()? {
            let id = Id(reader.take()?);
            let mut of_index = Vec::new();
            for _ in 0..reader.number()? {
                let place = reader.number()? as usize;
                let pack = packs.get(place).ok_or("it speaks of a pack that it does not list")?;
                of_index.push(pack.0);
            }
            indexes.insert(id, of_index);
        }
        if !reader.0.is_empty() {
            return Err("something follows its end".to_owned());
        }
        Ok(Group { vault, packs: packs.into_iter().collect(), indexes })
    }
}

/// Takes a group apart from the front; every count is checked by what is really there.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> std::result::Result<[u8; N], String> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or("it ends too early")?;
        self.0 = rest;
        Ok(*head)
    }

    fn number(&mut self) -> std::result::Result<u32, String> {
        Ok(u32::from_le_bytes(self.take()?))
    }
}

/// What a look at one group found.
pub(crate) enum FoundGroup {
    /// There is no such file.
    Missing,
    /// The group.
    Good(Group),
    /// Its file is damaged, and how.
    Damaged(String),
}

impl Store {
    /// Reads one group.
    pub(crate) fn group(&self, id: &str) -> Result<FoundGroup> {
        if !layout::is_token(id) {
            return Ok(FoundGroup::Damaged("its name is none of a group".to_owned()));
        }
        let key = layout::group_key(id);
        match self.storage().get(&key, GROUP_BYTES_MAX) {
            Ok(bytes) => Ok(match Group::decode(&bytes) {
                Ok(group) => FoundGroup::Good(group),
                Err(reason) => FoundGroup::Damaged(reason),
            }),
            Err(e) if e.kind == ErrorKind::NotFound => {
                self.storage().head(&key).map(|_| FoundGroup::Missing).map_err(failure::storage)
            }
            Err(e) if matches!(e.kind, ErrorKind::TooLarge | ErrorKind::Short) => {
                Ok(FoundGroup::Damaged(e.reason))
            }
            Err(e) => Err(failure::storage(e)),
        }
    }

    /// Writes a group. Repeating it, a lost answer included, is harmless.
    pub(crate) fn create_group(&self, id: &str, group: &Group) -> Result<()> {
        let (key, bytes) = (layout::group_key(id), group.encode()?);
        match self.storage().create(&key, &[&bytes]) {
            Err(e) if e.kind == ErrorKind::Exists => {
                match self.storage().get(&key, GROUP_BYTES_MAX).map_err(failure::storage)? == bytes {
                    true => Ok(()),
                    false => Err(failure::damaged(&key, "another group has its name")),
                }
            }
            other => other.map_err(failure::storage),
        }
    }

    /// Ids of all groups.
    pub(crate) fn group_ids(&self) -> Result<Vec<String>> {
        let entries = self.storage().list_all(layout::GROUPS).map_err(failure::storage)?;
        let ids = entries.iter().filter_map(|e| e.key.strip_prefix(layout::GROUPS));
        Ok(ids.filter(|id| layout::is_token(id)).map(str::to_owned).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Group {
        let (a, b, c) = (Id([1; 32]), Id([2; 32]), Id([3; 32]));
        Group {
            vault: "0123456789abcdef0123456789abcdef".to_owned(),
            packs: [(a, 10), (b, u64::MAX), (c, 0)].into(),
            indexes: [(Id([9; 32]), vec![a, c]), (Id([8; 32]), vec![])].into(),
        }
    }

    #[test]
    fn a_group_comes_back_as_it_was() {
        for group in [sample(), Group { vault: "00".repeat(16), ..Group::default() }] {
            assert_eq!(Group::decode(&group.encode().unwrap()).unwrap(), group);
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_of_a_group_is_found() {
        let bytes = sample().encode().unwrap();
        for position in 0..bytes.len() {
            for bit in 0..8 {
                let mut bad = bytes.clone();
                bad[position] ^= 1 << bit;
                assert!(Group::decode(&bad).is_err(), "byte {position}, bit {bit}");
            }
            assert!(Group::decode(&bytes[..position]).is_err(), "cut at {position}");
        }
    }

    #[test]
    fn a_group_with_a_right_checksum_and_wrong_counts_is_refused_without_being_believed() {
        let mut body = MAGIC.to_vec();
        body.extend_from_slice(&[0; 16]);
        body.extend_from_slice(&u32::MAX.to_le_bytes());
        let digest = Sha256::digest(&body);
        body.extend_from_slice(&digest);
        assert!(Group::decode(&body).unwrap_err().contains("too early"));
    }
}
