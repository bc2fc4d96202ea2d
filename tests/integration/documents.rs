//! Every document: links inside of the project lead to files, and to headings, that are there; `docs/index.md` lists every
//! page.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Where the documents lie; those below `docs` are looked for at every depth.
fn documents() -> BTreeMap<PathBuf, String> {
    let root = fs::canonicalize(ROOT).unwrap();
    let mut left = vec![root.join("docs")];
    let mut found = BTreeMap::new();
    let top = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).filter(|path| is_page(path));
    let mut pages: Vec<PathBuf> = top.collect();
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else if is_page(&path) {
                pages.push(path);
            }
        }
    }
    for path in pages {
        let text = fs::read_to_string(&path).unwrap();
        found.insert(path, text);
    }
    found
}

fn is_page(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "md")
}

/// Lines outside of blocks of code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// What `[…](…)` leads to.
fn links(text: &str) -> Vec<String> {
    // A link may go on in the next line.
    let text: String = prose(text).map(|line| format!("{line}\n")).collect();
    let ends = text.match_indices("](").map(|(place, _)| place + 2);
    ends.filter_map(|start| Some(text[start..].split_once(')')?.0.trim().to_owned())).collect()
}

/// The anchors of headings, as GitHub makes them.
fn anchors(text: &str) -> HashSet<String> {
    let mut found = HashSet::new();
    for line in
        prose(text).filter(|line| line.starts_with('#') && line.trim_start_matches('#').starts_with(' '))
    {
        let heading = unlinked(line.trim_start_matches('#').trim()).to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        let anchor = kept.collect::<String>().replace(' ', "-");
        let mut again = (0..).map(|n| if n == 0 { anchor.clone() } else { format!("{anchor}-{n}") });
        let new = again.find(|one| !found.contains(one)).unwrap();
        found.insert(new);
    }
    found
}

/// A heading whose links are their text.
fn unlinked(heading: &str) -> String {
    match heading.split_once("](") {
        Some((before, rest)) => {
            format!("{}{}", before.replace('[', ""), rest.split_once(')').map_or("", |(_, after)| after))
        }
        None => heading.to_owned(),
    }
}

#[test]
fn every_link_between_documents_leads_to_a_file_and_a_heading_that_are_there() {
    let documents = documents();
    let mut seen = 0;
    let mut broken = Vec::new();
    for (path, text) in &documents {
        for link in links(text) {
            if link.contains("://") || link.starts_with("mailto:") || link.starts_with('<') {
                continue;
            }
            seen += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { Some(path.clone()) } else { found(path, file) };
            let leads = target.is_some_and(|target| match documents.get(&target) {
                Some(text) => anchor.is_empty() || anchors(text).contains(anchor),
                None => anchor.is_empty(),
            });
            if !leads {
                broken.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "these links lead nowhere:\n{}", broken.join("\n"));
    assert!(seen > 100, "only {seen} links were found");
}

fn found(from: &Path, file: &str) -> Option<PathBuf> {
    fs::canonicalize(from.parent()?.join(file)).ok()
}

#[test]
fn the_index_lists_every_page() {
    let documents = documents();
    let docs = fs::canonicalize(ROOT).unwrap().join("docs");
    let index = docs.join("index.md");
    let listed: HashSet<PathBuf> = links(&documents[&index])
        .iter()
        .filter_map(|link| found(&index, link.split('#').next().unwrap_or_default()))
        .collect();
    for path in documents.keys().filter(|path| path.parent() == Some(&docs) && **path != index) {
        assert!(listed.contains(path), "docs/index.md does not list {}", path.display());
    }
}

#[test]
fn a_broken_link_and_anchor_would_be_found() {
    let page = "# A *b* `c_d`\n\n## A b c_d\n```sh\n# no heading [x](y)\n```\n[one](a.md#b), [two](c.md \n) [t](\n#e)\n";
    assert_eq!(links(page), ["a.md#b", "c.md", "#e"]);
    let expected = ["a-b-c_d", "a-b-c_d-1"].map(String::from);
    assert_eq!(anchors(page), HashSet::from(expected));
}
