//! Ports that are free now.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

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
