//! Work that stores blobs, with the threads beside it that hand the packs to the store.

use crate::pack_writer::PackWriter;
use crate::{Error, ErrorKind, Result, join, spawn};

/// Runs `work`, which adds blobs to `writer`. When this returns every pack is stored; the writer's `finish` lists them.
pub(crate) fn with_uploaders(writer: &PackWriter<'_>, work: impl FnOnce() -> Result<()>) -> Result<()> {
    std::thread::scope(|scope| {
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
        writer.close();
        uploaders.into_iter().try_for_each(join)
    })
}
