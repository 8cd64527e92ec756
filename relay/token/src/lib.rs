//! Tokens with which clients of Kafka sign in: SASL/OAUTHBEARER (RFC 7628, KIP-255).
//!
//! A token comes from a file, which somebody else writes anew, or from a command, which prints one: so every issuer can be
//! used (AWS IAM, OpenID Connect, a projected token of Kubernetes), and none has a client here.
//!
//! librdkafka asks for a token through a queue that the application polls. Nobody polls that of a client for administrative
//! requests, so that such a client would never connect. Therefore each client is *given* its token, right after it is made,
//! and again before the token expires.

mod client; // giving it to a client
mod source; // where it comes from
mod token; // what it says

pub use client::SignIn;
pub use source::{Source, Tokens};
pub use token::Token;

/// Why there is no token. It never shows one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no token to sign in to Kafka with: {0}")]
pub struct TokenError(pub(crate) String);

impl TokenError {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}
