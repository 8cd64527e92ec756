//! A package API that passes each call on to the real one, remembers it, and fails or hangs when it is told to.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::Result;
use logistic_package_proto::package_api::logistic_package_api_service_client::LogisticPackageApiServiceClient;
use logistic_package_proto::package_api::logistic_package_api_service_server::{
    LogisticPackageApiService, LogisticPackageApiServiceServer,
};
use logistic_package_proto::package_api::*;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::{Channel, Server};
use tonic::{Code, Request, Response, Status};

/// A call as it came.
#[derive(Debug, Clone)]
pub struct Call {
    pub method: &'static str,
    pub request: Value,
    pub metadata: HashMap<String, String>,
}

#[derive(Clone)]
struct Recorder {
    real: LogisticPackageApiServiceClient<Channel>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    calls: Mutex<Vec<Call>>,
    failures: Mutex<HashMap<String, (Code, String, usize)>>,
    gates: Mutex<HashMap<String, CancellationToken>>,
    /// What the real one has answered.
    answered: AtomicUsize,
    /// The answer of the next change is withheld.
    hold: Mutex<Option<Arc<Notify>>>,
}

/// It ends when this is dropped.
pub struct RecordingApi {
    addr: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

impl RecordingApi {
    pub async fn start(real: SocketAddr) -> Result<Self> {
        let channel = Channel::from_shared(format!("http://{real}"))?.connect_lazy();
        let state = Arc::new(State::default());
        let recorder =
            Recorder { real: LogisticPackageApiServiceClient::new(channel), state: Arc::clone(&state) };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
        let task = tokio::spawn(async move {
            let service = LogisticPackageApiServiceServer::new(recorder);
            let _ = Server::builder().add_service(service).serve_with_incoming(incoming).await;
        });
        Ok(Self { addr, state, task })
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn calls(&self) -> Vec<Call> {
        self.state.calls.lock().unwrap().clone()
    }

    /// The next `times` calls of a method fail, without the real one being asked.
    pub fn fail(&self, method: &str, code: Code, message: &str, times: usize) {
        self.state.failures.lock().unwrap().insert(method.to_owned(), (code, message.to_owned(), times));
    }

    /// Calls of a method are answered only when what is returned is dropped; what the real one says is asked for at once.
    pub fn hold(&self, method: &str) -> DropGuard {
        let gate = CancellationToken::new();
        self.state.gates.lock().unwrap().insert(method.to_owned(), gate.clone());
        gate.drop_guard()
    }

    /// How many calls the real one has answered.
    pub fn answered(&self) -> usize {
        self.state.answered.load(Ordering::Relaxed)
    }

    /// The next change is made and never answered; what is returned says when it is made.
    pub fn hold_next_change(&self) -> Arc<Notify> {
        let made = Arc::new(Notify::new());
        *self.state.hold.lock().unwrap() = Some(Arc::clone(&made));
        made
    }
}

impl Drop for RecordingApi {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Recorder {
    fn note<T>(&self, method: &'static str, request: &Request<T>, fields: Value) -> Result<(), Status> {
        let metadata = request.metadata().clone().into_headers();
        let text = |value: &http::HeaderValue| value.to_str().unwrap_or_default().to_owned();
        let metadata = metadata.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        self.state.calls.lock().unwrap().push(Call { method, request: fields, metadata });
        match self.state.failures.lock().unwrap().get_mut(method) {
            Some((code, message, times)) if *times > 0 => {
                *times -= 1;
                Err(Status::new(*code, message.clone()))
            }
            _ => Ok(()),
        }
    }

    async fn after(&self, method: &str, changes: bool) {
        self.state.answered.fetch_add(1, Ordering::Relaxed);
        let gate = self.state.gates.lock().unwrap().get(method).cloned();
        if let Some(gate) = gate {
            gate.cancelled().await;
        }
        if changes {
            let hold = self.state.hold.lock().unwrap().take();
            if let Some(made) = hold {
                made.notify_one();
                std::future::pending::<()>().await;
            }
        }
    }
}

macro_rules! rpc {
    ($self:ident, $request:ident, $method:literal, $name:ident, $changes:expr, $fields:expr) => {{
        let fields = $fields($request.get_ref());
        $self.note($method, &$request, fields)?;
        let answer = $self.real.clone().$name($request).await;
        $self.after($method, $changes).await;
        answer
    }};
}

#[tonic::async_trait]
impl LogisticPackageApiService for Recorder {
    async fn create_package_v1(
        &self,
        request: Request<CreatePackageV1Request>,
    ) -> Result<Response<CreatePackageV1Response>, Status> {
        rpc!(self, request, "CreatePackageV1", create_package_v1, true, |r: &CreatePackageV1Request| json!({
            "Title": r.title, "Material": r.material, "MaximumVolume": r.maximum_volume, "Reusable": r.reusable
        }))
    }

    async fn describe_package_v1(
        &self,
        request: Request<DescribePackageV1Request>,
    ) -> Result<Response<DescribePackageV1Response>, Status> {
        rpc!(
            self,
            request,
            "DescribePackageV1",
            describe_package_v1,
            false,
            |r: &DescribePackageV1Request| json!({
                "PackageID": r.package_id
            })
        )
    }

    async fn list_packages_v1(
        &self,
        request: Request<ListPackagesV1Request>,
    ) -> Result<Response<ListPackagesV1Response>, Status> {
        rpc!(self, request, "ListPackagesV1", list_packages_v1, false, |r: &ListPackagesV1Request| json!({
            "Offset": r.offset, "Limit": r.limit
        }))
    }

    async fn remove_package_v1(
        &self,
        request: Request<RemovePackageV1Request>,
    ) -> Result<Response<RemovePackageV1Response>, Status> {
        rpc!(self, request, "RemovePackageV1", remove_package_v1, true, |r: &RemovePackageV1Request| json!({
            "PackageID": r.package_id
        }))
    }

    async fn update_package_v1(
        &self,
        request: Request<UpdatePackageV1Request>,
    ) -> Result<Response<UpdatePackageV1Response>, Status> {
        rpc!(self, request, "UpdatePackageV1", update_package_v1, true, |r: &UpdatePackageV1Request| json!({
            "PackageID": r.package_id, "Title": r.title, "Material": r.material, "MaximumVolume": r.maximum_volume,
            "Reusable": r.reusable.as_ref().map(|reusable| json!({ "Reusable": reusable.reusable }))
        }))
    }
}
