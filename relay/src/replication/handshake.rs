//! From a socket to a session that may stream: TLS, start-up, authentication, and the two commands that are needed.
//!
//! The parts are those of `pgwire-replication`. Only its reader is not used: it hands each message over a channel, one
//! task to another, which took as much time as all the rest of the relay (see `docs/performance.md`).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use pgwire_replication::auth::scram::ScramClient;
use pgwire_replication::protocol::framing::{
    BackendMessage, read_backend_message, write_password_message, write_query, write_startup_message,
};
use pgwire_replication::protocol::messages::{parse_auth_request, parse_error_response};
use pgwire_replication::tls::rustls::{MaybeTlsStream, maybe_upgrade_to_tls};
use pgwire_replication::{PgWireError, TlsConfig};
use secrecy::ExposeSecret;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::Server;
use crate::config::{DatabaseSettings, SourceSettings, SslMode};
use crate::lsn::Lsn;

/// Version 3.0 of the protocol.
const PROTOCOL: i32 = 3 << 16;

/// The one way to prove a password that Postgres has offered by default since 14.
const SCRAM: &str = "SCRAM-SHA-256";

/// A connection, encrypted or not.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(MaybeTlsStream),
    Unix(UnixStream),
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_read(context, buffer),
            Self::Unix(socket) => Pin::new(socket).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_write(context, bytes),
            Self::Unix(socket) => Pin::new(socket).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_flush(context),
            Self::Unix(socket) => Pin::new(socket).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_shutdown(context),
            Self::Unix(socket) => Pin::new(socket).poll_shutdown(context),
        }
    }
}

/// Connects and authenticates; the session waits for a command.
pub(super) async fn connect(database: &DatabaseSettings) -> Result<Socket, PgWireError> {
    let mut socket = open(database).await?;
    let options = format!("-c wal_sender_timeout={}", database.peer_timeout.as_millis());
    let parameters = [
        ("user", database.user.as_str()),
        ("database", &database.database),
        ("replication", "database"),
        ("client_encoding", "UTF8"),
        ("application_name", "walpost"),
        ("options", &options),
    ];
    write_startup_message(&mut socket, PROTOCOL, &parameters).await?;
    loop {
        let message = answer(&mut socket).await?;
        match message.tag {
            b'R' => authenticate(&mut socket, database, &message).await?,
            b'Z' => return Ok(socket),
            // Parameters, the key to cancel with, notices.
            _ => {}
        }
    }
}

async fn open(database: &DatabaseSettings) -> Result<Socket, PgWireError> {
    if database.is_socket() {
        let path = format!("{}/.s.PGSQL.{}", database.host, database.port);
        return Ok(Socket::Unix(UnixStream::connect(path).await?));
    }
    let socket = TcpStream::connect((database.host.as_str(), database.port)).await?;
    socket.set_nodelay(true)?;
    Ok(Socket::Tcp(maybe_upgrade_to_tls(socket, &tls(database), &database.host).await?))
}

fn tls(database: &DatabaseSettings) -> TlsConfig {
    match database.ssl_mode {
        SslMode::Disable => TlsConfig::disabled(),
        SslMode::Prefer => {
            let mut tls = TlsConfig::require();
            tls.mode = pgwire_replication::SslMode::Prefer;
            tls
        }
        SslMode::Require => TlsConfig::require(),
        SslMode::VerifyFull => TlsConfig::verify_full(database.ssl_root_cert.clone()),
    }
}

/// The next message; an error is one here.
async fn answer(socket: &mut Socket) -> Result<BackendMessage, PgWireError> {
    let message = read_backend_message(socket).await?;
    if message.is_error() {
        return Err(PgWireError::Server(parse_error_response(&message.payload)));
    }
    Ok(message)
}

async fn authenticate(
    socket: &mut Socket,
    database: &DatabaseSettings,
    request: &BackendMessage,
) -> Result<(), PgWireError> {
    let password = database.password.as_ref().map_or("", |password| password.expose_secret());
    match parse_auth_request(&request.payload)? {
        (0, _) => Ok(()),
        (3, _) => write_password_message(socket, format!("{password}\0").as_bytes()).await,
        (10, mechanisms) => {
            let offered = mechanisms.split(|&byte| byte == 0).any(|name| name == SCRAM.as_bytes());
            if !offered {
                return Err(PgWireError::Auth(format!("the server does not offer {SCRAM}")));
            }
            scram(socket, &database.user, password).await
        }
        (code, _) => {
            Err(PgWireError::Auth(format!("the server wants method {code}, which is not supported")))
        }
    }
}

async fn scram(socket: &mut Socket, user: &str, password: &str) -> Result<(), PgWireError> {
    let client = ScramClient::new(user);
    let first = client.client_first.as_bytes();
    let length = i32::try_from(first.len()).unwrap_or(i32::MAX).to_be_bytes();
    write_password_message(socket, &[SCRAM.as_bytes(), &[0], &length, first].concat()).await?;
    let server_first = sasl(socket, 11).await?;
    let (last, message, salted) = client.client_final(password, &server_first)?;
    write_password_message(socket, last.as_bytes()).await?;
    let server_final = sasl(socket, 12).await?;
    ScramClient::verify_server_final(&server_final, &salted, &message)
}

/// The server's next step in SASL.
async fn sasl(socket: &mut Socket, step: i32) -> Result<String, PgWireError> {
    loop {
        let message = answer(socket).await?;
        if message.is_auth_request() {
            return match parse_auth_request(&message.payload)? {
                (code, data) if code == step => Ok(String::from_utf8_lossy(data).into_owned()),
                (code, _) => Err(PgWireError::Auth(format!("step {code} came where {step} was due"))),
            };
        }
    }
}

/// Who is there (`IDENTIFY_SYSTEM`), on which side of a replication, and by which timelines it came to be.
pub(super) async fn identify(socket: &mut Socket) -> Result<Server, PgWireError> {
    let missing = || PgWireError::Protocol("IDENTIFY_SYSTEM has no row".into());
    // A connection for replication takes SQL as well. Asked here, since this may be another server than that of the other
    // connection: an address is led elsewhere at some moment. And asked first: a standby that is promoted in between is
    // one that is in recovery, and not a primary on the timeline that has ended.
    let row = query(socket, "select pg_is_in_recovery()").await?;
    let in_recovery = row.as_deref().and_then(|row| column(row.get(2..)?)).is_some_and(|(is, _)| is == "t");
    let row = query(socket, "IDENTIFY_SYSTEM").await?.ok_or_else(missing)?;
    let (system, timeline) = server_of(&row).ok_or_else(missing)?;
    let ended = if timeline > 1 { history(socket, timeline).await? } else { Vec::new() };
    Ok(Server { system, timeline, in_recovery, ended })
}

/// The history of a timeline (`TIMELINE_HISTORY`); empty when the server does not have it any more.
async fn history(socket: &mut Socket, timeline: u32) -> Result<Vec<(u32, Lsn)>, PgWireError> {
    write_query(socket, &format!("TIMELINE_HISTORY {timeline}")).await?;
    let mut ended = Vec::new();
    loop {
        // An error is followed by ReadyForQuery, as an answer is.
        let message = read_backend_message(socket).await?;
        match message.tag {
            b'D' => ended = history_of(&message.payload).unwrap_or_default(),
            b'Z' => return Ok(ended),
            _ => {}
        }
    }
}

/// The second column is the file: a line for each timeline, with its number, where it ended, and why.
fn history_of(row: &[u8]) -> Option<Vec<(u32, Lsn)>> {
    let (_, rest) = column(row.get(2..)?)?;
    let (file, _) = column(rest)?;
    let ended = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
    };
    Some(file.lines().filter_map(ended).collect())
}

/// The last row of an answer, if there is one.
async fn query(socket: &mut Socket, command: &str) -> Result<Option<Vec<u8>>, PgWireError> {
    write_query(socket, command).await?;
    let mut row = None;
    loop {
        let message = answer(socket).await?;
        match message.tag {
            b'D' => row = Some(message.payload.to_vec()),
            b'Z' => return Ok(row),
            _ => {}
        }
    }
}

/// The first two columns: the system's identifier and the timeline, as text.
fn server_of(row: &[u8]) -> Option<(String, u32)> {
    let (system, rest) = column(row.get(2..)?)?;
    let (timeline, _) = column(rest)?;
    Some((system.to_owned(), timeline.parse().ok()?))
}

fn column(row: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = row.split_first_chunk::<4>()?;
    let (value, rest) = rest.split_at_checked(usize::try_from(i32::from_be_bytes(*length)).ok()?)?;
    Some((std::str::from_utf8(value).ok()?, rest))
}

/// Takes the slot, and streams from its own position.
pub(super) async fn start(socket: &mut Socket, source: &SourceSettings) -> Result<(), PgWireError> {
    let publication = source.publication.replace('"', "\"\"").replace('\'', "''");
    let command = format!(
        "START_REPLICATION SLOT \"{}\" LOGICAL 0/0 \
         (proto_version '1', publication_names '\"{publication}\"', binary 'true')",
        source.slot
    );
    write_query(socket, &command).await?;
    loop {
        if answer(socket).await?.is_copy_both_response() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_identify_system_is_read_and_a_short_one_is_not() {
        let column = |text: &str| {
            [&i32::try_from(text.len()).expect("short").to_be_bytes()[..], text.as_bytes()].concat()
        };
        let row = [&[0, 4][..], &column("7000"), &column("3"), &column("0/1"), &column("shop")].concat();
        assert_eq!(server_of(&row), Some(("7000".into(), 3)));
        for length in 0..14 {
            assert_eq!(server_of(&row[..length]), None, "{length}");
        }
    }

    #[test]
    fn a_history_gives_where_each_timeline_ended() {
        let column = |text: &str| {
            [&i32::try_from(text.len()).expect("short").to_be_bytes()[..], text.as_bytes()].concat()
        };
        let file = "1\t0/30000A0\tno recovery target specified\n# a comment\n\n2\tA/5\tbefore 2026-01-01\n";
        let row = [&[0, 2][..], &column("00000003.history"), &column(file)].concat();
        assert_eq!(history_of(&row), Some(vec![(1, Lsn(0x0300_00A0)), (2, Lsn(0xA_0000_0005))]));
        assert_eq!(history_of(&row[..30]), None);
    }
}
