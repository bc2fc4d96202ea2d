//! Sample content: some three thousand files as a small mapping office has them, the same at every run but for what
//! the file system decides. Text, binary data, deep folders, and everything that a careless backup loses: links,
//! holes, empty directories, unusual names, modes, times and attributes.

use std::fs::{self, File, FileTimes, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use rustix::fs::XattrFlags;

const REGIONS: [&str; 7] =
    ["north", "north-east", "east", "south", "west", "coast", "Überlingen am Bodensee"];
const TILES_PER_REGION: u64 = 180;
const STATIONS: u64 = 60;
const YEARS: std::ops::Range<u64> = 2014..2026;
const PHOTOS: u64 = 900;
const SCENES: u64 = 22;
const SCENE_BYTES: usize = 1024 * 1024;
/// Lines that files of one kind are put together from.
const LINES: usize = 2048;

/// How much was made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Made {
    /// Regular files.
    pub files: u64,
    /// Bytes in them, holes included.
    pub bytes: u64,
}

/// Makes the content in `root`, which must not exist. `go_on` is asked between files.
pub fn make(root: &Path, go_on: &dyn Fn() -> Result<()>) -> Result<Made> {
    let mut maker = Maker { root, random: Random(0x5EED), made: Made::default(), go_on };
    fs::create_dir_all(root)?;
    maker.tiles()?;
    maker.measurements()?;
    maker.photos()?;
    maker.imagery()?;
    maker.peculiar()?;
    Ok(maker.made)
}

struct Maker<'a> {
    root: &'a Path,
    random: Random,
    made: Made,
    go_on: &'a dyn Fn() -> Result<()>,
}

impl Maker<'_> {
    fn tiles(&mut self) -> Result<()> {
        let pool = self.pool(|random| {
            let (east, north) = (random.below(1_000_000), random.below(1_000_000));
            let (id, height) = (random.below(1 << 20), random.below(3000));
            format!(
                "{{\"type\":\"Feature\",\"id\":{id},\"geometry\":{{\"type\":\"Point\",\"coordinates\":[9.{east:06},47.{north:06}]}},\"properties\":{{\"height\":{height}}}}},\n"
            )
        });
        for region in REGIONS {
            let folder = format!("maps/{region}");
            for tile in 0..TILES_PER_REGION {
                let zoom = 10 + tile % 3;
                let lines = 40 + self.random.below(130);
                let mut text =
                    format!("{{\"type\":\"FeatureCollection\",\"name\":\"{region} {tile}\",\"features\":[\n");
                self.put_lines(&mut text, &pool, lines);
                text.push_str("]}\n");
                self.file(&format!("{folder}/zoom-{zoom}/tile-{tile:04}.geojson"), text.as_bytes())?;
            }
        }
        Ok(())
    }

    fn measurements(&mut self) -> Result<()> {
        let pool = self.pool(|random| {
            let (month, day, hour) = (1 + random.below(12), 1 + random.below(28), random.below(24));
            let (level, flow, mark) = (random.below(9000), random.below(90_000), random.below(100));
            format!("{month:02}-{day:02}T{hour:02}:00Z,{level},{}.{mark:02},ok\n", flow / 100)
        });
        for station in 0..STATIONS {
            for year in YEARS {
                let lines = 300 + self.random.below(500);
                let mut text = format!("# station {station}, {year}\ntime,level_mm,flow_m3_s,quality\n");
                self.put_lines(&mut text, &pool, lines);
                self.file(&format!("measurements/station-{station:03}/{year}.csv"), text.as_bytes())?;
            }
        }
        Ok(())
    }

    fn photos(&mut self) -> Result<()> {
        for photo in 0..PHOTOS {
            let length = 2_000 + self.random.below(6_000) as usize;
            let bytes = self.random.bytes(length);
            self.file(&format!("attachments/{:02}/photo-{photo:05}.jpg", photo % 40), &bytes)?;
        }
        Ok(())
    }

    /// Each second scene repeats half of the one before it, as versions of a file do.
    fn imagery(&mut self) -> Result<()> {
        let mut before = Vec::new();
        for scene in 0..SCENES {
            let mut bytes = self.random.bytes(SCENE_BYTES);
            if scene % 2 == 1 {
                bytes[SCENE_BYTES / 2..].copy_from_slice(&before[SCENE_BYTES / 2..]);
            }
            self.file(&format!("imagery/2025/scene-{scene:02}.tif"), &bytes)?;
            before = bytes;
        }
        Ok(())
    }

    /// What a careless backup loses.
    fn peculiar(&mut self) -> Result<()> {
        self.file("README.txt", README.as_bytes())?;
        self.file("projects/Straßennetz/Übersicht – Entwurf №3.txt", "Entwurf\n".as_bytes())?;
        self.file("projects/地図/東京 23区.csv", "区,人口\n世田谷,940000\n".as_bytes())?;
        self.file("projects/карты/река 🏞.json", "{\"река\": \"Рейн\"}\n".as_bytes())?;
        self.file("projects/a name with  blanks and 'quotes' \"and\" a \\ backslash.txt", b"still a file\n")?;
        self.file("projects/empty.lock", b"")?;
        fs::create_dir_all(self.root.join("projects/an empty directory"))?;

        let script = "projects/tools/refresh.sh";
        self.file(script, b"#!/bin/sh\nexec echo refreshed\n")?;
        self.mode(script, 0o755)?;
        let private = "projects/private/credentials.txt";
        self.file(private, b"not a real secret\n")?;
        self.mode(private, 0o600)?;
        self.mode("projects/private", 0o700)?;
        self.mode("projects/empty.lock", 0o444)?;

        symlink("../maps/coast", self.root.join("projects/coast"))?;
        symlink("imagery/2025/scene-21.tif", self.root.join("latest.tif"))?;
        symlink("/nonexistent/on/purpose", self.root.join("projects/broken link"))?;
        fs::hard_link(self.root.join("imagery/2025/scene-00.tif"), self.root.join("imagery/reference.tif"))?;
        self.made.files += 1;
        self.made.bytes += SCENE_BYTES as u64;

        self.sparse("imagery/elevation.raster")?;
        // Not every file system keeps attributes; where it does they belong to the content.
        let _ = rustix::fs::setxattr(
            self.root.join("README.txt"),
            "user.origin",
            b"strongroom quickstart",
            XattrFlags::empty(),
        );
        Ok(())
    }

    /// Ten bytes in a hole of four MiB.
    fn sparse(&mut self, path: &str) -> Result<()> {
        const LENGTH: u64 = 4 * 1024 * 1024;
        let file = File::create_new(self.root.join(path))?;
        file.set_len(LENGTH)?;
        file.write_all_at(b"elevation\n", LENGTH / 2)?;
        self.made.files += 1;
        self.made.bytes += LENGTH;
        Ok(())
    }

    fn file(&mut self, path: &str, content: &[u8]) -> Result<()> {
        (self.go_on)()?;
        let path = self.root.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = File::create_new(&path)?;
        file.write_all(content)?;
        file.set_times(FileTimes::new().set_modified(self.time()))?;
        self.made.files += 1;
        self.made.bytes += content.len() as u64;
        Ok(())
    }

    fn mode(&self, path: &str, mode: u32) -> Result<()> {
        Ok(fs::set_permissions(self.root.join(path), Permissions::from_mode(mode))?)
    }

    /// Some time in the years before 2026, to the nanosecond.
    fn time(&mut self) -> SystemTime {
        let seconds = 1_767_225_600 - self.random.below(8 * 365 * 86_400);
        SystemTime::UNIX_EPOCH + Duration::new(seconds, self.random.below(1_000_000_000) as u32)
    }

    fn pool(&mut self, line: impl Fn(&mut Random) -> String) -> Vec<String> {
        (0..LINES).map(|_| line(&mut self.random)).collect()
    }

    fn put_lines(&mut self, text: &mut String, pool: &[String], lines: u64) {
        for _ in 0..lines {
            text.push_str(&pool[self.random.below(pool.len() as u64) as usize]);
        }
    }
}

/// Numbers that look random and are the same each time (SplitMix64).
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// So many bytes that do not compress.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
        bytes
    }
}

const README: &str = "\
This is sample content that `strongroom quickstart` made, backed up, damaged and restored.
Change what you like and run quickstart again on the same directory: it goes on with what is here.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_a_few_thousand_files_and_the_same_each_time() {
        let place = tempfile::tempdir().unwrap();
        let made = make(&place.path().join("a"), &|| Ok(())).unwrap();
        let again = make(&place.path().join("b"), &|| Ok(())).unwrap();
        assert!((2_500..4_000).contains(&made.files), "{made:?}");
        assert!((40_000_000..90_000_000).contains(&made.bytes), "{made:?}");
        assert_eq!((made.files, made.bytes), (again.files, again.bytes));
        let read = |side: &str| {
            fs::read(place.path().join(side).join("maps/coast/zoom-10/tile-0003.geojson")).unwrap()
        };
        assert_eq!(read("a"), read("b"));
    }
}
