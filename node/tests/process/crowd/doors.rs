//! One host at the door that a node has for peers.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::origin::{Origin, body};
use super::{gather, place, planet};
use crate::harness::{HTTP, OVERLAY, get_site};

/// Connections that one host opens, and those of them that it may have before it has shown who it is.
const OPENED: usize = 40;
const HELD: usize = 8;

/// How many of these connections are open still; those refused are closed at once.
fn open(streams: &mut Vec<TcpStream>) -> usize {
    streams.retain_mut(|stream| {
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        // Nothing yet, as opposed to the end.
        stream.read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    });
    streams.len()
}

#[test]
fn one_host_does_not_take_all_places_for_peers() {
    let (carrier, mut places) = place::lay(planet(5), &[None; 5]);
    if carrier.is_none() {
        // On loopback all are of one operator, and nobody is counted.
        return;
    }
    let greedy = places.pop().expect("somebody who is no node");
    let origin = Origin::start(&places.pop().expect("the origin"), 1_000);
    let members = gather(places, &origin);
    let door = SocketAddr::new(members[0].place.ip, OVERLAY);
    let (mut streams, refused) = greedy.run(move || {
        let patience = Duration::from_secs(10);
        let mut streams: Vec<_> =
            (0..OPENED).map(|_| TcpStream::connect_timeout(&door, patience).unwrap()).collect();
        let refused = OPENED - open(&mut streams);
        (streams, refused)
    });
    assert!(open(&mut streams) <= HELD, "{refused} refused");
    let counted = members[0].metric("coralline_peer_connections_refused_total");
    assert!(counted >= (OPENED - HELD) as f64, "{counted}");
    // Others have theirs all the same: what one node has fetched the others have from it.
    for member in &members {
        let addr = (member.place.ip, HTTP).into();
        let reply = member.place.run(move || get_site(addr, &Origin::host(), "/1"));
        assert!(reply.unwrap().body == body(1, 1_000));
    }
    assert_eq!(origin.fetches().len(), 1);
}
