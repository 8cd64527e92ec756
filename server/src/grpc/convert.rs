//! Between the messages of the .proto file and the domain.

use chrono::{DateTime, Utc};
use logistic_package_proto::package_api::{
    CreatePackageV1Request, MaybeTimestamp, Package as PackageMessage, UpdatePackageV1Request,
};
use prost::Message;
use prost_types::Timestamp;
use tonic::Request;

use crate::domain::{Changes, IdempotencyKey, Invalid, NewPackage, Package};

pub(super) fn new_package(request: CreatePackageV1Request) -> NewPackage {
    NewPackage {
        title: request.title,
        material: request.material,
        maximum_volume: request.maximum_volume,
        reusable: request.reusable,
    }
}

/// Empty and 0 are proto3's "not set". NaN is not 0, so it stays, to be judged.
pub(super) fn changes(request: UpdatePackageV1Request) -> Changes {
    Changes {
        title: Some(request.title).filter(|title| !title.is_empty()),
        material: Some(request.material).filter(|material| !material.is_empty()),
        maximum_volume: Some(request.maximum_volume).filter(|volume| *volume != 0.0),
        reusable: request.reusable.map(|maybe| maybe.reusable),
    }
}

pub(super) fn package(package: Package) -> PackageMessage {
    PackageMessage {
        id: package.id.as_u64(),
        title: package.title,
        material: package.material,
        maximum_volume: package.maximum_volume,
        reusable: package.reusable,
        created: Some(timestamp(package.created_at)),
        updated: package.updated_at.map(|time| MaybeTimestamp { time: Some(timestamp(time)) }),
    }
}

fn timestamp(time: DateTime<Utc>) -> Timestamp {
    Timestamp { seconds: time.timestamp(), nanos: time.timestamp_subsec_nanos().cast_signed() }
}

/// The key that makes a change happen once, and the request it stands for. Two keys are none.
pub(super) fn once<T: Message>(request: &Request<T>) -> Result<Option<(IdempotencyKey, Vec<u8>)>, Invalid> {
    let mut keys = request.metadata().get_all("idempotency-key").iter();
    let key = match (keys.next(), keys.next()) {
        (None, _) => return Ok(None),
        (Some(key), None) => key.to_str().ok().and_then(IdempotencyKey::from_request),
        (Some(_), Some(_)) => None,
    };
    Ok(Some((key.ok_or(Invalid::Key)?, request.get_ref().encode_to_vec())))
}

#[cfg(test)]
mod tests {
    use logistic_package_proto::package_api::MaybeBool;

    use super::*;

    #[test]
    fn empty_and_zero_leave_a_field_as_it_is() {
        assert!(changes(UpdatePackageV1Request { package_id: 1, ..Default::default() }).is_empty());
        let minus_zero = UpdatePackageV1Request { maximum_volume: -0.0, ..Default::default() };
        assert!(changes(minus_zero).is_empty());
    }

    #[test]
    fn nan_and_false_are_set() {
        let request = UpdatePackageV1Request {
            maximum_volume: f32::NAN,
            reusable: Some(MaybeBool { reusable: false }),
            ..Default::default()
        };
        let changes = changes(request);
        assert!(changes.maximum_volume.is_some_and(f32::is_nan));
        assert_eq!(changes.reusable, Some(false));
    }

    #[test]
    fn times_before_1970_keep_their_fraction_positive() {
        let time = DateTime::from_timestamp(-2, 250_000_000).unwrap_or_default();
        assert_eq!(timestamp(time), Timestamp { seconds: -2, nanos: 250_000_000 });
    }
}
