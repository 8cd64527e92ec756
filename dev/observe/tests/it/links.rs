//! Every link between the pages of this repository leads to a page and a heading that are there.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use harness::stack::repository;

/// Folders that hold what is fetched or built.
const NOT_OURS: [&str; 5] = ["target", ".git", ".dev", "node_modules", "fetched"];

fn pages(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !NOT_OURS.contains(&name.as_str()) {
                pages(&path, into);
            }
        } else if name.ends_with(".md") {
            into.push(path);
        }
    }
}

/// The text without fenced code and without code in a line, where brackets are no links.
fn prose(text: &str) -> String {
    let mut prose = String::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            let outside = line.split('`').step_by(2);
            prose.extend(outside.chain(["\n"]));
        }
    }
    prose
}

/// Where links of the form `[text](target)` lead.
fn targets(text: &str) -> Vec<String> {
    let rests = text.split("](").skip(1);
    rests.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.trim().to_owned()).collect()
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut fenced = false;
    let mut anchors = BTreeSet::new();
    for line in text.lines() {
        fenced ^= line.trim_start().starts_with("```");
        let title = line.trim_start_matches('#');
        if fenced || title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        // Of a link only the text counts.
        let title = title.trim().split("](").map(|part| part.split_once(')').map_or(part, |(_, rest)| rest));
        let title = title.collect::<String>().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        anchors.insert(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
    }
    anchors
}

fn is_broken(page: &Path, target: &str) -> bool {
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let file = match path {
        "" => page.to_owned(),
        path => page.parent().unwrap().join(path),
    };
    if !file.exists() {
        return true;
    }
    let is_page = file.extension().is_some_and(|extension| extension == "md");
    is_page && !anchor.is_empty() && !anchors(&fs::read_to_string(&file).unwrap()).contains(anchor)
}

#[test]
fn every_link_between_pages_leads_somewhere() {
    let (root, mut all, mut seen, mut broken) = (repository(), Vec::new(), 0, Vec::new());
    pages(&root, &mut all);
    for page in &all {
        for target in targets(&prose(&fs::read_to_string(page).unwrap())) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            seen += 1;
            if is_broken(page, &target) {
                broken.push(format!("{}: {target}", page.strip_prefix(&root).unwrap().display()));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
    assert!(seen > 100, "only {seen} links were looked at");
}

/// A page that no other leads to is found by nobody; the book's own list leads to all.
#[test]
fn every_page_of_the_docs_is_in_the_book_and_linked_from_another() {
    // Links are followed to where they lead in the end, so pages are named by that, too.
    let (root, mut all) = (repository().canonicalize().unwrap(), Vec::new());
    pages(&root, &mut all);
    let docs = root.join("docs");
    let list = docs.join("SUMMARY.md");
    let in_book: BTreeSet<_> =
        targets(&fs::read_to_string(&list).unwrap()).iter().map(|page| docs.join(page)).collect();
    let mut linked = BTreeSet::new();
    for page in all.iter().filter(|page| **page != list) {
        for target in targets(&prose(&fs::read_to_string(page).unwrap())) {
            let path = page.parent().unwrap().join(target.split('#').next().unwrap_or_default());
            if let Ok(path) = path.canonicalize()
                && path != *page
            {
                linked.insert(path);
            }
        }
    }
    let is_lonely = |page: &&PathBuf| !linked.contains(*page) || !in_book.contains(*page);
    let of_docs = all.iter().filter(|page| page.starts_with(&docs) && **page != list);
    let lonely: Vec<_> = of_docs.filter(is_lonely).collect();
    assert!(lonely.is_empty(), "no page leads to {lonely:?}");
}

#[test]
fn headings_have_the_anchors_that_github_gives_them() {
    let text = "# Back to the poller\n## `--clean`, and [why](x.md)\n```\n# no heading\n```\n#no-heading";
    let expected = ["back-to-the-poller", "--clean-and-why"].map(str::to_owned);
    assert_eq!(anchors(text), BTreeSet::from(expected));
    assert!(is_broken(&repository().join("README.md"), "docs/nowhere.md"));
    assert!(is_broken(&repository().join("README.md"), "docs/mapping.md#nowhere"));
}
