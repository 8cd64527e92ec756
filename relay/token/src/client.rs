use std::ffi::{CString, c_char};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rdkafka::bindings::rd_kafka_oauthbearer_set_token;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode;

use crate::TokenError;
use crate::source::Tokens;
use crate::token::Token;
use walpost_core::clock::unix_millis;

/// What librdkafka says about a token goes here, and no further: it may quote it.
const REASON_BYTES: usize = 512;

/// After a failure.
const AGAIN: Duration = Duration::from_secs(5);

/// How one client signs in; a copy is for another client, which has had no token yet.
#[derive(Debug)]
pub struct SignIn {
    tokens: Arc<Tokens>,
    /// SASL extensions (RFC 7628, 3.1): names and values in turn.
    extensions: Vec<CString>,
    /// When the client needs another token, milliseconds since 1970-01-01 UTC.
    due_ms: AtomicI64,
}

impl SignIn {
    /// With these tokens, and the extensions that some services want beside them.
    ///
    /// # Errors
    /// When an extension has a byte that ends a string in C.
    pub fn new(tokens: Arc<Tokens>, extensions: &[(String, String)]) -> Result<Self, TokenError> {
        let words = extensions.iter().flat_map(|(name, value)| [name, value]);
        let extensions = words.map(|word| c_string(word)).collect::<Result<_, _>>()?;
        Ok(Self { tokens, extensions, due_ms: AtomicI64::new(0) })
    }

    /// Gives the client a token where it needs one, which is never before it has had one, and then for most of the token's life.
    /// May block while one is fetched.
    ///
    /// # Errors
    /// When there is none, or librdkafka does not take it.
    pub fn keep<C: ClientContext>(&self, client: &Client<C>) -> Result<(), TokenError> {
        if unix_millis() < self.due_ms.load(Ordering::Relaxed) {
            return Ok(());
        }
        let token = self.tokens.current()?;
        give(client, &token, &self.extensions)?;
        self.due_ms.store(self.tokens.renew_ms(), Ordering::Relaxed);
        Ok(())
    }

    /// How long until [`SignIn::keep`] has something to do again; after a failure a few seconds.
    #[must_use]
    pub fn until_due(&self) -> Duration {
        let left = self.due_ms.load(Ordering::Relaxed) - unix_millis();
        u64::try_from(left).map_or(AGAIN, |left| Duration::from_millis(left.max(1)))
    }
}

impl Clone for SignIn {
    fn clone(&self) -> Self {
        let (tokens, extensions) = (Arc::clone(&self.tokens), self.extensions.clone());
        Self { tokens, extensions, due_ms: AtomicI64::new(0) }
    }
}

fn c_string(text: &str) -> Result<CString, TokenError> {
    CString::new(text).map_err(|_| TokenError::new("a zero byte"))
}

#[allow(
    unsafe_code,
    reason = "rdkafka gives tokens by a callback only, which a client for administrative requests never calls"
)]
fn give<C: ClientContext>(
    client: &Client<C>,
    token: &Token,
    extensions: &[CString],
) -> Result<(), TokenError> {
    let (text, principal) = (c_string(token.expose())?, c_string(&token.principal)?);
    let mut extensions: Vec<*const c_char> = extensions.iter().map(|word| word.as_ptr()).collect();
    let mut reason = [0; REASON_BYTES];
    // SAFETY: the client outlives the call, as it is borrowed; every string ends in a zero byte and outlives it, too, and is
    // copied (rdkafka_sasl_oauthbearer.c, rd_kafka_oauthbearer_set_token0); the lengths are those of the arrays.
    let code = unsafe {
        rd_kafka_oauthbearer_set_token(
            client.native_ptr(),
            text.as_ptr(),
            token.expires_ms,
            principal.as_ptr(),
            extensions.as_mut_ptr(),
            extensions.len(),
            reason.as_mut_ptr(),
            reason.len(),
        )
    };
    match RDKafkaErrorCode::from(code) {
        RDKafkaErrorCode::NoError => Ok(()),
        // Among others: it has expired since.
        code => Err(TokenError(format!("librdkafka does not take it: {code}"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use rdkafka::ClientConfig;
    use rdkafka::admin::AdminClient;
    use rdkafka::client::DefaultClientContext;

    use super::*;
    use crate::source::Source;

    fn client(mechanism: &str) -> AdminClient<DefaultClientContext> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", "127.0.0.1:9").set("security.protocol", "sasl_plaintext");
        config.set("sasl.mechanism", mechanism).set("sasl.username", "u").set("sasl.password", "p");
        config.create().unwrap()
    }

    fn sign_in(extensions: &[(String, String)]) -> SignIn {
        let tokens = Arc::new(Tokens::new(Source::Command("echo abc".to_owned())));
        SignIn::new(tokens, extensions).unwrap()
    }

    #[test]
    fn a_client_is_given_a_token_once_until_it_is_due() {
        let (admin, sign_in) = (client("OAUTHBEARER"), sign_in(&[("logicalCluster".into(), "lkc-1".into())]));
        assert_eq!(sign_in.until_due(), AGAIN);
        sign_in.keep(admin.inner()).unwrap();
        assert!(sign_in.until_due() > Duration::from_secs(200));
        sign_in.keep(admin.inner()).unwrap();
    }

    #[test]
    fn what_librdkafka_refuses_is_said_without_the_token() {
        let refused = sign_in(&[]).keep(client("PLAIN").inner()).unwrap_err().to_string();
        assert!(refused.contains("does not take it") && !refused.contains("abc"), "{refused}");
        let extensions = [("logical cluster".to_owned(), "lkc-1".to_owned())];
        assert!(sign_in(&extensions).keep(client("OAUTHBEARER").inner()).is_err());
    }
}
