//! Where the content of a `backup --stdin` comes from: standard input, or a command that must end well.

use std::ffi::OsString;
use std::io::Read;
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result};

/// What a command writes. Its last read fails unless the command ended with 0, so that nothing half-made is taken for
/// the whole.
pub struct FromCommand {
    name: String,
    child: Child,
    out: ChildStdout,
    ended: bool,
}

impl FromCommand {
    /// Starts the command; its standard error is ours.
    pub fn start(command: &[OsString]) -> Result<Self> {
        let (program, arguments) = command.split_first().context("there is no command")?;
        let name = program.to_string_lossy().into_owned();
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // The passcode is none of its business.
            .env_remove("STRONGROOM_PASSCODE")
            .spawn()
            .with_context(|| format!("cannot start '{name}'"))?;
        let out = child.stdout.take().context("the command has no standard output")?;
        Ok(Self { name, child, out, ended: false })
    }
}

impl Read for FromCommand {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.out.read(buffer)?;
        if read == 0 && !buffer.is_empty() && !self.ended {
            let status = self.child.wait()?;
            if !status.success() {
                let name = &self.name;
                return Err(std::io::Error::other(format!(
                    "'{name}' failed ({status}); nothing was kept of it"
                )));
            }
            self.ended = true;
        }
        Ok(read)
    }
}

impl Drop for FromCommand {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(script: &str) -> std::io::Result<String> {
        let mut text = String::new();
        let command = ["sh", "-c", script].map(OsString::from);
        FromCommand::start(&command).unwrap().read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn what_a_command_wrote_counts_only_if_it_ended_well() {
        assert_eq!(read("printf hello").unwrap(), "hello");
        assert!(read("printf hello; exit 3").unwrap_err().to_string().contains("exit status: 3"));
        assert!(read("printf hello; kill -9 $$").is_err());
        assert!(FromCommand::start(&["/nonexistent/program".into()]).is_err());
    }
}
