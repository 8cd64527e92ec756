//! What may befall a connection: a TCP proxy on loopback that resets, swallows, slows and refuses.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What is passed on at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// What the proxy does with what comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Pass,
    /// Nothing is read any more; connections stay open, and new ones are taken, and silent.
    BlackHole,
    /// Each chunk is held back for so long.
    Slow(Duration),
    /// New connections are closed at once.
    Refuse,
}

/// The faults that are on. A connection that was open when the generation rose is reset.
#[derive(Debug, Clone, Copy)]
struct Faults {
    mode: Mode,
    /// Where new connections are passed on to.
    target: SocketAddr,
    /// Where those are passed on to that ask Postgres for a replication, where that is somewhere else.
    streams_from: Option<SocketAddr>,
    generation: u64,
    /// A connection that was open when this rose is silent from then on.
    frozen: u64,
}

/// A proxy in front of one server. It ends, with its connections, when this is dropped.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    faults: watch::Sender<Faults>,
    passed: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts one at a free port, in front of `target`.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no port for a proxy")?;
        Ok(Self::on(listener, target)?)
    }

    /// Starts one that listens already.
    ///
    /// # Errors
    /// When the listener has no address.
    pub fn on(listener: TcpListener, target: SocketAddr) -> std::io::Result<Self> {
        let addr = listener.local_addr()?;
        let faults = Faults { mode: Mode::Pass, target, streams_from: None, generation: 0, frozen: 0 };
        let (faults, watched) = watch::channel(faults);
        let passed = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(accept(listener, watched, Arc::clone(&passed)));
        Ok(Self { addr, faults, passed, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Bytes that have passed so far, in both directions.
    #[must_use]
    pub fn passed_bytes(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }

    /// Resets every connection that is open (RST): a firewall that forgot, a machine that rebooted.
    pub fn reset(&self) {
        self.faults.send_modify(|faults| faults.generation += 1);
    }

    /// Swallows what is said on connections that are open, for ever: new ones pass.
    pub fn freeze(&self) {
        self.faults.send_modify(|faults| faults.frozen += 1);
    }

    /// Swallows everything: a cable that was pulled.
    pub fn black_hole(&self) {
        self.set(Mode::BlackHole);
    }

    /// Holds each chunk back for `latency`.
    pub fn slow(&self, latency: Duration) {
        self.set(Mode::Slow(latency));
    }

    /// Closes what is open, and what comes.
    pub fn refuse(&self) {
        self.set(Mode::Refuse);
        self.reset();
    }

    /// Passes everything on again; what was swallowed meanwhile is late, not lost.
    pub fn heal(&self) {
        self.set(Mode::Pass);
    }

    /// Passes new connections on to another server: the address that a failover moves.
    pub fn lead_to(&self, target: SocketAddr) {
        self.faults.send_modify(|faults| faults.target = target);
    }

    /// Passes those new connections that ask Postgres for a replication, and are not encrypted, on to another server, or to
    /// the same one again: an address at which two servers answer.
    pub fn stream_from(&self, target: Option<SocketAddr>) {
        self.faults.send_modify(|faults| faults.streams_from = target);
    }

    fn set(&self, mode: Mode) {
        self.faults.send_modify(|faults| faults.mode = mode);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.reset();
    }
}

async fn accept(listener: TcpListener, faults: watch::Receiver<Faults>, passed: Arc<AtomicU64>) {
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let Faults { target, streams_from, .. } = *faults.borrow();
        let (faults, passed) = (faults.clone(), Arc::clone(&passed));
        tokio::spawn(async move {
            let target = match streams_from {
                Some(other) if asks_for_replication(&client).await => other,
                _ => target,
            };
            serve(client, target, faults, passed).await;
        });
    }
}

/// Whether a client's first words to Postgres ask for a replication; nothing of them is taken.
async fn asks_for_replication(client: &TcpStream) -> bool {
    const PARAMETER: &[u8] = b"replication\0";
    let mut words = [0; 1024];
    let count = client.peek(&mut words).await.unwrap_or(0);
    words[..count].windows(PARAMETER.len()).any(|part| part == PARAMETER)
}

async fn serve(
    client: TcpStream,
    target: SocketAddr,
    mut faults: watch::Receiver<Faults>,
    passed: Arc<AtomicU64>,
) {
    let opened = faults.borrow_and_update().generation;
    let linger = reset_on_close(&client);
    let waited = faults.wait_for(|faults| faults.mode != Mode::BlackHole || faults.generation > opened).await;
    let mode = waited
        .map_or(Mode::Refuse, |faults| if faults.generation > opened { Mode::Refuse } else { faults.mode });
    if mode == Mode::Refuse || linger.is_err() {
        return;
    }
    let Ok(server) = TcpStream::connect(target).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true), reset_on_close(&server));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // Whichever direction ends first ends both.
    tokio::select! {
        () = pass(from_client, to_server, faults.clone(), opened, &passed) => {}
        () = pass(from_server, to_client, faults, opened, &passed) => {}
    }
}

/// Closing sends a reset instead of waiting for the other side.
fn reset_on_close(stream: &TcpStream) -> std::io::Result<()> {
    SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut faults: watch::Receiver<Faults>,
    opened: u64,
    passed: &AtomicU64,
) {
    let mut chunk = vec![0; CHUNK_BYTES];
    let thawed = faults.borrow().frozen;
    loop {
        let Faults { mode, generation, frozen, .. } = *faults.borrow_and_update();
        if generation > opened {
            return;
        }
        let reads = mode != Mode::BlackHole && frozen == thawed;
        let count = tokio::select! {
            changed = faults.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            read = from.read(&mut chunk), if reads => match read {
                Ok(0) | Err(_) => return,
                Ok(count) => count,
            },
        };
        if let Mode::Slow(latency) = mode {
            tokio::time::sleep(latency).await;
        }
        passed.fetch_add(count as u64, Ordering::Relaxed);
        if !write(&mut to, &chunk[..count], &mut faults, opened).await {
            return;
        }
    }
}

/// Writes, unless the connection is reset meanwhile.
async fn write(
    to: &mut OwnedWriteHalf,
    chunk: &[u8],
    faults: &mut watch::Receiver<Faults>,
    opened: u64,
) -> bool {
    let mut faults = faults.clone();
    tokio::select! {
        written = to.write_all(chunk) => written.is_ok(),
        _ = faults.wait_for(|faults| faults.generation > opened) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(100);
    const LONG: Duration = Duration::from_secs(5);

    /// A proxy in front of a server that answers with what it was sent.
    async fn echo() -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let target = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        Proxy::start(target).await.expect("a proxy")
    }

    async fn say(stream: &mut TcpStream, within: Duration) -> Option<std::io::Result<u8>> {
        let said = async {
            stream.write_u8(7).await?;
            stream.read_u8().await
        };
        tokio::time::timeout(within, said).await.ok()
    }

    async fn connect(proxy: &Proxy) -> TcpStream {
        TcpStream::connect(proxy.addr()).await.expect("a connection")
    }

    #[tokio::test]
    async fn what_is_said_passes_and_a_reset_ends_what_is_open() {
        let proxy = echo().await;
        let mut stream = connect(&proxy).await;
        assert_eq!(say(&mut stream, LONG).await.expect("in time").expect("an echo"), 7);
        proxy.reset();
        assert!(say(&mut stream, LONG).await.expect("in time").is_err());
        let mut again = connect(&proxy).await;
        assert!(say(&mut again, LONG).await.expect("in time").is_ok());
    }

    #[tokio::test]
    async fn a_black_hole_is_silent_and_keeps_connections_until_it_is_healed() {
        let proxy = echo().await;
        let mut stream = connect(&proxy).await;
        assert!(say(&mut stream, LONG).await.expect("in time").is_ok());
        proxy.black_hole();
        assert!(say(&mut stream, SHORT).await.is_none());
        let mut new = connect(&proxy).await;
        assert!(say(&mut new, SHORT).await.is_none());
        proxy.heal();
        assert_eq!(tokio::time::timeout(LONG, stream.read_u8()).await.expect("in time").expect("late"), 7);
        assert_eq!(tokio::time::timeout(LONG, new.read_u8()).await.expect("in time").expect("late"), 7);
    }

    #[tokio::test]
    async fn a_frozen_connection_is_silent_and_a_new_one_is_not() {
        let proxy = echo().await;
        let mut stream = connect(&proxy).await;
        assert!(say(&mut stream, LONG).await.expect("in time").is_ok());
        proxy.freeze();
        assert!(say(&mut stream, SHORT).await.is_none());
        let mut new = connect(&proxy).await;
        assert!(say(&mut new, LONG).await.expect("in time").is_ok());
    }

    #[tokio::test]
    async fn what_is_slow_arrives_late_and_what_is_refused_not_at_all() {
        let proxy = echo().await;
        let mut stream = connect(&proxy).await;
        proxy.slow(SHORT);
        let started = tokio::time::Instant::now();
        assert!(say(&mut stream, LONG).await.expect("in time").is_ok());
        assert!(started.elapsed() >= SHORT);
        proxy.refuse();
        assert!(say(&mut stream, LONG).await.expect("in time").is_err());
        let mut new = connect(&proxy).await;
        assert!(say(&mut new, LONG).await.expect("in time").is_err());
    }
}
