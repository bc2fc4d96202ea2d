//! Small plots of how backups went, drawn here as SVG. Each says in words what it shows and all of it is a table as well, so
//! nothing is told by the picture alone.
//!
//! ```text
//! backups → those of the chosen span → few: one bar each
//!                                      many: one bar for each day, week, month or some years → figures → bars, table
//! ```
//!
//! Whatever the number of backups, there are at most [`BARS_MAX`] bars.

use super::view::{duration, size};
use super::words::{date, grouped, minute};
use recovery::BackupView;
use std::sync::Arc;

/// So many of the newest backups are drawn if no span is chosen; and up to so many each has a bar of its own.
const SHOWN: usize = 40;
/// A year of weeks.
const BARS_MAX: i64 = 54;
const DAY_MS: i64 = 86_400_000;
/// The picture's own units.
const WIDTH: f64 = 320.0;
const HEIGHT: f64 = 84.0;
/// Least height of a bar, so that every backup is seen.
const BAR_MIN: f64 = 1.5;

/// Which backups are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Span {
    Newest,
    Days(i64),
    All,
}

impl Span {
    /// What can be chosen.
    pub const CHOICES: [Self; 5] = [Self::Newest, Self::Days(30), Self::Days(90), Self::Days(365), Self::All];

    /// The span of that word in an address; the newest for all others.
    pub fn named(word: &str) -> Self {
        Self::CHOICES.into_iter().find(|span| span.word() == word).unwrap_or(Self::Newest)
    }

    /// In addresses.
    pub fn word(self) -> String {
        match self {
            Self::Newest => "newest".to_owned(),
            Self::Days(days) => days.to_string(),
            Self::All => "all".to_owned(),
        }
    }

    pub fn title(self) -> String {
        match self {
            Self::Newest => format!("Newest {SHOWN}"),
            Self::Days(days) => format!("{days} days"),
            Self::All => "All".to_owned(),
        }
    }

    /// What of these backups, newest first, it takes.
    fn take(self, backups: &[Arc<BackupView>], now: i64) -> Vec<&BackupView> {
        let complete = backups.iter().map(Arc::as_ref).filter(|backup| backup.is_complete());
        match self {
            Self::Newest => complete.take(SHOWN).collect(),
            Self::Days(days) => {
                complete.take_while(|backup| backup.start_time > now - days * DAY_MS).collect()
            }
            Self::All => complete.collect(),
        }
    }
}

/// How the backups of a span went.
pub(super) struct Course {
    /// What a bar stands for.
    pub told: String,
    pub plots: Vec<Plot>,
    /// The same in figures, the newest first.
    pub rows: Vec<Row>,
}

/// One plot.
pub(super) struct Plot {
    pub title: &'static str,
    pub words: String,
    pub bars: Vec<Bar>,
    pub top: String,
    pub from: String,
    pub to: String,
}

/// One bar, and what it is of.
pub(super) struct Bar {
    pub x: String,
    pub y: String,
    pub width: String,
    pub height: String,
    pub words: String,
}

/// One line of the table.
pub(super) struct Row {
    pub when: String,
    pub backups: String,
    /// In the order of the plots.
    pub values: Vec<(&'static str, String)>,
}

/// What is known of the backups of one bar.
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    backups: u64,
    /// Content of the largest.
    largest: u64,
    /// Content and what was added of all together.
    read: u64,
    added: u64,
    /// Time of the longest.
    longest: u64,
}

impl Figures {
    fn add(&mut self, backup: &BackupView) {
        self.backups += 1;
        self.largest = self.largest.max(backup.bytes_read);
        self.read = self.read.saturating_add(backup.bytes_read);
        self.added = self.added.saturating_add(backup.bytes_added);
        self.longest = self.longest.max(took(backup));
    }
}

/// What is drawn: a title, the value of a bar, and the value in words.
type Series = (&'static str, fn(&Figures) -> u64, fn(u64) -> String);

static SERIES: [Series; 4] = [
    ("Content", |of| of.largest, size),
    ("Added to the store", |of| of.added, size),
    ("Time taken", |of| of.longest, duration),
    ("Saved by deduplication", |of| percent_saved(of.read, of.added), |percent| format!("{percent} %")),
];

/// Milliseconds from begin to end.
pub(super) fn took(backup: &BackupView) -> u64 {
    u64::try_from(backup.complete_time.saturating_sub(backup.start_time)).unwrap_or(0)
}

/// How much less was stored than is in it, in percent.
pub(super) fn saved(backup: &BackupView) -> u64 {
    percent_saved(backup.bytes_read, backup.bytes_added)
}

fn percent_saved(read: u64, added: u64) -> u64 {
    match read {
        0 => 0,
        read => 100 - u64::try_from(u128::from(added.min(read)) * 100 / u128::from(read)).unwrap_or(100),
    }
}

/// How long a bar lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Day,
    Week,
    Month,
    Years(i64),
}

impl Step {
    /// The shortest one of which few enough reach from one time to another.
    fn for_span(from: i64, to: i64) -> Self {
        let fits = |step: &Self| step.of(to) - step.of(from) < BARS_MAX;
        let years = (Self::Years(1).of(to) - Self::Years(1).of(from)) / (BARS_MAX - 1) + 1;
        [Self::Day, Self::Week, Self::Month].into_iter().find(fits).unwrap_or(Self::Years(years))
    }

    /// The number of the step that a time lies in.
    fn of(self, ms: i64) -> i64 {
        let day = ms.div_euclid(DAY_MS);
        let civil =
            || jiff::tz::Offset::UTC.to_datetime(jiff::Timestamp::from_millisecond(ms).unwrap_or_default());
        match self {
            Self::Day => day,
            // 1970 began on a Thursday, a week begins on a Monday.
            Self::Week => (day + 3).div_euclid(7),
            Self::Month => i64::from(civil().year()) * 12 + i64::from(civil().month()) - 1,
            Self::Years(count) => i64::from(civil().year()).div_euclid(count),
        }
    }

    /// A step by its number.
    fn name(self, number: i64) -> String {
        match self {
            Self::Day => date(number * DAY_MS),
            Self::Week => format!("week of {}", date((number * 7 - 3) * DAY_MS)),
            Self::Month => format!("{}-{:02}", number.div_euclid(12), number.rem_euclid(12) + 1),
            Self::Years(1) => number.to_string(),
            Self::Years(count) => format!("{} to {}", number * count, number * count + count - 1),
        }
    }

    fn noun(self) -> String {
        match self {
            Self::Day => "day".to_owned(),
            Self::Week => "week, which begins on a Monday".to_owned(),
            Self::Month => "month".to_owned(),
            Self::Years(1) => "year".to_owned(),
            Self::Years(count) => format!("{count} years"),
        }
    }
}

/// How the backups, newest first, went; none where fewer than two complete ones are of the span.
pub(super) fn of(backups: &[Arc<BackupView>], span: Span, now: i64) -> Option<Course> {
    let drawn = span.take(backups, now);
    if drawn.len() < 2 {
        return None;
    }
    // What another clock or a forger wrote must not be counted from: it stands at the end that is nearer.
    let now = now.max(0);
    let times = || drawn.iter().map(|backup| backup.start_time).filter(|at| (1..=now + DAY_MS).contains(at));
    let (oldest, newest) = (times().min().unwrap_or(now), times().max().unwrap_or(now));
    let clamp = |backup: &&BackupView| backup.start_time.clamp(oldest, newest);
    // Oldest first; a step without a backup has no figures and no bar.
    let (told, bars): (String, Vec<(String, Option<Figures>)>) = if drawn.len() <= SHOWN {
        let one = |backup: &&BackupView| {
            let mut figures = Figures::default();
            figures.add(backup);
            (minute(backup.start_time), Some(figures))
        };
        ("One bar for each backup.".to_owned(), drawn.iter().rev().map(one).collect())
    } else {
        let step = Step::for_span(oldest, newest);
        let first = step.of(oldest);
        let count = usize::try_from(step.of(newest) - first + 1).unwrap_or(1);
        let mut figures = vec![Figures::default(); count];
        for backup in &drawn {
            let place = usize::try_from(step.of(clamp(backup)) - first).unwrap_or(0);
            if let Some(figures) = figures.get_mut(place) {
                figures.add(backup);
            }
        }
        let named = (first..).zip(figures);
        let bars = named.map(|(number, of)| (step.name(number), (of.backups > 0).then_some(of))).collect();
        let told = format!(
            "One bar for each {}: the largest content, what was added together, the longest time, what was saved of all.",
            step.noun()
        );
        (told, bars)
    };
    let count = grouped(drawn.len() as u64);
    Some(Course {
        told: format!("{count} complete backups. {told}"),
        plots: SERIES.iter().map(|series| plot(series, &bars, (date(oldest), date(newest)))).collect(),
        rows: bars.iter().rev().filter_map(|(when, figures)| Some(row(when, figures.as_ref()?))).collect(),
    })
}

fn plot(
    (title, value, words): &Series,
    bars: &[(String, Option<Figures>)],
    (from, to): (String, String),
) -> Plot {
    let values = || bars.iter().filter_map(move |(_, figures)| figures.as_ref().map(value));
    let (most, least) = (values().max().unwrap_or(0), values().min().unwrap_or(0));
    Plot {
        title,
        words: match (words(least), words(most), words(values().next_back().unwrap_or(0))) {
            (least, most, _) if least == most => format!("{most} in each."),
            (least, most, last) => format!("{least} to {most}; the newest {last}."),
        },
        bars: drawn(bars, *value, most, *words),
        top: words(most),
        from,
        to,
    }
}

fn drawn(
    bars: &[(String, Option<Figures>)],
    value: fn(&Figures) -> u64,
    most: u64,
    words: fn(u64) -> String,
) -> Vec<Bar> {
    let step = WIDTH / bars.len() as f64;
    let width = (step - 1.0).clamp(1.0, 24.0);
    let bar = |(place, (when, figures)): (usize, &(String, Option<Figures>))| {
        let value = value(figures.as_ref()?);
        let height = if most == 0 { 0.0 } else { value as f64 / most as f64 * HEIGHT }.max(BAR_MIN);
        Some(Bar {
            x: format!("{:.1}", place as f64 * step + (step - width) / 2.0),
            y: format!("{:.1}", HEIGHT - height),
            width: format!("{width:.1}"),
            height: format!("{height:.1}"),
            words: format!("{when}: {}", words(value)),
        })
    };
    bars.iter().enumerate().filter_map(bar).collect()
}

fn row(when: &str, figures: &Figures) -> Row {
    Row {
        when: when.to_owned(),
        backups: grouped(figures.backups),
        values: SERIES.iter().map(|(title, value, words)| (*title, words(value(figures)))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: i64 = 1_700_000_000_000;

    fn backup_at(start_time: i64, read: u64, added: u64) -> Arc<BackupView> {
        Arc::new(BackupView {
            name: format!("b{start_time}"),
            store: "s1".to_owned(),
            description: String::new(),
            release: String::new(),
            site_name: String::new(),
            status: "completed".to_owned(),
            schedule_type: "MANUAL".to_owned(),
            start_time,
            complete_time: start_time.saturating_add(5000),
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

    fn backup(day: u64, read: u64, added: u64) -> Arc<BackupView> {
        backup_at(BEGIN + day as i64 * DAY_MS, read, added)
    }

    /// So many, newest first, at even distances up to `now`.
    fn many(count: i64, apart: i64, now: i64) -> Vec<Arc<BackupView>> {
        (0..count).map(|n| backup_at(now - n * apart, 1 << 20, 1 << 10)).collect()
    }

    #[test]
    fn every_plot_says_in_words_what_it_shows() {
        let backups: Vec<_> = (0..100).rev().map(|n| backup(n, 1 << 20, n << 10)).collect();
        let course = of(&backups, Span::Newest, BEGIN + 100 * DAY_MS).expect("course");
        assert_eq!(course.plots.len(), 4);
        assert!(course.plots.iter().all(|plot| plot.bars.len() == SHOWN));
        assert_eq!(course.plots[1].words, "60.0 KiB to 99.0 KiB; the newest 99.0 KiB.");
        assert_eq!(course.plots[2].words, "5.0 s in each.");
        assert_eq!(
            (course.plots[0].from.as_str(), course.plots[0].to.as_str()),
            ("2024-01-13", "2024-02-21")
        );
        assert_eq!(course.rows.len(), SHOWN, "and the same in a table");
        assert_eq!(course.rows[0].values[1], ("Added to the store", "99.0 KiB".to_owned()));
        assert_eq!(course.told, "40 complete backups. One bar for each backup.");
    }

    #[test]
    fn ten_thousand_backups_take_few_bars_whatever_the_span() {
        let now = BEGIN + 3650 * DAY_MS;
        let backups = many(10_000, 3650 * DAY_MS / 10_000, now);
        for (span, noun) in [
            (Span::Newest, "each backup"),
            (Span::Days(30), "each day"),
            (Span::Days(90), "each week"),
            (Span::Days(365), "each week"),
            (Span::All, "each year"),
        ] {
            let course = of(&backups, span, now).expect("course");
            assert!(course.told.contains(noun), "{span:?}: {}", course.told);
            assert!(course.plots[0].bars.len() <= BARS_MAX as usize, "{span:?}");
            let told: u64 =
                course.rows.iter().map(|row| row.backups.replace(',', "").parse::<u64>().expect("n")).sum();
            assert_eq!(told as usize, span.take(&backups, now).len(), "{span:?}: every backup is in one bar");
        }
    }

    #[test]
    fn a_bar_tells_the_largest_the_sum_the_longest_and_the_share_of_all() {
        let now = BEGIN + DAY_MS;
        let mut backups = many(50, 1000, now);
        backups[7] = backup_at(now - 7000, 3 << 20, 1 << 20);
        let course = of(&backups, Span::All, now).expect("course");
        let row = &course.rows[0];
        let told: Vec<&str> = row.values.iter().map(|(_, told)| told.as_str()).collect();
        assert_eq!((row.when.as_str(), row.backups.as_str()), ("2023-11-15", "50"));
        assert_eq!(told, ["3.0 MiB", "1.0 MiB", "5.0 s", "98 %"]);
    }

    #[test]
    fn a_step_without_a_backup_has_its_place_and_no_bar() {
        let now = BEGIN + 40 * DAY_MS;
        let mut backups = many(30, 1000, now);
        backups.extend(many(30, 1000, now - 20 * DAY_MS));
        let course = of(&backups, Span::All, now).expect("course");
        assert_eq!((course.plots[0].bars.len(), course.rows.len()), (2, 2));
        let (first, last): (f64, f64) =
            (course.plots[0].bars[0].x.parse().expect("x"), course.plots[0].bars[1].x.parse().expect("x"));
        assert!(first < WIDTH / 10.0 && last > WIDTH * 0.9, "{first} {last}");
    }

    #[test]
    fn steps_are_those_of_the_calendar() {
        let sunday = 1_772_323_200_000; // 2026-03-01
        assert_eq!(Step::Week.name(Step::Week.of(sunday)), "week of 2026-02-23");
        assert_eq!(Step::Week.name(Step::Week.of(sunday + DAY_MS)), "week of 2026-03-02");
        assert_eq!(Step::Month.name(Step::Month.of(sunday)), "2026-03");
        assert_eq!(Step::Month.name(Step::Month.of(sunday - 1)), "2026-02");
        assert_eq!(Step::Years(1).name(Step::Years(1).of(sunday)), "2026");
        assert_eq!(Step::Years(10).name(Step::Years(10).of(sunday)), "2020 to 2029");
    }

    #[test]
    fn figures_out_of_all_bounds_stay_in_the_picture() {
        let odd = [backup(2, u64::MAX, u64::MAX), backup(1, 0, 5), backup(0, 10, 20)];
        for plot in of(&odd, Span::Newest, BEGIN).expect("course").plots {
            for bar in plot.bars {
                let (y, height): (f64, f64) =
                    (bar.y.parse().expect("y"), bar.height.parse().expect("height"));
                assert!((0.0..=HEIGHT).contains(&y) && height <= HEIGHT, "{y} {height}");
            }
        }
        let one = of(&odd[..1], Span::All, BEGIN);
        assert!(one.is_none() && of(&[], Span::All, BEGIN).is_none(), "one is no course of things");
    }

    #[test]
    fn times_out_of_all_bounds_end_nothing() {
        let mut backups = many(60, DAY_MS, BEGIN);
        backups.insert(0, backup_at(i64::MAX, 1, 1));
        backups.push(backup_at(i64::MIN, 1, 1));
        for span in Span::CHOICES {
            let course = of(&backups, span, BEGIN).expect("course");
            assert!(course.plots[0].bars.len() <= BARS_MAX as usize, "{span:?}");
        }
        // Nor do they press all the others together.
        for span in [Span::Days(90), Span::All] {
            assert!(of(&backups, span, BEGIN).expect("course").plots[0].bars.len() >= 8, "{span:?}");
        }
    }

    #[test]
    fn what_was_saved_is_never_less_than_nothing() {
        assert_eq!(saved(&backup(0, 0, 5)), 0);
        assert_eq!(saved(&backup(0, 100, 150)), 0);
        assert_eq!(saved(&backup(0, 100, 1)), 99);
        assert_eq!(saved(&backup(0, u64::MAX, 0)), 100);
    }
}
