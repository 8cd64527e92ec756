//! The package API by gRPC.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use logistic_package_proto::package_api as api;
use logistic_package_proto::package_api::logistic_package_api_service_client::LogisticPackageApiServiceClient;
use secrecy::{ExposeSecret, SecretString};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::{Call, Package, Packages, ServiceError, retry};
use crate::route::grammar::Fields;
use crate::telemetry::traces;

/// An address that swallows what is sent must not use up a call's time before another try.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A server that has gone without a word is noticed after both.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// Whoever asks whether it is there wants to know soon.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);

/// Where the package API is, and how it is called.
#[derive(Debug, Clone)]
pub struct GrpcSettings {
    /// `http://` or `https://`.
    pub url: String,
    /// The bearer token that it wants.
    pub token: Option<SecretString>,
    /// The only root that is trusted, PEM; else the public ones.
    pub ca: Option<Vec<u8>>,
    /// How long a call may take, all tries together.
    pub timeout: Duration,
}

/// A client, whose copies share one connection. It connects when it is first used, and again whenever it has to.
#[derive(Clone)]
pub struct Client {
    channel: Channel,
    authorization: Option<MetadataValue<Ascii>>,
    timeout: Duration,
    refused: Arc<AtomicBool>,
}

impl GrpcSettings {
    /// # Errors
    /// When the URL leads nowhere, or the root is none.
    pub fn check(&self) -> Result<(), String> {
        endpoint(self).map(drop).map_err(|error| crate::telegram::chain(&error))
    }
}

impl Client {
    /// Needs no server yet.
    ///
    /// # Errors
    /// When URL, roots or token cannot be used.
    pub fn new(settings: &GrpcSettings) -> Result<Self, String> {
        let endpoint = endpoint(settings).map_err(|error| format!("grpc-url, grpc-ca: {error}"))?;
        let bearer = |token: &SecretString| {
            let mut value: MetadataValue<Ascii> = format!("Bearer {}", token.expose_secret()).parse().ok()?;
            value.set_sensitive(true);
            Some(value)
        };
        let authorization = settings
            .token
            .as_ref()
            .map(|token| bearer(token).ok_or("grpc-auth-token: expected printable ASCII characters"));
        Ok(Self {
            channel: endpoint.connect_lazy(),
            authorization: authorization.transpose()?,
            timeout: settings.timeout,
            refused: Arc::default(),
        })
    }

    /// Whether the last answer was that the bot's token is not good.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// Whether it answers.
    pub async fn is_there(&self) -> bool {
        let mut health = HealthClient::new(self.channel.clone());
        let answer = health.check(HealthCheckRequest::default());
        match tokio::time::timeout(HEALTH_TIMEOUT, answer).await {
            // A server without health service is there as well.
            Ok(Err(status)) => status.code() == Code::Unimplemented,
            Ok(Ok(_)) => true,
            Err(_) => false,
        }
    }

    fn stub(&self) -> LogisticPackageApiServiceClient<Channel> {
        LogisticPackageApiServiceClient::new(self.channel.clone())
    }

    /// The request of one try. The server gives up when nobody waits any more.
    fn request<T>(&self, message: T, call: &Call, left: Duration, changes: bool) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(left);
        let metadata = request.metadata_mut();
        if let Some(authorization) = &self.authorization {
            metadata.insert("authorization", authorization.clone());
        }
        if let Ok(traceparent) = traces::traceparent_of_request(call).parse() {
            metadata.insert("traceparent", traceparent);
        }
        if changes && let Ok(key) = call.key.parse() {
            metadata.insert("idempotency-key", key);
        }
        request
    }

    fn judged<T>(&self, outcome: Result<T, Status>, call: &Call) -> Result<T, ServiceError> {
        let refused = matches!(&outcome, Err(status) if is_refusal(status.code()));
        if refused && !self.refused.swap(true, Ordering::Relaxed) {
            tracing::error!("the package API refuses the bot: give it another grpc-auth-token");
        }
        if outcome.is_ok() {
            self.refused.store(false, Ordering::Relaxed);
        }
        outcome.map_err(|status| {
            let error = meaning(&status);
            if !matches!(error, ServiceError::NotFound | ServiceError::Invalid(_) | ServiceError::NoChanges) {
                tracing::warn!(code = ?status.code(), error = status.message(), trace_id = %call.trace_id, "a call failed");
            }
            error
        })
    }
}

fn endpoint(settings: &GrpcSettings) -> Result<Endpoint, tonic::transport::Error> {
    let mut endpoint = Endpoint::from_shared(settings.url.clone())?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .tcp_nodelay(true);
    if settings.url.starts_with("https://") {
        let tls = match &settings.ca {
            Some(ca) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)),
            None => ClientTlsConfig::new().with_enabled_roots(),
        };
        endpoint = endpoint.tls_config(tls)?;
    }
    Ok(endpoint)
}

fn is_refusal(code: Code) -> bool {
    matches!(code, Code::Unauthenticated | Code::PermissionDenied)
}

fn meaning(status: &Status) -> ServiceError {
    match status.code() {
        Code::NotFound => ServiceError::NotFound,
        Code::InvalidArgument if status.message() == "no changes specified" => ServiceError::NoChanges,
        Code::InvalidArgument => ServiceError::Invalid(status.message().to_owned()),
        Code::Unavailable | Code::ResourceExhausted => ServiceError::Away,
        Code::DeadlineExceeded | Code::Cancelled => ServiceError::Unanswered,
        code if is_refusal(code) => ServiceError::Refused,
        _ if retry::is_broken_connection(status) => ServiceError::Away,
        code => ServiceError::Failed(format!("{code:?}: {}", status.message())),
    }
}

/// One rpc with its tries.
macro_rules! rpc {
    ($client:ident, $call:ident, $changes:expr, $method:ident, $message:expr) => {{
        let message = $message;
        let answer = retry::until($client.timeout, |left| {
            let (mut stub, request) =
                ($client.stub(), $client.request(message.clone(), $call, left, $changes));
            async move { stub.$method(request).await }
        });
        let answer = traces::rpc(stringify!($method), answer).await;
        $client.judged(answer.map(tonic::Response::into_inner), $call)
    }};
}

impl Packages for Client {
    async fn describe(&self, call: &Call, id: u64) -> Result<Package, ServiceError> {
        let message = api::DescribePackageV1Request { package_id: id };
        let answer = rpc!(self, call, false, describe_package_v1, message)?;
        answer
            .value
            .map(Package::from)
            .ok_or_else(|| ServiceError::Failed("an answer without a package".into()))
    }

    async fn list(&self, call: &Call, offset: u64, limit: u64) -> Result<Vec<Package>, ServiceError> {
        let message = api::ListPackagesV1Request { offset, limit };
        let answer = rpc!(self, call, false, list_packages_v1, message)?;
        Ok(answer.packages.into_iter().map(Package::from).collect())
    }

    async fn create(&self, call: &Call, fields: &Fields) -> Result<u64, ServiceError> {
        let message = api::CreatePackageV1Request {
            title: fields.title.clone().unwrap_or_default(),
            material: fields.material.clone().unwrap_or_default(),
            maximum_volume: fields.volume.unwrap_or_default(),
            reusable: fields.reusable.unwrap_or_default(),
        };
        Ok(rpc!(self, call, true, create_package_v1, message)?.id)
    }

    async fn update(&self, call: &Call, id: u64, fields: &Fields) -> Result<bool, ServiceError> {
        let message = api::UpdatePackageV1Request {
            package_id: id,
            title: fields.title.clone().unwrap_or_default(),
            material: fields.material.clone().unwrap_or_default(),
            maximum_volume: fields.volume.unwrap_or_default(),
            reusable: fields.reusable.map(|reusable| api::MaybeBool { reusable }),
        };
        Ok(rpc!(self, call, true, update_package_v1, message)?.suc)
    }

    async fn remove(&self, call: &Call, id: u64) -> Result<bool, ServiceError> {
        let message = api::RemovePackageV1Request { package_id: id };
        Ok(rpc!(self, call, true, remove_package_v1, message)?.suc)
    }
}

impl From<api::Package> for Package {
    fn from(package: api::Package) -> Self {
        let api::Package { id, title, material, maximum_volume, reusable, .. } = package;
        Self { id, title, material, volume: maximum_volume, reusable }
    }
}
