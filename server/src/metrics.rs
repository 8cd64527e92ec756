//! What is counted, and its text for Prometheus.
//!
//! The names of `grpc_server_*` and their labels are those of go-grpc-prometheus, so that dashboards made for the Go
//! service go on. Every label set is made at the start: there are as many as rpcs and codes, and none comes from outside.

use std::sync::Arc;
use std::time::Instant;

use prometheus::core::{Collector, Desc};
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::MetricFamily;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};
use tonic::Code;

use crate::calls::{RPCS, SERVICE};
use crate::store::{Store, Use};

/// From a tenth of a millisecond, which a described package takes, to the longest that a call may take by default.
const SECONDS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0];

/// What is counted. A value that is passed around, not a global: tests beside each other count apart.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    /// Calls that found no package.
    pub not_found: IntCounter,
    /// Packages that were created, updated or removed: as many events.
    pub cud_event: IntCounter,
    /// Requests to the REST gateway.
    pub http_requests: IntCounter,
    rpcs: Arc<[OfRpc]>,
}

/// What is counted of one rpc.
#[derive(Debug)]
pub struct OfRpc {
    started: IntCounter,
    received: IntCounter,
    sent: IntCounter,
    handled: [IntCounter; CODES.len()],
    seconds: Histogram,
}

/// In the order of their numbers, as go-grpc-prometheus writes them.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// A call under way. One that is dropped without an answer was cancelled by its client.
#[derive(Debug)]
pub struct Watched {
    rpcs: Arc<[OfRpc]>,
    number: usize,
    since: Instant,
    code: Code,
}

impl Metrics {
    /// All at 0.
    ///
    /// # Errors
    /// When two share a name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str| -> Result<IntCounter, prometheus::Error> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let not_found = counter(
            "logistic_package_api_not_found_total",
            "Describe, update and remove calls that found no package.",
        )?;
        let cud_event = counter(
            "logistic_package_api_cud_event_total",
            "Packages created, updated or removed; each made one event.",
        )?;
        let http_requests = counter("http_microservice_requests_total", "Requests to the REST gateway.")?;
        let rpcs = rpcs(&registry)?;
        registry.register(Box::new(ProcessCollector::for_self()))?;
        Ok(Self { registry, not_found, cud_event, http_requests, rpcs })
    }

    /// Also shows how the store is used.
    ///
    /// # Errors
    /// When it was said before.
    pub fn watch(&self, store: Store) -> Result<(), prometheus::Error> {
        self.registry.register(Box::new(OfStore::new(store)?))
    }

    /// Of the rpc with this number.
    pub(crate) fn rpc(&self, number: usize) -> RpcHandle<'_> {
        RpcHandle { rpcs: &self.rpcs, number }
    }

    /// Everything in Prometheus' text format.
    ///
    /// # Errors
    /// When a metric cannot be written as text.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

/// One rpc's counters.
pub(crate) struct RpcHandle<'a> {
    rpcs: &'a Arc<[OfRpc]>,
    number: usize,
}

impl RpcHandle<'_> {
    /// Counts a call that begins.
    pub(crate) fn started(&self) -> Watched {
        let of = &self.rpcs[self.number];
        of.started.inc();
        of.received.inc();
        Watched { rpcs: self.rpcs.clone(), number: self.number, since: Instant::now(), code: Code::Cancelled }
    }
}

impl Watched {
    /// Counts its end.
    pub(crate) fn handled(mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let of = &self.rpcs[self.number];
        let code = usize::try_from(i32::from(self.code)).unwrap_or_default();
        of.handled[code.min(CODES.len() - 1)].inc();
        if self.code == Code::Ok {
            of.sent.inc();
        }
        of.seconds.observe(self.since.elapsed().as_secs_f64());
    }
}

fn rpcs(registry: &Registry) -> Result<Arc<[OfRpc]>, prometheus::Error> {
    const LABELS: [&str; 3] = ["grpc_type", "grpc_service", "grpc_method"];
    let counter = |name: &str, help: &str, labels: &[&str]| -> Result<IntCounterVec, prometheus::Error> {
        let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
        registry.register(Box::new(counter.clone()))?;
        Ok(counter)
    };
    let started = counter("grpc_server_started_total", "RPCs started.", &LABELS)?;
    let received = counter("grpc_server_msg_received_total", "Messages received.", &LABELS)?;
    let sent = counter("grpc_server_msg_sent_total", "Messages sent.", &LABELS)?;
    let with_code = [&LABELS[..], &["grpc_code"]].concat();
    let handled = counter("grpc_server_handled_total", "RPCs that ended, by their code.", &with_code)?;
    let seconds = HistogramOpts::new("grpc_server_handling_seconds", "From a call's arrival to its answer.");
    let seconds = HistogramVec::new(seconds.buckets(SECONDS.to_vec()), &LABELS)?;
    registry.register(Box::new(seconds.clone()))?;
    RPCS.iter()
        .map(|rpc| {
            let labels = ["unary", SERVICE, rpc.method];
            let mut of_codes = Vec::with_capacity(CODES.len());
            for code in CODES {
                of_codes.push(handled.get_metric_with_label_values(&[&labels[..], &[code]].concat())?);
            }
            Ok(OfRpc {
                started: started.get_metric_with_label_values(&labels)?,
                received: received.get_metric_with_label_values(&labels)?,
                sent: sent.get_metric_with_label_values(&labels)?,
                handled: std::array::from_fn(|number| of_codes[number].clone()),
                seconds: seconds.get_metric_with_label_values(&labels)?,
            })
        })
        .collect()
}

/// A gauge, and what it shows.
type OfUse = (IntGauge, fn(Use) -> usize);

/// The store's connections, asked for when somebody looks.
struct OfStore {
    store: Store,
    gauges: [OfUse; 4],
}

impl OfStore {
    fn new(store: Store) -> Result<Self, prometheus::Error> {
        let gauge = |name, help| IntGauge::new(name, help);
        let gauges: [OfUse; 4] = [
            (
                gauge("logistic_package_api_db_connections_max", "Connections to the database at most.")?,
                |now| now.connections_max,
            ),
            (gauge("logistic_package_api_db_connections_open", "Connections to the database.")?, |now| {
                now.connections_open
            }),
            (
                gauge("logistic_package_api_db_connections_busy", "Connections that run a statement.")?,
                |now| now.connections_busy,
            ),
            (
                gauge(
                    "logistic_package_api_db_statements_waiting",
                    "Statements that wait for a connection.",
                )?,
                |now| now.statements_waiting,
            ),
        ];
        Ok(Self { store, gauges })
    }
}

impl Collector for OfStore {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges.iter().flat_map(|(gauge, _)| gauge.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let now = self.store.usage();
        let shown = self.gauges.iter().flat_map(|(gauge, of)| {
            gauge.set(i64::try_from(of(now)).unwrap_or(i64::MAX));
            gauge.collect()
        });
        shown.collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn counters_are_there_before_the_first_event() {
        let text = Metrics::new().unwrap().text().unwrap();
        assert!(text.contains("\nlogistic_package_api_not_found_total 0\n"), "{text}");
        assert!(text.contains("\nlogistic_package_api_cud_event_total 0\n"), "{text}");
        assert!(text.contains("\nhttp_microservice_requests_total 0\n"), "{text}");
        assert!(text.contains("grpc_code=\"OK\",grpc_method=\"CreatePackageV1\""), "{text}");
    }

    #[test]
    fn a_code_is_counted_by_its_name() {
        let metrics = Metrics::new().unwrap();
        for code in [Code::Ok, Code::NotFound, Code::Unauthenticated] {
            metrics.rpc(1).started().handled(code);
        }
        drop(metrics.rpc(1).started());
        let text = metrics.text().unwrap();
        for code in ["OK", "NotFound", "Unauthenticated", "Canceled"] {
            let line = format!("grpc_code=\"{code}\",grpc_method=\"DescribePackageV1\"");
            let line = text.lines().find(|text| text.contains(&line)).unwrap();
            assert!(line.ends_with(" 1"), "{line}");
        }
    }
}
