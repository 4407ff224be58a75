//! What the disk says of itself, as series.

use coralline_disk::{Health, Stats};
use prometheus::{IntCounter, IntGauge, Registry};

/// Gauges and counters of the disk tier.
#[derive(Debug)]
pub(crate) struct DiskMetrics {
    /// Counted here; all else the disk counts itself.
    pub(crate) skipped: IntCounter,
    objects: IntGauge,
    bytes: IntGauge,
    capacity: IntGauge,
    healthy: IntGauge,
    written: IntCounter,
    evicted: IntCounter,
    damaged: IntCounter,
    errors: IntCounter,
}

impl DiskMetrics {
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone())).map(|()| gauge)
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone())).map(|()| counter)
        };
        let healthy = gauge("coralline_disk_healthy", "1 while the disk takes what is written.")?;
        // Where there is no disk, nothing is wrong with it.
        healthy.set(1);
        Ok(Self {
            skipped: counter(
                "coralline_disk_skipped_total",
                "Responses not written to disk, as it had too much to do.",
            )?,
            objects: gauge("coralline_disk_objects", "Responses on disk.")?,
            bytes: gauge("coralline_disk_bytes", "Octets of disk in use.")?,
            capacity: gauge("coralline_disk_capacity_bytes", "Octets of disk that may be used.")?,
            healthy,
            written: counter("coralline_disk_written_bytes_total", "Octets written to disk.")?,
            evicted: counter(
                "coralline_disk_evictions_total",
                "Responses on disk that had to make room for others.",
            )?,
            damaged: counter(
                "coralline_disk_damaged_total",
                "Records on disk whose octets were not those written; none was served.",
            )?,
            errors: counter("coralline_disk_errors_total", "Reads and writes that failed.")?,
        })
    }

    pub(crate) fn show(&self, stats: &Stats) {
        let set =
            |gauge: &IntGauge, value: u64| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        let raise = |counter: &IntCounter, total: u64| {
            counter.inc_by(total.saturating_sub(counter.get()));
        };
        set(&self.objects, stats.objects);
        set(&self.bytes, stats.used);
        set(&self.capacity, stats.capacity);
        set(&self.healthy, u64::from(stats.health == Health::Good));
        raise(&self.written, stats.written);
        raise(&self.evicted, stats.evicted);
        raise(&self.damaged, stats.damaged);
        raise(&self.errors, stats.read_errors + stats.write_errors);
    }
}
