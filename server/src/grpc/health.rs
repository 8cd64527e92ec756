//! `grpc.health.v1`: whether the server and its service take calls.

use logistic_package_proto::package_api::logistic_package_api_service_server::SERVICE_NAME;
use tonic::codec::CompressionEncoding;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

/// The empty name stands for the server as a whole.
const NAMES: [&str; 2] = ["", SERVICE_NAME];

/// The health of the server and of its service, which are the same.
#[derive(Debug, Clone)]
pub struct Health {
    reporter: HealthReporter,
}

impl Health {
    /// Serving.
    pub async fn serving() -> Self {
        let health = Self { reporter: HealthReporter::new() };
        health.set(ServingStatus::Serving).await;
        health
    }

    /// What answers `Check` and `Watch`.
    #[must_use]
    pub fn service(&self) -> HealthServer<HealthService> {
        HealthServer::new(HealthService::from_health_reporter(self.reporter.clone()))
            .accept_compressed(CompressionEncoding::Gzip)
    }

    /// Not serving any more: watchers hear it, and then their streams end. An open stream would keep its connection,
    /// and so the server, from ending.
    pub async fn stop(&mut self) {
        self.set(ServingStatus::NotServing).await;
        for name in NAMES {
            self.reporter.clear_service_status(name).await;
        }
    }

    async fn set(&self, status: ServingStatus) {
        for name in NAMES {
            self.reporter.set_service_status(name, status).await;
        }
    }
}
