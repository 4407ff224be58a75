//! What the proxy counts. Children are made at the start, so that a panel shows 0 and not nothing.

use std::sync::Arc;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};

use crate::disk_metrics::DiskMetrics;
use crate::message::Source;
use crate::reason::Reason;

/// From a hit in memory to an origin that needs its whole timeout, in seconds.
const FIRST_BYTE_BUCKETS: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// The first bound of a look-up's time in seconds, what each is more than the one before, and how many there
/// are: to [`crate::limits::LOCATE_BUDGET`], and fine enough to compare with an origin's time.
const LOCATE_BUCKETS: (f64, f64, usize) = (0.001, 1.35, 26);

/// Counters of one source.
#[derive(Debug, Clone)]
pub(crate) struct BySource {
    source: Source,
    pub(crate) requests: IntCounter,
    pub(crate) bytes: IntCounter,
    pub(crate) first_byte: Histogram,
    /// Requests that joined a fetch of another's.
    pub(crate) collapsed: IntCounter,
}

/// Octets of content that came here, by who sent them.
#[derive(Debug, Clone)]
pub(crate) struct Received(Arc<[(Source, IntCounter)]>);

impl Received {
    pub(crate) fn from(&self, source: Source) -> IntCounter {
        let found = self.0.iter().find(|(of, _)| *of == source).or(self.0.first());
        let (_, counter) = found.expect("there is always an origin");
        counter.clone()
    }
}

/// How asking one peer ended.
#[derive(Debug, Clone)]
pub(crate) struct PeerOutcomes {
    pub(crate) served: IntCounter,
    pub(crate) missed: IntCounter,
    pub(crate) failed: IntCounter,
    /// Asked of a second peer while the first was late.
    pub(crate) hedged: IntCounter,
}

/// How long the index takes, by what is asked.
#[derive(Debug)]
pub(crate) struct Locating {
    pub(crate) claim: Histogram,
    pub(crate) get: Histogram,
}

/// What peers that ask here are answered.
#[derive(Debug)]
pub(crate) struct PeerAnswers {
    /// From what is stored.
    pub(crate) stored: IntCounter,
    /// From what is arriving.
    pub(crate) arriving: IntCounter,
    /// That it is elsewhere, or will be here.
    pub(crate) referred: IntCounter,
    /// Nothing.
    pub(crate) missed: IntCounter,
}

/// What came of asking an origin whether it has said what a node has signed.
#[derive(Debug, Clone)]
pub(crate) struct Audited {
    pub(crate) agreed: IntCounter,
    pub(crate) contradicted: IntCounter,
    pub(crate) undecided: IntCounter,
}

#[derive(Debug)]
pub(crate) struct Metrics {
    sources: Vec<BySource>,
    statuses: [IntCounter; 5],
    errors: Vec<IntCounter>,
    pub(crate) connections: IntGauge,
    pub(crate) refused_connections: IntCounter,
    pub(crate) refused_peers: IntCounter,
    pub(crate) cache_bytes: IntGauge,
    pub(crate) cache_objects: IntGauge,
    pub(crate) evictions: IntCounter,
    pub(crate) purges: IntGauge,
    pub(crate) disk: DiskMetrics,
    pub(crate) flights: IntGauge,
    pub(crate) flight_bytes: IntGauge,
    pub(crate) origin_requests: IntCounter,
    pub(crate) origin_retries: IntCounter,
    pub(crate) received: Received,
    pub(crate) peer_bytes: IntCounter,
    pub(crate) resumed: IntCounter,
    pub(crate) wrong_peers: IntCounter,
    pub(crate) slices: IntCounter,
    pub(crate) slices_arriving: IntGauge,
    pub(crate) digest_mismatches: IntCounter,
    pub(crate) audits: Audited,
    pub(crate) peers: PeerOutcomes,
    pub(crate) locating: Locating,
    pub(crate) answers: PeerAnswers,
}

impl Metrics {
    /// Registers all; `sources` are all that can occur.
    pub(crate) fn new(registry: &Registry, sources: &[Source]) -> prometheus::Result<Self> {
        let counter = |name, help| registered(registry, IntCounter::new(name, help)?);
        let gauge = |name, help| registered(registry, IntGauge::new(name, help)?);
        let statuses = by_label(
            registry,
            ["coralline_http_responses_total", "Responses to clients, by class of status."],
            "status",
        )?;
        let errors = by_label(
            registry,
            ["coralline_proxy_errors_total", "Requests that failed, by the type of RFC 9209."],
            "error",
        )?;
        let answers = by_label(
            registry,
            ["coralline_peer_answers_total", "Requests of peers, by what they were answered."],
            "answer",
        )?;
        let peers = by_label(
            registry,
            ["coralline_peer_requests_total", "Requests to peers, by how they ended."],
            "outcome",
        )?;
        let audits = by_label(
            registry,
            ["coralline_audits_total", "Responses fetched again from origins, by what came of it."],
            "finding",
        )?;
        Ok(Self {
            audits: Audited {
                agreed: audits.with_label_values(&["agreed"]),
                contradicted: audits.with_label_values(&["contradicted"]),
                undecided: audits.with_label_values(&["undecided"]),
            },
            sources: by_source(registry, sources)?,
            statuses: ["1xx", "2xx", "3xx", "4xx", "5xx"].map(|s| statuses.with_label_values(&[s])),
            errors: Reason::ALL.iter().map(|r| errors.with_label_values(&[r.word()])).collect(),
            connections: gauge("coralline_http_connections", "Client connections open.")?,
            refused_connections: counter(
                "coralline_http_connections_refused_total",
                "Connections closed at once, since as many as allowed were open.",
            )?,
            refused_peers: counter(
                "coralline_peer_connections_refused_total",
                "Connections of peers closed at once: as many as allowed were open, in all or of that address.",
            )?,
            cache_bytes: gauge("coralline_cache_bytes", "Octets of stored responses.")?,
            cache_objects: gauge("coralline_cache_objects", "Responses stored.")?,
            disk: DiskMetrics::new(registry)?,
            purges: gauge("coralline_cache_purges", "Purges that are remembered.")?,
            evictions: counter(
                "coralline_cache_evictions_total",
                "Responses that had to make room for others.",
            )?,
            flights: gauge("coralline_flights", "Fetches in flight.")?,
            flight_bytes: gauge(
                "coralline_flight_bytes",
                "Octets of bodies that are arriving, or were evicted and are still read.",
            )?,
            origin_requests: counter(
                "coralline_origin_requests_total",
                "Requests to origins, for which there was a connection.",
            )?,
            origin_retries: counter(
                "coralline_origin_retries_total",
                "Requests sent again as the origin had closed a connection that was kept.",
            )?,
            received: received(registry, sources)?,
            peer_bytes: counter(
                "coralline_peer_response_bytes_total",
                "Octets of content sent to peers, without proofs.",
            )?,
            wrong_peers: counter(
                "coralline_peer_wrong_total",
                "Times that a peer sent what it should not have: it is left alone for a while.",
            )?,
            resumed: counter(
                "coralline_resumed_transfers_total",
                "Transfers that broke off and went on from where they stood.",
            )?,
            slices: counter(
                "coralline_slices_total",
                "Slices of large objects that came by themselves.",
            )?,
            digest_mismatches: counter(
                "coralline_digest_mismatches_total",
                "Responses that were not of the digest that their origin names for them.",
            )?,
            slices_arriving: gauge(
                "coralline_slices_arriving",
                "Slices of large objects that are arriving, or are to be asked for.",
            )?,
            peers: PeerOutcomes {
                served: peers.with_label_values(&["served"]),
                missed: peers.with_label_values(&["missed"]),
                failed: peers.with_label_values(&["failed"]),
                hedged: counter(
                    "coralline_peer_hedges_total",
                    "Requests that went to another peer as well, since the first was late.",
                )?,
            },
            locating: locating(registry)?,
            answers: PeerAnswers {
                stored: answers.with_label_values(&["stored"]),
                arriving: answers.with_label_values(&["arriving"]),
                referred: answers.with_label_values(&["referred"]),
                missed: answers.with_label_values(&["missed"]),
            },
        })
    }

    pub(crate) fn source(&self, source: Source) -> &BySource {
        let found = self.sources.iter().find(|by| by.source == source);
        found.unwrap_or(&self.sources[0])
    }

    pub(crate) fn sources(&self) -> impl Iterator<Item = (Source, &BySource)> {
        self.sources.iter().map(|by| (by.source, by))
    }

    pub(crate) fn count_status(&self, status: http::StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5);
        self.statuses[class - 1].inc();
    }

    pub(crate) fn count_error(&self, reason: Reason) {
        let index = Reason::ALL.iter().position(|r| *r == reason);
        self.errors[index.expect("ALL holds every reason; a test says so")].inc();
    }
}

fn registered<C>(registry: &Registry, collector: C) -> prometheus::Result<C>
where
    C: prometheus::core::Collector + Clone + 'static,
{
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

fn by_label(
    registry: &Registry,
    [name, help]: [&str; 2],
    label: &str,
) -> prometheus::Result<IntCounterVec> {
    registered(registry, IntCounterVec::new(Opts::new(name, help), &[label])?)
}

fn by_source(registry: &Registry, sources: &[Source]) -> prometheus::Result<Vec<BySource>> {
    let requests = by_label(
        registry,
        [
            "coralline_http_requests_total",
            "Client requests answered, by where the response came from.",
        ],
        "source",
    )?;
    let bytes = by_label(
        registry,
        [
            "coralline_http_response_bytes_total",
            "Octets of response bodies sent to clients, by where the response came from.",
        ],
        "source",
    )?;
    let options = HistogramOpts::new(
        "coralline_http_first_byte_seconds",
        "Time from a client's request to the head of its response, by source.",
    );
    let first_byte = HistogramVec::new(options.buckets(FIRST_BYTE_BUCKETS.into()), &["source"])?;
    let first_byte = registered(registry, first_byte)?;
    let collapsed = by_label(
        registry,
        [
            "coralline_collapsed_requests_total",
            "Client requests that joined a fetch in flight, by where that came from.",
        ],
        "source",
    )?;
    let children = sources.iter().map(|source| {
        let word = source.word();
        BySource {
            source: *source,
            requests: requests.with_label_values(&[&word]),
            bytes: bytes.with_label_values(&[&word]),
            first_byte: first_byte.with_label_values(&[&word]),
            collapsed: collapsed.with_label_values(&[&word]),
        }
    });
    Ok(children.collect())
}

fn received(registry: &Registry, sources: &[Source]) -> prometheus::Result<Received> {
    let octets = by_label(
        registry,
        [
            "coralline_received_bytes_total",
            "Octets of content received, by who sent them: peers, by level of the index, and origins.",
        ],
        "source",
    )?;
    let senders = sources.iter().filter(|s| matches!(s, Source::Peer(_) | Source::Origin));
    let counters = senders.map(|source| (*source, octets.with_label_values(&[&source.word()])));
    Ok(Received(counters.collect()))
}

fn locating(registry: &Registry) -> prometheus::Result<Locating> {
    let options = HistogramOpts::new(
        "coralline_locate_seconds",
        "Time that a request waited for the index: claim, before a fetch; get, before HEAD is passed on.",
    );
    let (first, factor, count) = LOCATE_BUCKETS;
    let options = options.buckets(prometheus::exponential_buckets(first, factor, count)?);
    let calls = registered(registry, HistogramVec::new(options, &["call"])?)?;
    let [claim, get] = ["claim", "get"].map(|call| calls.with_label_values(&[call]));
    Ok(Locating { claim, get })
}
