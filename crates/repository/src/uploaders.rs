//! Work that stores blobs, with the threads beside it that hand the packs to the store.

use crate::pack_writer::PackWriter;
use crate::{Error, ErrorKind, Result, join, spawn};

/// Runs `work`, which adds blobs to `writer`. When this returns every pack is stored; the writer's `finish` lists them.
pub(crate) fn with_uploaders(writer: &PackWriter<'_>, work: impl FnOnce() -> Result<()>) -> Result<()> {
    std::thread::scope(|scope| {
        // The uploaders wait until the writer is closed, and the scope for the uploaders: also if `work` panics.
        let closing = Closing(writer);
        let uploader = || {
            writer.run_uploader();
            Ok(())
        };
        let uploaders: Vec<_> = (0..writer.uploaders()).map_while(|_| spawn(scope, uploader).ok()).collect();
        if uploaders.is_empty() {
            return Err(Error::new(ErrorKind::Io, "cannot start a thread; raise the limit on processes"));
        }
        if let Err(error) = work() {
            writer.fail(error);
        }
        drop(closing);
        uploaders.into_iter().try_for_each(join)
    })
}

/// Closes the writer when it goes.
struct Closing<'a>(&'a PackWriter<'a>);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(Error::new(ErrorKind::Io, "a thread of the engine failed; please report this"));
        }
        self.0.close();
    }
}
