//! Running programs: ours, which is found beside the test, and restic. Each run is captured whole and has a deadline.
//!
//! Whatever our program is asked, it must not panic: every run of it is checked for that.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

pub const PASSCODE: &str = "correct horse battery";

/// No run takes so long unless it hangs.
const DEADLINE: Duration = Duration::from_secs(240);

/// Our program.
pub fn strongroom_path() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().and_then(Path::parent).unwrap().join("strongroom");
    assert!(
        program.is_file(),
        "there is no {}: build it with `cargo build`, or run `cargo test --workspace`",
        program.display()
    );
    program
}

/// A command of ours that knows nothing of this process's environment but its passcode.
pub fn strongroom<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(strongroom_path());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("STRONGROOM_"))
    {
        command.env_remove(name);
    }
    command.args(arguments).env("STRONGROOM_PASSCODE", PASSCODE).env_remove("NO_COLOR");
    command
}

/// One restic of those that are here.
#[derive(Clone, Debug)]
pub struct Restic {
    pub path: PathBuf,
    pub version: (u32, u32),
}

/// Stock restic, and a newer one if `STRONGROOM_TEST_RESTIC_NEW` names it.
pub fn restics() -> Vec<Restic> {
    let mut all = vec![Restic::at("restic".into())];
    match std::env::var_os("STRONGROOM_TEST_RESTIC_NEW") {
        Some(path) => all.push(Restic::at(path.into())),
        None => println!("NOT TESTED with a newer restic: STRONGROOM_TEST_RESTIC_NEW names none"),
    }
    all
}

/// Stock restic.
pub fn restic() -> Restic {
    Restic::at("restic".into())
}

impl Restic {
    fn at(path: PathBuf) -> Self {
        let ran = run(Command::new(&path).arg("version"));
        let version = ran.out.split_whitespace().nth(1).unwrap_or_default();
        let mut numbers = version.split('.').map(|part| part.parse().unwrap_or(0));
        let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        assert!(version >= (0, 14), "restic 0.14 or newer is needed, not {}", ran.out);
        Self { path, version }
    }
}

/// A directory of its own for one test, with a repository's place in it.
pub struct Place {
    pub dir: TempDir,
}

impl Place {
    pub fn new() -> Self {
        let dir = TempDir::with_prefix("strongroom-").unwrap();
        std::fs::write(dir.path().join("passcode"), format!("{PASSCODE}\n")).unwrap();
        Self { dir }
    }

    /// With a new repository, made by us.
    pub fn with_repository() -> Self {
        let place = Self::new();
        place.repo(["init"]).expect(0);
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn repository(&self) -> PathBuf {
        self.path("repository")
    }

    /// `strongroom repo …` on the repository.
    pub fn repo_command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = strongroom(["repo", "--repository"]);
        command.arg(self.repository()).args(arguments);
        command
    }

    /// Runs `strongroom repo …` on the repository.
    pub fn repo<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Ran {
        run(&mut self.repo_command(arguments))
    }

    /// Runs restic on the repository.
    pub fn restic<S: AsRef<OsStr>>(&self, restic: &Restic, arguments: impl IntoIterator<Item = S>) -> Ran {
        run(&mut self.restic_on(restic, &self.repository(), arguments))
    }

    /// A command of restic on any repository with our passcode.
    pub fn restic_on<S: AsRef<OsStr>>(
        &self,
        restic: &Restic,
        repository: &Path,
        arguments: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut command = Command::new(&restic.path);
        command.arg("--no-cache").arg("--repo").arg(repository).args(arguments);
        command.env("RESTIC_PASSWORD_FILE", self.path("passcode"));
        command
    }
}

/// What came of a run.
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
    command: String,
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\nended with {}\n{}{}", self.command, self.code, self.out, self.err)
    }
}

impl Ran {
    /// Fails, with everything that was printed, unless it ended with this code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self}");
        self
    }

    /// Fails unless standard output or error holds this text, in letters of any case.
    #[track_caller]
    pub fn expect_text(self, text: &str) -> Self {
        let all = format!("{}{}", self.out, self.err).to_lowercase();
        assert!(all.contains(&text.to_lowercase()), "'{text}' is not in: {self}");
        self
    }

    /// Standard output as one JSON value a line.
    #[track_caller]
    pub fn json(&self) -> Vec<Value> {
        let parse = |line: &str| {
            serde_json::from_str(line).unwrap_or_else(|e| panic!("no JSON ({e}): {line}\n{self}"))
        };
        self.out.lines().map(parse).collect()
    }
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Ran {
    let line = line_of(command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot run {line}: {e}"));
    let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let (out, err) = (std::thread::spawn(|| all_of(out)), std::thread::spawn(|| all_of(err)));
    let since = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if since.elapsed() > DEADLINE {
            let _ = child.kill();
            let _ = child.wait();
            panic!(
                "{line}\nis still running after {DEADLINE:?}\n{}{}",
                out.join().unwrap(),
                err.join().unwrap()
            );
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    // Ended by a signal: as a shell shows it.
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    let ran = Ran { code, out: out.join().unwrap(), err: err.join().unwrap(), command: line };
    assert_no_panic(&ran);
    ran
}

#[track_caller]
pub fn assert_no_panic(ran: &Ran) {
    assert!(ran.code != 101 && !ran.err.contains("panicked"), "{ran}");
}

fn all_of(mut pipe: impl Read) -> String {
    let mut bytes = Vec::new();
    let _ = pipe.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn line_of(command: &Command) -> String {
    let words: Vec<OsString> =
        std::iter::once(command.get_program()).chain(command.get_args()).map(OsStr::to_owned).collect();
    words.join(OsStr::new(" ")).to_string_lossy().into_owned()
}

/// Whether a program is installed.
pub fn is_installed(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|path| path.join(program).is_file())
}
