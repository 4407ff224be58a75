//! What is done in a world and measured there: one module an experiment.

mod broadcast;
mod clusters;
mod content;
mod hot;
mod idle;
mod local;
mod lone;
mod partition;
mod races;
mod renewed;
mod restart;
mod swarm;

use std::time::Duration;

use coralline_overlay::Key;
use serde::Deserialize;

use crate::matrix::Matrix;
use crate::report::Report;
use crate::scenario::Scenario;
use crate::world::World;

/// Longer than any measurement.
const LONG: Duration = Duration::from_secs(7_200);

/// An experiment and its size.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Workload {
    /// All nodes put and get one key back to back.
    Hot {
        /// How long.
        minutes: u64,
        /// Between one query of a node and its next, at least, in milliseconds.
        gap_ms: u64,
    },
    /// Clusters form by themselves; they are held against a greedy clustering that knows all round
    /// trips.
    Clusters {
        /// Review periods (5 min) until they should stand.
        periods: u64,
        /// How long they are watched after that, in minutes.
        watch_min: u64,
    },
    /// Gets of keys that a node of the same nearest cluster holds, with levels and without.
    Local {
        /// How many.
        keys: usize,
    },
    /// Lone claims of cold keys, then gets that miss everywhere, without haste.
    Lone {
        /// How many of each.
        keys: usize,
    },
    /// Objects are fetched from each other with their proofs, while some nodes say they hold everything and lie
    /// about all of it.
    Content {
        /// The share of nodes that lie, an equal part of them in each way.
        liars: f64,
        /// How many objects.
        keys: usize,
        /// How long clients ask, in minutes.
        minutes: u64,
        /// Requests of clients a second in the whole network.
        gets_a_second: u64,
        /// Of an object.
        octets: usize,
    },
    /// Many claims of few cold keys within a second.
    Races {
        /// Each is claimed by each node.
        keys: usize,
    },
    /// Holders renew what they hold, others get it, while troubles come.
    Renewed {
        /// Keys, each with one holder at a time.
        keys: usize,
        /// How long, in minutes.
        minutes: u64,
        /// Gets a second in the whole network.
        gets_a_second: u64,
        /// Time to live of a pointer, renewed at half of it, in seconds.
        ttl_s: u64,
    },
    /// Nodes die and return at once; lookups must work soon, without a storm.
    Restart {
        /// Of all nodes.
        share: f64,
        /// How long they are away, in seconds.
        away_s: u64,
        /// Keys, each put by its holder and again once it has returned.
        keys: usize,
    },
    /// The network is parted and healed.
    Partition {
        /// How long, in minutes.
        minutes: u64,
        /// Keys put by each side while parted.
        keys: usize,
    },
    /// Nothing is asked: what do nodes send and hold?
    Idle {
        /// How long, in minutes.
        minutes: u64,
    },
    /// Messages to the whole network, one at a time.
    Broadcast {
        /// How many.
        messages: usize,
        /// The share of nodes that dies just before each, and returns after it.
        dead: f64,
    },
    /// Troubles drawn by chance while all kinds of queries run; then all is healed and must work.
    Swarm {
        /// How long troubles last, in minutes.
        minutes: u64,
        /// Keys in use.
        keys: usize,
    },
}

pub(crate) fn run(scenario: &Scenario, seed: u64, matrix: Option<&Matrix>) -> Report {
    let mut report = Report::default();
    let mut world = scenario.world(seed, matrix);
    if !matches!(scenario.workload, Workload::Local { .. }) {
        scenario.trouble(&mut world);
    }
    let to = &mut report;
    match scenario.workload {
        Workload::Hot { minutes, gap_ms } => hot::run(&mut world, to, minutes, gap_ms),
        Workload::Clusters { periods, watch_min } => {
            clusters::run(&mut world, to, &scenario.world.levels_ms, periods, watch_min);
        }
        Workload::Local { keys } => {
            let mut flat = scenario.world_of(&[], seed, matrix);
            scenario.trouble(&mut flat);
            scenario.trouble(&mut world);
            local::run(&mut world, &mut flat, to, &scenario.world.levels_ms, keys);
        }
        Workload::Lone { keys } => lone::run(&mut world, to, keys),
        Workload::Content { liars, keys, minutes, gets_a_second, octets } => {
            content::run(&mut world, to, (liars, keys), minutes, gets_a_second, octets);
        }
        Workload::Races { keys } => races::run(&mut world, to, keys),
        Workload::Renewed { keys, minutes, gets_a_second, ttl_s } => {
            let ttl = Duration::from_secs(ttl_s);
            renewed::run(&mut world, to, keys, minutes, gets_a_second, ttl);
        }
        Workload::Restart { share, away_s, keys } => {
            restart::run(&mut world, to, share, Duration::from_secs(away_s), keys);
        }
        Workload::Partition { minutes, keys } => partition::run(&mut world, to, minutes, keys),
        Workload::Broadcast { messages, dead } => {
            broadcast::run(&mut world, to, messages, dead);
        }
        Workload::Idle { minutes } => idle::run(&mut world, to, minutes),
        Workload::Swarm { minutes, keys } => swarm::run(&mut world, to, minutes, keys),
    }
    report.violations = world.violations().to_vec();
    report.digest = world.digest();
    report.events = world.events();
    report
}

/// The key of the `at`th thing of a workload.
fn key(workload: &str, at: usize) -> Key {
    Key::of_name(format!("{workload}/{at}").as_bytes())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
const fn number(count: usize) -> f64 {
    count as f64
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
const fn float(count: u64) -> f64 {
    count as f64
}

/// In percent of all; 100 of nothing.
fn percent(some: usize, all: usize) -> f64 {
    if all == 0 { 100.0 } else { 100.0 * number(some) / number(all) }
}

/// The value that a share of `percent` reaches at the most; no number of nothing.
fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / number(values.len())
}

/// Octets that each node has sent so far; none of the dead.
fn sent(world: &World) -> Vec<Option<u64>> {
    (0..world.nodes()).map(|node| world.stats(node).map(|stats| stats.bytes_out)).collect()
}
