//! A new strongroom.toml: what is needed, and every other key as a comment that can be switched on.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use toml::Value;

/// What differs between one new configuration and another.
#[derive(Clone, Debug)]
pub struct Template {
    /// Address and port.
    pub listen: String,
    /// Where stores may be registered.
    pub allowed_directories: Vec<PathBuf>,
    /// Name and directory of the first component; `None` leaves an example in comments.
    pub component: Option<(String, PathBuf)>,
}

impl Template {
    /// The text of the file.
    pub fn text(&self) -> String {
        let allowed = Value::Array(self.allowed_directories.iter().map(|path| text_value(path)).collect());
        let component = match &self.component {
            Some((name, path)) => {
                component(&Value::String(name.clone()).to_string(), &text_value(path).to_string())
            }
            None => commented(&component("\"content\"", "\"/srv/content\"")),
        };
        TEMPLATE
            .replace("{listen}", &Value::String(self.listen.clone()).to_string())
            .replace("{allowed}", &allowed.to_string())
            .replace("{component}", &component)
    }
}

/// Writes a file that must not exist yet, with these permissions, down to the disk.
pub fn write_new(file: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(file)?;
    opened.write_all(content)?;
    opened.sync_all()
}

fn text_value(path: &Path) -> Value {
    Value::String(path.display().to_string())
}

fn component(name: &str, path: &str) -> String {
    format!(
        r#"[[component]]
kind = "fileStore"
name = {name}
path = {path}
# exclude = ["*.tmp"]               # * within a name, ** across directories; a leading / counts from the root
# optional = false                  # true: a backup without it is completed with warnings
# Programs run around a backup or restore, each with its arguments, in order.
# before_backup = ["/usr/local/bin/quiesce"]
# after_backup = ["/usr/local/bin/resume"]      # on every way out, also after a failure
# before_restore = []
# after_restore = []
# drill_check = []                  # your own checks of what a drill restored to STRONGROOM_PLACE
# hook_timeout_seconds = 600
"#
    )
}

fn commented(text: &str) -> String {
    text.lines()
        .map(|line| if line.starts_with('#') { format!("{line}\n") } else { format!("# {line}\n") })
        .collect()
}

const TEMPLATE: &str = r#"# Strongroom. Every key can also come from the environment: STRONGROOM_SERVER__LISTEN="0.0.0.0:7443".
# Relative paths start at the directory of this file.

[server]
listen = {listen}
# context = "strongroom"            # first path segment: https://host:7443/strongroom/admin
# public_url = "https://dr.example.org/strongroom"    # what URLs in replies start with, behind a proxy
# site_name = "headquarters"        # written into each backup; the host's name if absent
data_directory = "data"             # the server's own state; no backup lies here

[server.tls]
certificate_file = "certificate.pem"
key_file = "key.pem"
# enabled = true                    # false: plain HTTP, only for a proxy in front that does TLS

[state]
url = "sqlite:state.db"             # a relative file lies in data_directory

[security]
master_key_file = "master.key"      # seals the secrets that a running job needs; keep a copy elsewhere
# allowed_addresses = ["10.1.0.0/16"]    # where webhooks and stores may be, although they would not

# People may also sign in through an OpenID Connect provider: [oidc], see docs/configuration.md.

[stores]
allowed_directories = {allowed}    # where directory stores may be registered; nowhere else
# hosted_directory = "data/stores"  # home of stores of type HOSTED

[limits]
# compression = "auto"              # off, fastest, auto or max
# deletion_grace_minutes = 60       # from leaving the catalogue to loss of the data

[drills]
# directory = "data/drills"         # where backups are restored to prove them; with room for a whole one

# What is protected. One [[component]] for each thing. Other kinds than directories are relationalStore (PostgreSQL),
# objectStore (a bucket) and systemConfiguration (this server itself): docs/configuration.md.
{component}
# Who is told when something happens: one [[notify]] for each; docs/notifications.md has examples.
"#;
