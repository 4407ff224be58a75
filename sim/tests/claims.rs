//! One winner a key, whoever dies or comes. Each failure prints the seed and the key.

use std::time::Duration;

use coralline_overlay::{Except, Key, Outcome, Pointer, State};
use coralline_sim::{Plan, World, measure};

const SECOND: Duration = Duration::from_secs(1);
/// Of a claim while its fetch runs, and how often its holder puts it again.
const TTL: Duration = Duration::from_secs(20);
const RENEWAL: Duration = Duration::from_secs(10);
const NODES: usize = 100;
const SEEDS: u64 = 10;

/// A settled world, a key, and all nodes by their distance from it.
fn scene(seed: u64) -> (World, Key, Vec<usize>) {
    println!("seed {seed}");
    let mut world = World::new(Plan { nodes: NODES, seed, ..Plan::default() });
    world.run(60 * SECOND);
    let key = measure::key("claims", usize::try_from(seed).expect("it is small"));
    let mut nearest: Vec<_> = (0..NODES).collect();
    nearest.sort_by_key(|node| world.contact(*node).id().distance(&key));
    (world, key, nearest)
}

/// Lets these claim the key at once. Gives the winners, and the holders that the others were sent to.
fn race(world: &mut World, key: Key, nodes: &[usize]) -> (Vec<usize>, Vec<usize>) {
    race_except(world, key, nodes, &[])
}

/// The same past these holders.
fn race_except(
    world: &mut World,
    key: Key,
    nodes: &[usize],
    dead: &[usize],
) -> (Vec<usize>, Vec<usize>) {
    let mut except = Except::default();
    for node in dead {
        let (holder, state) = (world.contact(*node), State::Whole);
        except.add(&[Pointer { holder, state, length: None, root: None }], None);
    }
    let mut claim = |node| world.claim_except(node, key, TTL, except.clone());
    let open: Vec<_> =
        nodes.iter().map(|node| (*node, claim(*node).expect("it has nothing in flight"))).collect();
    world.settle();
    let (mut winners, mut holders) = (Vec::new(), Vec::new());
    for (node, query) in open {
        match world.finished(node, query).expect("all have ended").outcome {
            Outcome::Claimed => winners.push(node),
            Outcome::Held { pointers, .. } => {
                holders.extend(pointers.iter().filter_map(|p| world.at(p.holder.addr)));
            }
            other => panic!("{other:?}"),
        }
    }
    holders.sort_unstable();
    holders.dedup();
    (winners, holders)
}

#[test]
fn a_claimant_that_dies_is_followed_by_one() {
    for seed in 0..SEEDS {
        let (mut world, key, nearest) = scene(seed);
        let (dies, rivals) = (nearest[50], &nearest[60..72]);
        assert_eq!(race(&mut world, key, &[dies]).0, [dies]);
        world.kill(dies);
        assert_eq!(race(&mut world, key, rivals), (vec![], vec![dies]), "nobody knows yet");
        world.run(TTL + SECOND);
        let (winners, holders) = race(&mut world, key, rivals);
        assert_eq!((winners.len(), holders), (1, winners));
    }
}

/// Whoever follows pointers to the dead asks again without them: one goes to the origin, and the others
/// go to that one, however many dead holders fill the key's place.
#[test]
fn of_those_who_were_led_to_the_dead_one_wins() {
    for seed in 0..SEEDS {
        for holders in [1, 6] {
            let (mut world, key, nearest) = scene(seed);
            let (dead, rivals) = (&nearest[50..50 + holders], &nearest[60..72]);
            for node in dead {
                world.put(*node, key, 600 * SECOND).expect("it has nothing in flight");
                world.settle();
            }
            dead.iter().for_each(|node| world.kill(*node));
            let (winners, shown) = race(&mut world, key, rivals);
            assert_eq!(winners, [], "nobody knows yet");
            assert!(shown.iter().all(|node| dead.contains(node)));
            let (winners, shown) = race_except(&mut world, key, rivals, dead);
            assert_eq!((winners.len(), shown), (1, winners.clone()), "{holders} holders");
            let (again, shown) = race_except(&mut world, key, rivals, dead);
            assert_eq!((again, shown), (winners.clone(), winners), "it is still its claim");
        }
    }
}

#[test]
fn the_copies_know_when_the_root_dies() {
    for seed in 0..SEEDS {
        let (mut world, key, nearest) = scene(seed);
        let (claimant, rivals) = (nearest[50], &nearest[60..72]);
        assert_eq!(race(&mut world, key, &[claimant]).0, [claimant]);
        world.run(SECOND);
        world.kill(nearest[0]);
        assert_eq!(race(&mut world, key, rivals), (vec![], vec![claimant]));
        world.kill(nearest[1]);
        assert_eq!(race(&mut world, key, rivals), (vec![], vec![claimant]), "the next one too");
    }
}

#[test]
fn a_newcomer_at_the_root_grants_nothing_that_is_held() {
    for seed in 0..SEEDS {
        let (mut world, key, nearest) = scene(seed);
        let (claimant, rivals) = (nearest[50], &nearest[60..72]);
        world.kill(nearest[0]);
        world.run(60 * SECOND);
        assert_eq!(race(&mut world, key, &[claimant]).0, [claimant]);
        world.run(SECOND);
        world.restart(nearest[0]);
        for _ in 0..5 {
            for _ in 0..5 {
                world.run(RENEWAL / 5);
                let found = race(&mut world, key, rivals);
                assert_eq!(found, (vec![], vec![claimant]), "at {:?}", world.now());
            }
            world.put(claimant, key, TTL).unwrap();
        }
    }
}

#[test]
fn many_newcomers_among_many_claims() {
    for seed in 0..3 {
        let (mut world, _, _) = scene(seed);
        for at in 0..20 {
            world.kill(at * 5 + 1);
        }
        world.run(60 * SECOND);
        for at in 0..20 {
            world.restart(at * 5 + 1);
            world.run(SECOND);
            let races = measure::races(&mut world, &format!("newcomer {at}"), 20, 5);
            assert!(races.share() >= 1.0, "newcomer {at}: {races}");
        }
        assert_eq!(world.double_claims(), 0);
    }
}
