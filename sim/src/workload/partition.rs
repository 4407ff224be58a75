//! The network is cut in halves for a while; then it must become one again.

use std::time::Duration;

use coralline_overlay::Outcome;

use crate::measure;
use crate::report::Report;
use crate::trouble::Trouble;
use crate::workload::{LONG, key, number, percent};
use crate::world::World;

const MINUTE: Duration = Duration::from_secs(60);
/// Minutes watched after the heal: two review periods, and some more.
const WATCHED: usize = 15;
const RIVALS: usize = 4;

pub(super) fn run(world: &mut World, report: &mut Report, minutes: u64, keys: usize) {
    world.apply(Trouble::Part { share: 0.5 });
    world.run(Duration::from_secs(60 * minutes.saturating_sub(1)));
    let put = |world: &mut World, name: &str, at: usize| {
        let (near, far) = sides(world, at);
        _ = world.put(near, key(name, at), LONG);
        world.run(Duration::from_millis(20));
        far
    };
    let askers: Vec<_> = (0..keys).map(|at| put(world, "parted", at)).collect();
    world.run(MINUTE);
    let across = gets(world, "parted", &askers);
    report.figure("across while parted, %", percent(across, keys));
    world.apply(Trouble::Heal);
    let (mut whole, mut old) = (None, 0);
    for minute in 1..=WATCHED {
        world.run(MINUTE);
        let name = format!("healed {minute}");
        let askers: Vec<_> = (0..keys).map(|at| put(world, &name, at)).collect();
        world.settle();
        let fresh = gets(world, &name, &askers);
        let askers: Vec<_> = (0..keys).map(|at| sides(world, at).1).collect();
        old = gets(world, "parted", &askers);
        report.point("fresh keys across, %", number(minute), percent(fresh, keys));
        report.point("keys put while parted across, %", number(minute), percent(old, keys));
        let all = fresh * 1_000 >= keys * 999;
        whole = if all { whole.or(Some(minute)) } else { None };
    }
    report.figure("minutes until one network", whole.map_or(f64::INFINITY, number));
    report.figure("keys put while parted across, %", percent(old, keys));
    let races = measure::races(world, "healed race", keys, RIVALS);
    report.figure("races with one winner, %", 100.0 * races.share());
    report.figure("wrong pointers", number(world.violations().len()));
}

/// A node of one half, which changes from key to key, and one of the other.
fn sides(world: &mut World, at: usize) -> (usize, usize) {
    let half = world.nodes() / 2;
    let (low, high) = (world.draw(half), half + world.draw(world.nodes() - half));
    if at.is_multiple_of(2) { (low, high) } else { (high, low) }
}

/// How many of the keys their askers find.
fn gets(world: &mut World, name: &str, askers: &[usize]) -> usize {
    let mut open = Vec::new();
    for (at, asker) in askers.iter().enumerate() {
        open.push((*asker, world.get(*asker, key(name, at)).ok()));
        world.run(Duration::from_millis(20));
    }
    world.settle();
    let mut found = |(asker, query): &(usize, Option<_>)| {
        let finished = query.and_then(|query| world.finished(*asker, query));
        matches!(finished.map(|f| f.outcome), Some(Outcome::Found { pointers, .. }) if !pointers.is_empty())
    };
    open.iter().filter(|asked| found(asked)).count()
}
