//! Who has served what, and who has sent it, told by three sides: what clients saw in Cache-Status, the metrics
//! of the nodes, and the log of the origin. They agree to the octet.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::thread;

use crate::harness::{ADMIN, HTTP, Node, Reply, ask, get};
use crate::scripted::{Origin, mix, verify};

/// Requests, those of them that joined another's fetch, and octets of content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Count {
    requests: u64,
    collapsed: u64,
    octets: u64,
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.collapsed += other.collapsed;
        self.octets += other.octets;
    }
}

/// What was served, by the word for where it came from.
type Served = BTreeMap<String, Count>;

/// What nodes say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Told {
    served: Served,
    /// Octets that came, by who sent them.
    received: BTreeMap<String, u64>,
    origin_requests: u64,
    /// Those of them that were sent again, as the origin closes connections without a word.
    retries: u64,
    resumed: u64,
    to_peers: u64,
}

impl Told {
    /// Adds what one node says.
    fn add(&mut self, node: &Node) {
        let scrape = get(node.at(ADMIN), "/metrics").expect("the admin listener answers").text();
        for line in scrape.lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let source = labels.split('"').nth(1).unwrap_or_default().to_owned();
            let value = || value.parse::<u64>().unwrap();
            match name {
                "coralline_http_requests_total" => {
                    self.served.entry(source).or_default().requests += value();
                }
                "coralline_collapsed_requests_total" => {
                    self.served.entry(source).or_default().collapsed += value();
                }
                "coralline_http_response_bytes_total" => {
                    self.served.entry(source).or_default().octets += value();
                }
                "coralline_received_bytes_total" => {
                    *self.received.entry(source).or_default() += value();
                }
                "coralline_origin_requests_total" => self.origin_requests += value(),
                "coralline_origin_retries_total" => self.retries += value(),
                "coralline_resumed_transfers_total" => self.resumed += value(),
                "coralline_peer_response_bytes_total" => self.to_peers += value(),
                _ => {}
            }
        }
    }

    fn by_all(nodes: &[Node]) -> Self {
        let mut told = Self::default();
        nodes.iter().for_each(|node| told.add(node));
        told
    }

    fn sent_by_peers(&self) -> u64 {
        self.received.iter().filter(|(source, _)| source.starts_with("peer:")).map(|(_, n)| n).sum()
    }
}

/// What this client was served, as Cache-Status says: the last member is of the node that was asked. What was
/// only validated was held.
fn seen(reply: &Reply) -> Served {
    let status = reply.header("cache-status");
    let member = status.rsplit(", ").next().unwrap_or_default();
    let source = member.split("detail=").nth(1).unwrap_or("none");
    let collapsed = u64::from(member.contains("; collapsed"));
    let mut served =
        Served::from([(source.to_owned(), Count { requests: 1, collapsed, octets: 0 })]);
    let octets_of = if member.contains("fwd-status=304") { "local" } else { source };
    served.entry(octets_of.to_owned()).or_default().octets += reply.body.len() as u64;
    served
}

fn add(served: &mut Served, more: Served) {
    more.into_iter().for_each(|(source, count)| *served.entry(source).or_default() += count);
}

/// The three sides agree. Sources that have served nothing count nothing.
fn agree(what: &str, seen: &Served, told: &Told, origin: &Origin) {
    let used = |served: &Served| -> Served {
        served
            .iter()
            .filter(|(_, n)| **n != Count::default())
            .map(|(s, n)| (s.clone(), *n))
            .collect()
    };
    assert_eq!(used(seen), used(&told.served), "{what}: clients and nodes");
    let log = origin.total();
    assert_eq!(log.times, told.origin_requests, "{what}: requests at the origin");
    assert_eq!(log.octets, told.received["origin"], "{what}: octets of the origin");
}

/// Nothing is on its way.
fn quiet(nodes: &mut [Node]) {
    for node in nodes {
        node.wait_until("quiet", |node| {
            ["coralline_flights", "coralline_slices_arriving"]
                .iter()
                .all(|name| node.metric(name) == 0.0)
        });
    }
}

fn cluster(count: usize) -> Vec<Node> {
    let mut nodes = vec![Node::running(&[])];
    for _ in 1..count {
        let node = Node::running(&[&nodes[0]]);
        nodes.push(node);
    }
    for at in 0..count {
        let (before, rest) = nodes.split_at_mut(at);
        let (node, after) = rest.split_first_mut().unwrap();
        before.iter().chain(&*after).for_each(|other| node.wait_neighbour(other));
    }
    nodes
}

#[test]
fn one_after_the_other_each_request_to_the_origin_is_one_that_a_client_was_told_of() {
    let (origin, nodes) = (Origin::start(), cluster(3));
    let host = format!("{}:{HTTP}", origin.host());
    let mut served = Served::new();
    let (mut failed, mut torn) = (0, 0);
    for n in 0..120 {
        let kind = ["keep", "check", "chunked", "torn", "none", "mute"][n % 6];
        let path = format!("/{}/{kind}/{}", 1_000 + n * 997, n / 12);
        // Twice at one node, then at another.
        for node in [0, 0, 1] {
            let node = &nodes[(n + node) % nodes.len()];
            let reply = ask(node.at(HTTP), "GET", &path, &[("Host", &host)]).unwrap();
            failed += u64::from(reply.status == 502);
            let seen = seen(&reply);
            torn += u64::from(kind == "torn" && seen.contains_key("origin"));
            add(&mut served, seen);
        }
    }
    let told = Told::by_all(&nodes);
    agree("one by one", &served, &told, &origin);
    assert_eq!(torn, 20, "each is fetched once");
    assert_eq!(told.resumed, torn);
    // Whoever is told of the origin has sent a request there, and has had all its octets.
    let (of_origin, log) = (served["origin"], origin.total());
    assert_eq!(of_origin.collapsed, 0);
    assert_eq!(log.times, of_origin.requests + torn + failed + told.retries);
    assert_eq!(log.octets, of_origin.octets);
    // And the same between peers, whatever the level: what a client has was sent once.
    let of_peers: u64 =
        served.iter().filter(|(s, _)| s.starts_with("peer:")).map(|(_, n)| n.octets).sum();
    assert!(of_peers > 0);
    assert_eq!((told.sent_by_peers(), told.to_peers), (of_peers, of_peers));
}

/// One of so many.
fn roll(dice: u64, sides: usize) -> usize {
    usize::try_from(dice % sides as u64).unwrap()
}

/// What one of a crowd asks for, by its dice.
fn ask_something(node: &Node, host: &str, dice: u64) -> Served {
    let kind = ["keep", "keep", "check", "chunked", "torn", "none", "mute"][roll(dice >> 8, 7)];
    // Few of each: some join others, and some of those are of three slices.
    let length = [700, 90_000, 3_000_000][roll(dice >> 16, 3)];
    let path = format!("/{length}/{kind}/{}", (dice >> 24) % 3);
    let mut fields = vec![("Host", host)];
    let method = if roll(dice, 7) == 0 { "HEAD" } else { "GET" };
    match (dice >> 32) % 5 {
        0 => fields.push(("Range", "bytes=100-599")),
        1 => fields.push(("Range", "bytes=0-9, 300-399")),
        2 => fields.push(("If-None-Match", "\"0\"")),
        _ => {}
    }
    let reply = ask(node.at(HTTP), method, &path, &fields).unwrap();
    let single = !reply.header("content-type").starts_with("multipart");
    if method == "GET" && single && matches!(reply.status, 200 | 206 | 304) {
        verify(&path, &reply);
    }
    seen(&reply)
}

/// A crowd of eight, each with so many requests to any of the nodes.
fn crowd(nodes: &[Node], host: &str, seed: u64, requests: u64) -> Served {
    let one = |client: u64| {
        let mut served = Served::new();
        for n in 0..requests {
            let dice = mix(seed << 40 | client << 32 | n);
            let node = &nodes[roll(dice >> 48, nodes.len())];
            add(&mut served, ask_something(node, host, dice));
        }
        served
    };
    let mut served = Served::new();
    thread::scope(|scope| {
        let clients: Vec<_> = (0..8).map(|client| scope.spawn(move || one(client))).collect();
        clients.into_iter().for_each(|client| add(&mut served, client.join().unwrap()));
    });
    served
}

#[test]
fn of_a_crowd_through_purges_and_deaths_no_octet_is_lost() {
    let (origin, mut nodes) = (Origin::start(), cluster(4));
    let host = format!("{}:{HTTP}", origin.host());
    let mut served = crowd(&nodes, &host, 1, 40);
    quiet(&mut nodes);
    agree("a crowd", &served, &Told::by_all(&nodes), &origin);

    // What was purged is validated, or fetched once more.
    for path in ["/90000/keep/0", "/3000000/keep/1", "/90000/torn/0"] {
        let token = nodes[1].token();
        let fields = [("Host", host.as_str()), ("Authorization", &token)];
        let reply = ask(nodes[1].at(HTTP), "PURGE", path, &fields).unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
        add(&mut served, seen(&reply));
    }
    add(&mut served, crowd(&nodes, &host, 2, 20));
    quiet(&mut nodes);
    agree("after a purge", &served, &Told::by_all(&nodes), &origin);

    // The one who sends a large body dies midway: its own client counters stand still by then.
    let path = "/60000000/keep/large";
    let (first, rest) = nodes.split_at(1);
    let reply = ask(first[0].at(HTTP), "GET", path, &[("Host", &host)]).unwrap();
    verify(path, &reply);
    add(&mut served, seen(&reply));
    let mut last_words = Told::default();
    last_words.add(&first[0]);
    let from_peers = |node: &Node| {
        let mut told = Told::default();
        told.add(node);
        told.sent_by_peers()
    };
    let before = from_peers(&rest[0]);
    let reply = thread::scope(|scope| {
        let client = || ask(rest[0].at(HTTP), "GET", path, &[("Host", &host)]).unwrap();
        let client = scope.spawn(client);
        rest[0].wait_for(|| from_peers(&rest[0]) > before + (1 << 20) || client.is_finished());
        first[0].strike();
        client.join().unwrap()
    });
    verify(path, &reply);
    add(&mut served, seen(&reply));
    nodes.remove(0);
    let with_the_dead = |nodes: &[Node]| {
        let mut told = last_words.clone();
        nodes.iter().for_each(|node| told.add(node));
        told
    };
    quiet(&mut nodes);
    agree("after a death", &served, &with_the_dead(&nodes), &origin);

    add(&mut served, crowd(&nodes, &host, 3, 20));
    quiet(&mut nodes);
    agree("those who are left", &served, &with_the_dead(&nodes), &origin);
}
