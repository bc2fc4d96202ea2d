//! A hook that waits: it stops a job at a known place until the test lets it go on.

use std::fs;
use std::path::PathBuf;

use strongroom_tests::server::wait_for;
use tempfile::TempDir;

/// A closed or open gate in a hook.
pub struct Gate(TempDir);

impl Gate {
    /// An open one.
    pub fn new() -> Self {
        let gate = Self(tempfile::Builder::new().prefix("strongroom-gate-").tempdir().unwrap());
        let script = format!(
            "echo $$ >> {0}/reached\nwhile [ -e {0}/closed ]; do sleep 0.02; done\n",
            gate.0.path().display()
        );
        fs::write(gate.0.path().join("wait.sh"), script).unwrap();
        gate
    }

    /// The line of the configuration that puts it into a hook, such as `before_backup`.
    pub fn hook(&self, name: &str) -> String {
        format!("{name} = [\"/bin/sh {}/wait.sh\"]\n", self.0.path().display())
    }

    /// Jobs wait from now on.
    pub fn close(&self) {
        let _ = fs::remove_file(self.file("reached"));
        fs::write(self.file("closed"), "").unwrap();
    }

    /// Jobs go on.
    pub fn open(&self) {
        let _ = fs::remove_file(self.file("closed"));
    }

    /// Returns once a job stands at the gate; asked again, once the next one does.
    pub fn reached(&self) {
        wait_for("a job to reach the gate", || {
            let text = fs::read_to_string(self.file("reached")).ok()?;
            text.ends_with('\n').then_some(())
        });
        fs::remove_file(self.file("reached")).unwrap();
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.open();
    }
}
