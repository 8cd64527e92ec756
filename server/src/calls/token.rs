//! The bearer token that clients show, where the operator wants one.

use http::{HeaderMap, header};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;
use tonic::Status;

/// A token, never shown.
#[derive(Debug, Clone)]
pub struct Token(SecretString);

impl Token {
    /// It can stand in a header: visible ASCII, not empty.
    ///
    /// # Errors
    /// What a token must be.
    pub fn new(token: SecretString) -> Result<Self, String> {
        let text = token.expose_secret();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("expected visible ASCII characters without spaces".into());
        }
        Ok(Self(token))
    }

    pub(super) fn judge(&self, headers: &HeaderMap) -> Result<(), Status> {
        let shown = headers.get(header::AUTHORIZATION).and_then(|value| bearer(value.as_bytes()));
        match shown {
            Some(shown) if self.is(shown) => Ok(()),
            Some(_) => Err(Status::unauthenticated("the bearer token is not the one that is expected")),
            None => Err(Status::unauthenticated("expected `authorization: Bearer <token>`")),
        }
    }

    /// In a time that does not tell how much of it is right.
    fn is(&self, shown: &[u8]) -> bool {
        self.0.expose_secret().as_bytes().ct_eq(shown).into()
    }
}

/// RFC 6750, section 2.1; the scheme is in any case (RFC 9110, section 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
}
