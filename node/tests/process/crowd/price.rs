//! What cooperation costs who is alone in wanting something, and what it brings who is not.
//!
//! A lone miss asks the index first, and the origin then. The same node asks the same origin for other objects
//! without the index, as `Cache-Control: no-cache` has it: the two differ by what the index took. The time of a
//! look-up is the nodes' own measurement.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
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

    /// Host and end of the path: connections that end are of another name, so that they end no others.
    fn place(self) -> (String, &'static str) {
        match self {
            Self::AloneCold | Self::SharedCold => (Origin::other_host(), "?close"),
            _ => (Origin::host(), ""),
        }
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
        let near: Vec<_> =
            (0..self.nodes).map(|node| nearest(&geography, node, self.nodes)).collect();
        let (_carrier, mut places) = place::lay(geography, &vec![None; self.nodes + 1]);
        let origin_place = places.pop().expect("the origin is the last");
        let origin = Origin::start(&origin_place, LENGTH);
        let members = Arc::new(gather(places, &origin));
        sleep(self.settle);
        // Every node knows the origin's addresses, and has a connection to it.
        for kind in [Kind::Alone, Kind::AloneCold] {
            let warm = (0..self.nodes).map(|node| Errand { kind, node, object: node });
            self.send(&members, &warm.collect::<Vec<_>>());
        }
        let mut errands = self.errands();
        shuffle(&mut errands);
        let done = self.send(&members, &errands);
        let by_origin = done.iter().filter(|(_, source, _)| source == "origin").count();
        assert_eq!(by_origin, done.len(), "each is alone in wanting what it wants");
        let fetches = done.iter().filter(|(errand, ..)| errand.kind != Kind::Head).count();
        let before = origin.fetches().len();
        assert_eq!(before, 2 * self.nodes + fetches, "one fetch each");
        print(&done);
        let lone = ["claim", "get"].map(|call| LookUps::of(&members, call));
        println!("look-ups of these, claim           {}", lone[0]);
        println!("look-ups of these, get             {}", lone[1]);
        // Each is asked for once more: of each node by its nearest, and by one somewhere.
        let (first, again) = self.elsewhere(&errands, &near);
        for (what, errands) in [("", first), (", over a connection that is there", again)] {
            print_held(what, &done, &self.send(&members, &errands));
        }
        println!(
            "look-ups of these, claim           {}",
            LookUps::of(&members, "claim").since(&lone[0])
        );
        assert_eq!(origin.fetches().len(), before, "what is held is not fetched again");
    }

    /// Who asks for what has been fetched: the first of each pair of nodes, and the others.
    fn elsewhere(&self, errands: &[Errand], near: &[usize]) -> (Vec<Errand>, Vec<Errand>) {
        let mut pairs = BTreeMap::<_, usize>::new();
        let mut asked = vec![0; self.nodes];
        let fetched = errands.iter().filter(|errand| errand.kind == Kind::Shared);
        fetched
            .map(|errand| {
                let holder = errand.node;
                asked[holder] += 1;
                let somewhere = (holder + 1 + holder * 7 % (self.nodes - 1)) % self.nodes;
                let node = if asked[holder] % 2 == 0 { somewhere } else { near[holder] };
                *pairs.entry((holder, node)).or_default() += 1;
                (Errand { kind: Kind::Held, node, ..*errand }, pairs[&(holder, node)] == 1)
            })
            .fold(Default::default(), |(mut first, mut again), (errand, is_first)| {
                if is_first { &mut first } else { &mut again }.push(errand);
                (first, again)
            })
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
        let (host, end) = kind.place();
        let host = format!("{host}:{HTTP}");
        let mut fields = vec![("Host", host.as_str())];
        if kind.is_alone() {
            fields.push(("Cache-Control", "no-cache"));
        }
        let sent = now();
        let method = if kind == Kind::Head { "HEAD" } else { "GET" };
        let reply = ask(addr, method, &format!("/{object}{end}"), &fields);
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

/// The nearest of the other nodes.
fn nearest(geography: &Geography, node: usize, nodes: usize) -> usize {
    let others = (0..nodes).filter(|other| *other != node);
    others.min_by_key(|other| geography.rtt(node, *other)).expect("there are others")
}

fn row(what: &str, times: Vec<Duration>) {
    println!("{what:48} {:>5}  {:?}", times.len(), percentiles(times.into_iter()));
}

/// The median of what this node's requests of one kind took.
fn own(done: &[Done], node: usize, kind: Kind) -> Option<Duration> {
    let times = done.iter().filter(|(e, ..)| e.node == node && e.kind == kind);
    percentiles(times.map(|(.., took)| *took)).map(|[median, ..]| median)
}

/// A table of what lone requests took, and how much more at each node by way of the index.
fn print(done: &[Done]) {
    println!("{:48} {:>5}  median, 96th, 99th percentile, longest", "", "n");
    for kind in Kind::LONE {
        let times = done.iter().filter(|(errand, ..)| errand.kind == kind);
        row(&format!("{kind:?}"), times.map(|(.., took)| *took).collect());
    }
    let nodes: BTreeSet<_> = done.iter().map(|(errand, ..)| errand.node).collect();
    for (with, without) in [(Kind::Shared, Kind::Alone), (Kind::SharedCold, Kind::AloneCold)] {
        let more = |node| Some(own(done, node, with)?.saturating_sub(own(done, node, without)?));
        let medians = nodes.iter().filter_map(|node| more(*node)).collect();
        row(&format!("{with:?} - {without:?}, the medians of each node"), medians);
    }
}

/// What was held elsewhere, by where it came from, beside the origin's time for the very nodes that asked.
fn print_held(what: &str, done: &[Done], held: &[Done]) {
    let mut by_source = BTreeMap::<_, (Vec<_>, Vec<_>)>::new();
    for (errand, source, took) in held {
        let (times, beside) = by_source.entry(source).or_default();
        times.push(*took);
        beside.extend(own(done, errand.node, Kind::Alone));
    }
    for (source, (times, beside)) in by_source {
        row(&format!("{source}{what}"), times);
        row("  the origin, for the same nodes", beside);
    }
}

/// What the nodes say of their look-ups, by the buckets of their histograms.
struct LookUps {
    /// So many took at most so long.
    buckets: BTreeMap<Duration, f64>,
    /// Seconds, and how many.
    sum: f64,
    count: f64,
}

impl LookUps {
    fn of(members: &[Member], call: &str) -> Self {
        let mut all = Self { buckets: BTreeMap::new(), sum: 0.0, count: 0.0 };
        let name = "coralline_locate_seconds";
        for member in members {
            for (bound, n) in member.buckets(name, call) {
                *all.buckets.entry(Duration::from_secs_f64(bound)).or_default() += n;
            }
            all.sum += member.metric(&format!("{name}_sum{{call=\"{call}\"}}"));
            all.count += member.metric(&format!("{name}_count{{call=\"{call}\"}}"));
        }
        all
    }

    /// Those that were not among `before`.
    fn since(mut self, before: &Self) -> Self {
        self.buckets.iter_mut().for_each(|(bound, n)| *n -= before.buckets[bound]);
        Self { sum: self.sum - before.sum, count: self.count - before.count, ..self }
    }
}

impl fmt::Display for LookUps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let within = |share: f64| {
            let found = self.buckets.iter().find(|(_, n)| **n >= share * self.count);
            found.map(|(bound, _)| *bound)
        };
        let mean = Duration::try_from_secs_f64(self.sum / self.count).unwrap_or_default();
        let [median, most, nearly] = [0.5, 0.96, 0.99].map(within);
        write!(f, "{} in {mean:?} on average; at most {median:?}, {most:?}, {nearly:?}", self.count)
    }
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
