//! Every scenario file can be read, and small ones hold for fixed seeds.

use std::fs;
use std::path::PathBuf;

use coralline_sim::{Report, Scenario, Table, Workload};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

fn scenario(name: &str) -> Scenario {
    let path = folder().join(format!("{name}.toml"));
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Scenario::parse(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Runs it with these seeds; a failure names the command that replays it.
fn hold(scenario: &Scenario, name: &str, seeds: &[u64]) -> Vec<Report> {
    let reports: Vec<_> = seeds.iter().map(|seed| scenario.run(*seed, None)).collect();
    let table = Table { checks: &scenario.checks, reports: &reports };
    if let Some((at, what)) = table.failures().first() {
        let replay = format!("coralline-sim --scenario sim/scenarios/{name}.toml");
        panic!("{what}\nreplay: {replay} --seed {}\n{table}", seeds[*at]);
    }
    reports
}

#[test]
fn every_file_can_be_read() {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        names.push(path.file_stem().unwrap().to_str().unwrap().to_owned());
    }
    assert!(names.len() >= 12, "one a row of the table: {names:?}");
    for name in names {
        assert!(!scenario(&name).about.is_empty(), "{name}");
    }
}

#[test]
fn equal_seeds_give_equal_reports() {
    let mut scenario = scenario("swarm");
    scenario.world.nodes = 40;
    scenario.workload = Workload::Swarm { minutes: 2, keys: 50 };
    let first = scenario.run(3, None);
    assert_eq!(first, scenario.run(3, None));
    assert_ne!(first.digest, scenario.run(4, None).digest);
}

#[test]
fn one_origin_fetch_a_key() {
    hold(&scenario("race"), "race", &[1, 2, 3]);
}

/// The trouble itself must be felt: a measurement that cannot fail shows nothing.
#[test]
fn liars_are_felt_and_the_honest_are_not_blamed() {
    let mut scenario = scenario("liars-junk");
    scenario.checks.clear();
    scenario.world.nodes = 100;
    scenario.workload = Workload::Renewed { keys: 50, minutes: 2, gets_a_second: 10, ttl_s: 60 };
    let report = &hold(&scenario, "liars-junk", &[1])[0];
    assert!(report.value("invented pointers, %").unwrap() > 0.0, "{report:?}");
    scenario.troubles.clear();
    let report = &hold(&scenario, "liars-junk", &[1])[0];
    assert!(report.value("gets of live values").unwrap() > 300.0, "{report:?}");
    assert!(report.value("gets that succeed, %").unwrap() >= 100.0, "{report:?}");
    assert!(report.value("invented pointers, %").unwrap() <= 0.0, "{report:?}");
}

#[test]
fn no_lie_about_content_is_delivered_and_liars_are_left_alone() {
    let mut scenario = scenario("content-liars");
    scenario.world.nodes = 60;
    let content =
        |liars| Workload::Content { liars, keys: 40, minutes: 3, gets_a_second: 5, octets: 40_000 };
    // How much liars cost is for a longer run, in which they are known.
    scenario.checks.retain(|check| !check.figure.starts_with("of what others hold"));
    scenario.workload = content(0.1);
    let report = &hold(&scenario, "content-liars", &[1])[0];
    assert!(report.value("requests to liars, %").unwrap() > 5.0, "{report:?}");
    // Without any, each object is fetched once.
    scenario.workload = content(0.0);
    let report = &hold(&scenario, "content-liars", &[1])[0];
    assert!(report.value("requests to liars, %").unwrap() <= 0.0, "{report:?}");
    assert!(report.value("origin fetches an object").unwrap() < 1.3, "{report:?}");
}

#[test]
fn churn_is_survived() {
    let mut scenario = scenario("churn");
    scenario.world.nodes = 200;
    scenario.workload = Workload::Renewed { keys: 100, minutes: 4, gets_a_second: 20, ttl_s: 60 };
    scenario.checks.retain(|check| check.figure == "gets that succeed, %");
    scenario.checks[0].at_least = Some(99.0);
    let report = &hold(&scenario, "churn", &[1])[0];
    assert!(report.value("nodes alive at the end").unwrap() < 200.0, "somebody is always away");
}

#[test]
fn nine_in_ten_restart() {
    let mut scenario = scenario("mass-restart");
    scenario.world.nodes = 100;
    scenario.world.settle_s = 30;
    scenario.workload = Workload::Restart { share: 0.9, away_s: 30, keys: 100 };
    scenario.checks.retain(|check| check.figure.starts_with("gets"));
    hold(&scenario, "mass-restart", &[1]);
}

#[test]
fn halves_become_one_again() {
    let mut scenario = scenario("partition");
    scenario.world.nodes = 60;
    scenario.workload = Workload::Partition { minutes: 3, keys: 40 };
    let report = &hold(&scenario, "partition", &[1])[0];
    assert!(report.value("across while parted, %").unwrap() <= 0.0, "{report:?}");
}

#[test]
fn a_hot_key_leaves_the_far_half_alone() {
    let mut scenario = scenario("hot-key");
    scenario.world.nodes = 100;
    scenario.workload = Workload::Hot { minutes: 2, gap_ms: 400 };
    scenario.checks.retain(|check| check.figure.starts_with("far half"));
    let report = &hold(&scenario, "hot-key", &[1])[0];
    assert!(report.value("queries of a node a minute").unwrap() > 60.0, "{report:?}");
}

#[test]
fn a_seed_that_fails_is_named() {
    let mut scenario = scenario("race");
    scenario.world.nodes = 20;
    scenario.checks[0].at_most = Some(0.0);
    let reports = [scenario.run(1, None)];
    let table = Table { checks: &scenario.checks, reports: &reports };
    assert_eq!(table.failures(), [(0, "origin fetches".to_owned())]);
    assert!(table.to_string().contains("MISSED"), "{table}");
}

#[test]
fn safety_always_and_liveness_after_healing() {
    let mut scenario = scenario("swarm");
    scenario.world.nodes = 50;
    scenario.workload = Workload::Swarm { minutes: 5, keys: 100 };
    hold(&scenario, "swarm", &[1, 2]);
}
