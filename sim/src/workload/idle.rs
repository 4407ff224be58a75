//! What nodes send and hold when nobody asks anything.

use std::time::Duration;

use crate::report::Report;
use crate::workload::{float, mean, number, percentile, sent};
use crate::world::World;

pub(super) fn run(world: &mut World, report: &mut Report, minutes: u64) {
    let before = sent(world);
    let time = Duration::from_secs(60 * minutes);
    world.run(time);
    let octets = sent(world).into_iter().zip(before).filter_map(|(after, before)| {
        Some(float(after?.saturating_sub(before?)) / time.as_secs_f64())
    });
    let octets: Vec<_> = octets.collect();
    let alive = (0..world.nodes()).filter_map(|node| world.stats(node));
    let contacts: Vec<_> = alive.map(|stats| number(stats.contacts)).collect();
    let joined = (0..world.nodes()).filter_map(|node| world.directory(node));
    report.figure("idle: octets a node a second", mean(&octets));
    report.figure("idle: octets a second, 99th node", percentile(&octets, 99));
    report.figure("contacts of a node", mean(&contacts));
    report.figure("nodes joined", number(joined.filter(|directory| directory.joined).count()));
}
