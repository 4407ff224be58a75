//! A digest of all that happened: equal only if two runs were equal, step by step.

use coralline_overlay::Instant;
use sha1::{Digest, Sha1};

/// Takes in events in their order.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    hash: Sha1,
    events: u64,
}

impl Trace {
    /// Takes in one event: when, at which node, of which kind, with what octets.
    pub fn note(&mut self, at: Instant, node: usize, kind: u8, octets: &[u8]) {
        self.events += 1;
        let mut head = [0; 25];
        head[..8].copy_from_slice(&at.as_micros().to_be_bytes());
        head[8..16].copy_from_slice(&(node as u64).to_be_bytes());
        head[16..24].copy_from_slice(&(octets.len() as u64).to_be_bytes());
        head[24] = kind;
        self.hash.update(head);
        self.hash.update(octets);
    }

    /// How many events it has taken in.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// SHA-1 of all events so far, in hexadecimal.
    #[must_use]
    pub fn digest(&self) -> String {
        let digest = self.hash.clone().finalize();
        digest.iter().map(|octet| format!("{octet:02x}")).collect()
    }
}
