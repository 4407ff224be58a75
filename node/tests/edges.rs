//! Which crate may know which, and the map in the README: both compared with what is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// `config <- overlay <- {dns, sources <- proxy} <- node`; the simulator drives the cores and never a node.
const EDGES: &[(&str, &[&str])] = &[
    ("coralline-config", &[]),
    ("coralline-disk", &[]),
    ("coralline-receipt", &[]),
    ("coralline-overlay", &["coralline-config"]),
    ("coralline-sources", &["coralline-overlay"]),
    ("coralline-dns", &["coralline-config", "coralline-overlay"]),
    (
        "coralline-proxy",
        &[
            "coralline-config",
            "coralline-disk",
            "coralline-overlay",
            "coralline-receipt",
            "coralline-sources",
        ],
    ),
    ("coralline", &["coralline-config", "coralline-dns", "coralline-overlay", "coralline-proxy"]),
    (
        "coralline-sim",
        &["coralline-config", "coralline-overlay", "coralline-receipt", "coralline-sources"],
    ),
];

fn cargo(args: &[&str]) -> String {
    let output =
        Command::new(env!("CARGO")).args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let output = output.expect("cargo runs this test, so it is there");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo prints UTF-8")
}

#[test]
fn crates_know_only_those_they_may() {
    let metadata = cargo(&["metadata", "--no-deps", "--format-version", "1", "--offline"]);
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    let mut found: BTreeSet<(String, String)> = BTreeSet::new();
    let packages = metadata["packages"].as_array().unwrap();
    for package in packages {
        for dependency in package["dependencies"].as_array().unwrap() {
            let (from, to) =
                (package["name"].as_str().unwrap(), dependency["name"].as_str().unwrap());
            // Tests may use what they like, as long as it is not a cycle, which cargo refuses.
            if to.starts_with("coralline") && dependency["kind"] != "dev" {
                found.insert((from.to_owned(), to.to_owned()));
            }
        }
    }
    let expect = EDGES
        .iter()
        .flat_map(|(from, all)| all.iter().map(|to| ((*from).to_owned(), (*to).to_owned())));
    assert_eq!(found, expect.collect());
    assert_eq!(packages.len(), EDGES.len(), "a crate is missing from the list");
}

#[test]
fn the_core_of_the_overlay_has_no_io() {
    let tree = cargo(&[
        "tree",
        "--offline",
        "--package=coralline-overlay",
        "--no-default-features",
        "--edges=normal",
        "--prefix=none",
    ]);
    for forbidden in ["tokio", "socket2", "mio", "getrandom", "snow"] {
        let found = tree.lines().find(|line| line.split(' ').next() == Some(forbidden));
        assert_eq!(found, None, "the core must build without {forbidden}");
    }
}

#[test]
fn the_map_names_what_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let files = readme.split('`').filter(|word| word.contains('/') && !word.contains([' ', '\n']));
    let files = files.filter(|word| !word.starts_with(['/', '*']) && !word.contains("://"));
    let dirs = readme.lines().filter_map(|line| line.split_once("/  ").map(|(dir, _)| dir));
    let named: BTreeSet<_> = files.chain(dirs.filter(|dir| !dir.contains(' '))).collect();
    assert!(named.len() > EDGES.len(), "the README has a map: {named:?}");
    for name in &named {
        assert!(root.join(name).exists(), "README.md names {name}, which is not there");
    }
    for (package, _) in EDGES {
        let dir = package.strip_prefix("coralline-").unwrap_or("node");
        assert!(named.contains(dir), "the map of the README lacks {dir}/");
    }
}
