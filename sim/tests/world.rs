//! The index in worlds large and small. Each failure prints the plan that replays it.

use std::time::Duration;

use coralline_overlay::{Key, Outcome, Rules};
use coralline_sim::{Plan, World, measure};

const SECOND: Duration = Duration::from_secs(1);

fn world(nodes: usize, seed: u64, loss: f64) -> World {
    let join_every = Duration::from_millis(10);
    let plan = Plan { nodes, seed, loss, join_every, ..Plan::default() };
    println!("{plan:?}");
    World::new(plan)
}

fn known(world: &World, node: usize) -> Vec<usize> {
    let directory = world.directory(node).expect("it is alive");
    let is_known = |at: &usize| {
        directory.neighbours.iter().any(|neighbour| neighbour.contact == world.contact(*at))
    };
    (0..world.nodes()).filter(is_known).collect()
}

#[test]
fn equal_seeds_give_equal_worlds() {
    let digest = |seed| {
        let mut world = world(100, seed, 0.05);
        world.run(10 * SECOND);
        world.kill(3);
        measure::puts(&mut world, "a", 50);
        measure::races(&mut world, "b", 50, 3);
        world.restart(3);
        world.run(20 * SECOND);
        (world.digest(), world.events())
    };
    let first = digest(7);
    assert_eq!(first, digest(7));
    assert_ne!(first, digest(8));
}

#[test]
fn a_thousand_nodes_at_peace() {
    let mut world = world(1_000, 1, 0.0);
    world.run(40 * SECOND);
    for node in 0..1_000 {
        let directory = world.directory(node).expect("all are alive");
        assert!(directory.joined, "node {node} has not joined");
        assert!(directory.neighbours.len() >= 16, "node {node}: {}", directory.neighbours.len());
    }
    assert!(measure::puts(&mut world, "a", 1_000).share() >= 1.0);
    let gets = measure::gets(&mut world, "a", 1_000);
    assert!(gets.share() >= 0.999, "{gets}");
    assert!(gets.percentile(50) < SECOND, "{gets}");
    let races = measure::races(&mut world, "b", 500, 3);
    assert!(races.share() >= 1.0, "each key has one winner: {races}");
}

#[test]
fn a_thousand_nodes_in_trouble() {
    let mut world = world(1_000, 2, 0.02);
    world.run(40 * SECOND);
    let puts = measure::puts(&mut world, "a", 1_000);
    assert!(puts.share() >= 0.999, "{puts}");
    let gets = measure::gets(&mut world, "a", 1_000);
    assert!(gets.share() >= 0.995, "2 % loss: {gets}");
    world.set_loss(0.0);
    for node in (0..1_000).step_by(10) {
        world.kill(node);
    }
    let gets = measure::gets(&mut world, "a", 1_000);
    assert!(gets.share() >= 0.99, "one in ten has just died: {gets}");
    world.run(30 * SECOND);
    let races = measure::races(&mut world, "b", 300, 2);
    assert!(races.share() >= 1.0, "once the dead are forgotten: {races}");
}

#[test]
fn three_nodes_know_each_other_within_two_seconds() {
    for seed in 0..20 {
        let mut world = world(3, seed, 0.0);
        world.run(2 * SECOND);
        assert_eq!(known(&world, 0), [1, 2]);
        assert_eq!(known(&world, 1), [0, 2]);
        assert_eq!(known(&world, 2), [0, 1]);
        let races = measure::races(&mut world, "a", 50, 3);
        assert!(races.share() >= 1.0, "{races}");
    }
}

#[test]
fn the_killed_leave_and_return_without_seeds() {
    for seed in 0..10 {
        let mut world = world(3, seed, 0.02);
        world.run(60 * SECOND);
        assert_eq!(known(&world, 0), [1, 2]);
        world.kill(2);
        world.run(25 * SECOND);
        assert_eq!((known(&world, 0), known(&world, 1)), (vec![1], vec![0]));
        // The seed itself returns too, by what it had saved.
        for node in [2, 0] {
            world.kill(node);
            world.restart(node);
            world.run(8 * SECOND);
            let directory = world.directory(node).expect("it is alive");
            assert!(directory.joined && directory.neighbours.len() == 2, "{directory:?}");
        }
        assert_eq!(known(&world, 1), [0, 2]);
    }
}

#[test]
fn a_newcomer_is_known_to_all_of_a_small_network() {
    for seed in 0..10 {
        let mut world = world(10, seed, 0.0);
        world.run(5 * SECOND);
        for node in 0..10 {
            assert!(known(&world, node).len() >= 8, "node {node}: {:?}", known(&world, node));
        }
    }
}

#[test]
fn lone_nodes_answer_at_once() {
    let mut world = world(1, 1, 0.0);
    world.run(SECOND);
    let key = measure::key("a", 1);
    let ended = |world: &mut World, query| world.finished(0, query).expect("at once").outcome;
    let query = world.claim(0, key, 60 * SECOND).unwrap();
    assert_eq!(ended(&mut world, query), Outcome::Claimed);
    let query = world.put(0, key, 60 * SECOND).unwrap();
    assert_eq!(ended(&mut world, query), Outcome::Stored { copies: 1 });
    let query = world.get(0, key).unwrap();
    let Outcome::Found { pointers, hops: 0, .. } = ended(&mut world, query) else { panic!() };
    assert_eq!(pointers[0].holder, world.contact(0));
    let query = world.withdraw(0, key).unwrap();
    assert_eq!(ended(&mut world, query), Outcome::Withdrawn);
    let query = world.get(0, key).unwrap();
    let Outcome::Found { pointers, .. } = ended(&mut world, query) else { panic!() };
    assert!(pointers.is_empty());
}

#[test]
fn what_is_withdrawn_is_gone() {
    let mut world = world(50, 4, 0.0);
    world.run(20 * SECOND);
    for at in 0..50 {
        let (key, holder) = (measure::key("a", at), world.any_node(None));
        world.put(holder, key, 600 * SECOND).unwrap();
        world.settle();
        world.withdraw(holder, key).unwrap();
        world.settle();
        let query = world.get(7, key).unwrap();
        world.settle();
        let outcome = world.finished(7, query).map(|finished| finished.outcome);
        let Some(Outcome::Found { pointers, .. }) = outcome else { panic!("{outcome:?}") };
        assert!(pointers.is_empty(), "key {at}");
    }
}

#[test]
fn the_halves_of_a_parted_network_meet_again() {
    let mut world = world(40, 5, 0.0);
    world.run(20 * SECOND);
    world.part(20);
    world.run(120 * SECOND);
    assert!(known(&world, 0).iter().all(|other| *other < 20), "the far half is forgotten");
    world.part(0);
    world.run(240 * SECOND);
    let races = measure::races(&mut world, "a", 200, 3);
    assert!(races.share() >= 1.0, "{races}");
}

/// A world at rest under other constants.
fn ruled(rules: Rules) -> World {
    let join_every = Duration::from_millis(10);
    let mut world = World::new(Plan { nodes: 200, seed: 5, join_every, rules, ..Plan::default() });
    world.run(120 * SECOND);
    world
}

#[test]
fn the_constants_are_those_that_are_given() {
    let shown = |rules: Rules| {
        let (mut world, key) = (ruled(rules), Key::of_name(b"thing"));
        for node in 0..20 {
            world.put(node, key, 600 * SECOND).expect("one query at a time");
            world.settle();
        }
        let count = |world: &mut World| {
            let get = world.get(100, key).expect("one query at a time");
            world.settle();
            match world.finished(100, get).expect("it has ended").outcome {
                Outcome::Found { pointers, .. } => pointers.len(),
                other => panic!("a get ended with {other:?}"),
            }
        };
        let now = count(&mut world);
        world.run(90 * SECOND);
        (now, count(&mut world))
    };
    // So that none of the puts meets a loaded node.
    let rules = Rules { passes: 120, ..Rules::default() };
    assert_eq!(shown(rules), (4, 4));
    assert_eq!(shown(Rules { values_per_key: 8, ..rules }), (8, 8));
    assert_eq!(shown(Rules { max_ttl: 60 * SECOND, ..rules }), (4, 0));
    let asked = |hop_bits| {
        let mut world = ruled(Rules { hop_bits, ..Rules::default() });
        let total = |world: &World| {
            (0..200).filter_map(|at| world.stats(at)).map(|stats| stats.puts_in).sum::<u64>()
        };
        let before = total(&world);
        assert!(measure::puts(&mut world, "a", 200).share() >= 1.0);
        total(&world) - before
    };
    let (one, four) = (asked(1), asked(4));
    assert!(four < one * 9 / 10, "{four} requests by hops of four bits, {one} by one");
}

/// What was put before a node came is found at it, though those who had it are gone.
#[test]
fn newcomers_are_handed_what_they_are_nearest_to() {
    let mut world = world(150, 3, 0.0);
    world.run(30 * SECOND);
    let (holders, old, new) = (0..10, 10..110, 110..150);
    new.clone().for_each(|node| world.kill(node));
    // By then nobody takes them for living: contacts far away are looked after every four minutes.
    world.run(300 * SECOND);
    let key = |at: usize| Key::of_name(format!("early {at}").as_bytes());
    for at in 0..300 {
        world.put(at % holders.len(), key(at), 3_600 * SECOND).expect("one query at a time");
        world.settle();
    }
    new.clone().for_each(|node| world.restart(node));
    world.run(60 * SECOND);
    let moved: u64 = old.clone().filter_map(|at| world.stats(at)).map(|s| s.handed_over).sum();
    old.for_each(|node| world.kill(node));
    world.run(60 * SECOND);
    let nearest = |world: &World, at: usize| {
        let distance = |node: &usize| world.contact(*node).id().distance(&key(at));
        (0..150).min_by_key(distance).expect("there are nodes")
    };
    let (mut found, mut all) = (0, 0);
    for at in (0..300).filter(|at| new.contains(&nearest(&world, *at))).collect::<Vec<_>>() {
        let get = world.get(120, key(at)).expect("one query at a time");
        world.settle();
        let outcome = world.finished(120, get).expect("it has ended").outcome;
        let is_found = matches!(&outcome, Outcome::Found { pointers, .. } if !pointers.is_empty());
        found += usize::from(is_found);
        all += 1;
    }
    assert!(all > 40 && found * 100 >= all * 98, "{found} of {all}, {moved} values handed over");
}
