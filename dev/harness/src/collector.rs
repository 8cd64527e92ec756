//! A collector of spans: a real OTLP receiver over gRPC, which keeps what it was sent.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span as Message;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// A span as it arrived.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// What was done.
    pub name: String,
    /// Hex digits.
    pub trace_id: String,
    /// Hex digits.
    pub span_id: String,
    /// Hex digits, empty for a root.
    pub parent_id: String,
    /// What is said of it, as text.
    pub attributes: Vec<(String, String)>,
    /// Nanoseconds since 1970: from when to when.
    pub time: (u64, u64),
}

impl Span {
    /// An attribute.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// The collector.
#[derive(Debug, Clone, Default)]
pub struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Collector {
    /// Starts one on a free port; it ends with the runtime.
    ///
    /// # Errors
    /// When there is no port.
    pub fn start() -> Result<(Self, SocketAddr)> {
        let collector = Self::default();
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse()?)?;
        let addr = incoming.local_addr()?;
        let service = TraceServiceServer::new(collector.clone());
        tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
        Ok((collector, addr))
    }

    /// What arrived of a trace.
    #[must_use]
    pub fn trace(&self, trace_id: &str) -> Vec<Span> {
        let spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        spans.iter().filter(|span| span.trace_id == trace_id).cloned().collect()
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let scopes = request.into_inner().resource_spans.into_iter().flat_map(|of| of.scope_spans);
        let spans = scopes.flat_map(|scope| scope.spans).map(span);
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).extend(spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn span(message: Message) -> Span {
    let attributes = message.attributes.into_iter().map(|attribute| {
        let value = match attribute.value.and_then(|value| value.value) {
            Some(Value::StringValue(text)) => text,
            Some(Value::IntValue(number)) => number.to_string(),
            other => format!("{other:?}"),
        };
        (attribute.key, value)
    });
    Span {
        attributes: attributes.collect(),
        trace_id: hex(&message.trace_id),
        span_id: hex(&message.span_id),
        parent_id: hex(&message.parent_span_id),
        time: (message.start_time_unix_nano, message.end_time_unix_nano),
        name: message.name,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
