//! Lookups of what a neighbour holds: with levels and on one flat level.

use std::time::Duration;

use coralline_overlay::{Level, Outcome};

use crate::report::Report;
use crate::workload::{LONG, key, ms, number, percent, percentile};
use crate::world::World;

const PACE: Duration = Duration::from_millis(20);

pub(super) fn run(
    levelled: &mut World,
    flat: &mut World,
    report: &mut Report,
    levels_ms: &[u64],
    keys: usize,
) {
    let pairs: Vec<_> = (0..keys).filter_map(|_| neighbours(levelled, levels_ms)).collect();
    let with = lookups(levelled, &pairs);
    let without = lookups(flat, &pairs);
    report.figure("pairs of neighbours", number(pairs.len()));
    for (name, times) in [("levels", &with), ("flat", &without)] {
        report.figure(format!("{name}: found, %"), percent(times.len(), pairs.len()));
        report.figure(format!("{name}: median, ms"), percentile(times, 50));
        report.figure(format!("{name}: 96th percentile, ms"), percentile(times, 96));
    }
    let ratio = |at| percentile(&with, at) / percentile(&without, at);
    report.figure("levels over flat, median", ratio(50));
    report.figure("levels over flat, 80th percentile", ratio(80));
    report.figure("levels over flat, 96th percentile", ratio(96));
    for at in 1..=100_u8 {
        report.point("levels, ms", f64::from(at), percentile(&with, usize::from(at)));
        report.point("flat, ms", f64::from(at), percentile(&without, usize::from(at)));
    }
}

/// A node and another of its nearest cluster, or, where nobody says what that is, within its bound.
fn neighbours(world: &mut World, levels_ms: &[u64]) -> Option<(usize, usize)> {
    let bound = Duration::from_millis(*levels_ms.first()?);
    let level = Level(u8::try_from(levels_ms.len()).ok()?);
    for _ in 0..world.nodes() {
        let holder = world.any_node(None);
        let own = world.cluster(holder, level);
        let is_near = |other: &usize| match own {
            Some(own) => world.cluster(*other, level) == Some(own),
            None => world.geography().rtt(holder, *other) < bound,
        };
        let near: Vec<_> = (0..world.nodes()).filter(|at| *at != holder && is_near(at)).collect();
        if !near.is_empty() {
            return Some((holder, near[world.draw(near.len())]));
        }
    }
    None
}

/// Milliseconds of those that found it.
fn lookups(world: &mut World, pairs: &[(usize, usize)]) -> Vec<f64> {
    for (at, (holder, _)) in pairs.iter().enumerate() {
        _ = world.put(*holder, key("local", at), LONG);
        world.run(PACE);
    }
    world.settle();
    let mut open = Vec::new();
    for (at, (_, asker)) in pairs.iter().enumerate() {
        open.push((*asker, world.get(*asker, key("local", at)).ok()));
        world.run(PACE);
    }
    world.settle();
    let took = |(asker, query): (usize, Option<_>)| {
        let finished = world.finished(asker, query?)?;
        let Outcome::Found { pointers, .. } = finished.outcome else { return None };
        (!pointers.is_empty()).then(|| ms(finished.took))
    };
    open.into_iter().filter_map(took).collect()
}
