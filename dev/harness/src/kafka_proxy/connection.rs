//! One connection: requests are passed on or answered here, and answers passed back in the order of their requests.
//!
//! A broker answers the requests of a connection one after the other, and clients rely on it. So an answer that is made
//! here waits until everything that was passed on before has been answered.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::rules::{Fault, HOLD_MAX, Rules};
use super::wire::{self, Produce};

/// Requests that are read ahead of the one that is held.
const READ_AHEAD: usize = 64;

/// What both directions know of each other.
struct Shared<'a> {
    rules: &'a Rules,
    /// Correlation ids of requests that were passed on and not answered.
    open: watch::Sender<HashSet<i32>>,
    /// Of them, those whose answer cuts the connection.
    cut: Mutex<HashSet<i32>>,
    to_client: mpsc::UnboundedSender<Vec<u8>>,
}

/// Serves `client` until either side ends, or a fault cuts the connection.
pub(super) async fn serve(
    client: TcpStream,
    server: TcpStream,
    rules: &Rules,
    delay: watch::Receiver<Duration>,
) {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (answers, outgoing) = mpsc::unbounded_channel();
    let (frames, requests) = mpsc::channel(READ_AHEAD);
    let shared =
        Shared { rules, open: watch::channel(HashSet::new()).0, cut: Mutex::default(), to_client: answers };
    // Whichever ends first ends them all.
    tokio::select! {
        _ = read(from_client, frames) => {}
        _ = shared.pass_requests(requests, to_server) => {}
        _ = shared.pass_answers(from_server, delay) => {}
        _ = write(outgoing, to_client) => {}
    }
}

async fn read(mut from: OwnedReadHalf, frames: mpsc::Sender<Vec<u8>>) -> io::Result<()> {
    while let Some(frame) = wire::read_frame(&mut from).await? {
        if frames.send(frame).await.is_err() {
            break;
        }
    }
    Ok(())
}

async fn write(mut frames: mpsc::UnboundedReceiver<Vec<u8>>, mut to: OwnedWriteHalf) -> io::Result<()> {
    while let Some(frame) = frames.recv().await {
        to.write_all(&wire::with_length(&frame)).await?;
    }
    Ok(())
}

impl Shared<'_> {
    async fn pass_requests(
        &self,
        mut requests: mpsc::Receiver<Vec<u8>>,
        mut server: OwnedWriteHalf,
    ) -> io::Result<()> {
        while let Some(frame) = requests.recv().await {
            let fault =
                Produce::parse(&frame).and_then(|produce| Some((self.rules.decide(&produce)?, produce)));
            match fault {
                None if wire::ends_a_transaction(&frame) && self.rules.cuts_an_end() => {
                    let correlation = wire::asked(&frame).unwrap_or_default();
                    self.cut.lock().unwrap_or_else(PoisonError::into_inner).insert(correlation);
                    self.pass(&frame, &mut server).await?;
                }
                None => self.pass(&frame, &mut server).await?,
                Some((Fault::Refuse(code), produce)) => {
                    self.answer(&produce, code).await;
                    self.rules.count(|made| &mut made.refused);
                }
                Some((Fault::RefuseAsNextComes(code), produce)) => {
                    for frame in self.hold(&produce, code, &mut requests).await {
                        self.pass(&frame, &mut server).await?;
                    }
                }
                Some((Fault::CutAfterwards, produce)) => {
                    self.cut.lock().unwrap_or_else(PoisonError::into_inner).insert(produce.correlation());
                    self.pass(&frame, &mut server).await?;
                }
            }
        }
        Ok(())
    }

    /// Refuses `produce` when the next request for one of its partitions has come, and gives what came meanwhile.
    async fn hold(
        &self,
        produce: &Produce,
        code: i16,
        requests: &mut mpsc::Receiver<Vec<u8>>,
    ) -> VecDeque<Vec<u8>> {
        self.rules.count(|made| &mut made.held);
        let (until, mut behind, mut followed) = (Instant::now() + HOLD_MAX, VecDeque::new(), false);
        while !followed && let Ok(Some(frame)) = tokio::time::timeout_at(until, requests.recv()).await {
            followed = Produce::parse(&frame).is_some_and(|next| next.shares_a_partition_with(produce));
            behind.push_back(frame);
        }
        self.answer(produce, code).await;
        self.rules.count(
            |made| {
                if followed { &mut made.refused_before_the_next } else { &mut made.refused_alone }
            },
        );
        behind
    }

    async fn pass(&self, frame: &[u8], server: &mut OwnedWriteHalf) -> io::Result<()> {
        // A Produce request without an answer is not one that `parse` gives, and idempotent producers send none.
        if let Some(correlation) = wire::asked(frame) {
            self.open.send_modify(|open| _ = open.insert(correlation));
        }
        server.write_all(&wire::with_length(frame)).await
    }

    async fn answer(&self, produce: &Produce, code: i16) {
        // It fails only when the connection ends.
        let _ = self.open.subscribe().wait_for(HashSet::is_empty).await;
        let _ = self.to_client.send(produce.refused(code));
    }

    async fn pass_answers(
        &self,
        mut server: OwnedReadHalf,
        delay: watch::Receiver<Duration>,
    ) -> io::Result<()> {
        while let Some(frame) = wire::read_frame(&mut server).await? {
            let delay = *delay.borrow();
            tokio::time::sleep(delay).await;
            let correlation = wire::answered(&frame).unwrap_or_default();
            if self.cut.lock().unwrap_or_else(PoisonError::into_inner).remove(&correlation) {
                self.rules.count(|made| &mut made.cut);
                return Ok(());
            }
            let _ = self.to_client.send(frame);
            self.open.send_modify(|open| _ = open.remove(&correlation));
        }
        Ok(())
    }
}
