//! Clusters that form by themselves, held against those of somebody who knows all round trips.

use std::collections::BTreeMap;
use std::time::Duration;

use coralline_overlay::Level;

use crate::greedy::greedy;
use crate::report::Report;
use crate::workload::{mean, number, percent};
use crate::world::World;

/// Coral's: a node reconsiders its clusters this often.
const REVIEW: Duration = Duration::from_secs(300);
const MINUTE: Duration = Duration::from_secs(60);
/// They have settled once fewer than this share of nodes, in percent, moves in a review period.
const SETTLED: f64 = 1.0;

/// Each node's cluster, as a number.
type Clusters = Vec<Option<usize>>;

pub(super) fn run(
    world: &mut World,
    report: &mut Report,
    levels_ms: &[u64],
    periods: u64,
    watch_min: u64,
) {
    let levels: Vec<_> = (1..=levels_ms.len()).rev().zip(levels_ms).collect();
    let mut names = BTreeMap::new();
    let mut seen = |world: &World, level: usize| of_all(world, level, &mut names);
    let mut last: Vec<Clusters> = levels.iter().map(|(level, _)| seen(world, *level)).collect();
    let mut settled = vec![f64::INFINITY; levels.len()];
    for period in 1..=periods {
        world.run(REVIEW);
        for (at, (level, _)) in levels.iter().enumerate() {
            let now = seen(world, *level);
            let moved = moved(&last[at], &now);
            settled[at] = if moved > SETTLED {
                f64::INFINITY
            } else {
                settled[at].min(number(usize::try_from(period).unwrap_or(0)))
            };
            last[at] = now;
        }
    }
    let stood = last.clone();
    let mut movers = vec![vec![false; world.nodes()]; levels.len()];
    for minute in 1..=watch_min {
        world.run(MINUTE);
        for (at, (level, _)) in levels.iter().enumerate() {
            let now = seen(world, *level);
            for (node, moved) in movers[at].iter_mut().enumerate() {
                *moved |= now[node] != stood[at][node];
            }
            let minutes = f64::from(u32::try_from(minute).unwrap_or(u32::MAX));
            report.point(SIZES[at.min(1)], minutes, mean_size(&now));
            last[at] = now;
        }
    }
    for (at, (level, bound)) in levels.iter().enumerate() {
        let bound = Duration::from_millis(**bound);
        let moved = movers[at].iter().filter(|moved| **moved).count();
        report.figure(format!("L{level}: settled within review periods"), settled[at]);
        judge(world, report, *level, bound, &last[at]);
        report
            .figure(format!("L{level}: nodes that moved later, %"), percent(moved, world.nodes()));
    }
}

const SIZES: [&str; 2] = ["mean size, nearest level", "mean size, next level"];

fn judge(world: &World, report: &mut Report, level: usize, bound: Duration, clusters: &Clusters) {
    let best: Clusters =
        greedy(world.geography(), world.nodes(), bound).into_iter().map(Some).collect();
    let under = |clusters: &Clusters| {
        let (mut all, mut under) = (0, 0);
        for a in 0..clusters.len() {
            for b in (0..a).filter(|b| clusters[a].is_some() && clusters[a] == clusters[*b]) {
                all += 1;
                under += usize::from(world.geography().rtt(a, b) < bound);
            }
        }
        percent(under, all)
    };
    report.figure(format!("L{level}: pairs under the bound, %"), under(clusters));
    report.figure(format!("L{level}: mean size seen by a node"), mean_size(clusters));
    report.figure(format!("L{level}: mean size seen by a node, greedy"), mean_size(&best));
    report
        .figure(format!("L{level}: mean size over greedy"), mean_size(clusters) / mean_size(&best));
    report.figure(format!("L{level}: clusters"), number(sizes(clusters).len()));
    report.figure(format!("L{level}: clusters, greedy"), number(sizes(&best).len()));
    let most = |clusters| number(sizes(clusters).into_values().max().unwrap_or(0));
    report.figure(format!("L{level}: largest cluster"), most(clusters));
    report.figure(format!("L{level}: largest cluster, greedy"), most(&best));
}

fn sizes(clusters: &Clusters) -> BTreeMap<usize, usize> {
    let mut sizes = BTreeMap::new();
    clusters.iter().flatten().for_each(|cluster| *sizes.entry(*cluster).or_default() += 1);
    sizes
}

/// How large the cluster of a node is, over all nodes.
fn mean_size(clusters: &Clusters) -> f64 {
    let sizes = sizes(clusters);
    mean(&clusters.iter().flatten().map(|cluster| number(sizes[cluster])).collect::<Vec<_>>())
}

/// Nodes whose cluster has another name, in percent.
fn moved(before: &Clusters, after: &Clusters) -> f64 {
    percent(before.iter().zip(after).filter(|(a, b)| a != b).count(), before.len())
}

/// Cluster numbers are drawn from 32 bits: here they count from 0.
fn of_all(world: &World, level: usize, names: &mut BTreeMap<u32, usize>) -> Clusters {
    let level = Level(u8::try_from(level).expect("levels are few"));
    let mut number = |id: u32| {
        let next = names.len();
        *names.entry(id).or_insert(next)
    };
    let ids: Vec<_> = (0..world.nodes()).map(|node| world.cluster(node, level)).collect();
    ids.into_iter().map(|id| id.map(&mut number)).collect()
}
