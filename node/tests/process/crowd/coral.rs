//! Coral's own experiment (NSDI 2004, section 6.1): 12 files behind a thin uplink, and a client at each node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use coralline_sim::Geography;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::member::Member;
use super::origin::{Origin, body};
use super::{gather, percentiles, place, planet};
use crate::harness::{HTTP, Reply, env, get_site, now};

/// Files, and their length in octets: 41 KB.
const FILES: usize = 12;
const LENGTH: usize = 41_000;
/// The origin's uplink, in bits a second.
const UPLINK: u64 = 384_000;

/// How large, and for how long.
struct Experiment {
    nodes: usize,
    /// Requests a second of all clients.
    rate: f64,
    settle: Duration,
    length: Duration,
}

/// One request of a client.
struct Asked {
    /// Since the first.
    at: Duration,
    took: Duration,
    /// `local`, `peer:L2`, ..., `origin`; or what went wrong.
    outcome: String,
}

impl Experiment {
    /// Runs it and prints what it saw: each body is compared with the origin's.
    fn run(&self, geography: Geography) -> (Vec<Asked>, Vec<Duration>) {
        let mut uplinks = vec![None; self.nodes];
        uplinks.push(Some(UPLINK));
        let (carrier, mut places) = place::lay(geography, &uplinks);
        let origin_place = places.pop().expect("the origin is the last");
        let origin = Origin::start(&origin_place, LENGTH);
        let members = gather(places, &origin);
        sleep(self.settle);
        let begin = now();
        let asked = self.ask(&members, begin);
        let fetches = origin.fetches();
        assert!(fetches.iter().all(|fetch| fetch.range.is_none()), "{fetches:?}");
        let fetched: Vec<_> = fetches.iter().map(|fetch| fetch.at - begin).collect();
        self.print(&asked, &fetched);
        if let Some(carrier) = carrier {
            let [packets, lost] = carrier.counts();
            println!("{packets} packets carried, {lost} lost in queues");
        }
        let times: BTreeMap<_, usize> =
            fetches.into_iter().fold(BTreeMap::new(), |mut all, fetch| {
                *all.entry(fetch.path).or_default() += 1;
                all
            });
        let again: Vec<_> = times.iter().filter(|(_, count)| **count > 1).collect();
        println!("fetched more than once: {again:?}");
        (asked, fetched)
    }

    /// One client a node, on its host, each at its own pace.
    fn ask(&self, members: &[Member], begin: Instant) -> Vec<Asked> {
        let bodies: Arc<Vec<_>> = Arc::new((0..FILES).map(|n| body(n, LENGTH)).collect());
        let every = Duration::from_secs_f64(self.nodes as f64 / self.rate);
        let clients: Vec<_> = members
            .iter()
            .zip(0..)
            .map(|(member, seed)| {
                let (addr, bodies, length) =
                    ((member.place.ip, HTTP).into(), bodies.clone(), self.length);
                let client = move || {
                    let mut rng = ChaCha8Rng::seed_from_u64(seed);
                    let mut due = every.mul_f64(f64::from(rng.next_u32()) / f64::from(u32::MAX));
                    let mut asked = Vec::new();
                    while due < length {
                        sleep(due.saturating_sub(begin.elapsed()));
                        let file = rng.next_u32() as usize % FILES;
                        let sent = now();
                        let outcome = outcome(
                            get_site(addr, &Origin::host(), &format!("/{file}")),
                            &bodies[file],
                        );
                        asked.push(Asked { at: sent - begin, took: sent.elapsed(), outcome });
                        due += every;
                    }
                    asked
                };
                member.place.run(move || thread::spawn(client))
            })
            .collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    }

    fn print(&self, asked: &[Asked], fetched: &[Duration]) {
        println!(
            "{} nodes, {} requests in {:?}; the origin sent {} bodies, the last after {:?}",
            self.nodes,
            asked.len(),
            self.length,
            fetched.len(),
            fetched.iter().max().unwrap_or(&Duration::ZERO),
        );
        for part in 0..5 {
            let from = self.length * part / 5;
            let within = |a: &&Asked| a.at >= from && a.at < from + self.length / 5;
            let part: Vec<_> = asked.iter().filter(within).collect();
            let mut outcomes = BTreeMap::new();
            part.iter().for_each(|a| *outcomes.entry(a.outcome.as_str()).or_insert(0) += 1);
            println!("{:?}, {outcomes:?}", percentiles(part.iter().map(|a| a.took)));
        }
        println!("all: {:?}", percentiles(asked.iter().map(|a| a.took)));
    }
}

/// Who served it, as its Cache-Status says.
fn outcome(reply: Option<Reply>, body: &[u8]) -> String {
    match reply {
        None => "no answer".to_owned(),
        Some(reply) if reply.status != 200 => format!("status {}", reply.status),
        Some(reply) if reply.body != body => "wrong octets".to_owned(),
        Some(reply) => {
            let status = reply.header("cache-status");
            status.rsplit("detail=").next().unwrap_or_default().to_owned()
        }
    }
}

fn share(asked: &[Asked], of: impl Fn(&Asked) -> bool, from: Duration) -> f64 {
    let late: Vec<_> = asked.iter().filter(|a| a.at >= from).collect();
    late.iter().filter(|a| of(a)).count() as f64 / late.len() as f64
}

fn served(asked: &Asked) -> bool {
    asked.outcome == "local" || asked.outcome == "origin" || asked.outcome.starts_with("peer:")
}

#[test]
fn a_crowd_costs_the_origin_one_fetch_a_file() {
    let experiment = Experiment {
        nodes: 24,
        rate: 24.0,
        settle: Duration::from_secs(10),
        length: Duration::from_secs(30),
    };
    let (asked, fetched) = experiment.run(planet(experiment.nodes + 1));
    assert!(asked.iter().all(served), "everybody is served");
    assert_eq!(fetched.len(), FILES);
}

#[test]
#[ignore = "half an hour"]
fn corals_own_experiment() {
    let minutes = env("CORALLINE_MINUTES").map_or(30, |minutes| minutes.parse().unwrap());
    let experiment = Experiment {
        nodes: 166,
        rate: 99.6,
        settle: Duration::from_secs(60),
        length: Duration::from_secs(minutes * 60),
    };
    let (asked, fetched) = experiment.run(planet(experiment.nodes + 1));
    assert!(asked.iter().all(served), "everybody is served");
    assert_eq!(fetched.len(), FILES);
    assert!(fetched.iter().all(|at| *at < Duration::from_secs(60)), "none after the first minute");
    let local = share(&asked, |a| a.outcome == "local", Duration::from_secs(600));
    assert!(local > 0.95, "{local}");
}
