//! What every call passes through before it reaches its rpc, whether it came by gRPC or by REST.
//!
//! In this order: it is counted; its token is judged, where there is one to know; it finds room, or is refused at once;
//! its deadline is set; its span and its log level begin; and then it runs, until it answers, its deadline passes or
//! the server has to end. A panic ends the call and nothing else. A call whose client has gone is dropped wherever it
//! is, and what it asked of the database is cancelled.

mod deadline;
pub(crate) mod receiving;
mod rpc;
mod token;

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use http::{HeaderMap, Request, Response};
use logistic_package_proto::package_api::logistic_package_api_service_server::LogisticPackageApiServiceServer;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic::{Code, Status};
use tower::Service;
use tracing::Instrument;

use crate::grpc::PackageApi;
use crate::metrics::{Metrics, Watched};
use crate::telemetry::{level, trace};
use receiving::Receiving;

pub use rpc::{RPCS, Rpc, SERVICE};
pub use token::Token;

/// The health service answers without a token and whatever the load: probes have to know.
const HEALTH: &str = "/grpc.health.v1.Health/";
const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";

/// Marks an answer that is a stream: of health, or of reflection. It may take as long as it likes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Streamed;

/// Bounds on calls, and who may make them.
#[derive(Debug, Clone)]
pub struct CallSettings {
    /// Calls under way at most; one more is refused.
    pub calls_max: usize,
    /// How long a call may take at most, whatever its client allows it.
    pub timeout: Duration,
    /// What a client must show.
    pub token: Option<Token>,
    /// Whether a client may raise the log level of its call.
    pub log_level_by_client: bool,
}

/// The services behind what every call passes through.
#[derive(Debug, Clone)]
pub struct Calls {
    api: LogisticPackageApiServiceServer<PackageApi>,
    /// Health, and reflection where it is served.
    others: Routes,
    gate: Arc<Gate>,
}

#[derive(Debug)]
struct Gate {
    settings: CallSettings,
    room: Semaphore,
    receiving: Receiving,
    metrics: Metrics,
    cut_off: CancellationToken,
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl Calls {
    /// `cut_off` ends the calls that are under way.
    #[must_use]
    pub fn new(
        api: PackageApi,
        others: Routes,
        settings: CallSettings,
        metrics: Metrics,
        cut_off: CancellationToken,
    ) -> Self {
        let room = Semaphore::new(settings.calls_max.min(Semaphore::MAX_PERMITS));
        // Clients may compress what they send; answers are small, and go as they are.
        let api = LogisticPackageApiServiceServer::new(api).accept_compressed(CompressionEncoding::Gzip);
        let gate = Gate { settings, room, receiving: Receiving::default(), metrics, cut_off };
        Self { api, others, gate: Arc::new(gate) }
    }
}

impl Calls {
    /// The room for the bodies of requests, which REST shares.
    pub(crate) fn receiving(&self) -> &Receiving {
        &self.gate.receiving
    }

    /// Messages come and go as long as the client likes.
    fn streamed(&mut self, request: Request<Body>) -> Answering {
        let room = &self.gate.receiving;
        let answering = self.others.call(request.map(|body| Body::new(room.at_leisure(body))));
        Box::pin(async move {
            let mut response = answering.await?;
            response.extensions_mut().insert(Streamed);
            Ok(response)
        })
    }
}

impl Service<Request<Body>> for Calls {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Answering {
        let path = request.uri().path();
        let gate = self.gate.clone();
        match Rpc::at(path) {
            Some(rpc) => {
                let watched = gate.metrics.rpc(rpc.number).started();
                let api = self.api.clone();
                let request = request.map(|body| Body::new(gate.receiving.in_time(body)));
                Box::pin(async move { Ok(gate.pass(rpc, api, request, watched).await) })
            }
            None if path == HEALTH_CHECK => {
                Box::pin(self.others.call(request.map(|body| Body::new(gate.receiving.in_time(body)))))
            }
            None if path.starts_with(HEALTH) => self.streamed(request),
            None => match gate.know(request.headers()) {
                Ok(()) => self.streamed(request),
                Err(status) => Box::pin(std::future::ready(Ok(status.into_http()))),
            },
        }
    }
}

impl Gate {
    async fn pass(
        &self,
        rpc: &'static Rpc,
        api: LogisticPackageApiServiceServer<PackageApi>,
        request: Request<Body>,
        watched: Watched,
    ) -> Response<Body> {
        let span = trace::rpc_span(rpc, request.headers());
        let level = self.settings.log_level_by_client.then(|| level::asked_for(request.headers())).flatten();
        let passing = self.enter(rpc, api, request).instrument(span.clone());
        let response = level::scope(level, passing).await;
        let code = code_of(&response);
        trace::ended(&span, code);
        watched.handled(code);
        response
    }

    async fn enter(
        &self,
        rpc: &'static Rpc,
        mut api: LogisticPackageApiServiceServer<PackageApi>,
        request: Request<Body>,
    ) -> Response<Body> {
        let (_room, timeout) = match self.judge(request.headers()) {
            Ok(judged) => judged,
            Err(status) => {
                tracing::debug!(rpc = rpc.method, code = ?status.code(), "refused");
                return status.into_http();
            }
        };
        let answering =
            async { too_large_is_exhausted(api.call(request).await.unwrap_or_else(|never| match never {})) };
        tokio::select! {
            biased;
            ended = within(rpc, timeout, answering) => ended,
            () = self.cut_off.cancelled() => ended(rpc, Status::unavailable("the server is stopping")),
        }
    }

    fn judge(&self, headers: &HeaderMap) -> Result<(tokio::sync::SemaphorePermit<'_>, Duration), Status> {
        self.know(headers)?;
        let asked = deadline::of(headers)?;
        let timeout = asked.unwrap_or(self.settings.timeout).min(self.settings.timeout);
        let room = self
            .room
            .try_acquire()
            .map_err(|_| Status::resource_exhausted("the server is overloaded: try again later"))?;
        Ok((room, timeout))
    }

    fn know(&self, headers: &HeaderMap) -> Result<(), Status> {
        match &self.settings.token {
            Some(token) => token.judge(headers),
            None => Ok(()),
        }
    }
}

/// Answers, whatever the call does: a panic is this call's alone, and its time is bounded.
async fn within(rpc: &Rpc, timeout: Duration, call: impl Future<Output = Response<Body>>) -> Response<Body> {
    match tokio::time::timeout(timeout, AssertUnwindSafe(call).catch_unwind()).await {
        Ok(Ok(response)) => response,
        Ok(Err(panic)) => {
            let panic = panic.downcast_ref::<&str>().copied().unwrap_or("no message");
            tracing::error!(rpc = rpc.method, panic, "a call panicked: please report it");
            Status::internal("internal error").into_http()
        }
        Err(_) => ended_late(rpc, timeout),
    }
}

/// Whether its change was made is not known, as with a connection that breaks.
fn ended_late(rpc: &Rpc, timeout: Duration) -> Response<Body> {
    ended(rpc, Status::deadline_exceeded(format!("no answer within {} ms", timeout.as_millis())))
}

fn ended(rpc: &Rpc, status: Status) -> Response<Body> {
    tracing::warn!(rpc = rpc.method, code = ?status.code(), reason = status.message(), "ended without an answer");
    status.into_http()
}

/// A unary call that fails has its status in the headers, and nothing else.
fn code_of(response: &Response<Body>) -> Code {
    let status = response.headers().get(Status::GRPC_STATUS);
    status.map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()))
}

/// The library calls a message above the limit out of range; gRPC's own servers say that it exhausts a resource.
fn too_large_is_exhausted(response: Response<Body>) -> Response<Body> {
    match code_of(&response) {
        Code::OutOfRange => match Status::from_header_map(response.headers()) {
            Some(status) => Status::resource_exhausted(status.message()).into_http(),
            None => response,
        },
        _ => response,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_ends_its_call_alone() {
        let panics = async { panic!("a test of a panic") };
        let response = within(&RPCS[0], Duration::from_secs(20), panics).await;
        assert_eq!(code_of(&response), Code::Internal);
        let good = async { Response::new(Body::empty()) };
        assert_eq!(code_of(&within(&RPCS[0], Duration::from_secs(20), good).await), Code::Ok);
    }

    #[tokio::test]
    async fn a_call_without_an_end_is_ended() {
        let response = within(&RPCS[0], Duration::from_millis(5), std::future::pending()).await;
        assert_eq!(code_of(&response), Code::DeadlineExceeded);
    }
}
