//! What cooperation costs who is alone in wanting something, and what it brings who is not.
//!
//! A lone miss asks the index first, and the origin then. The same node asks the same origin for other objects
//! without the index, as `Cache-Control: no-cache` has it: the two differ by what the index took. The time of a
//! look-up is the nodes' own measurement.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::{self, sleep};
use std::time::Duration;

use coralline_sim::Geography;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::member::Member;
use super::origin::{Origin, body};
use super::{gather, percentiles, place, planet};
use crate::harness::{HTTP, ask, env, now};

/// Octets of an object: Coral's 41 KB would measure the line as well.
const LENGTH: usize = 4_000;
/// Clients that ask at a time: few, so that none waits for another.
const CLIENTS: usize = 4;

/// How large, and for how long.
struct Price {
    nodes: usize,
    /// Of each kind of lone request, at each node.
    requests: usize,
    settle: Duration,
}

/// How something is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Past the index, over a connection that is there.
    Alone,
    /// By way of the index, over a connection that is there.
    Shared,
    /// Past the index, where the origin hangs up after each response.
    AloneCold,
    /// By way of the index, where the origin hangs up after each response.
    SharedCold,
    /// HEAD of what nobody has: its look-up ends where nobody can be closer, and claims nothing.
    Head,
    /// What another node has fetched.
    Held,
}

impl Kind {
    /// Those that nobody has asked for before.
    const LONE: [Self; 5] =
        [Self::Alone, Self::Shared, Self::AloneCold, Self::SharedCold, Self::Head];

    fn is_alone(self) -> bool {
        matches!(self, Self::Alone | Self::AloneCold)
    }

    fn query(self) -> &'static str {
        if matches!(self, Self::AloneCold | Self::SharedCold) { "?close" } else { "" }
    }
}

/// One request to be made.
#[derive(Debug, Clone, Copy)]
struct Errand {
    kind: Kind,
    node: usize,
    object: usize,
}

/// One that was made: what it was, who served it, how long it took.
type Done = (Errand, String, Duration);

impl Price {
    /// Runs it and prints what it saw: each body is compared with the origin's.
    fn run(&self, geography: Geography) {
        let (_carrier, mut places) = place::lay(geography, &vec![None; self.nodes + 1]);
        let origin_place = places.pop().expect("the origin is the last");
        let origin = Origin::start(&origin_place, LENGTH);
        let members = Arc::new(gather(places, &origin));
        sleep(self.settle);
        // Every node knows the origin's address, and has a connection to it.
        let warm = (0..self.nodes).map(|node| Errand { kind: Kind::Alone, node, object: node });
        self.send(&members, &warm.collect::<Vec<_>>());
        let mut errands = self.errands();
        shuffle(&mut errands);
        let done = self.send(&members, &errands);
        // Each is asked for once more, elsewhere.
        let fetched = errands.iter().filter(|errand| errand.kind == Kind::Shared);
        let elsewhere = fetched.map(|errand| {
            let node = (errand.node + 1 + errand.object % (self.nodes - 1)) % self.nodes;
            Errand { kind: Kind::Held, node, ..*errand }
        });
        let before = origin.fetches().len();
        let held = self.send(&members, &elsewhere.collect::<Vec<_>>());
        let by_origin = done.iter().filter(|(_, source, _)| source == "origin").count();
        assert_eq!(by_origin, done.len(), "each is alone in wanting what it wants");
        let fetches = done.iter().filter(|(errand, ..)| errand.kind != Kind::Head).count();
        assert_eq!(before, self.nodes + fetches, "one fetch each");
        print(&members, &done, &held);
        assert_eq!(origin.fetches().len(), before, "what is held is not fetched again");
    }

    fn errands(&self) -> Vec<Errand> {
        let kinds = &Kind::LONE;
        let all = (0..self.nodes * self.requests * kinds.len()).map(|n| Errand {
            kind: kinds[n % kinds.len()],
            node: n / kinds.len() % self.nodes,
            object: self.nodes + n,
        });
        all.collect()
    }

    /// Some at a time.
    fn send(&self, members: &Arc<Vec<Member>>, errands: &[Errand]) -> Vec<Done> {
        let share = errands.len().div_ceil(CLIENTS).max(1);
        let clients: Vec<_> = errands
            .chunks(share)
            .map(|errands| {
                let (errands, members) = (errands.to_vec(), members.clone());
                thread::spawn(move || errands.into_iter().map(|e| run(&members, e)).collect())
            })
            .collect();
        clients
            .into_iter()
            .flat_map(|client: thread::JoinHandle<Vec<_>>| client.join().unwrap())
            .collect()
    }
}

/// A client on the node's own host: what it waits for is the node.
fn run(members: &[Member], errand: Errand) -> Done {
    let Errand { kind, node, object } = errand;
    let place = &members[node].place;
    let addr = (place.ip, HTTP).into();
    let (took, reply) = place.run(move || {
        let host = format!("{}:{HTTP}", Origin::host());
        let mut fields = vec![("Host", host.as_str())];
        if kind.is_alone() {
            fields.push(("Cache-Control", "no-cache"));
        }
        let sent = now();
        let method = if kind == Kind::Head { "HEAD" } else { "GET" };
        let reply = ask(addr, method, &format!("/{object}{}", kind.query()), &fields);
        (sent.elapsed(), reply)
    });
    let reply = reply.expect("an answer");
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(kind == Kind::Head || reply.body == body(object, LENGTH), "{object}: wrong octets");
    let status = reply.header("cache-status");
    let source = status.rsplit("detail=").next().unwrap_or_default().to_owned();
    (errand, source, took)
}

fn shuffle(errands: &mut [Errand]) {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for at in (1..errands.len()).rev() {
        errands.swap(at, rng.next_u32() as usize % (at + 1));
    }
}

/// A table of what was measured: the times of each kind, of a look-up, and of the differences at each node.
fn print(members: &[Member], done: &[Done], held: &[Done]) {
    println!("{:34} {:>5}  median, 96th, 99th percentile, longest", "", "n");
    let row = |what: &str, times: Vec<Duration>| {
        println!("{what:34} {:>5}  {:?}", times.len(), percentiles(times.into_iter()));
    };
    for kind in &Kind::LONE {
        let times = done.iter().filter(|(errand, ..)| errand.kind == *kind);
        row(&format!("{kind:?}"), times.map(|(.., took)| *took).collect());
    }
    let mut by_source = BTreeMap::<_, Vec<_>>::new();
    let mut beside = BTreeMap::<_, Vec<_>>::new();
    let own = |node, kind| {
        let times = done.iter().filter(|(e, ..)| e.node == node && e.kind == kind);
        percentiles(times.map(|(.., took)| *took)).map(|[median, ..]| median)
    };
    for (errand, source, took) in held {
        by_source.entry(source).or_default().push(*took);
        // What the origin takes for this very node.
        beside.entry(source).or_default().extend(own(errand.node, Kind::Alone));
    }
    for (source, times) in by_source {
        row(&format!("Held, from {source}"), times);
        row("  the origin, for the same nodes", beside.remove(source).unwrap_or_default());
    }
    for (with, without) in [(Kind::Shared, Kind::Alone), (Kind::SharedCold, Kind::AloneCold)] {
        let medians = (0..members.len())
            .filter_map(|node| Some(own(node, with)?.saturating_sub(own(node, without)?)));
        row(&format!("{with:?} - {without:?}, a node's median"), medians.collect());
    }
    for call in ["claim", "get"] {
        look_ups(members, call);
    }
}

/// What the nodes say of their look-ups, by the buckets of their histograms.
fn look_ups(members: &[Member], call: &str) {
    let mut buckets = BTreeMap::<Duration, f64>::new();
    let (mut sum, mut count) = (0.0, 0.0);
    for member in members {
        for (bound, n) in member.buckets("coralline_locate_seconds", call) {
            *buckets.entry(Duration::from_secs_f64(bound)).or_default() += n;
        }
        sum += member.metric(&format!("coralline_locate_seconds_sum{{call=\"{call}\"}}"));
        count += member.metric(&format!("coralline_locate_seconds_count{{call=\"{call}\"}}"));
    }
    if count == 0.0 {
        return;
    }
    let quantile = |q: f64| {
        let found = buckets.iter().find(|(_, n)| **n >= q * count);
        found.map(|(bound, _)| *bound)
    };
    println!(
        "{:34} {count:>5}  mean {:?}, at most: median {:?}, 96th {:?}, 99th {:?}",
        format!("look-ups, {call}"),
        Duration::from_secs_f64(sum / count),
        quantile(0.5),
        quantile(0.96),
        quantile(0.99),
    );
}

#[test]
fn a_lone_miss_is_one_look_up_and_one_fetch() {
    let price = Price { nodes: 6, requests: 2, settle: Duration::from_secs(3) };
    price.run(planet(price.nodes + 1));
}

#[test]
#[ignore = "some minutes, and a quiet machine"]
fn price_of_cooperation() {
    let nodes = env("CORALLINE_NODES").map_or(50, |nodes| nodes.parse().unwrap());
    let price = Price { nodes, requests: 8, settle: Duration::from_secs(60) };
    price.run(planet(price.nodes + 1));
}
