//! Files of a repository that no program would write today: a lock of long ago, a format of the future.
//!
//! The master key comes from restic, and the seal is made here by the published description alone, so this is also
//! a second opinion on ours.

use std::fs;
use std::time::Duration;

use aes::{Aes128, Aes256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ctr::cipher::{Array, BlockCipherEncrypt, KeyInit, KeyIvInit, StreamCipher};
use poly1305::Poly1305;
use repository::{Id, Time};
use serde_json::{Value, json};

use crate::command::{Place, restic};

/// The master key of a repository.
pub struct Forge<'a> {
    place: &'a Place,
    encrypt: [u8; 32],
    k: [u8; 16],
    r: [u8; 16],
}

impl<'a> Forge<'a> {
    pub fn new(place: &'a Place) -> Self {
        let text = place.restic(&restic(), ["--no-lock", "cat", "masterkey"]).expect(0).out;
        let key: Value = serde_json::from_str(&text).unwrap();
        let bytes = |value: &Value| STANDARD.decode(value.as_str().unwrap()).unwrap();
        Self {
            place,
            encrypt: bytes(&key["encrypt"]).try_into().unwrap(),
            k: bytes(&key["mac"]["k"]).try_into().unwrap(),
            r: bytes(&key["mac"]["r"]).try_into().unwrap(),
        }
    }

    fn seal(&self, plaintext: &[u8]) -> Vec<u8> {
        let nonce: [u8; 16] = rand::random();
        let mut ciphertext = plaintext.to_vec();
        ctr::Ctr128BE::<Aes256>::new(&self.encrypt.into(), &nonce.into()).apply_keystream(&mut ciphertext);
        let mut s = Array::from(nonce);
        Aes128::new(&self.k.into()).encrypt_block(&mut s);
        let mut one_time = [0; 32];
        one_time[..16].copy_from_slice(&self.r);
        one_time[16..].copy_from_slice(&s);
        let tag = Poly1305::new(&one_time.into()).compute_unpadded(&ciphertext);
        [&nonce[..], &ciphertext, &tag].concat()
    }

    /// A lock as restic writes it, of so long ago.
    pub fn lock(&self, age: Duration, exclusive: bool) {
        let mut time = Time::now();
        time.seconds -= age.as_secs() as i64;
        let lock = json!({
            "time": time.text(), "exclusive": exclusive, "hostname": "elsewhere", "username": "somebody",
            "pid": 4711, "uid": 0, "gid": 0,
        });
        let sealed = self.seal(lock.to_string().as_bytes());
        let locks = self.place.repository().join("locks");
        fs::create_dir_all(&locks).unwrap();
        fs::write(locks.join(Id::of(&sealed).to_string()), sealed).unwrap();
    }

    /// Gives the repository another format version.
    pub fn version(&self, version: u32) {
        let text = self.place.restic(&restic(), ["--no-lock", "cat", "config"]).expect(0).out;
        let mut config: Value = serde_json::from_str(&text).unwrap();
        config["version"] = version.into();
        let file = self.place.repository().join("config");
        fs::remove_file(&file).unwrap();
        fs::write(&file, self.seal(config.to_string().as_bytes())).unwrap();
    }
}

/// A snapshot as it goes into a repository.
impl Forge<'_> {
    /// Stores the JSON of a snapshot.
    pub fn snapshot(&self, snapshot: &Value) {
        self.unpacked("snapshots", snapshot);
    }

    /// Stores the JSON of a file in `index`, `snapshots`, or the like.
    pub fn unpacked(&self, folder: &str, value: &Value) {
        let sealed = self.seal(value.to_string().as_bytes());
        let folder = self.place.repository().join(folder);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(Id::of(&sealed).to_string()), sealed).unwrap();
    }

    /// Stores a pack of these blobs as its header is to tell them, and lists it in an index file. Returns its key.
    pub fn pack(&self, blobs: &[ForgedBlob]) -> String {
        self.pack_with_header(blobs, |_| {})
    }

    /// The same with a header that was changed before it was sealed; the index file is right.
    pub fn pack_with_header(&self, blobs: &[ForgedBlob], change: impl Fn(&mut Vec<u8>)) -> String {
        let (mut body, mut header, mut listed) = (Vec::new(), Vec::new(), Vec::new());
        for blob in blobs {
            let sealed = self.seal(&blob.stored);
            let tree = blob.kind == "tree";
            header.push(u8::from(tree) + if blob.claims.is_some() { 2 } else { 0 });
            header.extend_from_slice(&(sealed.len() as u32).to_le_bytes());
            header.extend(blob.claims.iter().flat_map(|length| length.to_le_bytes()));
            header.extend_from_slice(&blob.id.0);
            let mut entry =
                json!({"id": blob.id, "type": blob.kind, "offset": body.len(), "length": sealed.len()});
            if let Some(length) = blob.claims {
                entry["uncompressed_length"] = length.into();
            }
            listed.push(entry);
            body.extend_from_slice(&sealed);
        }
        change(&mut header);
        let header = self.seal(&header);
        body.extend_from_slice(&header);
        body.extend_from_slice(&(header.len() as u32).to_le_bytes());
        let id = Id::of(&body).to_string();
        let key = format!("data/{}/{id}", &id[..2]);
        let path = self.place.repository().join(&key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, body).unwrap();
        self.unpacked("index", &json!({"packs": [{"id": id, "blobs": listed}]}));
        key
    }
}

/// A blob as a hostile writer might store it.
pub struct ForgedBlob {
    pub kind: &'static str,
    /// What it is said to be.
    pub id: Id,
    /// What is sealed and stored.
    pub stored: Vec<u8>,
    /// The length that it is said to decompress to.
    pub claims: Option<u32>,
}

impl ForgedBlob {
    /// A tree of this text under its true id.
    pub fn tree(text: &str) -> Self {
        let stored = text.as_bytes().to_vec();
        Self { kind: "tree", id: Id::of(&stored), stored, claims: None }
    }
}
