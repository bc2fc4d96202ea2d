//! The end of the story: figures in a box, and commands to copy.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::setup::{Prepared, USERNAME};
use super::show::Show;
use crate::words;

/// What is summed up.
pub struct Figures<'a> {
    /// The backup's name.
    pub name: &'a str,
    /// Files backed up.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// From request to completion.
    pub backup_time: Duration,
    /// What the store takes up.
    pub stored: u64,
    /// What this backup added to it.
    pub added: u64,
    /// From request to completion of the restore.
    pub recovery_time: Duration,
    /// Entries compared.
    pub entries: u64,
    /// Entries that are as they were.
    pub identical: u64,
    /// The restic repository inside the store.
    pub vault: &'a str,
    /// Where the restored content is.
    pub restored: &'a Path,
}

/// Shows it.
pub fn show(figures: &Figures<'_>, prepared: &Prepared, url: &str, show: &Show) -> Result<()> {
    let f = figures;
    let rows = [
        (
            "Backed up",
            format!(
                "{}, {} in {} ({})",
                words::counted(f.files, "file", "files"),
                words::bytes(f.bytes),
                words::duration(f.backup_time),
                words::rate(f.bytes, f.backup_time)
            ),
        ),
        ("Stored", format!("{}, {} of it new", words::bytes(f.stored), words::bytes(f.added))),
        ("Recovered", format!("in {} from request to verified content", words::duration(f.recovery_time))),
        ("Proof", format!("{} of {} entries identical", words::count(f.identical), words::count(f.entries))),
    ];
    show.plain("")?;
    for line in boxed(&rows, f.identical == f.entries, show) {
        show.plain(&line)?;
    }
    let paint = show.paint();
    let heading = |text: &str| show.plain(&format!("\n{}", paint.bold(text)));
    heading("Console")?;
    show.plain(&format!("  {}", paint.cyan(format!("{url}/admin"))))?;
    show.plain(&format!("  user {USERNAME}, password in {}", prepared.password_file().display()))?;
    show.plain(&format!(
        "  certificate {} (self-signed: your browser will ask)",
        prepared.certificate.display()
    ))?;

    heading("The same backup without Strongroom, by restic")?;
    let vault = prepared.store().join("vaults").join(f.vault);
    let restic =
        format!("restic -r {} --password-file {}", quoted(&vault), quoted(&prepared.passcode_file()));
    show.plain(&format!("  {restic} snapshots"))?;
    show.plain(&format!(
        "  {restic} restore latest --target {}",
        quoted(&prepared.directory.join("by-restic"))
    ))?;

    // As it was called, so that the commands work from here.
    let program = std::env::args_os().next().unwrap_or_else(|| "strongroom".into());
    let program = quoted(Path::new(&program));
    heading("Without the server, by the store alone")?;
    show.plain(&format!(
        "  {program} rescue restore --store {} --passcode-file {} --backup {} --target {}",
        quoted(&prepared.store()),
        quoted(&prepared.passcode_file()),
        f.name,
        quoted(&prepared.directory.join("rescued"))
    ))?;

    heading("On the command line, while it serves")?;
    show.plain(&format!(
        "  {program} login --server {url} --ca-file {} --username {USERNAME} --password-file {}",
        quoted(&prepared.certificate),
        quoted(&prepared.password_file())
    ))?;
    show.plain(&format!("  {program} backup list"))?;

    heading("Next")?;
    if prepared.protected {
        show.plain(&format!("  compare for yourself: {}", f.restored.display()))?;
    } else {
        show.plain(&format!(
            "  change something in {} and run quickstart again",
            prepared.content.display()
        ))?;
    }
    show.plain(&format!(
        "  protect a directory of your own: {program} quickstart --directory NEW --protect DIR"
    ))?;
    show.plain(&format!("  set up for real: {program} init --directory DIR"))?;
    Ok(())
}

/// The rows in a frame; its last row tells good from bad.
fn boxed(rows: &[(&str, String)], is_good: bool, show: &Show) -> Vec<String> {
    let paint = show.paint();
    let label = rows.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
    let inner = rows.iter().map(|(_, text)| text.chars().count()).max().unwrap_or(0) + label + 2;
    let rule = "─".repeat(inner + 2);
    let mut lines = vec![format!("  ╭{rule}╮")];
    for (at, (name, text)) in rows.iter().enumerate() {
        let room = " ".repeat(inner - label - 2 - text.chars().count());
        let text = match (at + 1 == rows.len(), is_good) {
            (false, _) => text.clone(),
            (true, true) => paint.green(text),
            (true, false) => paint.red(text),
        };
        lines.push(format!("  │ {}  {text}{room} │", paint.bold(format!("{name:<label$}"))));
    }
    lines.push(format!("  ╰{rule}╯"));
    lines
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@,".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_can_be_copied_whatever_the_directory_is_called() {
        assert_eq!(quoted(Path::new("/tmp/qs/store")), "/tmp/qs/store");
        assert_eq!(quoted(Path::new("/tmp/my store")), "'/tmp/my store'");
        assert_eq!(quoted(Path::new("/tmp/it's")), r"'/tmp/it'\''s'");
    }

    #[test]
    fn the_frame_is_as_wide_as_its_widest_row() {
        let rows = [("Stored", "20 MiB".to_owned()), ("Proof", "3 of 3 identical".to_owned())];
        let lines = boxed(&rows, true, &Show::new());
        let width = lines[0].chars().count();
        assert_eq!(lines.len(), 4);
        assert!(lines.iter().all(|line| line.chars().count() == width), "{lines:?}");
    }
}
