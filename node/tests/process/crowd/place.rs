//! Where nodes, origin and clients are: on hosts far apart, or, where those cannot be made, on loopback
//! addresses without any distance.

use std::net::IpAddr;

use coralline_sim::Geography;

use super::carrier::{Carrier, Uplink};
use super::host::Host;
use crate::harness;

/// An address with, perhaps, a host of its own.
pub(crate) struct Place {
    pub(crate) ip: IpAddr,
    host: Option<Host>,
}

impl Place {
    /// Does `work` there: sockets that it opens, threads and processes that it starts live there.
    pub(crate) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        match &self.host {
            Some(host) => host.run(work),
            None => work(),
        }
    }
}

/// Places with these uplinks; and what carries between them, if they are apart.
pub(crate) fn lay(geography: Geography, uplinks: &[Uplink]) -> (Option<Carrier>, Vec<Place>) {
    if let Some((carrier, hosts)) = Carrier::lay(geography, uplinks) {
        let place = |host: Host| Place { ip: host.ip.into(), host: Some(host) };
        return (Some(carrier), hosts.into_iter().map(place).collect());
    }
    println!(
        "no namespaces may be made here: all are on loopback, without distances or thin uplinks"
    );
    let place = |_| Place { ip: harness::address(), host: None };
    (None, uplinks.iter().map(place).collect())
}
