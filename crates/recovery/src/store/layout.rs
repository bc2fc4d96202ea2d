//! Keys of everything in a store, and how a backup's name becomes a file's name.
//!
//! A file's name keeps the backup's name readable: all characters stay as they are, but for those that are special
//! on some file system or to us (control characters, `% / \ : * ? " < > |`, a leading dot, a blank or dot at the
//! end), which become `%XX` for each byte. An encoded name longer than [`NAME_BYTES_MAX`] is cut and ends in `%~`
//! and half a SHA-256 of the whole. Nothing decodes it: the file itself holds the name, and whoever reads it
//! compares the two.

use sha2::{Digest, Sha256};

/// The store's own description.
pub(crate) const IDENTITY: &str = "strongroom.json";
/// Its second copy.
pub(crate) const IDENTITY_COPY: &str = "copies/strongroom.json";
/// Which server may delete here.
pub(crate) const OWNER: &str = "owner.json";
/// Catalogue entries.
pub(crate) const BACKUPS: &str = "backups/";
/// Groups of packs.
pub(crate) const GROUPS: &str = "groups/";
/// What was taken out of the catalogue.
pub(crate) const DELETED: &str = "deleted/";
/// Backups at work.
pub(crate) const RUNNING: &str = "running/";
/// Runs that may not commit any more.
pub(crate) const REVOKED: &str = "revoked/";
/// What drills found.
pub(crate) const REPORTS: &str = "reports/";
/// Vaults in which a job with the passcode may find something to compact.
pub(crate) const WASTE: &str = "waste/";
/// Vaults.
pub(crate) const VAULTS: &str = "vaults/";
/// Second copies of vaults' config and keys.
pub(crate) const VAULT_COPIES: &str = "copies/vaults/";

/// Room for a suffix in the 255 bytes that a segment may have.
const NAME_BYTES_MAX: usize = 200;

/// The catalogue entry of a backup.
pub(crate) fn backup_key(name: &str) -> String {
    format!("{BACKUPS}{}.json", file_name(name))
}

/// The record of a deletion.
pub(crate) fn deleted_key(name: &str, time_ms: i64) -> String {
    format!("{}{time_ms}.json", deleted_prefix(name))
}

/// What the keys of all deletions of this name start with.
pub(crate) fn deleted_prefix(name: &str) -> String {
    format!("{DELETED}{}.", file_name(name))
}

/// The report of a drill that ended then, with this outcome.
pub(crate) fn report_key(backup: &str, time_ms: i64, outcome: &str) -> String {
    format!("{}{time_ms}.{outcome}.json", report_prefix(backup))
}

/// What the keys of all reports on this backup start with.
pub(crate) fn report_prefix(backup: &str) -> String {
    format!("{REPORTS}{}/", file_name(backup))
}

/// The record of a running backup. Job ids come from callers inside the server; they are encoded all the same.
pub(crate) fn running_key(job_id: &str) -> String {
    format!("{RUNNING}{}.json", file_name(job_id))
}

/// The revocation of a run.
pub(crate) fn revoked_key(run: &str) -> String {
    format!("{REVOKED}{run}.json")
}

/// A group.
pub(crate) fn group_key(id: &str) -> String {
    format!("{GROUPS}{id}")
}

/// The mark of a vault that is worth compacting.
pub(crate) fn waste_key(vault: &str) -> String {
    format!("{WASTE}{vault}.json")
}

/// A file of a vault, or with an empty `file` the prefix of the vault.
pub(crate) fn vault_key(vault: &str, file: &str) -> String {
    format!("{VAULTS}{vault}/{file}")
}

/// The second copy of a vault's config or key.
pub(crate) fn vault_copy_key(vault: &str, file: &str) -> String {
    format!("{VAULT_COPIES}{vault}/{file}")
}

/// Where a pack lies in its vault.
pub(crate) fn pack_file(pack: repository::Id) -> String {
    let id = pack.to_string();
    format!("data/{}/{id}", id.get(..2).unwrap_or_default())
}

/// 32 lower-case hexadecimal digits: vaults, runs, groups. Checked before one becomes part of a key.
pub(crate) fn is_token(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// A new random token.
pub(crate) fn new_token() -> String {
    hex::encode(rand::random::<[u8; 16]>())
}

fn file_name(name: &str) -> String {
    if name.is_empty() {
        return "%".to_owned();
    }
    let last = name.chars().count().saturating_sub(1);
    let mut encoded = String::with_capacity(name.len());
    for (position, c) in name.chars().enumerate() {
        let special = c.is_control()
            || "%/\\:*?\"<>|".contains(c)
            || (c == '.' && (position == 0 || position == last))
            || (c == ' ' && position == last);
        if special {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                encoded.push_str(&format!("%{byte:02X}"));
            }
        } else {
            encoded.push(c);
        }
    }
    if encoded.len() > NAME_BYTES_MAX {
        encoded.truncate(encoded.floor_char_boundary(NAME_BYTES_MAX - 34));
        let digest = hex::encode(Sha256::digest(name.as_bytes()));
        encoded.push_str("%~");
        encoded.push_str(digest.get(..32).unwrap_or_default());
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_stay_readable_in_their_files_names() {
        assert_eq!(backup_key("Nightly 2026-11-24"), "backups/Nightly 2026-11-24.json");
        assert_eq!(backup_key("Würzburg"), "backups/Würzburg.json");
        assert_eq!(deleted_key("a.b", 17), "deleted/a.b.17.json");
    }

    #[test]
    fn no_name_leads_out_of_the_catalogue_or_makes_an_illegal_key() {
        let long = "日".repeat(300);
        let stars = "*".repeat(100);
        for name in [
            "..", ".", "../x", "a/b", "a\\b", "a%2Fb", "\0", "a\nb", "x.", "x ", "", &long, &stars,
            ".x.tmp-1",
        ] {
            for key in [backup_key(name), deleted_key(name, i64::MIN), running_key(name)] {
                assert!(storage::check_key(&key, "x").is_ok(), "{name:?} -> {key:?}");
                assert_eq!(key.matches('/').count(), 1, "{key:?}");
                assert!(!key.contains("/."), "{key:?}");
            }
        }
    }

    #[test]
    fn different_names_have_different_files() {
        let long = "x".repeat(300);
        let names = [
            "a/b",
            "a%2Fb",
            "a%252Fb",
            "a b",
            "a  b",
            "A",
            "a",
            ".",
            "%2E",
            &long,
            &long[1..],
            &format!("{long}y"),
        ];
        let keys: std::collections::HashSet<_> = names.iter().map(|n| backup_key(n)).collect();
        assert_eq!(keys.len(), names.len());
    }
}
