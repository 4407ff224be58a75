//! Messages to the whole network: whom they reach, at what price.

use std::collections::BTreeSet;
use std::time::Duration;

use coralline_overlay::Key;

use crate::report::Report;
use crate::trouble::Trouble;
use crate::workload::{float, mean, number, percent, percentile};
use crate::world::World;

/// Between messages, and after the last: longer than one takes with all its repeats.
const GAP: Duration = Duration::from_secs(15);

pub(super) fn run(world: &mut World, report: &mut Report, messages: usize, dead: f64) {
    let (mut reached, mut took, mut told) = (Vec::new(), Vec::new(), Vec::new());
    let mut twice = 0;
    for at in 0..messages {
        // Dead as of now, so that tables are full of them. Earlier ones return.
        world.apply(Trouble::Return { share: 1.0, saved: true });
        world.run(4 * GAP);
        world.apply(Trouble::Kill { share: dead });
        let payload = format!("broadcast/{at}").into_bytes();
        let message = Key::of_name(&payload);
        let alive = (0..world.nodes()).filter(|node| world.is_alive(*node)).count();
        let (start, before) = (world.now(), sent(world));
        let first = world.any_node(None);
        world.broadcast(first, &payload);
        world.run(GAP);
        let heard = world.take_heard();
        let heard = heard.iter().filter(|(_, _, of)| *of == message);
        let by: BTreeSet<_> = heard.clone().map(|(_, node, _)| *node).collect();
        twice += heard.clone().count() - by.len();
        took.extend(heard.map(|(at, ..)| at.since(start).as_secs_f64()));
        reached.push(percent(by.len() + 1, alive));
        told.push((sent(world) - before) / number(alive));
    }
    report.figure("nodes reached, %", mean(&reached));
    report.figure("nodes reached by the worst message, %", percentile(&reached, 1));
    report.figure("messages heard twice", number(twice));
    report.figure("messages told, a node", mean(&told));
    report.figure("seconds until heard, median", percentile(&took, 50));
    report.figure("seconds until heard, 99th percentile", percentile(&took, 99));
}

/// How often all nodes have told another of a message.
fn sent(world: &World) -> f64 {
    let stats = (0..world.nodes()).filter_map(|node| world.stats(node));
    float(stats.map(|stats| stats.broadcasts_out).sum())
}
