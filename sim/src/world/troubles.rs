//! Troubles that befall a world, and how they end.

use std::net::SocketAddr;
use std::time::Duration;

use coralline_overlay::inspect::Lie;
use coralline_overlay::{Contact, Identity, Services};

use crate::geography::unit;
use crate::trouble::{Churn, Trouble, Wires};
use crate::world::{Happening, World};

/// Holders that liars invent: as many as a key may have values.
const INVENTED: u8 = 4;
/// Living nodes that a node without saved contacts starts from.
const SEEDS: usize = 2;

impl World {
    /// Lets a trouble begin now.
    pub fn apply(&mut self, trouble: Trouble) {
        let count = self.nodes.len();
        match trouble {
            Trouble::Loss { share } => self.wires.loss = share,
            Trouble::Part { share } => self.wires.cut = part_of(count, share),
            Trouble::Blocked { share } => self.wires.blocked = share,
            Trouble::OneWay { share } => self.wires.one_way = share,
            Trouble::Kill { share } => {
                let alive: Vec<_> = (0..count).filter(|at| self.is_alive(*at)).collect();
                self.some(alive, share).into_iter().for_each(|at| self.kill(at));
            }
            Trouble::Return { share, saved } => {
                let dead: Vec<_> = (0..count).filter(|at| !self.is_alive(*at)).collect();
                self.some(dead, share).into_iter().for_each(|at| self.revive(at, saved));
            }
            Trouble::Churn { median_life_s, median_absence_s, saved } => {
                let median_life = Duration::from_secs(median_life_s);
                let median_absence = Duration::from_secs(median_absence_s);
                self.churn = Some(Churn { median_life, median_absence, saved });
                (0..count)
                    .filter(|at| self.is_alive(*at))
                    .collect::<Vec<_>>()
                    .into_iter()
                    .for_each(|at| self.fate(at));
            }
            Trouble::Lie { share, lie } => {
                let honest = (0..count).filter(|at| !self.is_liar(*at)).collect();
                let liars = self.some(honest, share);
                self.lie(&liars, lie.into());
            }
            Trouble::Heal => {
                self.wires = Wires { seed: self.wires.seed, ..Wires::default() };
                self.churn = None;
                self.apply(Trouble::Return { share: 1.0, saved: true });
            }
        }
    }

    /// Kills a node as `kill -9` would.
    pub fn kill(&mut self, node: usize) {
        if let Some(core) = self.nodes[node].core.take() {
            self.nodes[node].saved = core.contacts();
            self.open.retain(|(at, _), _| *at != node);
        }
    }

    /// Starts a dead node from the contacts it had saved; it has no seeds.
    pub fn restart(&mut self, node: usize) {
        self.start(node, Vec::new());
    }

    /// Parts the nodes below `first` from the rest; 0 heals.
    pub const fn part(&mut self, first: usize) {
        self.wires.cut = first;
    }

    /// Changes the share of datagrams that is lost.
    pub const fn set_loss(&mut self, loss: f64) {
        self.wires.loss = loss;
    }

    /// These nodes lie from now on.
    pub fn lie(&mut self, nodes: &[usize], lie: Lie) {
        // In documentation ranges nobody lives, but these stand for addresses on the Internet.
        let invented = |at: u8| Contact {
            identity: Identity([at; 32]),
            addr: SocketAddr::from(([30, 0, at, 1], 7400)),
            slot: 0,
            peer_port: 7400,
            services: Services::PROXY,
        };
        self.junk = (0..INVENTED).map(invented).collect();
        nodes.iter().for_each(|at| self.nodes[*at].lie = Some(lie));
    }

    /// Under churn, decides how long a node that has just started lives.
    pub(super) fn fate(&mut self, node: usize) {
        if let Some(churn) = self.churn {
            let time = self.exponential(churn.median_life);
            let life = self.nodes[node].life;
            self.queue.push(self.now + time, Happening::Death(node, life));
        }
    }

    pub(super) fn die(&mut self, node: usize, life: u32) {
        let Some(churn) = self.churn else { return };
        if self.life(node) == Some(life) {
            self.kill(node);
            let time = self.exponential(churn.median_absence);
            self.queue.push(self.now + time, Happening::Return(node, life));
        }
    }

    pub(super) fn come_back(&mut self, node: usize, life: u32) {
        let is_same = self.nodes[node].life == life && !self.is_alive(node);
        if let Some(churn) = self.churn.filter(|_| is_same) {
            self.revive(node, churn.saved);
        }
    }

    fn revive(&mut self, node: usize, saved: bool) {
        let nobody = !(0..self.nodes.len()).any(|at| self.is_alive(at));
        if saved || nobody {
            self.restart(node);
            return;
        }
        self.nodes[node].saved.clear();
        let seeds: Vec<_> = (0..SEEDS).map(|_| self.any_node(None)).collect();
        self.start(node, seeds.into_iter().map(|at| self.nodes[at].contact.addr).collect());
    }

    /// A share of these, drawn by chance.
    fn some(&mut self, mut all: Vec<usize>, share: f64) -> Vec<usize> {
        let count = part_of(all.len(), share);
        for at in 0..count {
            let other = at + self.draw(all.len() - at);
            all.swap(at, other);
        }
        all.truncate(count);
        all
    }

    fn exponential(&mut self, median: Duration) -> Duration {
        median.mul_f64(-(1.0 - unit(&mut self.rng)).log2())
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "counts of nodes are far below 2^52, and shares are not negative"
)]
fn part_of(count: usize, share: f64) -> usize {
    ((count as f64 * share).round() as usize).min(count)
}
