//! Names and values in a query or in a form, as Go's `net/url` and `net/http` read them for grpc-gateway.

use std::collections::BTreeMap;

use http::request::Parts;
use http::{Method, header};
use percent_encoding::percent_decode_str;
use tonic::Status;

const CONTENT_TYPE: &str = "application/x-www-form-urlencoded";

/// Of a form that is sent by POST, the verb that it stands for: where a URL would be too long.
const METHOD_OVERRIDE: &str = "x-http-method-override";

/// Whether the body is a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// It is not.
    No,
    /// It is.
    Yes,
    /// It is, comes by POST, and names no parameter of its content type: it may stand for a GET.
    InsteadOfGet,
}

impl Form {
    /// `http.Request.ParseForm` reads the bodies of three verbs.
    pub(super) fn of(head: &Parts) -> Self {
        let content_type = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let Some(content_type) = content_type else { return Self::No };
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        let has_body = matches!(head.method, Method::POST | Method::PUT | Method::PATCH);
        match media_type.eq_ignore_ascii_case(CONTENT_TYPE) && has_body {
            false => Self::No,
            // `ServeMux.isPathLengthFallback` of grpc-gateway.
            true if head.method == Method::POST && content_type == CONTENT_TYPE => Self::InsteadOfGet,
            true => Self::Yes,
        }
    }

    /// The verb that is meant.
    pub(super) fn verb(self, head: &Parts) -> Method {
        let other = head.headers.get(METHOD_OVERRIDE).filter(|_| self == Self::InsteadOfGet);
        let other = other.and_then(|verb| Method::from_bytes(&verb.as_bytes().to_ascii_uppercase()).ok());
        other.unwrap_or_else(|| head.method.clone())
    }
}

/// Each name with its values; a name may be anything, a value any bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pairs(pub(super) BTreeMap<String, Vec<Vec<u8>>>);

impl Pairs {
    /// Adds those of a query or a form.
    ///
    /// # Errors
    /// Where one is not encoded as they are.
    pub(super) fn add(&mut self, text: &str) -> Result<(), Status> {
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            // Some take it for a separator, some for a part of a value, and what two of them take for different things can
            // be hidden from one of them.
            if pair.contains(';') {
                return Err(Status::invalid_argument("invalid semicolon separator in query"));
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = String::from_utf8_lossy(&unescaped(name)?).into_owned();
            self.0.entry(name).or_default().push(unescaped(value)?);
        }
        Ok(())
    }
}

fn unescaped(text: &str) -> Result<Vec<u8>, Status> {
    for (at, _) in text.match_indices('%') {
        let digits = text.as_bytes().get(at + 1..at + 3).unwrap_or_default();
        if digits.len() < 2 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(Status::invalid_argument("invalid URL escape in query"));
        }
    }
    Ok(percent_decode_str(&text.replace('+', " ")).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn pairs_are_read_strictly() {
        let mut pairs = Pairs::default();
        pairs.add("a=1&b=x+y%20%d0%b6&&a=2&c").unwrap();
        pairs.add("d=%ff").unwrap();
        let found: Vec<_> = pairs.0.iter().map(|(name, values)| (name.as_str(), values.concat())).collect();
        let expected = [("a", b"12".to_vec()), ("b", "x y ж".into()), ("c", vec![]), ("d", vec![0xff])];
        assert_eq!(found, expected);
        for wrong in ["a=%", "a=%f", "a=%zz", "%=1", "a=1;b=2"] {
            assert!(Pairs::default().add(wrong).is_err(), "{wrong}");
        }
    }
}
