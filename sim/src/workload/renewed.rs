//! Holders come and go and renew what they hold; others get it.

use std::collections::BTreeMap;
use std::time::Duration;

use coralline_overlay::{Except, Outcome, QueryId};

use crate::report::Report;
use crate::workload::{float, key, number, percent};
use crate::world::{Finished, Notice, World};

/// How often a get is made, if all pointers of its answers lead nowhere: what a proxy has time for
/// before it goes to the origin.
const MAX_TRIES: usize = 3;

/// One key and who holds it now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub(super) holder: usize,
    pub(super) life: u32,
    /// Its put has ended well in this life.
    pub(super) stored: bool,
}

/// A get under way: which key, held by whom, and who asked.
#[derive(Debug, Clone)]
struct Asked {
    at: usize,
    held: Held,
    tries: usize,
    except: Except,
}

/// Keys, their holders, and the gets that ask for them.
#[derive(Debug)]
pub(super) struct Market {
    name: &'static str,
    ttl: Duration,
    pub(super) keys: Vec<Held>,
    puts: BTreeMap<(usize, QueryId), usize>,
    gets: BTreeMap<(usize, QueryId), Asked>,
    pub(super) made: usize,
    pub(super) good: usize,
    /// Of the good ones, those whose first answer was.
    pub(super) good_at_once: usize,
}

impl Market {
    /// Each key gets a holder drawn by chance; its first put is within a half of its time to live.
    pub(super) fn open(world: &mut World, name: &'static str, keys: usize, ttl: Duration) -> Self {
        let mut held = Vec::new();
        for at in 0..keys {
            let micros = u64::try_from(ttl.as_micros() / 2).expect("a time to live is hours");
            let micros = world.draw(usize::try_from(micros).expect("it fits")) as u64;
            world.alarm(Duration::from_micros(micros), at);
            let holder = honest(world);
            let life = world.life(holder).unwrap_or(0);
            held.push(Held { holder, life, stored: false });
        }
        let (puts, gets) = (BTreeMap::new(), BTreeMap::new());
        Self { name, ttl, keys: held, puts, gets, made: 0, good: 0, good_at_once: 0 }
    }

    /// Its holder renews a key; if that has died, another has it from now on.
    pub(super) fn renew(&mut self, world: &mut World, at: usize) {
        self.put(world, at);
        world.alarm(self.ttl / 2, at);
    }

    pub(super) fn put(&mut self, world: &mut World, at: usize) {
        let held = &mut self.keys[at];
        if world.life(held.holder) != Some(held.life) {
            let holder = honest(world);
            *held = Held { holder, life: world.life(holder).unwrap_or(0), stored: false };
        }
        if let Ok(query) = world.put(held.holder, key(self.name, at), self.ttl) {
            self.puts.insert((held.holder, query), at);
        }
    }

    /// Somebody asks for a key that is held and has been put.
    pub(super) fn ask(&mut self, world: &mut World) {
        let at = world.draw(self.keys.len());
        let held = self.keys[at];
        if !held.stored || world.life(held.holder) != Some(held.life) {
            return;
        }
        let node = honest(world);
        if node != held.holder
            && let Ok(query) = world.get(node, key(self.name, at))
        {
            let (tries, except) = (1, Except::default());
            self.gets.insert((node, query), Asked { at, held, tries, except });
        }
    }

    pub(super) fn ended(
        &mut self,
        world: &mut World,
        node: usize,
        query: QueryId,
        finished: &Finished,
    ) {
        if let Some(at) = self.puts.remove(&(node, query)) {
            let held = &mut self.keys[at];
            held.stored |=
                held.holder == node && matches!(finished.outcome, Outcome::Stored { .. });
        }
        let Some(asked) = self.gets.remove(&(node, query)) else { return };
        // A holder that died meanwhile could not be found any more.
        let is_live = |held: &Held| world.life(held.holder) == Some(held.life);
        if self.keys[asked.at].holder != asked.held.holder || !is_live(&asked.held) {
            return;
        }
        let addr = world.contact(asked.held.holder).addr;
        let (pointers, by) = match &finished.outcome {
            Outcome::Found { pointers, by, .. } => (pointers.as_slice(), *by),
            _ => (&[][..], None),
        };
        let is_good = pointers.iter().any(|pointer| pointer.holder.addr == addr);
        // Whoever follows these meets nobody who has it, and asks for others.
        if !is_good && !pointers.is_empty() && asked.tries < MAX_TRIES {
            let Asked { at, held, tries, mut except } = asked;
            except.add(pointers, by);
            let again = world.get_except(node, key(self.name, at), except.clone());
            if let Ok(query) = again {
                let asked = Asked { at, held, tries: tries + 1, except };
                self.gets.insert((node, query), asked);
                return;
            }
        }
        self.made += 1;
        self.good += usize::from(is_good);
        self.good_at_once += usize::from(is_good && asked.tries == 1);
    }
}

pub(super) fn run(
    world: &mut World,
    report: &mut Report,
    keys: usize,
    minutes: u64,
    gets_a_second: u64,
    ttl: Duration,
) {
    let mut market = Market::open(world, "renewed", keys, ttl);
    world.alarm(ttl / 2 + Duration::from_secs(10), keys);
    let pause = Duration::from_secs(1) / u32::try_from(gets_a_second.max(1)).unwrap_or(u32::MAX);
    let (until, before) = (world.now() + Duration::from_secs(60 * minutes), world.shown());
    while let Some(notice) = world.next(until) {
        match notice {
            Notice::Alarm(at) if at < keys => market.renew(world, at),
            Notice::Alarm(_) => {
                market.ask(world);
                world.alarm(pause, keys);
            }
            Notice::Finished(node, query, finished) => market.ended(world, node, query, &finished),
        }
    }
    let shown = world.shown();
    let (all, stale) = (shown.all - before.all, shown.stale - before.stale);
    let alive = (0..world.nodes()).filter(|at| world.is_alive(*at)).count();
    report.figure("gets of live values", number(market.made));
    report.figure("gets that succeed, %", percent(market.good, market.made));
    report.figure("at the first answer, %", percent(market.good_at_once, market.made));
    report.figure("stale pointers, %", 100.0 * float(stale) / float(all.max(1)));
    report.figure("invented pointers, %", 100.0 * float(shown.junk) / float(shown.all.max(1)));
    report.figure("nodes alive at the end", number(alive));
}

/// A living node that does not lie.
fn honest(world: &mut World) -> usize {
    loop {
        let node = world.any_node(None);
        if !world.is_liar(node) {
            return node;
        }
    }
}
