//! The five rpcs of `LogisticPackageApiService`: what goes in, what comes out, which status when.

mod answer;
mod convert;
mod health;
mod reflection;

use logistic_package_proto::package_api::logistic_package_api_service_server::LogisticPackageApiService;
use logistic_package_proto::package_api::{
    CreatePackageV1Request, CreatePackageV1Response, DescribePackageV1Request, DescribePackageV1Response,
    ListPackagesV1Request, ListPackagesV1Response, RemovePackageV1Request, RemovePackageV1Response,
    UpdatePackageV1Request, UpdatePackageV1Response,
};
use tonic::{Request, Response, Status};
use tracing::Instrument;

use crate::config::PAGE_SIZE_MAX;
use crate::domain::{self, Invalid, PackageId};
use crate::metrics::Metrics;
use crate::store::{Outcome, Store};
use crate::telemetry::trace::traceparent_of_event;

pub use answer::CallError;
pub use health::Health;
pub use reflection::{Reflection, reflection};

/// The service, over a store of packages.
#[derive(Debug, Clone)]
pub struct PackageApi {
    store: Store,
    metrics: Metrics,
    page_size_default: u32,
}

type Answer<T> = Result<Response<T>, Status>;

impl PackageApi {
    /// `page_size_default` packages answer a list that names no limit.
    #[must_use]
    pub fn new(store: Store, metrics: Metrics, page_size_default: u32) -> Self {
        Self { store, metrics, page_size_default }
    }

    async fn create(
        &self,
        request: Request<CreatePackageV1Request>,
    ) -> Result<CreatePackageV1Response, CallError> {
        let trace = traceparent_of_event(request.metadata().as_ref());
        let once = convert::once(&request)?;
        let new = convert::new_package(request.into_inner());
        new.validate()?;
        let id = match once {
            Some(once) => self.made(self.store.create_once(new, trace, once).await?)?,
            None => self.changed(Some(self.store.create(new, trace).await?))?,
        };
        Ok(CreatePackageV1Response { id: id.as_u64() })
    }

    async fn describe(
        &self,
        request: DescribePackageV1Request,
    ) -> Result<DescribePackageV1Response, CallError> {
        domain::validate_id(request.package_id)?;
        let id = known(request.package_id)?;
        let package = self.store.describe(id).await?.ok_or(CallError::NotFound)?;
        Ok(DescribePackageV1Response { value: Some(convert::package(package)) })
    }

    async fn list(&self, request: ListPackagesV1Request) -> Result<ListPackagesV1Response, CallError> {
        let limit = page_size(request.limit, self.page_size_default);
        let packages = self.store.list(request.offset, limit).await?;
        Ok(ListPackagesV1Response {
            package_title: Vec::new(),
            packages: packages.into_iter().map(convert::package).collect(),
        })
    }

    async fn remove(
        &self,
        request: Request<RemovePackageV1Request>,
    ) -> Result<RemovePackageV1Response, CallError> {
        let trace = traceparent_of_event(request.metadata().as_ref());
        let once = convert::once(&request)?;
        let request = request.into_inner();
        domain::validate_id(request.package_id)?;
        let id = known(request.package_id)?;
        match once {
            Some(once) => self.made(self.store.remove_once(id, trace, once).await?)?,
            None => self.changed(self.store.remove(id, trace).await?.then_some(id))?,
        };
        Ok(RemovePackageV1Response { suc: true })
    }

    async fn update(
        &self,
        request: Request<UpdatePackageV1Request>,
    ) -> Result<UpdatePackageV1Response, CallError> {
        let trace = traceparent_of_event(request.metadata().as_ref());
        let once = convert::once(&request)?;
        let request = request.into_inner();
        let package_id = request.package_id;
        let changes = convert::changes(request);
        changes.validate(package_id)?;
        let id = known(package_id)?;
        match once {
            Some(once) => self.made(self.store.update_once(id, changes, trace, once).await?)?,
            None => self.changed(self.store.update(id, changes, trace).await?.then_some(id))?,
        };
        Ok(UpdatePackageV1Response { suc: true })
    }

    /// Counts a change, where there was a package to change.
    fn changed(&self, id: Option<PackageId>) -> Result<PackageId, CallError> {
        let id = id.ok_or(CallError::NotFound)?;
        self.metrics.cud_event.inc();
        Ok(id)
    }

    /// Counts a change that came with a key, where it was not made before.
    fn made(&self, outcome: Outcome) -> Result<PackageId, CallError> {
        match outcome {
            Outcome::Made(id) => self.changed(Some(id)),
            Outcome::MadeBefore(id) => Ok(id),
            Outcome::Missing => Err(CallError::NotFound),
            Outcome::OtherRequest => Err(Invalid::KeyOfOther.into()),
        }
    }

    async fn answer<T>(
        &self,
        rpc: &'static str,
        call: impl Future<Output = Result<T, CallError>>,
    ) -> Result<Response<T>, Status> {
        let span = tracing::info_span!(target: spans::TARGET, "service", otel.name = rpc);
        let result = call.instrument(span).await;
        if matches!(result, Err(CallError::NotFound)) {
            self.metrics.not_found.inc();
        }
        answer::answer(rpc, result)
    }
}

/// 0 means the default; more than the maximum is lowered to it.
fn page_size(limit: u64, default: u32) -> u32 {
    match limit {
        0 => default,
        limit => u32::try_from(limit).unwrap_or(PAGE_SIZE_MAX).min(PAGE_SIZE_MAX),
    }
}

fn known(id: u64) -> Result<PackageId, CallError> {
    PackageId::from_request(id).ok_or(CallError::NotFound)
}

#[tonic::async_trait]
impl LogisticPackageApiService for PackageApi {
    async fn create_package_v1(
        &self,
        request: Request<CreatePackageV1Request>,
    ) -> Answer<CreatePackageV1Response> {
        self.answer("CreatePackageV1", self.create(request)).await
    }

    async fn describe_package_v1(
        &self,
        request: Request<DescribePackageV1Request>,
    ) -> Answer<DescribePackageV1Response> {
        self.answer("DescribePackageV1", self.describe(request.into_inner())).await
    }

    async fn list_packages_v1(
        &self,
        request: Request<ListPackagesV1Request>,
    ) -> Answer<ListPackagesV1Response> {
        self.answer("ListPackagesV1", self.list(request.into_inner())).await
    }

    async fn remove_package_v1(
        &self,
        request: Request<RemovePackageV1Request>,
    ) -> Answer<RemovePackageV1Response> {
        self.answer("RemovePackageV1", self.remove(request)).await
    }

    async fn update_package_v1(
        &self,
        request: Request<UpdatePackageV1Request>,
    ) -> Answer<UpdatePackageV1Response> {
        self.answer("UpdatePackageV1", self.update(request)).await
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::default(0, 10)]
    #[case::one(1, 1)]
    #[case::most(500, 500)]
    #[case::lowered(501, 500)]
    #[case::past_32_bits(1 << 32, 500)]
    #[case::largest(u64::MAX, 500)]
    fn a_page_is_bounded(#[case] limit: u64, #[case] expected: u32) {
        assert_eq!(page_size(limit, 10), expected);
    }
}
