//! The table of flights: one a key, bounded.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use prometheus::IntGauge;

use crate::budget::Budget;
use crate::flight::{Begin, Flight};
use crate::limits::{MAX_FLIGHTS, MAX_FLIGHTS_PER_ORIGIN};
use crate::message::Stored;
use crate::reason::{Failure, Reason};

type Table = BTreeMap<Arc<str>, Arc<Flight>>;

pub(crate) struct Flights {
    table: Arc<Mutex<Table>>,
    /// Always as many as there are in the table.
    count: IntGauge,
    budget: Budget,
}

/// How a request gets on.
pub(crate) enum Boarding {
    /// There is a flight already.
    Joined(Arc<Flight>),
    /// There is one of which nothing has come yet.
    Waiting(Arc<Flight>),
    /// There was none: the caller sees to it that it is flown.
    New(Landing),
    /// One has landed a moment ago.
    Stored(Arc<Stored>),
}

impl Flights {
    pub(crate) fn new(budget: Budget, count: IntGauge) -> Self {
        Self { table: Arc::default(), count, budget }
    }

    /// Joins the flight for `key` or begins one. `landed` looks into the store once more, now that
    /// no flight can land in between.
    pub(crate) fn board(
        &self,
        key: &Arc<str>,
        landed: impl FnOnce() -> Option<Arc<Stored>>,
    ) -> Result<Boarding, Failure> {
        let mut table = lock(&self.table);
        if let Some(flight) = table.get(key) {
            let boarding = if flight.has_begun() { Boarding::Joined } else { Boarding::Waiting };
            return Ok(boarding(flight.clone()));
        }
        if let Some(stored) = landed() {
            return Ok(Boarding::Stored(stored));
        }
        if table.len() >= MAX_FLIGHTS || of_origin(&table, key) >= MAX_FLIGHTS_PER_ORIGIN {
            let detail = "this node has as many fetches in flight as it may; try again soon";
            return Err(Failure::new(Reason::ConnectionLimitReached, detail));
        }
        let flight = Flight::new(&self.budget);
        table.insert(key.clone(), flight.clone());
        self.count.inc();
        let (table, count) = (self.table.clone(), self.count.clone());
        Ok(Boarding::New(Landing { table, count, key: key.clone(), flight }))
    }

    /// Waits until this flight is off the table.
    pub(crate) async fn gone(&self, key: &str, flight: &Arc<Flight>) {
        flight.over().await;
        while self.find(key).is_some_and(|other| Arc::ptr_eq(&other, flight)) {
            // It has ended, and its task is about to take it off.
            tokio::task::yield_now().await;
        }
    }

    pub(crate) fn find(&self, key: &str) -> Option<Arc<Flight>> {
        lock(&self.table).get(key).cloned()
    }

    /// What is at `uri` has changed: who comes now does not join a fetch from before, and what such a fetch
    /// brings is not kept. `forget` is done in the same step. Returns the fetches that may be on disk for a
    /// moment nevertheless, until they are over.
    pub(crate) fn disown(&self, uri: &str, forget: impl FnOnce()) -> Vec<Arc<Flight>> {
        let of_uri = |key: &str| {
            key.strip_prefix(uri).is_some_and(|rest| rest.is_empty() || rest.starts_with('\n'))
        };
        self.disown_all(uri, of_uri, forget)
    }

    /// The same for all whose keys begin with `origin`.
    pub(crate) fn disown_origin(&self, origin: &str, forget: impl FnOnce()) -> Vec<Arc<Flight>> {
        self.disown_all(origin, |_| true, forget)
    }

    /// The same for all whose keys are `purged`.
    pub(crate) fn disown_where(&self, purged: impl Fn(&str) -> bool) {
        self.disown_all("", purged, || ());
    }

    fn disown_all(
        &self,
        start: &str,
        which: impl Fn(&str) -> bool,
        forget: impl FnOnce(),
    ) -> Vec<Arc<Flight>> {
        let mut table = lock(&self.table);
        let range = table.range(Arc::from(start)..).take_while(|(key, _)| key.starts_with(start));
        let keys: Vec<_> =
            range.filter(|(key, _)| which(key)).map(|(key, _)| key.clone()).collect();
        let mut landing = Vec::new();
        for key in keys {
            if let Some(flight) = table.remove(&key) {
                self.count.dec();
                landing.extend(flight.disown().then_some(flight));
            }
        }
        forget();
        landing
    }

    /// The octets that all of them hold.
    pub(crate) fn bytes(&self) -> u64 {
        self.budget.used()
    }
}

/// The origin that a key begins with.
pub(crate) fn origin_of(key: &str) -> &str {
    let host = key.find("//").map_or(0, |at| at + 2);
    let end = key[host..].find('/').map_or(key.len(), |at| host + at + 1);
    &key[..end]
}

/// How many flights have the same origin as `key`: those whose keys begin as it does.
fn of_origin(table: &Table, key: &str) -> usize {
    let origin = origin_of(key);
    table.range(Arc::from(origin)..).take_while(|(key, _)| key.starts_with(origin)).count()
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().expect("no holder of this lock panics")
}

/// The duty to end a flight. Whoever holds it may panic or be aborted: nobody is left waiting.
pub(crate) struct Landing {
    table: Arc<Mutex<Table>>,
    count: IntGauge,
    key: Arc<str>,
    pub(crate) flight: Arc<Flight>,
}

impl Landing {
    /// Says how the flight begins, where that is all there is to it.
    pub(crate) fn begin_and_close(self, begin: Begin) {
        self.flight.begin(begin);
        self.close();
    }

    /// Keeps what the flight has brought, unless it was disowned. In the same step nobody joins it any more:
    /// who comes finds what is kept.
    pub(crate) fn keep(&self, insert: impl FnOnce()) -> bool {
        let mut table = lock(&self.table);
        let own = !self.flight.is_disowned();
        if own {
            insert();
            self.leave(&mut table);
        }
        own
    }

    /// Takes the flight off the table, so that nobody joins any more.
    pub(crate) fn close(&self) {
        self.leave(&mut lock(&self.table));
    }

    fn leave(&self, table: &mut Table) {
        if table.get(&self.key).is_some_and(|flight| Arc::ptr_eq(flight, &self.flight)) {
            table.remove(&self.key);
            self.count.dec();
        }
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.close();
        let failure = Failure::new(Reason::ProxyInternalError, "the fetch was given up");
        self.flight.give_up(Begin::Failed(failure.clone()), failure);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flights() -> Flights {
        Flights::new(Budget::new(100), IntGauge::new("flights", "x").unwrap())
    }

    #[tokio::test]
    async fn the_second_joins_and_an_aborted_leader_leaves_nobody_waiting() {
        let flights = flights();
        let key: Arc<str> = "//a.com/".into();
        let Ok(Boarding::New(landing)) = flights.board(&key, || None) else { panic!("new") };
        let Ok(Boarding::Waiting(flight)) = flights.board(&key, || None) else { panic!("waiting") };
        landing.flight.set_stage(crate::flight::Stage::Origin);
        landing.flight.begin(Begin::Pass(crate::policy::NoStore::Private));
        assert!(matches!(flights.board(&key, || None), Ok(Boarding::Joined(_))));
        drop(landing);
        assert!(flight.reader(0, 9).unwrap().next().await.unwrap().is_err());
        assert!(matches!(flights.board(&key, || None), Ok(Boarding::New(_))));
    }

    #[test]
    fn one_origin_does_not_take_all_flights() {
        let flights = flights();
        let key = |host: &str, n: usize| Arc::from(format!("//{host}/{n}"));
        let landings: Vec<_> = (0..MAX_FLIGHTS_PER_ORIGIN)
            .map(|n| flights.board(&key("a.com", n), || None).ok())
            .collect();
        assert!(flights.board(&key("a.com", 10_000), || None).is_err());
        assert!(flights.board(&key("a.com:8000", 0), || None).is_ok());
        assert!(flights.board(&key("b.com", 0), || None).is_ok());
        drop(landings);
        assert!(flights.board(&key("a.com", 0), || None).is_ok());
    }

    #[test]
    fn what_was_fetched_before_a_change_is_not_kept() {
        let flights = flights();
        let key = |text: &str| Arc::from(text);
        let keys = ["//a.com/x", "//a.com/x\nfoo:1", "//a.com/xy", "//b.com/x"].map(key);
        let board = |key: &Arc<str>| match flights.board(key, || None) {
            Ok(Boarding::New(landing)) => landing,
            _ => panic!("new"),
        };
        let landings: Vec<_> = keys.iter().map(&board).collect();
        flights.disown("//a.com/x", || ());
        let kept = |landings: &[Landing]| -> Vec<_> {
            landings.iter().map(|landing| landing.keep(|| ())).collect()
        };
        assert_eq!(kept(&landings), [false, false, true, true]);
        let after = board(&keys[0]);
        drop(landings);
        assert!(flights.find(&keys[0]).is_some());
        flights.disown_origin("//a.com/", || ());
        assert!(!after.keep(|| ()));
    }

    #[test]
    fn the_table_is_bounded() {
        let flights = flights();
        let key = |n: usize| Arc::from(format!("https://{}.com/{n}", n / 100));
        let landings: Vec<_> =
            (0..MAX_FLIGHTS).map(|n| flights.board(&key(n), || None).ok()).collect();
        let failure = flights.board(&key(MAX_FLIGHTS), || None).err().unwrap();
        assert_eq!(failure.reason, Reason::ConnectionLimitReached);
        drop(landings);
        assert_eq!(flights.count.get(), 0);
    }
}
