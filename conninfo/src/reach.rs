//! Ways to a server: its addresses in turn, with or without encryption, and of the addresses of a name the first that
//! answers. A name may have several, and one of them may be dead.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::net::TcpStream;

use crate::{Address, Conninfo, SslMode, Target};

/// What is tried of encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// Without.
    None,
    /// With it where the server can.
    IfOffered,
    /// With it, or not at all.
    Always,
}

impl Conninfo {
    /// The addresses in the order in which they are tried now.
    #[must_use]
    pub fn in_turn(&self) -> Vec<Address> {
        let mut addresses = self.addresses.clone();
        if self.shuffled {
            rand::seq::SliceRandom::shuffle(addresses.as_mut_slice(), &mut rand::rng());
        }
        addresses
    }

    /// Whether a server that is in recovery is not the one that is meant, and the next address is tried. With one address
    /// there is no choice, and what is there has a name.
    #[must_use]
    pub fn wants_primary(&self) -> bool {
        self.target != Target::Any || self.addresses.len() > 1
    }

    /// For a program that writes: of several servers the primary is taken.
    ///
    /// # Errors
    /// When it asks for a standby.
    pub fn for_writes(self) -> Result<Self, String> {
        match self.target {
            Target::Any | Target::ReadWrite | Target::Primary => Ok(self),
            Target::ReadOnly | Target::Standby | Target::PreferStandby => Err(
                "target_session_attrs asks for a standby, and the primary is needed: give primary, or any"
                    .into(),
            ),
        }
    }
}

/// Connects with, or without, encryption, as the mode asks for. The second try of `allow` and `prefer` is made where the
/// first failed for a reason that has to do with encryption (PostgreSQL, libpq, `sslmode`).
///
/// # Errors
/// Why the last try failed.
pub async fn by_mode<T, E, C>(
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

/// Whether a server that answered with this SQLSTATE may let one in with, or without, encryption:
/// invalid_authorization_specification, as for what no line of pg_hba.conf allows.
#[must_use]
pub fn depends_on_encryption(code: &str) -> bool {
    code == "28000"
}

/// Whether a server that answered with this SQLSTATE may do so because it is still starting, so that another address is
/// tried: cannot_connect_now. One that refuses otherwise ends it, as with libpq.
#[must_use]
pub fn is_starting(code: &str) -> bool {
    code == "57P03"
}

/// Between the beginnings of two tries (RFC 8305, "Connection Attempt Delay").
const STAGGER: Duration = Duration::from_millis(250);

/// Connects to the first of the addresses that answers; each is tried when the one before has failed, or has not answered
/// for a while.
///
/// # Errors
/// When none answers; that of the first one that failed.
pub async fn first_to_answer(addrs: Vec<SocketAddr>) -> io::Result<TcpStream> {
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

    use anyhow::Result;
    use harness::port::Silent;

    use super::*;

    #[tokio::test]
    async fn a_dead_address_does_not_keep_one_from_the_next() -> Result<()> {
        let dead = Silent::new()?;
        let live = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let live = live.local_addr().map(|addr| (addr, live))?;
        let trying = first_to_answer(vec![dead.addr(), live.0]);
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
