//! A lane: one connection, and one statement at a time on it.
//!
//! A statement outlives the call that asked for it: it ends, and its connection is in order, before the lane goes on.
//! When every call that waits for it has gone (a deadline, a client that cancelled), Postgres is asked to cancel it.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::StoreError;
use super::connect::{Connected, Connector};
use super::queue::{Ask, Next, Queue};
use super::session::{Backend, Session};
use super::statement::Statement;

/// A statement that takes longer waits for something: a row's lock, a disk. Others of its kind may pass it, and it is
/// worth looking whether somebody still waits for it.
const SLOW: Duration = Duration::from_millis(20);

/// A connection that nobody needed for so long is closed.
const IDLE_MAX: Duration = Duration::from_mins(10);

/// Tries of a statement at most.
const TRIES_MAX: u32 = 3;

/// A connection and who gives it work.
pub(super) struct Lane {
    number: usize,
    queue: Arc<Queue>,
    connector: Arc<Connector>,
    connected: Option<Connected>,
}

/// Statements of one kind that were taken from the queue together.
pub(super) trait Run: Send {
    /// Runs them on the connection of the lane and answers them.
    fn run<'a>(
        self: Box<Self>,
        lane: &'a mut Lane,
        line: usize,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}

impl Lane {
    pub(super) fn new(number: usize, queue: Arc<Queue>, connector: Arc<Connector>) -> Self {
        Self { number, queue, connector, connected: None }
    }

    /// Serves until the queue is closed and empty.
    pub(super) async fn serve(mut self) {
        loop {
            match self.queue.next(self.number, IDLE_MAX).await {
                Next::Run(line, work) => work.run(&mut self, line).await,
                Next::Idle => self.disconnect().await,
                Next::Closed => break self.disconnect().await,
            }
        }
    }

    async fn disconnect(&mut self) {
        if let Some(connected) = self.connected.take() {
            connected.close().await;
        }
    }

    /// Runs `ask` on the connection, which is given up where it may be broken.
    async fn answered<T>(
        &mut self,
        line: usize,
        gone: impl Future<Output = ()> + Send,
        ask: impl AsyncFnOnce(&mut Session) -> Result<T, sqlx::Error>,
    ) -> Result<T, StoreError> {
        let mut connected = match self.connector.ready(self.connected.take()).await {
            Ok(connected) => connected,
            Err(error) => {
                self.queue.done(line);
                return Err(error);
            }
        };
        let backend = connected.session.backend();
        let answer = {
            let mut asking = std::pin::pin!(connected.session.run(ask));
            match timeout(SLOW, &mut asking).await {
                Ok(answer) => {
                    self.queue.done(line);
                    answer.map_err(StoreError::from)
                }
                Err(_) => {
                    self.queue.done(line);
                    self.patiently(asking, gone, backend).await
                }
            }
        };
        connected.used = Instant::now();
        self.learn(&mut connected, answer.as_ref().err());
        if answer.as_ref().err().is_none_or(StoreError::leaves_connection) {
            self.connected = Some(connected);
        }
        answer
    }

    /// What a statement has seen may hold for every connection that is there.
    fn learn(&self, connected: &mut Connected, error: Option<&StoreError>) {
        if error.is_some_and(StoreError::is_of_stale_statement) {
            self.connector.renew(connected);
        } else if connected.session.was_read_only() || error.is_some_and(StoreError::is_read_only) {
            self.connector.renew_if_outdated(connected);
        }
    }

    /// Waits for a slow statement as long as anybody wants its answer.
    async fn patiently<T>(
        &self,
        mut asking: Pin<&mut impl Future<Output = Result<T, sqlx::Error>>>,
        gone: impl Future<Output = ()>,
        backend: Option<Backend>,
    ) -> Result<T, StoreError> {
        let answer_timeout = self.connector.answer_timeout();
        let no_answer = |_| StoreError::NoAnswer(answer_timeout);
        tokio::select! {
            biased;
            answer = timeout(answer_timeout, &mut asking) => return Ok(answer.map_err(no_answer)??),
            () = gone => {}
        }
        // Without a backend of its own it runs until Postgres' own timeout: to cancel whoever has it would be wrong.
        if let Some(backend) = backend {
            self.connector.cancel(backend).await;
        }
        Ok(timeout(answer_timeout, asking).await.map_err(no_answer)??)
    }
}

impl<S: Statement> Run for Vec<Ask<S>> {
    fn run<'a>(
        mut self: Box<Self>,
        lane: &'a mut Lane,
        line: usize,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            // Whoever went before it began asks for nothing.
            self.retain(|ask| !ask.answer.is_closed());
            match self.len() {
                0 => lane.queue.done(line),
                1 => alone(*self, lane, line).await,
                _ => together(*self, lane, line).await,
            }
        })
    }
}

async fn alone<S: Statement>(mut asks: Vec<Ask<S>>, lane: &mut Lane, line: usize) {
    let Some(Ask { statement, mut answer, since, tries, .. }) = asks.pop() else { return };
    let run = async |session: &mut Session| statement.one(session).await;
    let result = lane.answered(line, answer.closed(), run).await;
    match result {
        Err(error) if tries + 1 < TRIES_MAX && error.is_worth_repeating(S::SAFE_TO_REPEAT) => {
            tracing::debug!(%error, tries, "trying again");
            lane.queue.again(Ask { statement, answer, since, tries: tries + 1, alone: true });
        }
        // A call that has gone hears nothing.
        result => drop(answer.send(result)),
    }
}

async fn together<S: Statement>(asks: Vec<Ask<S>>, lane: &mut Lane, line: usize) {
    let (mut statements, mut callers) = (Vec::with_capacity(asks.len()), Vec::with_capacity(asks.len()));
    for ask in asks {
        statements.push(ask.statement);
        callers.push((ask.answer, ask.since, ask.tries));
    }
    let gone = everybody_gone(&mut callers);
    let run = async |session: &mut Session| S::together(&statements, session).await;
    let result = lane.answered(line, gone, run).await;
    let asks = statements.into_iter().zip(callers);
    match result {
        Ok(answers) => {
            for ((statement, (answer, since, tries)), found) in asks.zip(answers) {
                match found {
                    Some(found) => drop(answer.send(Ok(found))),
                    None => lane.queue.again(Ask { statement, answer, since, tries, alone: true }),
                }
            }
        }
        // Nothing of it was carried out, or nothing of it changes anything: each on its own then, so that none suffers
        // for another.
        Err(error) if error.changed_nothing() || S::SAFE_TO_REPEAT => {
            tracing::debug!(%error, calls = asks.len(), "each on its own");
            for (statement, (answer, since, tries)) in asks {
                lane.queue.again(Ask { statement, answer, since, tries: tries + 1, alone: true });
            }
        }
        Err(error) => {
            for (_, (answer, ..)) in asks {
                let _ = answer.send(Err(error.clone()));
            }
        }
    }
}

async fn everybody_gone<T>(callers: &mut [(oneshot::Sender<T>, Instant, u32)]) {
    join_all(callers.iter_mut().map(|(answer, ..)| answer.closed())).await;
}
