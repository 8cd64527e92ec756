//! Ways to a server: its addresses in turn, and TCP to whichever address of a name answers first. A name may have several,
//! and one of them may be dead.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use conninfo::{Address, SslMode};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, UnixStream, lookup_host};

use super::DatabaseError;
use crate::config::DatabaseSettings;

/// What is tried of encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encryption {
    None,
    IfOffered,
    Always,
}

/// Connects with, or without, encryption, as the mode asks for. The second try of `allow` and `prefer` is made where the
/// first failed for a reason that has to do with encryption (PostgreSQL, libpq, `sslmode`).
///
/// # Errors
/// Why the last try failed.
pub(crate) async fn by_mode<T, E, C>(
    mode: SslMode,
    may_do_otherwise: impl Fn(&E) -> bool,
    connect: impl Fn(Encryption) -> C,
) -> Result<T, E>
where
    C: Future<Output = Result<T, E>>,
{
    let (first, second) = match mode {
        SslMode::Disable => (Encryption::None, None),
        SslMode::Allow => (Encryption::None, Some(Encryption::Always)),
        SslMode::Prefer => (Encryption::IfOffered, Some(Encryption::None)),
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => (Encryption::Always, None),
    };
    match (connect(first).await, second) {
        (Err(error), Some(second)) if may_do_otherwise(&error) => connect(second).await,
        (connected, _) => connected,
    }
}

/// Whether a server that answered with this code may let one in with, or without, encryption:
/// invalid_authorization_specification, as for what no line of pg_hba.conf allows.
pub(crate) fn depends_on_encryption(code: &str) -> bool {
    code == "28000"
}

/// Connects to the first address at which the server is that is meant. `connect` says as well whether the server that it
/// connected to is in recovery. A server that answers and refuses ends it, as with libpq, unless it is still starting.
///
/// # Errors
/// Why the last one that was tried did not do.
pub(crate) async fn to_the_first<T, C>(
    settings: &DatabaseSettings,
    connect: impl Fn(Address) -> C,
) -> Result<T, DatabaseError>
where
    C: Future<Output = Result<(T, bool), DatabaseError>>,
{
    let mut failed = None;
    for address in settings.in_turn() {
        let place = settings.place_at(&address);
        match connect(address).await {
            Ok((_, true)) if settings.wants_primary() => failed = Some(DatabaseError::standby(&place)),
            Ok((connected, _)) => return Ok(connected),
            // cannot_connect_now.
            Err(error) if error.sqlstate().is_some_and(|code| code != "57P03") => return Err(error),
            Err(error) => failed = Some(error),
        }
    }
    Err(failed.unwrap_or_else(|| DatabaseError::standby(&settings.to_string())))
}

/// Between the beginnings of two tries (RFC 8305, "Connection Attempt Delay").
const STAGGER: Duration = Duration::from_millis(250);

/// Connects to a host, or to its address where that is given.
///
/// # Errors
/// When no address of it answers; that of the first one that failed.
pub(crate) async fn dial(
    settings: &DatabaseSettings,
    host: &str,
    addr: Option<IpAddr>,
    port: u16,
) -> io::Result<TcpStream> {
    let addrs = match addr {
        Some(addr) => vec![SocketAddr::new(addr, port)],
        None => lookup_host((host, port)).await?.collect(),
    };
    let stream = first_to_answer(addrs).await?;
    stream.set_nodelay(true)?;
    keep_alive(&stream, settings)?;
    Ok(stream)
}

/// Connects to the socket in a folder.
///
/// # Errors
/// When nobody listens there.
pub(crate) async fn dial_socket(folder: &Path, port: u16) -> io::Result<UnixStream> {
    UnixStream::connect(folder.join(format!(".s.PGSQL.{port}"))).await
}

fn keep_alive(stream: &TcpStream, settings: &DatabaseSettings) -> io::Result<()> {
    let (asked, patience) = (settings.conninfo.keepalive, settings.peer_timeout);
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(asked.user_timeout.unwrap_or(patience)))?;
    if !asked.enabled {
        return Ok(());
    }
    let mut keepalive = TcpKeepalive::new().with_time(asked.idle.unwrap_or(patience / 2));
    if let Some(interval) = asked.interval {
        keepalive = keepalive.with_interval(interval);
    }
    if let Some(count) = asked.count {
        keepalive = keepalive.with_retries(count);
    }
    socket.set_tcp_keepalive(&keepalive)
}

/// Each address is tried when the one before has failed, or has not answered for a while.
async fn first_to_answer(addrs: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut waiting = addrs.into_iter();
    let mut tries = FuturesUnordered::new();
    let mut failed = None;
    loop {
        if let Some(addr) = waiting.next() {
            tries.push(connect(addr));
        } else if tries.is_empty() {
            let nowhere = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            return Err(failed.unwrap_or_else(nowhere));
        }
        tokio::select! {
            Some(tried) = tries.next() => match tried {
                Ok(stream) => return Ok(stream),
                Err(error) => failed = failed.or(Some(error)),
            },
            () = tokio::time::sleep(STAGGER), if waiting.len() > 0 => {}
        }
    }
}

async fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    let connected = TcpStream::connect(addr).await;
    connected.map_err(|error| io::Error::new(error.kind(), format!("{addr}: {error}")))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use anyhow::{Context, Result};

    use super::*;

    /// An address that takes no connection and refuses none: its queue is full.
    fn dead() -> Result<(socket2::Socket, SocketAddr, Vec<std::net::TcpStream>)> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        socket.listen(0)?;
        let addr = socket.local_addr()?.as_socket().context("an address")?;
        let mut filling = Vec::new();
        while let Ok(stream) = std::net::TcpStream::connect_timeout(&addr, Duration::from_millis(100)) {
            filling.push(stream);
        }
        Ok((socket, addr, filling))
    }

    #[tokio::test]
    async fn a_dead_address_does_not_keep_one_from_the_next() -> Result<()> {
        let (_socket, dead, _filling) = dead()?;
        let live = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let live = live.local_addr().map(|addr| (addr, live))?;
        let trying = first_to_answer(vec![dead, live.0]);
        let stream = tokio::time::timeout(Duration::from_secs(20), trying).await??;
        assert_eq!(stream.peer_addr()?, live.0);
        Ok(())
    }

    #[tokio::test]
    async fn the_error_is_that_of_the_first_address() -> Result<()> {
        let mut gone = Vec::new();
        for _ in 0..2 {
            gone.push(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?);
        }
        let error = first_to_answer(gone.clone()).await.expect_err("nobody listens");
        assert!(error.to_string().contains(&gone[0].to_string()), "{error}");
        assert!(first_to_answer(Vec::new()).await.is_err());
        Ok(())
    }
}
