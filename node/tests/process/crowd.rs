//! Crowds before real processes, each on a host of its own with the distances of a planet between them, in
//! front of an origin with a thin uplink.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use coralline_sim::{Geography, Matrix};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

use self::member::Member;
use self::origin::Origin;
use self::place::Place;
use crate::harness::{env, now};

mod carrier;
mod coral;
mod doors;
mod flash;
mod host;
mod member;
mod origin;
mod place;
mod price;

/// Starts a node at each place, the first two being everybody's seeds, and waits until all have joined.
fn gather(places: Vec<Place>, origin: &Origin) -> Vec<Member> {
    let seeds: Vec<_> = places.iter().take(2).map(|place| place.ip).collect();
    let start = |place: Place| {
        sleep(Duration::from_millis(50));
        Member::start(place, &seeds, origin.name_server())
    };
    let members: Vec<_> = places.into_iter().map(start).collect();
    let begin = now();
    while let Some(late) = members.iter().find(|member| !member.is_ready()) {
        assert!(begin.elapsed() < Duration::from_secs(120), "it never joined\n{}", late.log());
        sleep(Duration::from_millis(100));
    }
    members
}

/// Where so many hosts are: by the matrix of `CORALLINE_RTT`, a file of round trips in milliseconds; in the
/// built-in world without it.
fn planet(hosts: usize) -> Geography {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    match env("CORALLINE_RTT").map(PathBuf::from) {
        Some(file) => Geography::of_matrix(Matrix::open(&file).unwrap(), hosts, &mut rng),
        None => Geography::new(hosts, &mut rng),
    }
}

/// The median, the 96th and 99th percentile and the largest.
fn percentiles(times: impl Iterator<Item = Duration>) -> Option<[Duration; 4]> {
    let mut times: Vec<_> = times.collect();
    times.sort_unstable();
    let last = times.len().checked_sub(1)?;
    Some([50, 96, 99, 100].map(|percent| times[last * percent / 100]))
}
