//! The node's own metrics, taken from the overlay's counts at every scrape.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use coralline_overlay::{BroadcastStats, Stats, TransportStats};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::health::Health;

/// Registers what this crate measures, and the process itself where the system tells of it.
///
/// # Errors
/// When a name is taken already.
pub(crate) fn register(registry: &Registry, health: Arc<Health>) -> prometheus::Result<()> {
    let build = IntGaugeVec::new(
        Opts::new("coralline_build_info", "Always 1; the version is in the label."),
        &["version"],
    )?;
    build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    registry.register(Box::new(build))?;
    registry.register(Box::new(NodeCollector::new(health)?))?;
    register_process(registry)
}

#[cfg(target_os = "linux")]
fn register_process(registry: &Registry) -> prometheus::Result<()> {
    registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
}

#[cfg(not(target_os = "linux"))]
fn register_process(_registry: &Registry) -> prometheus::Result<()> {
    Ok(())
}

/// Turns readiness and the overlay's counts into metrics when asked, and costs nothing else.
struct NodeCollector {
    health: Arc<Health>,
    ready: IntGauge,
    nodes: IntGauge,
    values: IntGauge,
    datagrams: IntCounterVec,
    octets: IntCounterVec,
    dropped: IntCounterVec,
    queries: IntCounterVec,
    broadcasts: IntCounterVec,
    handed_over: IntCounter,
    /// One scrape at a time, so that no difference is added twice.
    scrape: Mutex<()>,
}

impl NodeCollector {
    fn new(health: Arc<Health>) -> prometheus::Result<Self> {
        let counter = |name, help, label| IntCounterVec::new(Opts::new(name, help), &[label]);
        Ok(Self {
            health,
            ready: IntGauge::new("coralline_ready", "1 while /readyz answers 200, else 0.")?,
            nodes: IntGauge::new(
                "coralline_overlay_nodes",
                "Nodes known to be alive, this one included.",
            )?,
            values: IntGauge::new(
                "coralline_overlay_values",
                "Pointers in this node's part of the index.",
            )?,
            datagrams: counter(
                "coralline_overlay_datagrams_total",
                "UDP datagrams among nodes, by direction.",
                "direction",
            )?,
            octets: counter(
                "coralline_overlay_bytes_total",
                "Octets of UDP datagrams among nodes, by direction.",
                "direction",
            )?,
            dropped: counter(
                "coralline_overlay_dropped_total",
                "Datagrams and messages among nodes that were dropped, by reason.",
                "reason",
            )?,
            queries: counter(
                "coralline_overlay_queries_total",
                "Queries of this node to the index, by outcome.",
                "outcome",
            )?,
            broadcasts: counter(
                "coralline_overlay_broadcasts_total",
                "Messages to the whole network, by what came of them here.",
                "outcome",
            )?,
            handed_over: IntCounter::new(
                "coralline_overlay_handed_over_total",
                "Pointers handed to newcomers that are nearer to their keys.",
            )?,
            scrape: Mutex::new(()),
        })
    }

    fn update(&self, stats: &Stats, wire: &TransportStats, broadcasts: &BroadcastStats) {
        raise(&self.handed_over, stats.handed_over);
        for (outcome, total) in [
            ("sent", broadcasts.sent),
            ("delivered", broadcasts.delivered),
            ("malformed", broadcasts.malformed),
            ("forged", broadcasts.forged),
            ("stale", broadcasts.stale),
            ("repeated", broadcasts.repeated),
            ("limited", broadcasts.limited),
            ("lost", broadcasts.lost),
            ("refused", stats.broadcasts_refused),
        ] {
            raise(&self.broadcasts.with_label_values(&[outcome]), total);
        }
        for (vec, label, total) in [
            (&self.datagrams, "in", wire.datagrams_in),
            (&self.datagrams, "out", wire.datagrams_out),
            (&self.octets, "in", wire.bytes_in),
            (&self.octets, "out", wire.bytes_out),
            (&self.queries, "finished", stats.queries_finished),
            (&self.queries, "timed_out", stats.queries_timed_out),
            (&self.queries, "refused", stats.queries_refused),
        ] {
            raise(&vec.with_label_values(&[label]), total);
        }
        for (reason, total) in dropped(stats, wire) {
            raise(&self.dropped.with_label_values(&[reason]), total);
        }
        let directory = self.health.index().directory();
        self.nodes.set(gauge(directory.neighbours.len() + 1));
        self.values.set(gauge(stats.values));
        self.ready.set(i64::from(self.health.readiness().is_ok()));
    }

    fn parts(&self) -> [&dyn Collector; 9] {
        [
            &self.ready,
            &self.nodes,
            &self.values,
            &self.datagrams,
            &self.octets,
            &self.dropped,
            &self.queries,
            &self.broadcasts,
            &self.handed_over,
        ]
    }
}

impl Collector for NodeCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.parts().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let _alone = self.scrape.lock().unwrap_or_else(PoisonError::into_inner);
        let index = self.health.index();
        self.update(&index.stats(), &index.transport_stats(), &index.broadcast_stats());
        self.parts().into_iter().flat_map(Collector::collect).collect()
    }
}

/// What the wire and the index have dropped, a reason of both added up.
fn dropped(stats: &Stats, wire: &TransportStats) -> BTreeMap<&'static str, u64> {
    let core = &stats.dropped;
    let of_core = [
        ("malformed", core.malformed),
        ("address", core.address),
        ("unsolicited", core.unsolicited),
        ("own", core.own),
    ];
    let mut sum = BTreeMap::new();
    for (reason, count) in wire.dropped.by_reason().into_iter().chain(of_core) {
        *sum.entry(reason).or_default() += count;
    }
    sum
}

/// Brings a counter up to a total that is counted elsewhere.
fn raise(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_that_wire_and_index_share_is_their_sum() {
        let (mut stats, mut wire) = (Stats::default(), TransportStats::default());
        (stats.dropped.malformed, wire.dropped.malformed, wire.dropped.forged) = (1, 2, 4);
        let sum = dropped(&stats, &wire);
        assert_eq!((sum["malformed"], sum["forged"], sum["own"]), (3, 4, 0));
    }

    #[test]
    fn a_counter_follows_its_total_and_never_falls() {
        let counter = IntCounter::new("c", "help").unwrap();
        for (total, expect) in [(3, 3), (3, 3), (7, 7), (5, 7)] {
            raise(&counter, total);
            assert_eq!(counter.get(), expect);
        }
    }
}
