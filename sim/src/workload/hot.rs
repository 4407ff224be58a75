//! One hot key: every node puts and gets it back to back (NSDI 2004, section 6.4).

use std::time::Duration;

use crate::report::Report;
use crate::watch::{Requests, Watch};
use crate::workload::{LONG, float, key, number};
use crate::world::{Notice, World};

const MINUTE: Duration = Duration::from_secs(60);
/// Coral's beta, in puts a minute: the bound is that of the paper, whatever a core does.
const BETA: u64 = 12;

pub(super) fn run(world: &mut World, report: &mut Report, minutes: u64, gap_ms: u64) {
    let (key, gap) = (key("hot", 0), Duration::from_millis(gap_ms));
    let nodes = world.nodes();
    let mut turns = vec![0_u64; nodes];
    for node in 0..nodes {
        let first = world.draw(1_000);
        world.alarm(Duration::from_millis(first as u64), node);
    }
    world.watch(key);
    let mut tallies = Vec::new();
    for _ in 0..minutes {
        let until = world.now() + MINUTE;
        while let Some(notice) = world.next(until) {
            match notice {
                Notice::Alarm(node) => {
                    turns[node] += 1;
                    let begun = match turns[node] % 2 {
                        1 => world.put(node, key, LONG),
                        _ => world.get(node, key),
                    };
                    begun.expect("a node has one query in flight");
                }
                Notice::Finished(node, _, finished) => {
                    world.alarm(gap.saturating_sub(finished.took), node);
                }
            }
        }
        tallies.extend(world.watched());
    }
    report.figure(
        "queries of a node a minute",
        float(turns.iter().sum()) / number(nodes) / float(minutes),
    );
    judge(world, report, &tallies);
}

fn judge(world: &World, report: &mut Report, tallies: &[Watch]) {
    let Some((first, later)) = tallies.split_first() else { return };
    let nodes = world.nodes();
    let distance = |node: &usize| world.contact(*node).id().distance(&first.key);
    let mut ranks: Vec<_> = (0..nodes).collect();
    ranks.sort_by_key(distance);
    let far: Vec<_> = ranks.iter().copied().filter(|at| distance(at).common_bits() == 0).collect();
    let most = |tallies: &[Watch], nodes: &[usize], of: fn(&Requests) -> u64| {
        let counts = tallies.iter().flat_map(|watch| nodes.iter().map(|at| of(&watch.nodes[*at])));
        float(counts.max().unwrap_or(0))
    };
    let total = |watch: &Watch| {
        let requests = far.iter().map(|at| watch.nodes[*at]);
        requests.map(|r| r.gets + r.rooms + r.stores).sum::<u64>()
    };
    let bound = BETA * u64::from(nodes.next_power_of_two().ilog2());
    let closest = &ranks[..1];
    let first = std::slice::from_ref(first);
    report.figure("bound: puts a minute", float(bound));
    report.figure("closest: puts in minute one", most(first, closest, Requests::puts));
    report.figure("closest: puts a minute later", most(later, closest, Requests::puts));
    let over = most(tallies, closest, Requests::puts) / float(bound);
    report.figure("closest: share of the bound", over);
    report.figure("closest: stores a minute", most(tallies, closest, |r| r.stores));
    report.figure("busiest: puts in minute one", most(first, &ranks, Requests::puts));
    report.figure("busiest: puts a minute later", most(later, &ranks, Requests::puts));
    report.figure("busiest: stores a minute", most(tallies, &ranks, |r| r.stores));
    report.figure("busiest: gets in minute one", most(first, &ranks, |r| r.gets));
    report.figure("busiest: gets a minute later", most(later, &ranks, |r| r.gets));
    report.figure("far half: requests in minute one", float(total(&first[0])));
    report.figure(
        "far half: requests a minute later",
        float(later.iter().map(total).max().unwrap_or(0)),
    );
    for (rank, node) in ranks.iter().enumerate() {
        for (watch, puts, gets) in [
            (&first[0], "puts by rank, minute one", "gets by rank, minute one"),
            (&tallies[tallies.len() - 1], "puts by rank, last minute", "gets by rank, last minute"),
        ] {
            report.point(puts, number(rank), float(watch.nodes[*node].puts()));
            report.point(gets, number(rank), float(watch.nodes[*node].gets));
        }
    }
}
