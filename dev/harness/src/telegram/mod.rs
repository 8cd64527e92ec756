//! A Bot API of a test's own, in this process, by the rules of Telegram's server.
//!
//! Of <https://core.telegram.org/bots/api> it has the methods that a bot without media calls, the rules of offsets, limits
//! and two pollers at a time, and the errors that a test orders. Every call is remembered.

mod calls;
mod rules;
mod server;
mod state;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::task::JoinHandle;

use self::state::Shared;
use crate::wait::wait_for;

/// A call that a bot has made.
#[derive(Debug, Clone)]
pub struct Call {
    /// In the spelling of the documentation.
    pub method: String,
    /// Its parameters. Objects that came as JSON strings in a form are objects.
    pub params: Value,
    /// When it came.
    pub at: Instant,
    /// The HTTP status of its answer.
    pub status: u16,
}

impl Call {
    /// A parameter as text.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        self.params[name].as_str().unwrap_or_default()
    }
}

/// What a call meets in place of its answer.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Telegram refuses, with these parameters.
    Refuse(u16, String, Value),
    /// Something on the way answers, with HTML.
    Html(u16),
    /// The answer takes so long.
    Late(Duration),
}

impl Fault {
    /// Telegram refuses.
    #[must_use]
    pub fn refuse(status: u16, description: &str) -> Self {
        Self::Refuse(status, description.to_owned(), Value::Null)
    }

    /// Too many requests.
    #[must_use]
    pub fn flood(retry_after: u64) -> Self {
        let parameters = serde_json::json!({ "retry_after": retry_after });
        Self::Refuse(429, format!("Too Many Requests: retry after {retry_after}"), parameters)
    }
}

/// The server. It ends when this is dropped.
#[derive(Debug)]
pub struct FakeTelegram {
    shared: Arc<Shared>,
    addr: SocketAddr,
    task: JoinHandle<()>,
}

impl FakeTelegram {
    /// Starts one at a free port, for the bot `omp_bot` with the id 1.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start() -> Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.context("no port for a Bot API")?;
        let (addr, shared) = (listener.local_addr()?, Arc::new(Shared::new()));
        let router = server::router(Arc::clone(&shared));
        let task = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { shared, addr, task })
    }

    /// What a bot takes for `https://api.telegram.org`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The bot's token.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.shared.token
    }

    /// Something happens: an update for the bot, if it asks for that kind.
    pub fn push(&self, update: Value) {
        self.shared.push(update, false);
    }

    /// The same, of a kind that the bot has not asked for: those of an older list of kinds may still be waiting.
    pub fn push_unasked(&self, update: Value) {
        self.shared.push(update, true);
    }

    /// The next `times` calls of `method` meet a fault.
    pub fn order(&self, method: &str, times: usize, fault: Fault) {
        self.shared.order(method, times, fault);
    }

    /// What was ordered for `method` is over.
    pub fn recover(&self, method: &str) {
        self.shared.lock().recover(method);
    }

    /// From now on the token is not good.
    pub fn revoke_token(&self) {
        self.shared.lock().revoked = true;
    }

    /// Somebody sets a webhook.
    pub fn set_webhook(&self, url: &str) {
        self.shared.lock().webhook = url.to_owned();
    }

    /// Another instance polls once: a poll that is under way gets 409.
    pub fn poll_from_elsewhere(&self) {
        self.shared.begin_poll();
    }

    /// Every call so far, in the order in which they were answered; polls are left out.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.shared.lock().calls.clone()
    }

    /// Calls of one method.
    #[must_use]
    pub fn calls_of(&self, method: &str) -> Vec<Call> {
        self.calls().into_iter().filter(|call| call.method == method).collect()
    }

    /// How many polls were answered with updates or nothing.
    #[must_use]
    pub fn polls(&self) -> u64 {
        self.shared.lock().polls
    }

    /// Whether anybody has ever polled.
    #[must_use]
    pub fn is_polled(&self) -> bool {
        self.shared.lock().has_begun()
    }

    /// Updates that wait, or were given and are not confirmed.
    #[must_use]
    pub fn unconfirmed(&self) -> Vec<i64> {
        self.shared.lock().updates.keys().copied().collect()
    }

    /// Waits for the `count`th successful call of a method.
    ///
    /// # Errors
    /// When it does not come.
    pub async fn wait_for_call(&self, method: &str, count: usize, within: Duration) -> Result<Call> {
        wait_for(&format!("call {count} of {method}"), within, async || {
            Ok(self.calls_of(method).into_iter().filter(|call| call.status == 200).nth(count - 1))
        })
        .await
    }

    /// Waits until nothing is left to be confirmed.
    ///
    /// # Errors
    /// When something is left.
    pub async fn wait_until_confirmed(&self, within: Duration) -> Result<()> {
        wait_for("every update is confirmed", within, async || {
            Ok(self.unconfirmed().is_empty().then_some(()))
        })
        .await
    }
}

impl Drop for FakeTelegram {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests;
