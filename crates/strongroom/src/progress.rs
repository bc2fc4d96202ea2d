//! Progress of the engine's work, told while it runs: a bar on standard error when that is a terminal, a JSON line
//! each second on standard output with `--json`, else nothing.

use std::cell::Cell;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use repository::Control;
use serde_json::json;

use crate::terminal;
use crate::words;

const BAR_INTERVAL: Duration = Duration::from_millis(100);
const DRAW_INTERVAL: Duration = Duration::from_millis(50);
const JSON_INTERVAL: Duration = Duration::from_secs(1);

/// What is being done; decides on restic's words in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Reading into a repository.
    Backup,
    /// Writing out of one.
    Restore,
    /// Verification, pruning and the like.
    Check,
}

/// Watches a [`Control`] until it is dropped.
pub struct Follower {
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    /// Starts to tell.
    pub fn start(control: &Arc<Control>, work: Work, as_json: bool) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let teller = if as_json {
            Teller::Json { work, last: Instant::now() }
        } else if std::io::stderr().is_terminal() {
            Teller::Bar(bar())
        } else {
            return Self { done, thread: None };
        };
        let watch = Watch { control: Arc::clone(control), done: Arc::clone(&done), started: Instant::now() };
        let thread =
            std::thread::Builder::new().name("progress".to_owned()).spawn(move || watch.run(teller)).ok();
        Self { done, thread }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

enum Teller {
    Bar(ProgressBar),
    Json { work: Work, last: Instant },
}

struct Watch {
    control: Arc<Control>,
    done: Arc<AtomicBool>,
    started: Instant,
}

/// The counters at one moment; a total is 0 while it is not known.
struct Seen {
    files: u64,
    files_total: u64,
    bytes: u64,
    bytes_total: u64,
    current: String,
}

impl Watch {
    fn run(&self, mut teller: Teller) {
        while !self.done.load(Ordering::Acquire) {
            let seen = self.look();
            match &mut teller {
                Teller::Bar(bar) => show(bar, &seen, self.started.elapsed()),
                Teller::Json { work, last } if last.elapsed() >= JSON_INTERVAL => {
                    *last = Instant::now();
                    let _ = terminal::out_json(&status(*work, &seen, self.started.elapsed()));
                }
                Teller::Json { .. } => {}
            }
            std::thread::park_timeout(BAR_INTERVAL);
        }
        if let Teller::Bar(bar) = teller {
            bar.finish_and_clear();
        }
    }

    fn look(&self) -> Seen {
        let progress = &self.control.progress;
        let (bytes, files) =
            (progress.bytes_done.load(Ordering::Relaxed), progress.files_done.load(Ordering::Relaxed));
        Seen {
            files,
            files_total: progress.files_total.load(Ordering::Relaxed),
            bytes,
            bytes_total: progress.bytes_total.load(Ordering::Relaxed),
            current: progress.current(),
        }
    }
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    bar.set_style(spinner_style());
    bar
}

/// The look of every bar: share done, then what the message says.
pub fn style() -> ProgressStyle {
    ProgressStyle::with_template("  {bar:28} {percent:>3}%  {wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━━╌")
}

/// The look while nobody knows how much there is to do.
pub fn spinner_style() -> ProgressStyle {
    ProgressStyle::with_template("  {spinner} {wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn show(bar: &ProgressBar, seen: &Seen, elapsed: Duration) {
    let files = words::counted(seen.files, "file", "files");
    let mut message = if seen.bytes_total > seen.bytes {
        bar.set_style(style());
        bar.set_length(seen.bytes_total);
        bar.set_position(seen.bytes);
        format!("{} of {}, {files}", words::bytes(seen.bytes), words::bytes(seen.bytes_total))
    } else {
        bar.set_style(spinner_style());
        bar.tick();
        format!("{}, {files}", words::bytes(seen.bytes))
    };
    if elapsed > Duration::from_millis(500) {
        message += &format!(", {}", words::rate(seen.bytes, elapsed));
    }
    if let Some(left) = seconds_left(seen, elapsed) {
        message += &format!(", {} left", words::duration(Duration::from_secs(left)));
    }
    if !seen.current.is_empty() {
        message += &format!("  {}", printable(&seen.current));
    }
    bar.set_message(message);
}

fn seconds_left(seen: &Seen, elapsed: Duration) -> Option<u64> {
    let left = seen.bytes_total.checked_sub(seen.bytes).filter(|left| *left > 0 && seen.bytes > 0)?;
    (elapsed > Duration::from_secs(2))
        .then(|| (left as f64 / seen.bytes as f64 * elapsed.as_secs_f64()) as u64)
}

/// A bar on standard error for work that tells how far it is, until it is dropped; nothing where that is no terminal.
pub struct Bar {
    bar: Option<ProgressBar>,
    started: Instant,
    /// When it was drawn last: it may be told of millions of files.
    drawn: Cell<Option<Instant>>,
}

impl Bar {
    /// Begins something that takes a while.
    pub fn start(what: &str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
            bar.set_style(spinner_style());
            bar.set_message(printable(what));
            bar.enable_steady_tick(BAR_INTERVAL);
            bar
        });
        Self { bar, started: Instant::now(), drawn: Cell::new(None) }
    }

    /// So far so good: bytes done and, unless that is 0, to be done.
    pub fn at(&self, bytes: (u64, u64), files: u64, current: &str) {
        let Some(bar) = &self.bar else { return };
        if self.drawn.get().is_some_and(|drawn| drawn.elapsed() < DRAW_INTERVAL) {
            return;
        }
        self.drawn.set(Some(Instant::now()));
        let (done, total) = (bytes.0, bytes.1.max(bytes.0));
        let elapsed = self.started.elapsed();
        let files = words::counted(files, "file", "files");
        let mut message = if bytes.1 == 0 {
            bar.set_style(spinner_style());
            format!("{}, {files}", words::bytes(done))
        } else {
            bar.set_style(style());
            bar.set_length(total);
            bar.set_position(done);
            format!("{} of {}, {files}", words::bytes(done), words::bytes(total))
        };
        if elapsed > Duration::from_millis(400) && done > 0 {
            message += &format!(", {}", words::rate(done, elapsed));
            let left = Duration::from_secs_f64(elapsed.as_secs_f64() * (total - done) as f64 / done as f64);
            if left >= Duration::from_secs(1) {
                message += &format!(", {} left", words::duration(Duration::from_secs(left.as_secs())));
            }
        }
        if !current.is_empty() {
            message += &format!("  {}", printable(current));
        }
        bar.set_message(message);
    }

    /// A stage that has no bytes to count.
    pub fn stage(&self, name: &str) {
        if let Some(bar) = &self.bar {
            bar.set_style(spinner_style());
            bar.set_message(printable(name));
        }
    }

    /// A line that stays, above the bar.
    pub fn say(&self, line: &str) {
        if let Some(bar) = &self.bar {
            bar.println(line);
        }
    }

    /// Something that must be known also where there is no bar.
    pub fn note(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => terminal::note(line),
        }
    }

    /// Time since it began.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A file name may hold anything, also what moves the cursor.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn status(work: Work, seen: &Seen, elapsed: Duration) -> serde_json::Value {
    let percent =
        if seen.bytes_total == 0 { 0.0 } else { (seen.bytes as f64 / seen.bytes_total as f64).min(1.0) };
    let mut status = json!({
        "message_type": "status",
        "seconds_elapsed": elapsed.as_secs(),
        "percent_done": percent,
        "total_files": seen.files_total,
        "total_bytes": seen.bytes_total,
    });
    let (files, bytes) = match work {
        Work::Restore => ("files_restored", "bytes_restored"),
        Work::Backup | Work::Check => ("files_done", "bytes_done"),
    };
    status[files] = json!(seen.files);
    status[bytes] = json!(seen.bytes);
    if let Some(left) = seconds_left(seen, elapsed) {
        status["seconds_remaining"] = json!(left);
    }
    if work != Work::Restore && !seen.current.is_empty() {
        status["current_files"] = json!([seen.current]);
    }
    status
}

/// Names on standard error what is not in the backup, or not restored as it was.
pub fn tell_warnings(control: &Control, work: Work, as_json: bool) {
    let warnings = control.warnings();
    for warning in &warnings {
        if as_json {
            let during = if work == Work::Backup { "archival" } else { "restore" };
            terminal::note(json!({
                "message_type": "error", "error": {"message": warning.reason}, "during": during, "item": warning.item,
            }));
        } else {
            terminal::warn(format!("{}: {}", printable(&warning.item), printable(&warning.reason)));
        }
    }
    let unnamed = control.warning_count().saturating_sub(warnings.len() as u64);
    if unnamed > 0 && !as_json {
        terminal::warn(format!("and {} more", words::count(unnamed)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen() -> Seen {
        Seen { files: 3, files_total: 12, bytes: 250, bytes_total: 1000, current: "/srv/a".to_owned() }
    }

    #[test]
    fn json_lines_have_the_words_of_restic() {
        let backup = status(Work::Backup, &seen(), Duration::from_secs(10));
        assert_eq!(
            backup,
            json!({"message_type": "status", "seconds_elapsed": 10, "percent_done": 0.25, "total_files": 12,
                "total_bytes": 1000, "files_done": 3, "bytes_done": 250, "seconds_remaining": 30,
                "current_files": ["/srv/a"]})
        );
        let restore = status(Work::Restore, &seen(), Duration::from_secs(10));
        assert_eq!(restore["files_restored"], 3);
        assert_eq!(restore["bytes_restored"], 250);
    }

    #[test]
    fn a_file_name_cannot_command_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\nc"), "a?[2Jb?c");
    }
}
