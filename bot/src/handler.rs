//! An update from its arrival to its reply.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;

use crate::cache::Cache;
use crate::command::{Commands, Outcome, Sender};
use crate::journal::{Journal, Written};
use crate::observe::metrics::Metrics;
use crate::packages::{Call, Packages, ServiceError};
use crate::reply::Reply;
use crate::route::{self, Command, Kind, Route};
use crate::source::Handle;
use crate::telegram::Api;
use crate::telegram::sender::{Sent, Target};
use crate::telegram::types::{CallbackQuery, Event, Message, Update};
use crate::telemetry::traces;
use crate::texts;

/// After so long somebody who waits sees that an answer is being worked on; Telegram shows it for five seconds.
const TYPING_AFTER: Duration = Duration::from_secs(1);
const TYPING_AGAIN: Duration = Duration::from_secs(4);
/// So long a button may spin: when it has not failed by then, the page or its error comes as a message.
const BUTTON_SPINS_MAX: Duration = Duration::from_secs(3);

/// The bot, by its own account.
#[derive(Debug, Clone)]
pub struct Me {
    /// Its id.
    pub id: i64,
    /// What people write behind `@`.
    pub username: String,
}

/// Handles updates.
pub struct Handler<P, C> {
    api: Api,
    commands: Commands<P, C>,
    journal: Arc<Journal>,
    me: Me,
    metrics: Metrics,
}

impl<P: Packages, C: Cache> Handle for Handler<P, C> {
    async fn handle(&self, update: Update) -> Written {
        let span = traces::update_span(&update);
        let call = traces::call(&span, self.me.id, update.id);
        let kind = update.kind();
        let work = tracing::Instrument::instrument(self.work(&update, &call), span);
        let (outcome, recorded) = work.await;
        self.metrics.updates.with_label_values(&[kind, outcome]).inc();
        tracing::debug!(update_id = update.id, kind, outcome, trace_id = %call.trace_id, "an update is handled");
        recorded
    }
}

impl<P: Packages, C: Cache> Handler<P, C> {
    /// Of the bot `me`.
    pub fn new(api: Api, commands: Commands<P, C>, journal: Arc<Journal>, me: Me, metrics: Metrics) -> Self {
        Self { api, commands, journal, me, metrics }
    }

    async fn work(&self, update: &Update, call: &Call) -> (&'static str, Written) {
        tracing::trace!(?update, "an update has come");
        let recorded = self.journal.command(update, call);
        let outcome = match &update.event {
            Event::Message(message) => self.message(message, call).await,
            Event::Pressed(query) => self.pressed(query, call).await,
            Event::Edited(_) | Event::Other => "ignored",
        };
        (outcome, recorded)
    }

    async fn message(&self, message: &Message, call: &Call) -> &'static str {
        // A channel speaks for itself: there is nobody to answer.
        let Some(from) = &message.from else { return "ignored" };
        let sender = Sender { user_id: from.id, chat_id: message.chat.id };
        let target = target(message);
        let started = Instant::now();
        let (name, reply) = match route::message(message, &self.me.username) {
            Route::Nowhere => return "ignored",
            Route::Mistake(mistake) => ("mistake", Reply::to_mistake(&mistake)),
            Route::Command(command) => {
                let outcome = guarded(kind_of(&command), self.commands.run(&command, sender, call));
                let outcome = self.show_typing(&target, outcome).await;
                (kind_of(&command).name(), Reply::to_outcome(&outcome, sender, &call.trace_id))
            }
        };
        let sent = self.api.send(&target, &reply).await;
        self.metrics.seconds.with_label_values(&[name]).observe(started.elapsed().as_secs_f64());
        label(sent)
    }

    async fn pressed(&self, query: &CallbackQuery, call: &Call) -> &'static str {
        let offset = query.data.as_deref().and_then(route::page_of);
        let (Some(offset), Some(message)) = (offset, &query.message) else {
            self.api.answer_button(&query.id, Some(texts::OLD_BUTTON)).await;
            return "ignored";
        };
        let sender = Sender { user_id: query.from.id, chat_id: message.chat.id };
        // A page that must be sent anew answers no message: the button was pressed, nothing was written.
        let target = Target { reply_to: None, ..target(message) };
        let started = Instant::now();
        let loading = guarded(Kind::List, self.commands.page(offset, call));
        tokio::pin!(loading);
        let (outcome, spinning) = match tokio::time::timeout(BUTTON_SPINS_MAX, &mut loading).await {
            Ok(outcome) => (outcome, true),
            Err(_) => {
                self.api.answer_button(&query.id, None).await;
                (loading.await, false)
            }
        };
        let reply = Reply::to_outcome(&outcome, sender, &call.trace_id);
        let sent = match outcome {
            Outcome::Page(_) if spinning => {
                let answered = self.api.answer_button(&query.id, None);
                tokio::join!(self.api.replace(&target, message.message_id, &reply), answered).0
            }
            Outcome::Page(_) => self.api.replace(&target, message.message_id, &reply).await,
            _ if spinning => {
                self.api.answer_button(&query.id, Some(&reply.rich.text)).await;
                Sent::Done
            }
            _ => self.api.send(&target, &reply).await,
        };
        self.metrics.seconds.with_label_values(&["page"]).observe(started.elapsed().as_secs_f64());
        label(sent)
    }

    async fn show_typing(&self, target: &Target, work: impl Future<Output = Outcome>) -> Outcome {
        tokio::pin!(work);
        let mut wait = TYPING_AFTER;
        loop {
            match tokio::time::timeout(wait, &mut work).await {
                Ok(outcome) => return outcome,
                Err(_) => {
                    // Beside the work: an answer that is ready does not wait for it.
                    tokio::select! {
                        outcome = &mut work => return outcome,
                        () = self.api.typing(target) => wait = TYPING_AGAIN,
                    }
                }
            }
        }
    }
}

/// Where the answer to a message goes. In a group it is shown which message is answered.
fn target(message: &Message) -> Target {
    let reply_to = (!message.chat.is_private()).then_some(message.message_id);
    Target { chat_id: message.chat.id, topic: message.topic(), reply_to }
}

fn kind_of(command: &Command) -> Kind {
    match command {
        Command::Start | Command::Help => Kind::Help,
        Command::List => Kind::List,
        Command::Get(_) => Kind::Get,
        Command::New(_) => Kind::New,
        Command::Edit(..) => Kind::Edit,
        Command::Delete(_) => Kind::Delete,
    }
}

fn label(sent: Sent) -> &'static str {
    match sent {
        Sent::Done => "answered",
        Sent::Unwanted => "unwanted",
        Sent::Failed => "unanswered",
    }
}

/// A panic is one failure of one command, and is said to whoever gave it.
async fn guarded(kind: Kind, work: impl Future<Output = Outcome>) -> Outcome {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!(command = kind.name(), "a command has panicked");
        Outcome::Failed(kind, ServiceError::Failed("a panic".into()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_answered() {
        let outcome = guarded(Kind::Get, async { panic!("of the test") }).await;
        assert!(matches!(outcome, Outcome::Failed(Kind::Get, ServiceError::Failed(_))));
    }
}
