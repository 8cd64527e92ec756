//! Whose pages may call from a browser.

use std::str::FromStr;
use std::time::Duration;

use http::{HeaderValue, Method, header};
use tower_http::cors::{AllowHeaders, Any, CorsLayer};

/// How long a browser may remember the answer; it asks again after two hours at the latest.
const REMEMBERED: Duration = Duration::from_hours(1);

/// Origins, such as `https://shop.example`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// Nobody's.
    None,
    /// Everybody's.
    Any,
    /// These.
    These(Vec<HeaderValue>),
}

impl FromStr for Origins {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "*" {
            return Ok(Self::Any);
        }
        let origins = text.split(',').map(|origin| origin_of(origin.trim()));
        origins.collect::<Option<Vec<_>>>().map(Self::These).ok_or_else(|| {
            "expected * or origins such as https://shop.example, with commas between them".to_owned()
        })
    }
}

/// Scheme, host and port: a path would never match.
fn origin_of(text: &str) -> Option<HeaderValue> {
    let (scheme, host) = text.split_once("://")?;
    let plain = matches!(scheme, "http" | "https") && !host.is_empty() && !host.contains(['/', ' ']);
    plain.then(|| text.parse().ok()).flatten()
}

impl Origins {
    pub(super) fn layer(&self) -> CorsLayer {
        let layer = match self {
            Self::None => return CorsLayer::new(),
            Self::Any => CorsLayer::new().allow_origin(Any),
            Self::These(origins) => CorsLayer::new().allow_origin(origins.clone()),
        };
        layer
            .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers([header::RETRY_AFTER])
            .max_age(REMEMBERED)
    }
}
