//! What is counted. All series exist from the start, so that a rate over them is never a gap.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::verdict::{Dropped, Rcode, Transport, Verdict};

/// The counters of the name server.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// By transport, then by RCODE, in the order of their `ALL`.
    queries: Vec<Vec<IntCounter>>,
    /// In the order of `Dropped::ALL`.
    dropped: Vec<IntCounter>,
    pub(crate) tcp_connections: IntGauge,
}

impl Metrics {
    /// Makes the counters and registers them.
    ///
    /// # Errors
    /// A registry that has metrics of these names already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let queries = IntCounterVec::new(
            Opts::new("coralline_dns_queries_total", "DNS queries answered."),
            &["transport", "rcode"],
        )?;
        let dropped = IntCounterVec::new(
            Opts::new("coralline_dns_dropped_total", "DNS queries left without an answer."),
            &["reason"],
        )?;
        let tcp_connections =
            IntGauge::new("coralline_dns_tcp_connections", "DNS connections held now.")?;
        registry.register(Box::new(queries.clone()))?;
        registry.register(Box::new(dropped.clone()))?;
        registry.register(Box::new(tcp_connections.clone()))?;
        let by_rcode = |transport: Transport| {
            let counter =
                |rcode: &Rcode| queries.with_label_values(&[transport.label(), rcode.label()]);
            Rcode::ALL.iter().map(counter).collect()
        };
        Ok(Self {
            queries: Transport::ALL.into_iter().map(by_rcode).collect(),
            dropped: Dropped::ALL.iter().map(|d| dropped.with_label_values(&[d.label()])).collect(),
            tcp_connections,
        })
    }

    pub(crate) fn count(&self, transport: Transport, verdict: Verdict) {
        match verdict {
            Verdict::Answered(rcode) => self.queries[transport as usize][rcode as usize].inc(),
            Verdict::Dropped(reason) => self.drop(reason),
        }
    }

    pub(crate) fn drop(&self, reason: Dropped) {
        self.dropped[reason as usize].inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_counts_for_itself() {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        for transport in Transport::ALL {
            for rcode in Rcode::ALL {
                metrics.count(transport, Verdict::Answered(rcode));
            }
        }
        for reason in Dropped::ALL {
            metrics.count(Transport::Udp, Verdict::Dropped(reason));
        }
        for family in registry.gather() {
            for metric in family.get_metric() {
                if family.name() != "coralline_dns_tcp_connections" {
                    assert_eq!(metric.get_counter().get_value(), 1.0, "{metric:?}");
                }
            }
        }
        assert!(Metrics::register(&registry).is_err());
    }
}
