//! A server is killed while files, databases and a bucket are backed up and restored as one.

use std::sync::Arc;

use secrecy::SecretString;
use storage::{Content as BucketContent, Credentials, Headers, ObjectOptions, ObjectPlace, ObjectStorage};
use strongroom_tests::services::{ACCESS_KEY, SECRET_KEY, Service};

use super::*;

/// Two databases beside the content, which change with it.
struct Databases {
    server: Postgres,
}

impl Databases {
    const NAMES: [&str; 2] = ["one", "two"];

    fn new() -> Option<Self> {
        let server = Postgres::start()?;
        for name in Self::NAMES {
            server.sql("postgres", &format!("CREATE DATABASE {name}"));
            let rows = "CREATE TABLE rows AS SELECT i, md5(i::text) AS word FROM generate_series(1, 20000) i";
            server.script(
                name,
                &format!("{rows}; CREATE INDEX ON rows (word); ALTER TABLE rows ADD PRIMARY KEY (i);"),
            );
        }
        Some(Self { server })
    }

    /// What is in them, as one text.
    fn picture(&self) -> String {
        let of =
            |name| self.server.sql(name, "SELECT count(*), md5(string_agg(word, ',' ORDER BY i)) FROM rows");
        Self::NAMES.map(of).join(" ")
    }

    fn change(&self, generation: usize) {
        for name in Self::NAMES {
            let text =
                format!("UPDATE rows SET word = word || '{generation}' WHERE i % 50 = {}", generation % 50);
            self.server.sql(name, &text);
        }
    }

    /// No database of a restore is left.
    fn assert_no_traces(&self) {
        let left = "SELECT string_agg(datname, ' ') FROM pg_database WHERE datname LIKE 'strongroom%'";
        assert_eq!(self.server.sql("postgres", left), "");
    }
}

/// A bucket beside them.
struct Bucket {
    service: Service,
    content: Arc<dyn BucketContent>,
    _secret: tempfile::NamedTempFile,
    configuration: String,
}

impl Bucket {
    const OBJECTS: usize = 12;

    fn new() -> Option<Self> {
        let service = Service::s3()?;
        let (bucket, secret) = (service.bucket(), tempfile::NamedTempFile::new().unwrap());
        std::fs::write(secret.path(), SECRET_KEY).unwrap();
        let credentials = Credentials::AccessKey {
            id: ACCESS_KEY.to_owned(),
            secret: SecretString::from(SECRET_KEY),
            session_token: None,
        };
        let options =
            ObjectOptions { endpoint: Some(service.url()), credentials, ..ObjectOptions::default() };
        let place = ObjectPlace::new(storage::Service::S3, &bucket, "", options).unwrap();
        let configuration = format!(
            "[[component]]\nkind = \"objectStore\"\nname = \"uploads\"\nurl = \"s3://{bucket}\"\nendpoint = \"{}\"\n\
             access_key_id = \"{ACCESS_KEY}\"\nsecret_access_key_file = \"{}\"\n",
            service.url(),
            secret.path().display()
        );
        let content = ObjectStorage::content(&place).unwrap();
        Some(Self { service, content, _secret: secret, configuration })
    }

    fn configuration(&self) -> &str {
        &self.configuration
    }

    /// Key and content of each object.
    fn picture(&self) -> Vec<(String, Vec<u8>)> {
        let mut keys = Vec::new();
        self.content
            .list("", &mut |entry| {
                keys.push(entry.key);
                Ok(())
            })
            .unwrap();
        keys.sort();
        let read = |key: String| {
            let body = self.content.read(&key, None, &Default::default()).unwrap().body;
            (key, body)
        };
        keys.into_iter().map(read).collect()
    }

    /// Some are written over, one comes and one goes.
    fn change(&self, generation: usize) {
        for number in 0..Self::OBJECTS {
            if generation == 0 || (number + generation).is_multiple_of(3) {
                let body = format!("{generation} ").repeat(1000 * number);
                let key = format!("folder {}/{number}", number % 3);
                self.content.write(&key, &Headers::default(), body.into_bytes()).unwrap();
            }
        }
        self.content.write(&format!("of {generation}"), &Headers::default(), b"new".to_vec()).unwrap();
        if let Some(before) = generation.checked_sub(2) {
            self.content.delete(&format!("of {before}")).unwrap();
        }
    }

    /// Nothing of a restore is left.
    fn assert_no_traces(&self) {
        assert!(self.content.first(".strongroom").unwrap().is_none(), "{}", self.service.url());
    }
}

#[test]
fn a_server_killed_while_a_deployment_is_backed_up_or_restored_leaves_all_as_before_or_all_as_after() {
    let (Some(databases), Some(bucket)) = (Databases::new(), Bucket::new()) else { return };
    let seed = seed("kill a deployment");
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), strongroom_tests::postgres::PASSWORD).unwrap();
    let configuration = format!(
        "[[component]]\nkind = \"relationalStore\"\nname = \"gis\"\nurl = \"{}\"\npassword_file = \"{}\"\ndatabases = [\"one\", \"two\"]\n{}",
        databases.server.url(),
        secret.path().display(),
        bucket.configuration(),
    );
    let site = Site::new(Options { configuration, ..Options::default() });
    let mut content = Content::new(&site.content(), SMALL, seed);
    let mut victim = Victim::new(&site, seed);
    let (mut trees, mut pictures) = (BTreeMap::new(), BTreeMap::new());
    for generation in 0..2 {
        content.change();
        databases.change(generation);
        bucket.change(generation);
        victim.client.back_up(&format!("g{generation}"));
        trees.insert(format!("g{generation}"), content.tree());
        pictures.insert(format!("g{generation}"), (databases.picture(), bucket.picture()));
    }
    let begun = Instant::now();
    victim.client.completed(&victim.client.restore("g0").ok());
    victim.time = begun.elapsed();
    assert_same(&content.tree(), &trees["g0"], "a restore that nobody disturbed");
    assert_eq!((databases.picture(), bucket.picture()), pictures["g0"]);
    eprintln!("kill a deployment: a restore takes {} ms", victim.time.as_millis());

    for round in 2.. {
        content.change();
        databases.change(round);
        bucket.change(round);
        let (tree, picture, known) =
            (content.tree(), (databases.picture(), bucket.picture()), victim.client.jobs());
        let restores = victim.random.random_bool(0.6);
        let name = match restores {
            true => format!("g{}", victim.random.random_range(0..2)),
            false => format!("b{round}"),
        };
        // A backup takes about half as long.
        let after = if restores { victim.instant() } else { victim.instant() / 2 };
        victim.kill_during(after, |client| {
            let stores = "admin/system/disasterrecovery/stores/s1/backups";
            let _ = match restores {
                true => client.post(&format!("{stores}/{name}/restore"), &[("passcode", PASSCODE)]),
                false => client.post(&format!("{stores}/create"), &[("name", &name), ("passcode", PASSCODE)]),
            };
        });
        victim.restart();
        let job = victim.new_job(&known);
        let what = if restores { "restore" } else { "backup" };
        victim.note(&format!("{what} {}", status(job.as_ref())));
        if restores {
            victim.learn(job.as_ref().is_some_and(|job| !was_interrupted(job)));
        }
        let completed = job.is_some_and(|job| job["status"] == "COMPLETED");
        let (expected_tree, expected_picture) = match restores && completed {
            true => (&trees[&name], &pictures[&name]),
            false => (&tree, &picture),
        };
        assert_same(&content.tree(), expected_tree, what);
        assert_eq!(&(databases.picture(), bucket.picture()), expected_picture, "{what}");
        databases.assert_no_traces();
        bucket.assert_no_traces();
        if !restores && completed {
            trees.insert(name.clone(), tree);
        }
        victim.check(&trees);
        if !restores && completed {
            victim.client.delete(&name).ok();
            trees.remove(&name);
        }
        if victim.kills >= kills(0.25) {
            break;
        }
    }
    victim.report("files, databases and a bucket");
}
