//! What a lone reader of a page that nobody has yet must wait for.

use crate::measure;
use crate::report::Report;
use crate::workload::{float, mean, ms, number, percentile};
use crate::world::World;

pub(super) fn run(world: &mut World, report: &mut Report, keys: usize) {
    let rtt = ms(world.geography().median_rtt());
    let claims = measure::claims(world, "lone", keys);
    let times: Vec<_> = claims.took.iter().map(|took| ms(*took)).collect();
    report.figure("median round trip, ms", rtt);
    report.figure("claims decided, %", 100.0 * claims.share());
    report.figure("claim: median, ms", percentile(&times, 50));
    report.figure("claim: 96th percentile, ms", percentile(&times, 96));
    report.figure("claim: median, round trips", percentile(&times, 50) / rtt);
    report.figure("claim: 96th percentile, round trips", percentile(&times, 96) / rtt);
    for at in 1..=100_u8 {
        report.point("claim, ms", f64::from(at), percentile(&times, usize::from(at)));
    }
    world.follow();
    let misses = measure::misses(world, "miss", keys);
    let times: Vec<_> = misses.took.iter().map(|took| ms(*took)).collect();
    let hops: Vec<_> = world.hops().into_iter().map(f64::from).collect();
    let log = f64::from(world.nodes().next_power_of_two().ilog2());
    report.figure("misses answered, %", 100.0 * misses.share());
    report.figure("miss: median, ms", percentile(&times, 50));
    report.figure("miss: mean hops", mean(&hops));
    report.figure("miss: 99th percentile of hops", percentile(&hops, 99));
    report.figure("miss: mean hops less log2(n)/2", mean(&hops) - log / 2.0);
    let asked: u64 =
        (0..world.nodes()).filter_map(|node| world.stats(node)).map(|s| s.datagrams_out).sum();
    report.figure("datagrams a node since the start", float(asked) / number(world.nodes()));
}
