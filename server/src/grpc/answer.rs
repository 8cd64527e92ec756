//! From the outcome of a call to its status, and to the log.

use tonic::{Code, Response, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::domain::Invalid;
use crate::store::StoreError;

/// Why a call fails.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The request breaks a rule.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// There is no such package.
    #[error("package not found")]
    NotFound,
    /// The database is away, or refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Answers the client and logs the outcome. What the database says goes to the log alone: it may hold SQL.
pub(super) fn answer<T>(rpc: &'static str, result: Result<T, CallError>) -> Result<Response<T>, Status> {
    let error = match result {
        Ok(message) => {
            tracing::debug!(rpc, "done");
            return Ok(Response::new(message));
        }
        Err(error) => error,
    };
    let status = status(&error);
    let code = status.code();
    match code {
        Code::Internal => tracing::error!(rpc, ?code, %error, "failed"),
        Code::Unavailable => tracing::warn!(rpc, ?code, %error, "failed"),
        _ => tracing::debug!(rpc, ?code, %error, "refused"),
    }
    Err(status)
}

fn status(error: &CallError) -> Status {
    match error {
        CallError::Invalid(invalid) => {
            Status::with_error_details(Code::InvalidArgument, invalid.to_string(), details(invalid))
        }
        CallError::NotFound => Status::not_found(error.to_string()),
        CallError::Store(StoreError::Overloaded(_)) => {
            Status::resource_exhausted("the server is overloaded: try again later")
        }
        CallError::Store(cause) if cause.is_unavailable() => {
            Status::unavailable("the database is unavailable")
        }
        CallError::Store(_) => Status::internal("internal error"),
    }
}

fn details(invalid: &Invalid) -> ErrorDetails {
    let violations = match invalid {
        Invalid::Fields(violations) => {
            violations.as_slice().iter().map(|one| FieldViolation::new(one.field, one.must)).collect()
        }
        // They are about no field in particular.
        Invalid::NoChanges | Invalid::Key | Invalid::KeyOfOther => Vec::new(),
    };
    ErrorDetails::with_bad_request(violations)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_database_says_stays_in_the_log() {
        let cause = sqlx::Error::Protocol("near select * from package where title = 'secret'".into());
        let status = status(&CallError::Store(StoreError::from(cause)));
        assert_eq!((status.code(), status.message()), (Code::Internal, "internal error"));
        assert!(status.details().is_empty());
    }

    #[test]
    fn a_database_that_is_away_is_worth_another_try() {
        let status = status(&CallError::Store(StoreError::Waited(std::time::Duration::from_secs(1))));
        assert_eq!(status.code(), Code::Unavailable);
    }
}
