//! REST: each call that the descriptor gives an HTTP form (`google.api.http`), as grpc-gateway v2 serves it.
//!
//! A request becomes the same gRPC call that a gRPC client would make, and passes through the same gates; its answer
//! becomes JSON. Nothing here knows any rpc by name.

mod answer;
mod binding;
mod cors;
mod form;
mod json;
mod openapi;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use prost_reflect::DescriptorPool;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service, ServiceExt};
use tower_http::cors::{Cors, CorsLayer};

use crate::calls::Calls;
use crate::metrics::Metrics;
use binding::{Binding, Bindings};
use form::Form;

pub use binding::DescriptorError;
pub use cors::Origins;

/// A message's limit in gRPC; its JSON is not much longer.
const BODY_BYTES_MAX: usize = 4 << 20;

/// Before the bytes of a message on the wire: not compressed, and its length.
const FRAME_HEAD_BYTES: usize = 5;

/// Headers with this prefix become metadata, as grpc-gateway has it.
const METADATA_PREFIX: &str = "grpc-metadata-";

/// Headers that are metadata under their own name.
const PASSED_ON: [HeaderName; 5] = [
    header::AUTHORIZATION,
    HeaderName::from_static("grpc-timeout"),
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static(crate::telemetry::level::METADATA),
    HeaderName::from_static("traceparent"),
];

/// What REST serves beside the calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestSettings {
    /// Whether the OpenAPI document and its page are served.
    pub openapi: bool,
    /// Whose pages may call from a browser.
    pub origins: Origins,
}

/// The gateway.
#[derive(Debug, Clone)]
pub struct Rest {
    gateway: Cors<Gateway>,
}

impl Rest {
    /// In front of the calls.
    ///
    /// # Errors
    /// When the descriptors say something that it cannot serve.
    pub fn new(calls: Calls, metrics: Metrics, settings: &RestSettings) -> Result<Self, DescriptorError> {
        let pool = binding::pool()?;
        let bindings = Bindings::of(&pool)?;
        let document = settings.openapi.then(|| Bytes::from(openapi::document(&bindings)));
        let gateway = Gateway { calls, metrics, shared: Arc::new(Shared { pool, bindings, document }) };
        let layer: CorsLayer = settings.origins.layer();
        Ok(Self { gateway: layer.layer(gateway) })
    }
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send>>;

impl Service<Request<Incoming>> for Rest {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Answering {
        self.gateway.clone().oneshot(request).boxed()
    }
}

#[derive(Debug, Clone)]
struct Gateway {
    calls: Calls,
    metrics: Metrics,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    pool: DescriptorPool,
    bindings: Bindings,
    document: Option<Bytes>,
}

impl Service<Request<Incoming>> for Gateway {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Answering {
        self.metrics.http_requests.inc();
        let gateway = self.clone();
        Box::pin(async move { Ok(gateway.answer(request).await) })
    }
}

impl Gateway {
    async fn answer(self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let shared = self.shared.clone();
        let (head, body) = request.into_parts();
        if let (Some(document), &Method::GET) = (&shared.document, &head.method) {
            match head.uri.path() {
                "/openapi.json" => return answer::content("application/json", document.clone()),
                "/docs" => {
                    return answer::content("text/html; charset=utf-8", Bytes::from_static(openapi::PAGE));
                }
                _ => {}
            }
        }
        let form = Form::of(&head);
        let (binding, ids) = match shared.bindings.find(form.verb(&head), head.uri.path(), form) {
            Ok(found) => found,
            Err(status) => return answer::error(&shared.pool, &status),
        };
        let arriving = self.calls.receiving().in_time(body);
        let body = match Limited::new(arriving, BODY_BYTES_MAX).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return answer::not_received(&shared.pool, &*error),
        };
        let query = head.uri.query().unwrap_or_default();
        let message = match binding.message(&ids, query, &body, form) {
            Ok(message) => message,
            Err(status) => return answer::error(&shared.pool, &status),
        };
        match self.call_rpc(binding, &head.headers, &message).await {
            Ok((metadata, bytes)) => answer::message(binding, &metadata, bytes),
            Err(status) => answer::error(&shared.pool, &status),
        }
    }

    /// Makes the call as a gRPC client does, with the framing of gRPC.
    async fn call_rpc(
        mut self,
        binding: &Binding,
        headers: &HeaderMap,
        message: &[u8],
    ) -> Result<(HeaderMap, Bytes), Status> {
        let mut framed = Vec::with_capacity(FRAME_HEAD_BYTES + message.len());
        let length = u32::try_from(message.len()).map_err(|_| Status::resource_exhausted("too long"))?;
        framed.push(0);
        framed.extend_from_slice(&length.to_be_bytes());
        framed.extend_from_slice(message);
        let mut request = Request::new(Body::new(Full::new(Bytes::from(framed))));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = binding.path.clone();
        *request.headers_mut() = metadata(headers);

        let Ok(response) = self.calls.call(request).await;
        let (head, body) = response.into_parts();
        if let Some(status) = Status::from_header_map(&head.headers)
            && status.code() != Code::Ok
        {
            return Err(status);
        }
        let body = body.collect().await?;
        if let Some(status) = body.trailers().and_then(Status::from_header_map)
            && status.code() != Code::Ok
        {
            return Err(status);
        }
        let mut bytes = body.to_bytes();
        if bytes.len() < FRAME_HEAD_BYTES {
            return Err(Status::internal("internal error"));
        }
        Ok((head.headers, bytes.split_off(FRAME_HEAD_BYTES)))
    }
}

fn metadata(headers: &HeaderMap) -> HeaderMap {
    let mut metadata = HeaderMap::new();
    for (name, value) in headers {
        let own = name.as_str().strip_prefix(METADATA_PREFIX);
        let name = match own.and_then(|own| own.parse::<HeaderName>().ok()) {
            Some(own) => own,
            None if PASSED_ON.contains(name) => name.clone(),
            None => continue,
        };
        metadata.append(name, value.clone());
    }
    metadata.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    metadata.insert(header::TE, HeaderValue::from_static("trailers"));
    metadata
}
