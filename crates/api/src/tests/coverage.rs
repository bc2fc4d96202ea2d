//! `docs/coverage.md` against what is served and tested.

use crate::endpoints::ENDPOINTS;

const TABLE: &str = include_str!("../../../../docs/coverage.md");
const SOURCES: &[&str] = &[
    include_str!("access.rs"),
    include_str!("concurrency.rs"),
    include_str!("console.rs"),
    include_str!("description.rs"),
    include_str!("drills.rs"),
    include_str!("files.rs"),
    include_str!("keys.rs"),
    include_str!("notifications.rs"),
    include_str!("oauth.rs"),
    include_str!("oauth_codes.rs"),
    include_str!("oidc.rs"),
    include_str!("overview.rs"),
    include_str!("pages.rs"),
    include_str!("portal.rs"),
    include_str!("replies.rs"),
    include_str!("tasks.rs"),
    include_str!("users.rs"),
    include_str!("wire.rs"),
];

/// The first cell of each line of the first table: a path in backticks.
fn paths() -> Vec<&'static str> {
    let lines = TABLE.lines().filter_map(|line| line.strip_prefix("| `/"));
    lines.filter_map(|line| line.split('`').next()).collect()
}

#[test]
fn every_path_that_is_served_is_in_the_table_and_nothing_else_is() {
    let told = paths();
    // There in tests alone.
    let served = ENDPOINTS.iter().map(|endpoint| endpoint.path).filter(|path| !path.ends_with("/failing"));
    let served: Vec<&str> = served.collect();
    for path in &served {
        assert!(told.contains(path), "docs/coverage.md lacks `/{path}`");
    }
    for path in &told {
        assert!(served.contains(path), "docs/coverage.md tells of `/{path}`, which is not served");
    }
}

#[test]
fn every_test_that_the_table_names_is_there() {
    for line in TABLE.lines().filter(|line| line.starts_with("| ")) {
        let cell = line.split('|').nth(2).unwrap_or_default();
        // Names of tests are the only words in backticks with underscores in that column.
        for name in cell.split('`').filter(|word| word.contains('_')) {
            let definition = format!("fn {name}(");
            assert!(SOURCES.iter().any(|source| source.contains(&definition)), "there is no test {name}");
        }
    }
}
