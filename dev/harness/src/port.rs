//! Ports that are free now.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, Result};

/// Below those of dev/stack (from 20000 on), and those that the kernel gives to outgoing connections (from 32768 on): a
/// connection of a neighbour would take one of these between now and the moment in which a server listens there, and a
/// client that asks again and again for one where nobody listens could be given that very port, and meet itself.
const GIVEN: Range<u16> = 10_000..20_000;

/// A loopback address where nobody listens. It is given to nobody else, in this process or another on this machine, until
/// all others were given.
///
/// # Errors
/// When none is left, or the file that counts them cannot be used.
pub fn free() -> Result<SocketAddr> {
    let path = std::env::temp_dir().join("harness-next-port");
    let counter = File::options().create(true).truncate(false).read(true).write(true).open(&path);
    next_free(counter.with_context(|| path.display().to_string())?)
        .with_context(|| format!("a free port of {GIVEN:?}, by {}", path.display()))
}

/// Counts on in `counter`, which nobody else does meanwhile.
fn next_free(mut counter: File) -> Result<SocketAddr> {
    counter.lock()?;
    let mut text = String::new();
    counter.read_to_string(&mut text)?;
    let next = text.parse().ok().filter(|port| GIVEN.contains(port)).unwrap_or(GIVEN.start);
    let addr = (next..GIVEN.end)
        .chain(GIVEN.start..next)
        .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .find(|addr| TcpListener::bind(addr).is_ok())
        .context("all are taken")?;
    counter.rewind()?;
    // Always five digits, so that nothing is left of the number before.
    write!(counter, "{}", addr.port() + 1)?;
    Ok(addr)
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn an_address_is_given_once_whoever_asks() -> Result<()> {
        let ask = || (0..50).map(|_| free()).collect::<Result<Vec<_>>>();
        let given = std::thread::scope(|scope| {
            let asking: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            asking.into_iter().map(|asking| asking.join().expect("no panic")).collect::<Result<Vec<_>>>()
        })?;
        let ports: BTreeSet<_> = given.iter().flatten().map(SocketAddr::port).collect();
        assert_eq!(ports.len(), 200);
        assert!(ports.iter().all(|port| GIVEN.contains(port)), "{ports:?}");
        Ok(())
    }
}
