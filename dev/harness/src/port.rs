//! Ports that are free now.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

/// A loopback address whose port was free a moment ago. Another program may take it first, but the kernel hands
/// ephemeral ports out at random, so tests beside each other do not meet.
///
/// # Errors
/// When the kernel has no port left.
pub fn free() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on loopback")?;
    listener.local_addr().context("a listener without an address")
}

/// A free loopback address for a server's second listener: above the ports that dev/stack gives away, below those that
/// the kernel gives to outgoing connections, and another one at each call.
///
/// # Errors
/// When no port is free.
pub fn for_listener() -> Result<SocketAddr> {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let nth = std::process::id().wrapping_mul(7).wrapping_add(CALLS.fetch_add(1, Ordering::Relaxed)) % 200;
    free_from(32_450 + u16::try_from(nth)?)
}

/// The loopback address with `port`, or the next free one above it.
///
/// # Errors
/// When the next hundred are taken too.
pub fn free_from(port: u16) -> Result<SocketAddr> {
    (port..port.saturating_add(100))
        .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .find(|addr| TcpListener::bind(addr).is_ok())
        .with_context(|| format!("ports {port} and the hundred after it are taken: stop what holds them"))
}

/// An address that takes no connection and refuses none, as of a machine that is gone: its queue is full.
pub struct Silent {
    _listening: socket2::Socket,
    _filling: Vec<TcpStream>,
    addr: SocketAddr,
}

impl Silent {
    /// One on loopback.
    ///
    /// # Errors
    /// When the kernel has no port left.
    pub fn new() -> Result<Self> {
        let listening = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        listening.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        listening.listen(0)?;
        let addr = listening.local_addr()?.as_socket().context("a listener without an address")?;
        let mut filling = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&addr, Duration::from_millis(100)) {
            filling.push(stream);
        }
        Ok(Self { _listening: listening, _filling: filling, addr })
    }

    /// Where it is.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}
