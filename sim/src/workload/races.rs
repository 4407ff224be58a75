//! Everybody asks for the same few cold keys within a second: how many origin fetches?

use std::collections::BTreeMap;
use std::time::Duration;

use coralline_overlay::Outcome;

use crate::report::Report;
use crate::workload::{key, number};
use crate::world::{Notice, World};

/// Of a claim while its fetch runs (Coral's optimistic references).
const TTL: Duration = Duration::from_secs(20);
/// Longer than any query.
const END: Duration = Duration::from_secs(10);

pub(super) fn run(world: &mut World, report: &mut Report, keys: usize) {
    let nodes = world.nodes();
    for number in 0..nodes * keys {
        let micros = world.draw(1_000_000) as u64;
        world.alarm(Duration::from_micros(micros), number);
    }
    let mut open = BTreeMap::new();
    let (mut fetches, mut winners) = (vec![0_usize; keys], vec![0_usize; keys]);
    let mut undecided = 0_usize;
    let until = world.now() + END;
    while let Some(notice) = world.next(until) {
        match notice {
            Notice::Alarm(number) => {
                let (node, at) = (number / keys, number % keys);
                match world.claim(node, key("race", at), TTL) {
                    Ok(query) => _ = open.insert((node, query), at),
                    Err(_) => fetches[at] += 1,
                }
            }
            Notice::Finished(node, query, finished) => {
                let Some(at) = open.remove(&(node, query)) else { continue };
                match finished.outcome {
                    Outcome::Claimed => {
                        winners[at] += 1;
                        fetches[at] += 1;
                    }
                    Outcome::Held { .. } => {}
                    // A proxy that gets no answer goes to the origin itself.
                    _ => {
                        undecided += 1;
                        fetches[at] += 1;
                    }
                }
            }
        }
    }
    report.figure("origin fetches", number(fetches.iter().sum()));
    report.figure("origin fetches a key", number(fetches.iter().sum()) / number(keys));
    report.figure("keys with two winners", number(winners.iter().filter(|n| **n > 1).count()));
    report.figure("keys without a winner", number(winners.iter().filter(|n| **n == 0).count()));
    report.figure("claims without an answer", number(undecided + open.len()));
}
