//! Troubles and queries of all kinds, drawn by chance: safety all the time, then liveness.

use std::time::Duration;

use crate::measure;
use crate::report::Report;
use crate::trouble::Trouble;
use crate::workload::{float, key, number};
use crate::world::{Notice, World};

/// Between two queries anywhere.
const QUERY_EVERY: Duration = Duration::from_millis(50);
/// Between two changes for the worse.
const TROUBLE_EVERY: Duration = Duration::from_secs(20);
/// From the heal to the first demand: the network forgets its dead and finds its other half.
const RECOVERY: Duration = Duration::from_secs(300);
const TTLS: [u64; 3] = [20, 120, 3_600];
const RIVALS: usize = 3;

const QUERY: usize = 0;
const WORSE: usize = 1;

pub(super) fn run(world: &mut World, report: &mut Report, minutes: u64, keys: usize) {
    world.alarm(QUERY_EVERY, QUERY);
    world.alarm(TROUBLE_EVERY, WORSE);
    let until = world.now() + Duration::from_secs(60 * minutes);
    let (mut queries, mut troubles, mut ended) = (0, 0, 0);
    while let Some(notice) = world.next(until) {
        match notice {
            Notice::Alarm(WORSE) => {
                let trouble = any_trouble(world);
                world.apply(trouble);
                troubles += 1;
                world.alarm(TROUBLE_EVERY, WORSE);
            }
            Notice::Alarm(_) => {
                queries += usize::from(any_query(world, keys));
                world.alarm(QUERY_EVERY, QUERY);
            }
            Notice::Finished(..) => ended += 1,
        }
    }
    let shown = world.shown();
    report.figure("queries", number(queries));
    report.figure("queries ended", number(ended));
    report.figure("troubles", number(troubles));
    report.figure("double claims in trouble", float(world.double_claims()));
    report.figure("stale pointers, %", 100.0 * float(shown.stale) / float(shown.all.max(1)));
    world.apply(Trouble::Heal);
    world.run(RECOVERY);
    let dead = (0..world.nodes()).filter(|at| !world.is_alive(*at)).count();
    report.figure("dead after the heal", number(dead));
    let puts = measure::puts(world, "after", keys);
    report.figure("puts after the heal, %", 100.0 * puts.share());
    let gets = measure::gets(world, "after", keys);
    report.figure("gets after the heal, %", 100.0 * gets.share());
    let races = measure::races(world, "after races", keys, RIVALS);
    report.figure("races with one winner after the heal, %", 100.0 * races.share());
}

fn any_query(world: &mut World, keys: usize) -> bool {
    let (node, key) = (world.any_node(None), key("swarm", world.draw(keys)));
    let ttl = Duration::from_secs(TTLS[world.draw(TTLS.len())]);
    let begun = match world.draw(8) {
        0 | 1 => world.put(node, key, ttl),
        2 | 3 => world.claim(node, key, ttl),
        4 => world.withdraw(node, key),
        _ => world.get(node, key),
    };
    begun.is_ok()
}

/// One trouble, or the end of one: no kind lasts for ever.
fn any_trouble(world: &mut World) -> Trouble {
    let some = |world: &mut World, most: f64| number(world.draw(100)) / 100.0 * most;
    match world.draw(10) {
        0 => Trouble::Loss { share: some(world, 0.1) },
        1 => Trouble::Blocked { share: some(world, 0.05) },
        2 => Trouble::OneWay { share: some(world, 0.05) },
        3 => Trouble::Part { share: some(world, 1.0) },
        4 | 5 => Trouble::Part { share: 0.0 },
        6 => Trouble::Kill { share: some(world, 0.3) },
        7 => Trouble::Return { share: some(world, 1.0), saved: true },
        8 => Trouble::Return { share: some(world, 1.0), saved: false },
        _ => Trouble::Churn { median_life_s: 300, median_absence_s: 30, saved: world.draw(2) == 0 },
    }
}
