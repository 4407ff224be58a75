//! A flash crowd: hundreds of clients ask many nodes for one large file within two seconds.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::{self, sleep};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::carrier::Carrier;
use super::member::Member;
use super::origin::{Origin, body};
use super::{gather, percentiles, place, planet};
use crate::harness::{HTTP, now};

/// All clients come within this time.
const RUSH: Duration = Duration::from_secs(2);

/// How large.
struct Flash {
    nodes: usize,
    clients: usize,
    /// Of the file, in octets.
    length: usize,
    /// The origin's, in bits a second.
    uplink: u64,
    deaths: Deaths,
}

/// Nodes end midway: the claimant, all that receive from it, and a third of the others.
#[derive(Clone, Copy, PartialEq)]
enum Deaths {
    None,
    /// Processes end, and their connections with them.
    Processes,
    /// Hosts with all that is on them: their clients too, and nobody hears of it.
    Hosts,
}

/// What came of it.
struct Outcome {
    /// Of each client, from its request to its last octet; or what went wrong.
    took: Vec<Result<Duration, String>>,
    /// Clients that ended with their hosts.
    gone: usize,
    /// How many times the file the origin has sent, by the octets of its answers.
    copies: f64,
    /// The end of the last client, over the time that the uplink takes for one copy.
    stretch: f64,
}

impl Flash {
    fn run(&self) -> Outcome {
        let mut uplinks = vec![None; self.nodes];
        uplinks.push(Some(self.uplink));
        let (carrier, mut places) = place::lay(planet(self.nodes + 1), &uplinks);
        let origin_place = places.pop().expect("the origin is the last");
        let origin = Origin::start(&origin_place, self.length);
        let mut members = gather(places, &origin);
        sleep(Duration::from_secs(5));
        let (begin, wanted) = (now(), Arc::new(body(0, self.length)));
        let addrs: Vec<SocketAddr> = members.iter().map(|m| (m.place.ip, HTTP).into()).collect();
        let dead: Arc<Mutex<Vec<IpAddr>>> = Arc::default();
        let client = |number: usize| {
            let mut rng = ChaCha8Rng::seed_from_u64(number as u64);
            let wait = RUSH.mul_f64(f64::from(rng.next_u32()) / f64::from(u32::MAX));
            let at = number % self.nodes;
            // Whoever loses a node goes on at the next that lives, where it stopped, as one does who has
            // several addresses of a name.
            let order: Vec<_> = addrs[at..].iter().chain(&addrs[..at]).copied().collect();
            let (wanted, dead, deaths) = (wanted.clone(), dead.clone(), self.deaths);
            members[at].place.run(move || {
                thread::spawn(move || {
                    sleep(wait);
                    // A client on a host that is gone is gone.
                    let tries = if deaths == Deaths::Hosts { 1 } else { order.len() };
                    let took = download(&order[..tries], &dead, &wanted);
                    let is_gone = tries == 1 && dead.lock().unwrap().contains(&order[0].ip());
                    (!is_gone).then_some(took)
                })
            })
        };
        let clients: Vec<_> = (0..self.clients).map(client).collect();
        if self.deaths != Deaths::None {
            self.kill(&mut members, carrier.as_ref(), &dead);
        }
        let took: Vec<_> =
            clients.into_iter().filter_map(|client| client.join().unwrap()).collect();
        let end = begin.elapsed();
        let one = Duration::from_secs_f64(self.length as f64 * 8.0 / self.uplink as f64);
        let sent: u64 = origin.fetches().iter().map(|fetch| fetch.sent()).sum();
        let outcome = Outcome {
            copies: sent as f64 / self.length as f64,
            stretch: end.as_secs_f64() / one.as_secs_f64(),
            gone: self.clients - took.len(),
            took,
        };
        let good = outcome.took.iter().filter_map(|took| took.as_ref().ok().copied());
        println!(
            "{} clients of {} nodes, {} octets: {} requests at the origin, {:.3} copies; all done after \
             {end:?}, one copy takes the uplink {one:?}: {:.2}; {} clients gone, others {:?}",
            self.clients,
            self.nodes,
            self.length,
            origin.fetches().len(),
            outcome.copies,
            outcome.stretch,
            outcome.gone,
            percentiles(good),
        );
        outcome
    }

    /// Ends the claimant, then all that received from it, then a third of the others, a tenth of one
    /// copy's time apart.
    fn kill(&self, members: &mut [Member], carrier: Option<&Carrier>, dead: &Mutex<Vec<IpAddr>>) {
        let pause = Duration::from_secs_f64(self.length as f64 * 0.8 / self.uplink as f64);
        sleep(RUSH + pause);
        let asked = |member: &Member| member.metric("coralline_origin_requests_total") > 0.0;
        let claimant = members.iter().position(asked).expect("somebody has asked the origin");
        let much = self.length as u64 / 50;
        let fed = |to: &usize| carrier.is_some_and(|carrier| carrier.octets(claimant, *to) > much);
        // On loopback nobody can tell who they are.
        let direct: Vec<_> = (0..self.nodes).filter(fed).collect();
        assert!(direct.len() <= 4, "{direct:?} all receive from the claimant");
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let others: Vec<_> = (0..self.nodes)
            .filter(|index| *index != claimant && !direct.contains(index))
            .filter(|_| rng.next_u32() % 3 == 0)
            .collect();
        println!("the claimant is {claimant}, then {direct:?}, then {others:?}");
        for group in [vec![claimant], direct, others] {
            for index in group {
                dead.lock().unwrap().push(members[index].place.ip);
                if let Some(carrier) = carrier.filter(|_| self.deaths == Deaths::Hosts) {
                    carrier.cut(index);
                }
                members[index].kill();
            }
            sleep(pause);
        }
    }
}

/// Reads the file from the first node, or what is left of it from the next one if that node is dead.
fn download(
    nodes: &[SocketAddr],
    dead: &Mutex<Vec<IpAddr>>,
    wanted: &[u8],
) -> Result<Duration, String> {
    let (begin, mut done, mut error) = (now(), 0, String::new());
    for node in nodes {
        if dead.lock().unwrap().contains(&node.ip()) {
            continue;
        }
        match part(*node, wanted, &mut done) {
            Ok(()) => return Ok(begin.elapsed()),
            Err(why) => error = format!("{node}: after {done} octets: {why}"),
        }
        if !dead.lock().unwrap().contains(&node.ip()) {
            return Err(error);
        }
    }
    Err(error)
}

/// Reads from octet `done` on, and compares each.
fn part(node: SocketAddr, wanted: &[u8], done: &mut usize) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(node).map_err(text)?;
    stream.set_read_timeout(Some(Duration::from_secs(120))).map_err(text)?;
    let range = if *done > 0 { format!("Range: bytes={done}-\r\n") } else { String::new() };
    let request = format!(
        "GET /0 HTTP/1.1\r\nHost: {}:{HTTP}\r\n{range}Connection: close\r\n\r\n",
        Origin::host()
    );
    stream.write_all(request.as_bytes()).map_err(text)?;
    let mut buffer = vec![0; 64 << 10];
    let mut head = Vec::new();
    let body_at = loop {
        let length = stream.read(&mut buffer).map_err(text)?;
        head.extend_from_slice(&buffer[..length]);
        if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if length == 0 {
            return Err("no answer".to_owned());
        }
    };
    let expect = if *done > 0 { "HTTP/1.1 206" } else { "HTTP/1.1 200" };
    if !head.starts_with(expect.as_bytes()) {
        return Err(String::from_utf8_lossy(&head[..body_at]).into_owned());
    }
    let mut take = |octets: &[u8]| {
        if wanted.get(*done..*done + octets.len()) != Some(octets) {
            return Err("wrong octets".to_owned());
        }
        *done += octets.len();
        Ok(())
    };
    take(&head[body_at..])?;
    loop {
        match stream.read(&mut buffer).map_err(text)? {
            0 => break,
            length => take(&buffer[..length])?,
        }
    }
    if *done == wanted.len() { Ok(()) } else { Err("cut short".to_owned()) }
}

fn errors(outcome: &Outcome) -> Vec<&String> {
    outcome.took.iter().filter_map(|took| took.as_ref().err()).collect()
}

#[test]
fn a_crowd_on_one_large_file_takes_hardly_longer_than_one_copy() {
    let flash =
        Flash { nodes: 8, clients: 40, length: 5_000_000, uplink: 8_000_000, deaths: Deaths::None };
    let outcome = flash.run();
    assert_eq!(errors(&outcome), Vec::<&String>::new());
    assert!(outcome.copies <= 1.0, "{}", outcome.copies);
}

#[test]
fn nodes_that_die_midway_are_replaced_whether_anybody_hears_of_it_or_not() {
    for deaths in [Deaths::Processes, Deaths::Hosts] {
        let flash = Flash { nodes: 9, clients: 27, length: 5_000_000, uplink: 4_000_000, deaths };
        let outcome = flash.run();
        assert_eq!(errors(&outcome), Vec::<&String>::new());
        assert!(outcome.copies <= 1.5, "{}", outcome.copies);
    }
}

#[test]
#[ignore = "a minute, and a release build"]
fn five_hundred_clients_and_fifty_megabytes() {
    let flash = Flash {
        nodes: 20,
        clients: 500,
        length: 50_000_000,
        uplink: 8_000_000,
        deaths: Deaths::None,
    };
    let outcome = flash.run();
    assert_eq!(errors(&outcome), Vec::<&String>::new());
    assert!(outcome.copies <= 1.0, "{}", outcome.copies);
    assert!(outcome.stretch <= 1.3, "{}", outcome.stretch);
}

#[test]
#[ignore = "two minutes, and a release build"]
fn nodes_die_before_five_hundred_clients() {
    let flash = Flash {
        nodes: 20,
        clients: 500,
        length: 50_000_000,
        uplink: 8_000_000,
        deaths: Deaths::Processes,
    };
    let outcome = flash.run();
    assert_eq!(errors(&outcome), Vec::<&String>::new());
    assert!(outcome.copies <= 1.5, "{}", outcome.copies);
}
