//! `strongroom init`: a directory with a commented strongroom.toml, a master key and a self-signed certificate.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::config::{Template, write_new};
use crate::exit::{Exit, Failure};
use crate::{terminal, tls};

const FILES: [&str; 4] = ["strongroom.toml", "master.key", "certificate.pem", "key.pem"];

/// Arguments of `strongroom init`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Where the files go; made if need be
    #[arg(long, value_name = "DIR")]
    directory: PathBuf,
}

/// Makes the files and says how to go on.
pub fn run(arguments: Arguments) -> Result<Exit> {
    let directory = std::path::absolute(&arguments.directory)?;
    let template = Template {
        listen: "127.0.0.1:7443".to_owned(),
        allowed_directories: vec![PathBuf::from("/backup")],
        component: None,
    };
    make(&directory, &template)?;
    let config = directory.join(FILES[0]);
    terminal::out(format!("made {}", config.display()))?;
    for (file, purpose) in FILES[1..].iter().zip([
        "seals secrets at rest; keep a copy elsewhere",
        "for HTTPS, self-signed",
        "its key",
    ]) {
        terminal::out(format!("made {} ({purpose})", directory.join(file).display()))?;
    }
    terminal::out(format!(
        "\nNext:\n  1. edit {config}: name what is protected, and where stores may lie\n  \
         2. strongroom user add --config {config} --username admin --role administrator --password-file FILE\n  \
         3. strongroom serve --config {config}",
        config = config.display()
    ))?;
    Ok(Exit::Done)
}

/// Makes the files; nothing that is there is overwritten.
pub fn make(directory: &Path, template: &Template) -> Result<()> {
    for file in FILES {
        let path = directory.join(file);
        if path.symlink_metadata().is_ok() {
            return Err(Failure::usage(format!("{} is there already; nothing was changed", path.display()))
                .hint("choose another directory, or move the file away")
                .into());
        }
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let [config, master_key, certificate, key] = FILES.map(|file| directory.join(file));
    let random: [u8; 32] = rand::random();
    write_new(&master_key, format!("{}\n", hex::encode(random)).as_bytes(), 0o600)
        .with_context(|| format!("cannot write {}", master_key.display()))?;
    tls::write_self_signed(&certificate, &key)?;
    // Last, as its being there means that all is there.
    write_new(&config, template.text().as_bytes(), 0o640)
        .with_context(|| format!("cannot write {}", config.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn template() -> Template {
        Template { listen: "127.0.0.1:0".to_owned(), allowed_directories: Vec::new(), component: None }
    }

    #[test]
    fn what_init_makes_can_be_loaded_and_its_secrets_are_private() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("new");
        make(&directory, &template()).unwrap();
        let config = crate::config::load(&directory.join("strongroom.toml")).unwrap();
        assert_eq!(config.data_directory, directory.join("data"));
        for secret in ["master.key", "key.pem"] {
            let mode = std::fs::metadata(directory.join(secret)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{secret}");
        }
        assert_eq!(std::fs::read_to_string(directory.join("master.key")).unwrap().trim().len(), 64);
    }

    #[test]
    fn init_refuses_to_overwrite_any_of_its_files() {
        for file in FILES {
            let directory = tempfile::tempdir().unwrap();
            std::fs::write(directory.path().join(file), "mine").unwrap();
            let refused = make(directory.path(), &template()).unwrap_err();
            assert!(refused.to_string().contains(file), "{refused}");
            assert_eq!(std::fs::read(directory.path().join(file)).unwrap(), b"mine");
            assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing was made");
        }
    }
}
