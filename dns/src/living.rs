//! Which nodes may be named.

use std::net::IpAddr;

use coralline_overlay::{Directory, Services};

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// Addresses of nodes that offer `service`, each once, this node first and then nearest first. When
/// nobody offers it, this node alone: it answers now, so it lives.
pub(crate) fn offering(directory: &Directory, service: Services) -> Vec<IpAddr> {
    let local = &directory.local;
    let others = directory.neighbours.iter().map(|neighbour| &neighbour.contact);
    let mut addresses = Vec::with_capacity(1 + directory.neighbours.len());
    for contact in std::iter::once(local).chain(others) {
        let address = contact.addr.ip().to_canonical();
        // Several nodes may share an address, as ids have slots.
        if contact.services.contains(service)
            && !address.is_unspecified()
            && !addresses.contains(&address)
        {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        addresses.push(local.addr.ip().to_canonical());
    }
    addresses
}

/// Whether the node at this address is this one, or one that offers DNS and lives.
pub(crate) fn serves_names(directory: &Directory, address: IpAddr) -> bool {
    directory.local.addr.ip().to_canonical() == address
        || offering(directory, Services::DNS).contains(&address)
}

/// `most` of the addresses, beginning with another one at each turn.
pub(crate) fn rotated(addresses: &mut Vec<IpAddr>, turn: u64, most: usize) {
    if let Some(by) = turn.checked_rem(addresses.len() as u64) {
        addresses.rotate_left(usize::try_from(by).unwrap_or(0));
    }
    addresses.truncate(most);
}
