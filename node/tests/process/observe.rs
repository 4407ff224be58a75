//! Metrics, dashboards and alert rules say the same names, and promtool agrees with the rules.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::{ADMIN, Node, get, program};

fn dashboards() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../dashboards")
}

/// Every name that begins with `coralline_` or `process_`, as it stands in `text`.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let ours = words.filter(|w| w.starts_with("coralline_") || w.starts_with("process_"));
    ours.map(str::to_owned).collect()
}

/// Every PromQL expression of a dashboard, wherever it stands.
fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::String(text) if name == "expr" || name == "query" => {
                        found.push(text.clone());
                    }
                    _ => expressions(field, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}

/// The families of a scrape with the names under which each is queried.
fn families(scrape: &str) -> Vec<(String, Vec<String>)> {
    let types = scrape.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    types
        .map(|(name, kind)| match kind {
            "histogram" => {
                let parts = ["_bucket", "_sum", "_count"].map(|part| format!("{name}{part}"));
                (name.to_owned(), parts.to_vec())
            }
            _ => (name.to_owned(), vec![name.to_owned()]),
        })
        .collect()
}

#[test]
fn every_name_is_measured_and_every_measure_is_shown() {
    let node = Node::running(&[]);
    let scrape = get(node.at(ADMIN), "/metrics").unwrap().text();
    let measured = families(&scrape);
    let known: BTreeSet<_> = measured.iter().flat_map(|(_, names)| names.clone()).collect();

    let mut shown = BTreeSet::new();
    for entry in fs::read_dir(dashboards()).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let used = match path.extension().and_then(|e| e.to_str()) {
            Some("json") => {
                let mut all = Vec::new();
                expressions(&serde_json::from_str(&text).unwrap(), &mut all);
                let used = names(&all.join("\n"));
                shown.extend(used.clone());
                used
            }
            _ => names(&text),
        };
        let unknown: Vec<_> = used.difference(&known).collect();
        assert!(unknown.is_empty(), "{}: nobody measures {unknown:?}", path.display());
    }
    let ours = measured.iter().filter(|(name, _)| name.starts_with("coralline_"));
    let hidden: Vec<_> =
        ours.filter(|(_, names)| !names.iter().any(|n| shown.contains(n))).collect();
    assert!(hidden.is_empty(), "no dashboard shows {hidden:?}");
}

#[test]
fn every_series_exists_from_the_start() {
    let node = Node::running(&[]);
    let scrape = get(node.at(ADMIN), "/metrics").unwrap().text();
    for series in [
        "coralline_ready 1",
        "coralline_overlay_nodes 1",
        "coralline_http_requests_total{source=\"local\"} 0",
        "coralline_http_requests_total{source=\"origin\"} 0",
        "coralline_overlay_dropped_total{reason=\"malformed\"} 0",
    ] {
        assert!(scrape.lines().any(|line| line == series), "{series} is missing in:\n{scrape}");
    }
}

#[test]
fn promtool_accepts_the_rules_and_their_tests() {
    let Some(promtool) = program("promtool") else { return };
    for args in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]] {
        let output = Command::new(&promtool).args(args).current_dir(dashboards()).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&text));
    }
}

#[test]
fn promtool_accepts_the_metrics() {
    let Some(promtool) = program("promtool") else { return };
    let node = Node::running(&[]);
    let file = node.dir().join("metrics");
    fs::write(&file, get(node.at(ADMIN), "/metrics").unwrap().body).unwrap();
    let input = fs::File::open(&file).unwrap();
    let output = Command::new(promtool).args(["check", "metrics"]).stdin(input).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    // The process collector of the prometheus crate does not follow every advice of promtool's.
    let complaints: Vec<_> = text.lines().filter(|line| line.starts_with("coralline_")).collect();
    assert!(complaints.is_empty(), "{complaints:?}");
}

#[test]
fn alerts_point_to_runbooks_that_exist() {
    let rules = fs::read_to_string(dashboards().join("alerts.yml")).unwrap();
    let readme = fs::read_to_string(dashboards().join("../README.md")).unwrap().to_lowercase();
    let links: Vec<_> = rules.lines().filter_map(|l| l.split_once("runbook_url: ")).collect();
    assert_eq!(links.len(), rules.matches("- alert: ").count(), "each alert has one");
    for (_, link) in links {
        let anchor = link.trim().strip_prefix("README.md#").expect("a section of the README");
        let heading = readme.lines().filter(|line| line.starts_with('#'));
        let mut anchors = heading.map(|h| h.trim_start_matches(['#', ' ']).replace(' ', "-"));
        assert!(anchors.any(|known| known == anchor), "README.md has no section #{anchor}");
    }
}
