//! How fast the inner loops of the engine are on one core, each by itself:
//!
//! ```sh
//! cargo bench -p repository --features test-support --bench kernels
//! ```
//! Time is that of the processor, so that other work on the machine counts little. Bytes are those of the content, so
//! the figures can be set side by side. What compresses is the source of this crate, all else is noise.
#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BenchmarkGroup, Criterion, Throughput};
use repository::kernels::{Chunker, INDEX_IN_MEMORY_MAX, Key, Zstd, hash, hash_pair, look_up};
use repository::synthetic::{Size, write};
use repository::{Cost, Id, Index, Passcode, Repository};
use rustix::time::{ClockId, clock_gettime};
use storage::{Memory, Shared};

const MIB: usize = 1 << 20;
/// Look-ups that are measured at once.
const LOOK_UPS: u64 = 1000;

fn main() {
    let mut criterion = Criterion::default()
        .with_measurement(CpuTime)
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .without_plots()
        .configure_from_args();
    let mut group = criterion.benchmark_group("kernels");
    chunking(&mut group);
    hashing(&mut group);
    sealing(&mut group);
    packing(&mut group);
    compressing(&mut group);
    looking_up(&mut group);
    group.finish();
    criterion.final_summary();
}

type Group<'a> = BenchmarkGroup<'a, CpuTime>;

/// What the processor spent on this thread: every loop here runs on one.
struct CpuTime;

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap()
    }

    fn end(&self, start: Duration) -> Duration {
        self.start() - start
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_nanos() as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

fn bytes(group: &mut Group<'_>, count: usize) {
    group.throughput(Throughput::BytesDecimal(count as u64));
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    });
    words.take(length / 8).flat_map(u64::to_le_bytes).collect()
}

fn chunking(group: &mut Group<'_>) {
    let (chunker, data) = (Chunker::new(&[7; 32]), noise(16 * MIB));
    bytes(group, data.len());
    group.bench_function("cut into chunks", |bench| {
        bench.iter(|| {
            let mut rest = &data[..];
            while !rest.is_empty() {
                rest = &rest[chunker.cut(black_box(rest))..];
            }
        });
    });
}

fn hashing(group: &mut Group<'_>) {
    let data = noise(2 * MIB);
    let (a, b) = data.split_at(MIB);
    bytes(group, a.len());
    group.bench_function("hash one message", |bench| bench.iter(|| hash(black_box(a))));
    bytes(group, data.len());
    group.bench_function("hash two messages", |bench| bench.iter(|| hash_pair(black_box(a), black_box(b))));
}

fn sealing(group: &mut Group<'_>) {
    let (key, data) = (Key::random(), noise(MIB));
    let (mut sealed, mut opened) = (Vec::new(), Vec::new());
    bytes(group, data.len());
    group.bench_function("seal", |bench| bench.iter(|| key.seal_into(black_box(&data), &mut sealed)));
    key.seal_into(&data, &mut sealed);
    group.bench_function("open", |bench| {
        bench.iter(|| assert!(key.open_into(black_box(&sealed), &mut opened)));
    });
    assert_eq!(opened.len() % data.len(), 0);
}

fn packing(group: &mut Group<'_>) {
    let (storage, key): (Shared, _) = (Arc::new(Memory::default()), Key::random());
    let seal = |data: &[u8]| {
        let mut sealed = Vec::new();
        key.seal_into(data, &mut sealed);
        (hash(data), sealed)
    };
    let blobs: Vec<_> = noise(16 * MIB).chunks(MIB).map(seal).collect();
    let mut memory = Vec::new();
    bytes(group, 16 * MIB);
    group.bench_function("build a pack", |bench| {
        bench.iter(|| {
            let (pack, again) = key.build_pack(&storage, &blobs, std::mem::take(&mut memory)).unwrap();
            storage.delete(&pack).unwrap();
            memory = again;
            memory.clear();
        });
    });
}

/// The source of this crate.
fn text() -> Vec<u8> {
    let mut pending = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut text = Vec::new();
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            let mut below: Vec<_> = path.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
            below.sort();
            pending.extend(below);
        } else {
            text.extend(std::fs::read(path).unwrap());
        }
    }
    text
}

fn compressing(group: &mut Group<'_>) {
    let (text, mut zstd) = (text(), Zstd::new().unwrap());
    let (mut frame, mut content) = (Vec::new(), Vec::new());
    bytes(group, text.len());
    for level in [3, 1] {
        group.bench_function(format!("compress at level {level}"), |bench| {
            bench.iter(|| zstd.compress(black_box(&text), level, &mut frame).unwrap());
        });
    }
    zstd.compress(&text, 1, &mut frame).unwrap();
    group.bench_function("decompress", |bench| {
        bench.iter(|| zstd.decompress(black_box(&frame), text.len(), &mut content).unwrap());
    });
}

/// The index of so many blobs, read from its files.
fn index(size: Size) -> Index {
    let passcode = Passcode::new("only pretended".to_owned());
    let repository = Repository::init(Arc::new(Memory::default()), &passcode, Cost::FAST).unwrap();
    write(&repository, &size).unwrap();
    repository.load_index(&|_| true).unwrap()
}

fn looking_up(group: &mut Group<'_>) {
    let [few, many] = [INDEX_IN_MEMORY_MAX / 2, INDEX_IN_MEMORY_MAX * 2].map(|blobs| Size {
        blobs: blobs as u64,
        blobs_per_pack: 250,
        directories: 10,
        blobs_per_file: 10,
    });
    for (place, size) in [("in memory", few), ("in sealed pages", many)] {
        let index = index(size);
        for (what, first, known) in [("known", 0, true), ("unknown", size.blobs, false)] {
            // Ids are hashes: numbers in order ask all over the index.
            let ids: Vec<Id> = (first..first + size.blobs).map(|number| size.blob_id(number)).collect();
            let mut ids = ids.iter().cycle();
            group.throughput(Throughput::Elements(LOOK_UPS));
            group.bench_function(format!("look up {what} blobs {place}"), |bench| {
                bench.iter(|| {
                    for id in ids.by_ref().take(LOOK_UPS as usize) {
                        assert_eq!(look_up(&index, id).unwrap(), known);
                    }
                });
            });
        }
    }
}
