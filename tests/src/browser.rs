//! A real browser, driven by a script under Node.js.
//!
//! `chromium-headless-shell` comes from the system's packages, playwright-core and axe-core from npm into
//! `…/strongroom-test/browser`; `scripts/test` installs them.

use std::path::PathBuf;

use crate::services::{cache, node};

/// What a script needs to drive it.
pub struct Browser {
    /// Runs the script.
    pub node: PathBuf,
    /// The browser.
    pub program: PathBuf,
    /// Where playwright-core and axe-core lie.
    pub modules: PathBuf,
}

impl Browser {
    /// The browser, or `None` with a line that says what is not tested.
    pub fn find() -> Option<Self> {
        let node = node();
        let program = PathBuf::from("/usr/bin/chromium-headless-shell");
        let modules = cache().join("browser");
        let axe = modules.join("node_modules/axe-core/axe.js");
        if let Some(missing) = [&node, &program, &axe].into_iter().find(|file| !file.exists()) {
            println!("NOT TESTED in a browser: there is no {} (scripts/test installs it)", missing.display());
            return None;
        }
        Some(Self { node, program, modules })
    }
}
