//! Small plots of the newest backups, drawn here as SVG: one mark for each backup, oldest left. Each says in words what it
//! shows, so nothing is told by the picture alone.

use super::view::{duration, size};
use super::words::date;
use recovery::BackupView;
use std::sync::Arc;

/// So many of the newest backups are drawn.
const SHOWN: usize = 40;
/// The picture's own units.
const WIDTH: f64 = 320.0;
const HEIGHT: f64 = 84.0;
/// Least height of a mark, so that every backup is seen.
const MARK_MIN: f64 = 1.5;

/// One plot.
pub(super) struct Plot {
    pub title: &'static str,
    pub words: String,
    pub marks: Vec<Mark>,
    pub top: String,
    pub from: String,
    pub to: String,
}

/// One bar, and what it is of.
pub(super) struct Mark {
    pub x: String,
    pub y: String,
    pub width: String,
    pub height: String,
    pub words: String,
}

/// What is drawn: a title, the value of a backup, and the value in words.
type Series = (&'static str, fn(&BackupView) -> u64, fn(u64) -> String);

static SERIES: [Series; 4] = [
    ("Content", |backup| backup.bytes_read, size),
    ("Added to the store", |backup| backup.bytes_added, size),
    ("Time taken", took, duration),
    ("Saved by deduplication", saved, |percent| format!("{percent} %")),
];

/// Milliseconds from begin to end.
pub(super) fn took(backup: &BackupView) -> u64 {
    u64::try_from(backup.complete_time - backup.start_time).unwrap_or(0)
}

/// How much less was stored than is in it, in percent.
pub(super) fn saved(backup: &BackupView) -> u64 {
    let stored = backup.bytes_added.min(backup.bytes_read);
    match backup.bytes_read {
        0 => 0,
        read => 100 - u64::try_from(u128::from(stored) * 100 / u128::from(read)).unwrap_or(100),
    }
}

/// The plots of these backups, newest first; none for fewer than two complete ones.
pub(super) fn of(backups: &[Arc<BackupView>]) -> Vec<Plot> {
    let complete = backups.iter().map(Arc::as_ref).filter(|backup| backup.is_complete());
    let mut drawn: Vec<&BackupView> = complete.take(SHOWN).collect();
    drawn.reverse();
    let (Some(first), Some(last)) = (drawn.first(), drawn.last()) else { return Vec::new() };
    if drawn.len() < 2 {
        return Vec::new();
    }
    let (from, to) = (date(first.start_time), date(last.start_time));
    let plot = |(title, value, words): &Series| {
        let values: Vec<u64> = drawn.iter().map(|backup| value(backup)).collect();
        let (most, least) = (values.iter().max().copied(), values.iter().min().copied());
        let (most, least) = (most.unwrap_or(0), least.unwrap_or(0));
        Plot {
            title,
            words: match (words(least), words(most), words(values.last().copied().unwrap_or(0))) {
                (least, most, _) if least == most => format!("{most} in each."),
                (least, most, last) => format!("{least} to {most}; the newest {last}."),
            },
            marks: marks(&drawn, &values, most, *words),
            top: words(most),
            from: from.clone(),
            to: to.clone(),
        }
    };
    SERIES.iter().map(plot).collect()
}

fn marks(drawn: &[&BackupView], values: &[u64], most: u64, words: fn(u64) -> String) -> Vec<Mark> {
    let step = WIDTH / drawn.len() as f64;
    let mark = |(place, (backup, value)): (usize, (&&BackupView, &u64))| {
        let height = if most == 0 { 0.0 } else { *value as f64 / most as f64 * HEIGHT }.max(MARK_MIN);
        let width = (step - 1.0).clamp(1.0, 24.0);
        Mark {
            x: format!("{:.1}", place as f64 * step + (step - width) / 2.0),
            y: format!("{:.1}", HEIGHT - height),
            width: format!("{width:.1}"),
            height: format!("{height:.1}"),
            words: format!("{}: {}", backup.name, words(*value)),
        }
    };
    drawn.iter().zip(values).enumerate().map(mark).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backup(number: u64, read: u64, added: u64) -> Arc<BackupView> {
        Arc::new(BackupView {
            name: format!("b{number}"),
            store: "s1".to_owned(),
            description: String::new(),
            release: String::new(),
            site_name: String::new(),
            status: "completed".to_owned(),
            schedule_type: "MANUAL".to_owned(),
            start_time: 1_700_000_000_000 + number as i64 * 86_400_000,
            complete_time: 1_700_000_000_000 + number as i64 * 86_400_000 + 5000,
            retention_date: -1,
            components: Vec::new(),
            bytes_read: read,
            bytes_added: added,
            files_total: 1,
            format_version: 1,
            vault: String::new(),
            warnings: Vec::new(),
            warning_count: 0,
            job_id: String::new(),
        })
    }

    #[test]
    fn every_plot_says_in_words_what_it_shows() {
        let backups: Vec<_> = (0..100).rev().map(|n| backup(n, 1 << 20, n << 10)).collect();
        let plots = of(&backups);
        assert_eq!(plots.len(), 4);
        assert!(plots.iter().all(|plot| plot.marks.len() == SHOWN));
        assert_eq!(plots[1].words, "60.0 KiB to 99.0 KiB; the newest 99.0 KiB.");
        assert_eq!(plots[2].words, "5.0 s in each.");
        assert_eq!((plots[0].from.as_str(), plots[0].to.as_str()), ("2024-01-13", "2024-02-21"));
    }

    #[test]
    fn figures_out_of_all_bounds_stay_in_the_picture() {
        let odd = [backup(2, u64::MAX, u64::MAX), backup(1, 0, 5), backup(0, 10, 20)];
        for plot in of(&odd) {
            for mark in plot.marks {
                let (y, height): (f64, f64) =
                    (mark.y.parse().expect("y"), mark.height.parse().expect("height"));
                assert!((0.0..=HEIGHT).contains(&y) && height <= HEIGHT, "{y} {height}");
            }
        }
        assert!(of(&odd[..1]).is_empty() && of(&[]).is_empty(), "one is no course of things");
    }

    #[test]
    fn what_was_saved_is_never_less_than_nothing() {
        assert_eq!(saved(&backup(0, 0, 5)), 0);
        assert_eq!(saved(&backup(0, 100, 150)), 0);
        assert_eq!(saved(&backup(0, 100, 1)), 99);
        assert_eq!(saved(&backup(0, u64::MAX, 0)), 100);
    }
}
