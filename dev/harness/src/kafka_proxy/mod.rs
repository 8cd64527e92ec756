//! A proxy that speaks enough Kafka to be a broker in trouble: it refuses Produce requests with the code it is told,
//! cuts the connection in place of an answer, or answers late.
//!
//! It stands in front of an advertised listener (see [`crate::PrivateKafka::start_behind`]): what a client sends to the
//! broker, before and after it has asked where the leaders are, passes here. All but the requests that are meant pass
//! as they are. Listeners with TLS or SASL are not for it.

mod connection;
mod rules;
pub(crate) mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use rules::{Fault, Rules};
pub use rules::{FaultsMade, Which, code};

/// A proxy in front of one broker. It ends, with its connections, when this is dropped.
#[derive(Debug)]
pub struct KafkaProxy {
    addr: SocketAddr,
    rules: Arc<Rules>,
    delay: watch::Sender<Duration>,
    task: JoinHandle<()>,
}

impl KafkaProxy {
    /// Starts one at a free port, in front of `target`, which need not run yet.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no port for a proxy")?;
        let addr = listener.local_addr()?;
        let (rules, delay) = (Arc::new(Rules::default()), watch::Sender::new(Duration::ZERO));
        let task = tokio::spawn(accept(listener, target, Arc::clone(&rules), delay.subscribe()));
        Ok(Self { addr, rules, delay, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Refuses the next `times` requests that are meant, with `code` (see [`code`]); the broker never sees them.
    pub fn refuse(&self, which: Which, times: u32, code: i16) {
        self.rules.add(which, Fault::Refuse(code), times);
    }

    /// Holds each of the next `times` requests that are meant until the next one for the same partition has come on the
    /// same connection, then refuses the first and passes the second on: a leader that is ready a moment too late.
    /// Where no second one comes, the first is refused alone after 1.5 s.
    pub fn refuse_as_the_next_comes(&self, which: Which, times: u32, code: i16) {
        self.rules.add(which, Fault::RefuseAsNextComes(code), times);
    }

    /// Passes the next `times` requests that are meant on, and cuts the connection when their answer comes: the records
    /// are stored, and the client does not know.
    pub fn cut_in_place_of_the_answer(&self, which: Which, times: u32) {
        self.rules.add(which, Fault::CutAfterwards, times);
    }

    /// The same with the next `times` requests to end a transaction (EndTxn): it is ended, and the client does not know.
    pub fn cut_in_place_of_the_end(&self, times: u32) {
        self.rules.cut_ends(times);
    }

    /// Holds each answer back for `delay`, until told otherwise.
    pub fn delay_answers(&self, delay: Duration) {
        self.delay.send_replace(delay);
    }

    /// Forgets what it was told; what is held already is refused still.
    pub fn heal(&self) {
        self.rules.clear();
        self.delay_answers(Duration::ZERO);
    }

    /// How many requests met with a fault so far.
    #[must_use]
    pub fn faults_made(&self) -> FaultsMade {
        self.rules.made()
    }
}

impl Drop for KafkaProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    rules: Arc<Rules>,
    delay: watch::Receiver<Duration>,
) {
    // Aborted with the task that accepts.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let (rules, delay) = (Arc::clone(&rules), delay.clone());
        connections.spawn(async move {
            if let Ok(server) = TcpStream::connect(target).await {
                connection::serve(client, server, &rules, delay).await;
            }
        });
        while connections.try_join_next().is_some() {}
    }
}
