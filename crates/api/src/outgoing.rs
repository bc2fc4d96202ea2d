//! Bodies of responses: whole in memory, or a stream that a task of its own writes.
//!
//! ```text
//! writer (a file's content, events) ──▶ a few frames ──▶ hyper ──▶ the caller
//! ```
//!
//! A writer waits for a caller that reads slowly, but not for ever, and ends when the caller is gone or has lost the right
//! to read on. The connection counts
//! as busy until the writer has ended, not until the caller has read everything; so one that stops reading is let go like
//! any idle one. A stream that ends before its announced length breaks the connection off: nobody takes a part for the
//! whole.

use http_body_util::Full;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use std::any::Any;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, watch};

/// Downloads at one time; each has a thread and some chunks of up to 8 MiB.
const DOWNLOADS_MAX: usize = 8;
/// Those of one user: slow ones of somebody must not keep all others from theirs.
const DOWNLOADS_OF_USER_MAX: usize = 4;
/// Pages that follow a job at one time.
const FOLLOWERS_MAX: usize = 64;
/// So long a caller may take for one frame.
const STALL_TIME_MAX: Duration = Duration::from_secs(60);
/// Larger parts are cut into such frames, so that a slow line has time enough for each.
const FRAME_BYTES_MAX: usize = 256 << 10;

/// How many streams there may be.
#[derive(Debug)]
pub(crate) struct Streams {
    pub downloads: Arc<Downloads>,
    pub followers: Arc<Semaphore>,
}

impl Default for Streams {
    fn default() -> Self {
        Self { downloads: Arc::default(), followers: Arc::new(Semaphore::new(FOLLOWERS_MAX)) }
    }
}

/// The downloads under way, by user.
#[derive(Debug, Default)]
pub(crate) struct Downloads(Mutex<HashMap<String, usize>>);

/// A place among them, until it is dropped.
#[derive(Debug)]
pub(crate) struct Download {
    all: Arc<Downloads>,
    user: String,
}

impl Downloads {
    fn counts(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more of this user, if there is one.
    pub fn begin(self: &Arc<Self>, user: &str) -> Option<Download> {
        let mut counts = self.counts();
        let (all, own) = (counts.values().sum::<usize>(), counts.get(user).copied().unwrap_or(0));
        if all >= DOWNLOADS_MAX || own >= DOWNLOADS_OF_USER_MAX {
            return None;
        }
        counts.insert(user.to_owned(), own + 1);
        Some(Download { all: self.clone(), user: user.to_owned() })
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        let mut counts = self.all.counts();
        match counts.get_mut(&self.user) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(counts.remove(&self.user)),
        }
    }
}

/// A body on its way out.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Whole(Full<Bytes>),
    Stream(Stream),
}

/// The stream ended before its end: what it was to hold could not be read, or the caller was too slow.
#[derive(Debug, thiserror::Error)]
#[error("the reply broke off before its end")]
pub(crate) struct BrokenOff;

/// The end of a stream that hyper reads.
#[derive(Debug)]
pub(crate) struct Stream {
    frames: mpsc::Receiver<Result<Bytes, BrokenOff>>,
    /// Bytes that are still to come, if that was announced.
    rest: Option<u64>,
    held: Weak<Held>,
}

/// Something that lives as long as a writer.
#[derive(Default)]
struct Held(Mutex<Option<Box<dyn Any + Send>>>);

impl std::fmt::Debug for Held {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Held")
    }
}

/// The end of a stream that is written to.
#[derive(Debug)]
pub(crate) struct Writer {
    frames: mpsc::Sender<Result<Bytes, BrokenOff>>,
    _held: Arc<Held>,
}

/// A stream of `length` bytes, if that is known, and who writes it.
pub(crate) fn stream(length: Option<u64>) -> (Writer, Stream) {
    let (sender, frames) = mpsc::channel(1);
    let held = Arc::new(Held::default());
    let stream = Stream { frames, rest: length, held: Arc::downgrade(&held) };
    (Writer { frames: sender, _held: held }, stream)
}

impl Writer {
    /// Hands one frame over; false if nobody will read it.
    pub async fn send(&self, bytes: impl Into<Bytes>) -> bool {
        matches!(tokio::time::timeout(STALL_TIME_MAX, self.frames.send(Ok(bytes.into()))).await, Ok(Ok(())))
    }

    /// Until the caller is gone.
    pub async fn closed(&self) {
        self.frames.closed().await;
    }

    /// Says that the rest will not come.
    pub async fn break_off(self) {
        let _ = tokio::time::timeout(STALL_TIME_MAX, self.frames.send(Err(BrokenOff))).await;
    }
}

/// A writer for threads that block.
pub(crate) struct Blocking<'a> {
    pub writer: &'a Writer,
    pub runtime: tokio::runtime::Handle,
    /// True once the caller may read no more; also the end of who would say so.
    pub ended: watch::Receiver<bool>,
}

impl std::io::Write for Blocking<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let part = bytes.get(..FRAME_BYTES_MAX).unwrap_or(bytes);
        let (writer, ended) = (self.writer, &mut self.ended);
        let sent = self.runtime.block_on(async {
            tokio::select! {
                biased;
                _ = ended.wait_for(|ended| *ended) => Err("the caller's session has ended"),
                is_taken = writer.send(Bytes::copy_from_slice(part)) => {
                    is_taken.then_some(part.len()).ok_or("the caller is gone or reads too slowly")
                }
            }
        });
        sent.map_err(|why| std::io::Error::new(std::io::ErrorKind::BrokenPipe, why))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Outgoing {
    /// Lets `guard` live until everything is written.
    pub fn hold(&self, guard: impl Any + Send) {
        if let Self::Stream(stream) = self
            && let Some(held) = stream.held.upgrade()
        {
            *held.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(guard));
        }
    }
}

impl Default for Outgoing {
    fn default() -> Self {
        Self::Whole(Full::default())
    }
}

impl From<String> for Outgoing {
    fn from(text: String) -> Self {
        Self::Whole(Full::new(Bytes::from(text)))
    }
}

impl From<&'static str> for Outgoing {
    fn from(text: &'static str) -> Self {
        Self::Whole(Full::new(Bytes::from_static(text.as_bytes())))
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match self.get_mut() {
            Self::Whole(body) => {
                let frame = std::task::ready!(Pin::new(body).poll_frame(context));
                Poll::Ready(frame.map(|frame| frame.map_err(|never| match never {})))
            }
            Self::Stream(stream) => {
                let next = std::task::ready!(stream.frames.poll_recv(context));
                Poll::Ready(match (next, &mut stream.rest) {
                    (Some(Ok(bytes)), Some(rest)) if bytes.len() as u64 > *rest => Some(Err(BrokenOff)),
                    (Some(Ok(bytes)), rest) => {
                        if let Some(rest) = rest {
                            *rest -= bytes.len() as u64;
                        }
                        Some(Ok(Frame::data(bytes)))
                    }
                    (Some(Err(error)), _) => Some(Err(error)),
                    (None, Some(1..)) => Some(Err(BrokenOff)),
                    (None, _) => None,
                })
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Stream(stream) => stream.rest == Some(0),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Stream(stream) => stream.rest.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use std::sync::atomic::{AtomicBool, Ordering};

    struct Guard(Arc<AtomicBool>);

    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn what_ends_before_its_length_or_goes_on_behind_it_breaks_off() {
        for (length, sent, good) in
            [(Some(4), "abcd", true), (None, "abc", true), (Some(5), "abcd", false), (Some(3), "abcd", false)]
        {
            let (writer, stream) = stream(length);
            let write = tokio::spawn(async move { writer.send(sent).await });
            let read = Outgoing::Stream(stream).collect().await;
            assert_eq!(read.is_ok(), good, "{sent} of {length:?}");
            write.await.expect("writer");
        }
        let (writer, stream) = stream(None);
        tokio::spawn(writer.break_off());
        assert!(Outgoing::Stream(stream).collect().await.is_err(), "and so does what is said to");
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_does_not_read_holds_nothing_for_long() {
        let (writer, stream) = stream(None);
        let (body, gone) = (Outgoing::Stream(stream), Arc::new(AtomicBool::new(false)));
        body.hold(Guard(gone.clone()));
        let write = tokio::spawn(async move { while writer.send("frame").await {} });
        write.await.expect("writer");
        assert!(gone.load(Ordering::SeqCst), "the connection counts as idle now");
        assert!(body.collect().await.is_ok(), "what was written before can still be read");
    }

    #[test]
    fn one_user_cannot_take_every_place_for_downloads() {
        let all = Arc::<Downloads>::default();
        let mut held: Vec<_> = (0..4).map(|_| all.begin("anna").expect("room")).collect();
        assert!(all.begin("anna").is_none());
        held.extend((0..4).map(|_| all.begin("bert").expect("room")));
        assert!(all.begin("carla").is_none(), "all together have a limit too");
        held.remove(0);
        all.begin("carla").expect("room again");
        drop(held);
        assert!(all.counts().is_empty());
    }

    #[tokio::test]
    async fn a_thread_that_writes_ends_with_the_session_even_while_nobody_reads() {
        use std::io::Write;
        let (writer, stream) = stream(None);
        let (end, ended) = watch::channel(false);
        let runtime = tokio::runtime::Handle::current();
        let written = tokio::task::spawn_blocking(move || {
            let mut out = Blocking { writer: &writer, runtime, ended };
            out.write_all(&vec![7; 1 << 20]).map_err(|error| error.to_string())
        });
        end.send_replace(true);
        assert_eq!(written.await.expect("thread"), Err("the caller's session has ended".to_owned()));
        drop(stream);
    }

    #[tokio::test]
    async fn what_is_in_memory_or_already_written_holds_nothing() {
        let gone = Arc::new(AtomicBool::new(false));
        Outgoing::from("text").hold(Guard(gone.clone()));
        assert!(gone.swap(false, Ordering::SeqCst));
        let (writer, stream) = stream(Some(0));
        drop(writer);
        Outgoing::Stream(stream).hold(Guard(gone.clone()));
        assert!(gone.load(Ordering::SeqCst));
    }
}
