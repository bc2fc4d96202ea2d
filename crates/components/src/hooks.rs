//! Hooks: programs of the operator that run before and after a component is backed up or restored.
//!
//! A hook is a program and its arguments, split on blanks; no shell reads it, unless the program is one. It runs in
//! a process group of its own, with nothing on standard input and an environment made anew, so that no secret of the
//! server's environment reaches it. At its time limit the whole group is killed. The end of what it wrote goes
//! into the error message.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use repository::Control;

use crate::process::{self, Ended, Output};
use crate::{Component, Error, ErrorKind, Hooks, Result};

/// What of the server's environment a hook gets.
const ENVIRONMENT: [&str; 7] = ["PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR"];

impl Hooks {
    /// Runs those for before a backup of this component, in order; the first that fails ends it. A cancelled job kills the
    /// hook at work. Likewise the others.
    pub(crate) fn before_backup(&self, of: &dyn Component, control: &Control) -> Result<()> {
        run_before(&self.occasion("before_backup", of), &self.before_backup, control)
    }

    /// Runs every one for after a backup, also after one that failed: each may be what thaws an application. The first error
    /// is returned.
    pub(crate) fn after_backup(&self, of: &dyn Component) -> Result<()> {
        run_after(&self.occasion("after_backup", of), &self.after_backup)
    }

    pub(crate) fn before_restore(&self, of: &dyn Component, control: &Control) -> Result<()> {
        run_before(&self.occasion("before_restore", of), &self.before_restore, control)
    }

    pub(crate) fn after_restore(&self, of: &dyn Component) -> Result<()> {
        run_after(&self.occasion("after_restore", of), &self.after_restore)
    }

    /// Runs the operator's own checks of what a drill restored to `place`; `more` tells the rest of the way there.
    pub(crate) fn drill_check(
        &self,
        of: &dyn Component,
        place: String,
        more: Vec<(&'static str, String)>,
        control: &Control,
    ) -> Result<()> {
        let occasion = Occasion { place, more, ..self.occasion("drill_check", of) };
        run_before(&occasion, &self.drill_check, control)
    }

    fn occasion<'c>(&self, name: &'static str, of: &'c dyn Component) -> Occasion<'c> {
        Occasion { name, component: of.name(), place: of.place(), more: Vec::new(), timeout: self.timeout }
    }
}

/// When hooks run, and for whom; a hook reads it from its environment.
#[derive(Clone, Debug)]
struct Occasion<'a> {
    /// `before_backup` and so on: `STRONGROOM_HOOK`.
    name: &'static str,
    /// `STRONGROOM_COMPONENT`.
    component: &'a str,
    /// `STRONGROOM_PLACE`.
    place: String,
    /// Further variables.
    more: Vec<(&'static str, String)>,
    /// The limit for each hook.
    timeout: Duration,
}

fn run_before(occasion: &Occasion<'_>, hooks: &[String], control: &Control) -> Result<()> {
    hooks.iter().try_for_each(|hook| run(occasion, hook, Some(control)))
}

fn run_after(occasion: &Occasion<'_>, hooks: &[String]) -> Result<()> {
    let mut first = Ok(());
    for hook in hooks {
        if let Err(error) = run(occasion, hook, None) {
            tracing::warn!(component = occasion.component, "{error}");
            first = first.and(Err(error));
        }
    }
    first
}

fn run(occasion: &Occasion<'_>, hook: &str, control: Option<&Control>) -> Result<()> {
    let name = occasion.name;
    let fail = |why: String| {
        let component = occasion.component;
        Error::new(ErrorKind::Hook, format!("{name} hook '{hook}' of component '{component}' {why}"))
    };
    let (child, output) = start(occasion, hook).map_err(|e| fail(format!("could not be started: {e}")))?;
    let stop = || control.is_some_and(|control| control.cancelled.load(Ordering::Relaxed));
    match process::wait(child, Some(occasion.timeout), &stop) {
        Ok(Ended::By(status)) if status.success() => Ok(()),
        Ok(Ended::By(status)) => Err(fail(format!("failed ({status}); it said: {}", output.tail()))),
        Ok(Ended::TimedOut) => Err(fail(format!(
            "was killed after its limit of {} s; it had said: {}",
            occasion.timeout.as_secs_f64(),
            output.tail()
        ))),
        Ok(Ended::Stopped) => {
            Err(Error::new(ErrorKind::Cancelled, format!("cancelled while the {name} hook '{hook}' ran")))
        }
        Err(e) => Err(fail(format!("could not be waited for: {e}"))),
    }
}

fn start(occasion: &Occasion<'_>, hook: &str) -> io::Result<(Child, Output)> {
    let mut words = hook.split_whitespace();
    let program = words.next().ok_or_else(|| io::Error::other("it names no program"))?;
    let (reader, writer) = io::pipe()?;
    let mut command = Command::new(program);
    command
        .args(words)
        .env_clear()
        .env("STRONGROOM_HOOK", occasion.name)
        .env("STRONGROOM_COMPONENT", occasion.component)
        .env("STRONGROOM_PLACE", &occasion.place)
        .envs(occasion.more.iter().map(|(name, value)| (name, value)))
        .current_dir("/")
        .stdin(Stdio::null())
        .stderr(writer.try_clone()?)
        .stdout(writer)
        .process_group(0);
    for key in ENVIRONMENT {
        if let Some(value) = std::env::var_os(key) {
            command.env(key, value);
        }
    }
    let child = command.spawn()?;
    drop(command); // closes our copies of the pipe's writing end
    Ok((child, Output::collect(reader, |piece, tail| tail.extend_from_slice(piece))))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use std::time::Instant;

    use rustix::process::{Pid, Signal};

    use super::*;

    fn occasion(timeout: Duration) -> Occasion<'static> {
        let place = "/srv/content".to_owned();
        Occasion { name: "before_backup", component: "content", place, more: Vec::new(), timeout }
    }

    const LONG: Duration = Duration::from_secs(30);

    /// A hook that runs a shell script; the words of a hook cannot hold blanks themselves.
    fn script(dir: &Path, text: &str) -> String {
        let path = dir.join("hook.sh");
        fs::write(&path, text).unwrap();
        format!("/bin/sh {}", path.display())
    }

    #[test]
    fn hooks_run_in_order_and_know_their_occasion() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let text = format!("echo $STRONGROOM_HOOK $STRONGROOM_COMPONENT $1 >> {}", out.display());
        let hook = script(dir.path(), &text);
        let hooks = [format!("{hook} one"), format!("{hook}  two")];
        run_before(&occasion(LONG), &hooks, &Control::default()).unwrap();
        assert_eq!(
            fs::read_to_string(out).unwrap(),
            "before_backup content one\nbefore_backup content two\n"
        );
    }

    #[test]
    fn no_shell_reads_a_hook() {
        let dir = tempfile::tempdir().unwrap();
        let trap = dir.path().join("trap");
        let hook = format!("/bin/echo ;touch {}", trap.display());
        run_before(&occasion(LONG), &[hook], &Control::default()).unwrap();
        assert!(!trap.exists());
    }

    #[test]
    fn the_servers_environment_stays_away_from_hooks() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let hook = script(dir.path(), &format!("env > {}", out.display()));
        run_after(&occasion(LONG), &[hook]).unwrap();
        let environment = fs::read_to_string(out).unwrap();
        for line in environment.lines() {
            let name = line.split('=').next().unwrap();
            let of_the_shell = ["PWD", "OLDPWD", "SHLVL", "_"].contains(&name);
            let ours = ENVIRONMENT.contains(&name) || name.starts_with("STRONGROOM_");
            assert!(ours || of_the_shell, "{line}");
        }
        assert!(environment.contains("PATH="));
    }

    #[test]
    fn a_failing_hook_is_named_with_the_end_of_its_output() {
        let dir = tempfile::tempdir().unwrap();
        let text =
            "head -c 100000 /dev/zero | tr '\\0' x; echo; printf 'the \\033[31mdatabase is away' >&2; exit 3";
        let hook = script(dir.path(), text);
        let never = dir.path().join("never");
        let hooks = [hook, format!("/usr/bin/touch {}", never.display())];
        let error = run_before(&occasion(LONG), &hooks, &Control::default()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Hook);
        assert!(error.message.contains("hook.sh' of component 'content' failed (exit status: 3)"), "{error}");
        assert!(error.message.ends_with("the [31mdatabase is away"), "{error}");
        assert!(error.message.len() < 4096 + 300);
        assert!(!never.exists());
    }

    #[test]
    fn a_hook_past_its_limit_is_killed_with_all_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let hook = script(dir.path(), &format!("sleep 600 & echo $! > {}; wait", pid.display()));
        let error =
            run_before(&occasion(Duration::from_millis(300)), &[hook], &Control::default()).unwrap_err();
        assert!(error.message.contains("was killed after its limit of 0.3 s"), "{error}");
        let Ok(text) = fs::read_to_string(&pid) else { return }; // the limit came before the shell did
        let Some(pid) = text.trim().parse().ok().and_then(Pid::from_raw) else { return };
        let deadline = Instant::now() + LONG;
        while rustix::process::test_kill_process(pid).is_ok() && !is_zombie(pid) {
            assert!(Instant::now() < deadline, "the child of the hook is still there");
            std::thread::yield_now();
        }
    }

    /// Without an init process that reaps, a killed orphan stays as a zombie.
    fn is_zombie(pid: Pid) -> bool {
        fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).is_ok_and(|s| s.contains(") Z "))
    }

    #[test]
    fn cancelling_the_job_ends_its_hook() {
        let control = Control::default();
        control.cancelled.store(true, Ordering::Relaxed);
        let hooks = ["/bin/sleep 600".to_owned()];
        let error = run_before(&occasion(LONG), &hooks, &control).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Cancelled);
    }

    #[test]
    fn every_after_hook_runs_although_one_fails() {
        let dir = tempfile::tempdir().unwrap();
        let thawed = dir.path().join("thawed");
        let hooks =
            ["/no/such/program".to_owned(), String::new(), format!("/usr/bin/touch {}", thawed.display())];
        let error = run_after(&occasion(LONG), &hooks).unwrap_err();
        assert!(
            error.message.contains("/no/such/program' of component 'content' could not be started"),
            "{error}"
        );
        assert!(thawed.exists());
    }

    #[test]
    fn a_daemon_that_a_hook_leaves_behind_does_not_hold_it_up() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let hook = script(dir.path(), &format!("sleep 600 & echo $! > {}", pid.display()));
        run_before(&occasion(LONG), &[hook], &Control::default()).unwrap();
        let text = fs::read_to_string(&pid).unwrap();
        let pid = Pid::from_raw(text.trim().parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, Signal::TERM).unwrap();
    }
}
