use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::TokenError;

/// What is taken for the life of a token that does not say it: signing in again is cheap.
const LIFE_MS: i64 = 5 * 60 * 1000;

/// No issuer gives longer ones; a file of another kind is read no further.
pub(crate) const LENGTH_MAX: usize = 64 << 10;

/// A token, and until when it is good.
#[derive(Debug)]
pub struct Token {
    pub(crate) text: SecretString,
    /// For librdkafka's own messages: brokers take the name from the token.
    pub(crate) principal: String,
    /// Milliseconds since 1970-01-01 UTC.
    pub(crate) expires_ms: i64,
}

/// Claims of a JSON Web Token (RFC 7519, 4.1).
#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    /// Seconds since 1970-01-01 UTC; may have a fraction.
    exp: Option<f64>,
}

impl Token {
    /// A token as it is written: alone, or followed by when it expires, in milliseconds since 1970-01-01 UTC. Without that it
    /// is what a JSON Web Token says of itself, else five minutes from now.
    ///
    /// # Errors
    /// When it is none (RFC 6750, 2.1), or has expired.
    pub fn parse(text: &str, now_ms: i64) -> Result<Self, TokenError> {
        let mut words = text.split_ascii_whitespace();
        let token = words.next().ok_or_else(|| TokenError::new("it is empty"))?;
        let said = words.next().map(str::parse::<i64>);
        if words.next().is_some() || matches!(said, Some(Err(_))) {
            return Err(TokenError::new(
                "expected the token alone, or followed by when it expires, in milliseconds since 1970",
            ));
        }
        if token.len() > LENGTH_MAX || !token.trim_end_matches('=').bytes().all(is_of_a_token) {
            return Err(TokenError::new("it has characters that no token has (RFC 6750)"));
        }
        let claims = claims(token);
        let of_claims = claims.as_ref().and_then(|claims| claims.exp).map(millis);
        let expires_ms = said.and_then(Result::ok).or(of_claims).unwrap_or(now_ms.saturating_add(LIFE_MS));
        if expires_ms <= now_ms {
            let seconds = now_ms.saturating_sub(expires_ms) / 1000;
            return Err(TokenError::new(format!("it has expired {seconds} s ago")));
        }
        let principal =
            claims.and_then(|claims| claims.sub).filter(|sub| !sub.is_empty() && !sub.contains('\0'));
        Ok(Self {
            text: token.into(),
            principal: principal.unwrap_or_else(|| "walpost".to_owned()),
            expires_ms,
        })
    }

    pub(crate) fn expose(&self) -> &str {
        self.text.expose_secret()
    }
}

fn is_of_a_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte)
}

/// Those of a JSON Web Token; `None` where it is another kind of token. Its signature is the broker's to look at.
fn claims(token: &str) -> Option<Claims> {
    let mut parts = token.split('.');
    let (_head, body, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    let body = BASE64_URL_SAFE_NO_PAD.decode(body.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&body).ok()
}

#[allow(clippy::cast_possible_truncation, reason = "a time beyond all years becomes the last one")]
fn millis(seconds: f64) -> i64 {
    (seconds * 1000.0) as i64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_795_000_000_000;

    fn jwt(claims: &str) -> String {
        let encoded = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.", encoded(r#"{"alg":"none"}"#), encoded(claims))
    }

    fn refusal(text: &str) -> String {
        Token::parse(text, NOW).unwrap_err().to_string()
    }

    #[test]
    fn a_json_web_token_says_whose_it_is_and_until_when() {
        let token = Token::parse(&jwt(r#"{"sub":"walpost-1","exp":1795000060.5}"#), NOW).unwrap();
        assert_eq!((token.principal.as_str(), token.expires_ms), ("walpost-1", 1_795_000_060_500));
    }

    #[test]
    fn another_token_is_good_for_five_minutes_or_as_long_as_is_said() {
        assert_eq!(Token::parse("aHR0cHM6Ly9rYWZrYQ==\n", NOW).unwrap().expires_ms, NOW + LIFE_MS);
        let said = format!("aHR0cHM6Ly9rYWZrYQ {}", NOW + 900_000);
        assert_eq!(Token::parse(&said, NOW).unwrap().expires_ms, NOW + 900_000);
    }

    #[test]
    fn what_is_no_token_is_refused_and_not_shown() {
        assert!(refusal(" \n").contains("empty"));
        assert!(refusal("two words").contains("followed by when it expires"));
        assert!(refusal("secret 1 2").contains("followed by when it expires"));
        assert!(refusal("\"quoted\"").contains("RFC 6750"));
        assert!(refusal(&jwt(r#"{"exp":1794999990}"#)).contains("expired 10 s ago"));
        assert!(!format!("{:?}", Token::parse("s3cr3t", NOW).unwrap()).contains("s3cr3t"));
        assert!(!refusal("s3cr3t twice").contains("s3cr3t"));
    }

    proptest! {
        #[test]
        fn any_text_is_a_token_that_is_good_or_refused(text in "\\PC{0,200}", now in 0..i64::MAX) {
            if let Ok(token) = Token::parse(&text, now) {
                prop_assert!(token.expires_ms > now);
                prop_assert!(!token.expose().is_empty() && !token.expose().contains(char::is_whitespace));
            }
        }
    }
}
