//! How soon a newcomer knows those near it, wherever they lie among the ids.

use std::time::Duration;

use coralline_sim::{Plan, World};

const NODES: usize = 1_000;
const NEWEST: usize = 40;
const JOIN_EVERY: Duration = Duration::from_millis(50);
/// Before anybody of the newest has made its first review, 15 to 25 s after it came.
const LATER: Duration = Duration::from_secs(12);

/// Of the newest nodes whose autonomous system has others that were there before: how many there
/// are, and how many have measured one of these before their first review.
fn newcomers(seed: u64, systems: bool) -> (usize, usize) {
    let levels = [20, 60].map(Duration::from_millis).to_vec();
    let join_every = JOIN_EVERY;
    let plan = Plan { nodes: NODES, seed, join_every, levels, systems, ..Plan::default() };
    println!("{plan:?}");
    let mut world = World::new(plan);
    world.run(JOIN_EVERY * u32::try_from(NODES).expect("they are few") + LATER);
    let oldest = NODES - NEWEST;
    let system = |node: usize| world.geography().metro(node);
    let has_company = |node: &usize| (0..NODES / 3).any(|other| system(other) == system(*node));
    let knows_one = |node: &usize| {
        let directory = world.directory(*node).expect("it is alive");
        directory.neighbours.iter().any(|known| {
            let other = world.at(known.contact.addr).expect("it is one of this world");
            known.rtt.is_some() && system(other) == system(*node)
        })
    };
    let newest: Vec<_> = (oldest..NODES).filter(has_company).collect();
    (newest.len(), newest.iter().filter(|node| knows_one(node)).count())
}

#[test]
fn a_newcomer_has_measured_its_own_system_before_its_first_review() {
    let (mut all, mut with, mut without) = (0, 0, 0);
    for seed in 1..=2 {
        let (newest, know) = newcomers(seed, true);
        let (_, know_by_chance) = newcomers(seed, false);
        (all, with, without) = (all + newest, with + know, without + know_by_chance);
    }
    println!("{with} of {all} with hints, {without} without");
    assert!(with * 100 >= all * 95, "with hints: {with} of {all}");
    assert!(without < with, "without hints: {without} of {all}");
}
