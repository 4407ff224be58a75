//! Most nodes die at once and return at once (Skype, August 2007).

use std::time::Duration;

use crate::report::Report;
use crate::trouble::Trouble;
use crate::workload::renewed::Market;
use crate::workload::{float, mean, number, percent, sent};
use crate::world::{Notice, World};

/// Time to live of what is held: renewed each minute.
const TTL: Duration = Duration::from_secs(120);
/// Those who return put again what they hold, spread over this.
const REPUT: Duration = Duration::from_secs(30);
/// Traffic and success are taken in steps of this.
const STEP: Duration = Duration::from_secs(5);
/// Steps before the crash: normal times, after the first puts.
const NORMAL: usize = 24;
/// Steps after the return: three minutes.
const AFTER: usize = 36;
/// Steps after the return within which lookups must work again.
const AGAIN: usize = 12;
const GETS_EVERY: Duration = Duration::from_millis(25);

pub(super) fn run(world: &mut World, report: &mut Report, share: f64, away: Duration, keys: usize) {
    let mut market = Market::open(world, "restart", keys, TTL);
    watch(world, &mut market, TTL);
    world.alarm(Duration::ZERO, 2 * keys);
    let normal: Vec<_> = (0..NORMAL).map(|_| step(world, &mut market).mean).collect();
    let normal = mean(&normal);
    world.apply(Trouble::Kill { share });
    let until = world.now() + away;
    while world.next(until).is_some() {}
    world.apply(Trouble::Return { share: 1.0, saved: true });
    for at in 0..keys {
        let held = &mut market.keys[at];
        // What they hold survives on their disks, under a new life.
        held.stored = false;
        held.life = world.life(held.holder).unwrap_or(held.life);
        let wait = world.draw(usize::try_from(REPUT.as_millis()).expect("it is short"));
        world.alarm(Duration::from_millis(wait as u64), at);
    }
    world.alarm(GETS_EVERY, 2 * keys);
    let steps: Vec<_> = (0..AFTER).map(|_| step(world, &mut market)).collect();
    judge(report, normal, &steps);
}

/// What one step showed.
#[derive(Debug, Clone, Copy)]
struct Step {
    /// Octets a second that a node has sent, over all nodes.
    mean: f64,
    /// The same of the one that sent most.
    most: f64,
    made: usize,
    good: usize,
}

fn judge(report: &mut Report, normal: f64, steps: &[Step]) {
    let peak = steps.iter().map(|step| step.mean).fold(0.0, f64::max);
    let most = steps.iter().map(|step| step.most).fold(0.0, f64::max);
    let (made, good) = steps[AGAIN..].iter().fold((0, 0), |(m, g), s| (m + s.made, g + s.good));
    let well = |step: &Step| step.made > 0 && step.good * 1_000 >= step.made * 999;
    let bad = steps.iter().rposition(|step| !well(step)).map_or(0, |at| at + 1);
    report.figure("gets that succeed 60 s after the return, %", percent(good, made));
    report.figure("gets made then", number(made));
    report.figure("seconds until all later steps reach 99.9 %", number(bad) * STEP.as_secs_f64());
    report.figure("normal traffic, octets a node a second", normal);
    report.figure("peak traffic over normal, mean of nodes", peak / normal);
    report.figure("peak traffic over normal, busiest node", most / normal);
    for (at, step) in steps.iter().enumerate() {
        let seconds = number(at + 1) * STEP.as_secs_f64();
        report.point("octets a node a second", seconds, step.mean);
        report.point("gets that succeed, %", seconds, percent(step.good, step.made));
    }
}

fn step(world: &mut World, market: &mut Market) -> Step {
    let (before, lives) = (sent(world), lives(world));
    (market.made, market.good) = (0, 0);
    watch(world, market, STEP);
    let rates: Vec<_> = sent(world)
        .into_iter()
        .zip(before)
        .enumerate()
        // A new life counts from nothing.
        .map(|(at, (after, before))| match world.life(at) == lives[at] {
            true => after.unwrap_or(0) - before.unwrap_or(0),
            false => after.unwrap_or(0),
        })
        .map(|octets| float(octets) / STEP.as_secs_f64())
        .collect();
    let most = rates.iter().copied().fold(0.0, f64::max);
    Step { mean: mean(&rates), most, made: market.made, good: market.good }
}

fn lives(world: &World) -> Vec<Option<u32>> {
    (0..world.nodes()).map(|at| world.life(at)).collect()
}

fn watch(world: &mut World, market: &mut Market, time: Duration) {
    let (until, keys) = (world.now() + time, market.keys.len());
    while let Some(notice) = world.next(until) {
        match notice {
            Notice::Alarm(at) if at < keys => market.renew(world, at),
            Notice::Alarm(_) => {
                market.ask(world);
                world.alarm(GETS_EVERY, 2 * keys);
            }
            Notice::Finished(node, query, finished) => market.ended(world, node, query, &finished),
        }
    }
}
