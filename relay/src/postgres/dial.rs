//! Ways to a server: its addresses in turn, and a stream to one of them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use conninfo::{Address, first_to_answer, is_starting};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, UnixStream, lookup_host};

use super::DatabaseError;
use crate::config::DatabaseSettings;

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
    for address in settings.conninfo.in_turn() {
        let place = settings.place_at(&address);
        match connect(address).await {
            Ok((_, true)) if settings.conninfo.wants_primary() => {
                failed = Some(DatabaseError::standby(&place))
            }
            Ok((connected, _)) => return Ok(connected),
            Err(error) if error.sqlstate().is_some_and(|code| !is_starting(code)) => return Err(error),
            Err(error) => failed = Some(error),
        }
    }
    Err(failed.unwrap_or_else(|| DatabaseError::standby(&settings.to_string())))
}

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
    // In whole seconds, and none is an error.
    let idle = asked.idle.unwrap_or((patience / 2).max(Duration::from_secs(1)));
    let mut keepalive = TcpKeepalive::new().with_time(idle);
    if let Some(interval) = asked.interval {
        keepalive = keepalive.with_interval(interval);
    }
    if let Some(count) = asked.count {
        keepalive = keepalive.with_retries(count);
    }
    socket.set_tcp_keepalive(&keepalive)
}
