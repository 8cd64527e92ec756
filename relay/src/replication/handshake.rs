//! From a socket to a session that may stream: TLS, start-up, authentication, and the two commands that are needed.
//!
//! The framing is that of `pgwire-replication`. Its reader is not used: it hands each message over a channel, one task to
//! another, which took as much time as all the rest of the relay (see `docs/performance.md`). Nor are its TLS and its
//! authentication, so that both connections do the same.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use conninfo::{Address, ChannelBinding, Encryption, Place, by_mode, depends_on_encryption};
use pgwire_replication::PgWireError;
use pgwire_replication::protocol::framing::{
    BackendMessage, read_backend_message, write_password_message, write_query, write_startup_message,
};
use pgwire_replication::protocol::messages::{parse_auth_request, parse_error_response};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{self, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256};
use rustls_pki_types::ServerName;
use secrecy::ExposeSecret;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::binding;
use crate::config::{DatabaseSettings, SourceSettings};
use crate::postgres::Server;
use crate::postgres::{STARTED_US, application_name, dial, dial_socket, split_sqlstate, tls};
use walpost_core::lsn::Lsn;

/// Version 3.0 of the protocol.
const PROTOCOL: i32 = 3 << 16;

/// Asks whether the server encrypts: length 8, code 80877103 (PostgreSQL, "SSL Session Encryption").
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// A connection, encrypted or not.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
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
            Self::Tls(socket) => Pin::new(socket).poll_read(context, buffer),
            Self::Unix(socket) => Pin::new(socket).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_write(context, bytes),
            Self::Tls(socket) => Pin::new(socket).poll_write(context, bytes),
            Self::Unix(socket) => Pin::new(socket).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_flush(context),
            Self::Tls(socket) => Pin::new(socket).poll_flush(context),
            Self::Unix(socket) => Pin::new(socket).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_shutdown(context),
            Self::Tls(socket) => Pin::new(socket).poll_shutdown(context),
            Self::Unix(socket) => Pin::new(socket).poll_shutdown(context),
        }
    }
}

/// Connects to one of the addresses and authenticates; the session waits for a command.
pub(super) async fn connect(database: &DatabaseSettings, address: &Address) -> Result<Socket, PgWireError> {
    let connect = |encryption| connect_by(database, address, encryption);
    by_mode(database.conninfo.tls.mode, may_do_otherwise, connect).await
}

/// Whether it may be otherwise with, or without, encryption.
fn may_do_otherwise(error: &PgWireError) -> bool {
    match error {
        PgWireError::Tls(_) => true,
        PgWireError::Server(text) => {
            split_sqlstate(text).1.is_some_and(|code| depends_on_encryption(&code.0))
        }
        _ => false,
    }
}

async fn connect_by(
    database: &DatabaseSettings,
    address: &Address,
    encryption: Encryption,
) -> Result<Socket, PgWireError> {
    let mut socket = open(database, address, encryption).await?;
    let given = database.conninfo.options.as_deref().unwrap_or_default();
    let options = format!("{given} -c wal_sender_timeout={}", database.peer_timeout.as_millis());
    let parameters = [
        ("user", database.conninfo.user.as_str()),
        ("database", &database.conninfo.database),
        ("replication", "database"),
        ("client_encoding", "UTF8"),
        ("application_name", application_name(database)),
        ("options", options.trim_start()),
    ];
    write_startup_message(&mut socket, PROTOCOL, &parameters).await?;
    let mut login = Login::default();
    loop {
        let message = answer(&mut socket).await?;
        match message.tag {
            b'R' => authenticate(&mut socket, database, address, &message, &mut login).await?,
            b'Z' if login.done => return Ok(socket),
            b'Z' => return Err(PgWireError::Protocol("the server is ready before it let anyone in".into())),
            // Parameters, the key to cancel with, notices.
            _ => {}
        }
    }
}

async fn open(
    database: &DatabaseSettings,
    address: &Address,
    encryption: Encryption,
) -> Result<Socket, PgWireError> {
    let (host, addr) = match &address.place {
        Place::Socket(folder) => return Ok(Socket::Unix(dial_socket(folder, address.port).await?)),
        Place::Tcp { host, addr } => (host, *addr),
    };
    let mut stream = dial(database, host, addr, address.port).await?;
    let is_encrypted = encryption != Encryption::None
        && (database.conninfo.tls.direct || is_offered(&mut stream, encryption).await?);
    if !is_encrypted {
        return Ok(Socket::Tcp(stream));
    }
    let unusable = |error: &dyn std::fmt::Display| PgWireError::Tls(error.to_string());
    let config = tls::client_config(&database.conninfo.tls).map_err(PgWireError::Tls)?;
    let name = ServerName::try_from(host.clone()).map_err(|error| unusable(&error))?;
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
    Ok(Socket::Tls(Box::new(connecting.await.map_err(|error| unusable(&error))?)))
}

/// Whether the server encrypts. No more than its answer is read: whatever else came before the handshake would be taken
/// for the server's words, and need not be.
async fn is_offered(stream: &mut TcpStream, encryption: Encryption) -> Result<bool, PgWireError> {
    stream.write_all(&SSL_REQUEST).await?;
    match stream.read_u8().await? {
        b'S' => Ok(true),
        _ if encryption == Encryption::IfOffered => Ok(false),
        _ => Err(PgWireError::Tls("the server does not support TLS".into())),
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

/// How far the login has come.
#[derive(Debug, Default)]
struct Login {
    /// The proof was bound to the channel, and so was the server's.
    bound: bool,
    /// The server has let the role in.
    done: bool,
}

async fn authenticate(
    socket: &mut Socket,
    database: &DatabaseSettings,
    address: &Address,
    request: &BackendMessage,
    login: &mut Login,
) -> Result<(), PgWireError> {
    let password = address.password.as_ref().map_or("", |password| password.expose_secret());
    let (method, data) = parse_auth_request(&request.payload)?;
    if method == 10 {
        login.bound = scram(socket, database.conninfo.channel_binding, password, data).await?;
        return Ok(());
    }
    if database.conninfo.channel_binding == ChannelBinding::Require && !login.bound {
        return Err(unbound());
    }
    match method {
        0 => {
            login.done = true;
            Ok(())
        }
        3 => write_password_message(socket, format!("{password}\0").as_bytes()).await,
        // Roles whose password was set before SCRAM was the default, and not since.
        5 => {
            let salt =
                data.try_into().map_err(|_| PgWireError::Protocol("the salt is not of 4 bytes".into()))?;
            let proof = md5_hash(database.conninfo.user.as_bytes(), password.as_bytes(), salt);
            write_password_message(socket, format!("{proof}\0").as_bytes()).await
        }
        code => Err(PgWireError::Auth(format!("the server wants method {code}, which is not supported"))),
    }
}

fn unbound() -> PgWireError {
    PgWireError::Auth(
        "channel_binding=require, and the server does not bind the password to the channel".into(),
    )
}

/// SCRAM (RFC 5802, RFC 7677), bound to the channel where both sides can; says whether it is.
async fn scram(
    socket: &mut Socket,
    wanted: ChannelBinding,
    password: &str,
    mechanisms: &[u8],
) -> Result<bool, PgWireError> {
    let offers = |name: &str| mechanisms.split(|&byte| byte == 0).any(|offered| offered == name.as_bytes());
    let end_point = socket.end_point().filter(|_| wanted != ChannelBinding::Disable);
    let (mechanism, binding) = match end_point {
        Some(end_point) if offers(SCRAM_SHA_256_PLUS) => {
            (SCRAM_SHA_256_PLUS, sasl::ChannelBinding::tls_server_end_point(end_point))
        }
        _ if wanted == ChannelBinding::Require => return Err(unbound()),
        // That says that this side could: who took the offer out on the way is found out.
        Some(_) => (SCRAM_SHA_256, sasl::ChannelBinding::unrequested()),
        None => (SCRAM_SHA_256, sasl::ChannelBinding::unsupported()),
    };
    if !offers(mechanism) {
        return Err(PgWireError::Auth(format!("the server does not offer {mechanism}")));
    }
    let refused = |error: io::Error| PgWireError::Auth(error.to_string());
    let mut scram = ScramSha256::new(password.as_bytes(), binding);
    let first = scram.message();
    let length = i32::try_from(first.len()).unwrap_or(i32::MAX).to_be_bytes();
    let first = [mechanism.as_bytes(), &[0], &length, first].concat();
    write_password_message(socket, &first).await?;
    scram.update(&step(socket, 11).await?).map_err(refused)?;
    write_password_message(socket, scram.message()).await?;
    scram.finish(&step(socket, 12).await?).map_err(refused)?;
    Ok(mechanism == SCRAM_SHA_256_PLUS)
}

impl Socket {
    /// What a proof is bound to, where the connection is encrypted.
    fn end_point(&self) -> Option<Vec<u8>> {
        let Self::Tls(stream) = self else { return None };
        binding::end_point(stream.get_ref().1.peer_certificates()?.first()?)
    }
}

/// The server's next step in SASL.
async fn step(socket: &mut Socket, step: i32) -> Result<Vec<u8>, PgWireError> {
    loop {
        let message = answer(socket).await?;
        if message.is_auth_request() {
            return match parse_auth_request(&message.payload)? {
                (code, data) if code == step => Ok(data.to_vec()),
                (code, _) => Err(PgWireError::Auth(format!("step {code} came where {step} was due"))),
            };
        }
    }
}

/// Who is there.
pub(super) struct Identified {
    pub(super) server: Server,
    /// When the server was started, microseconds since 1970: no other was at that moment.
    pub(super) started_us: i64,
    /// Up to where the server's WAL is on its disk.
    pub(super) flushed: Lsn,
}

/// Who is there (`IDENTIFY_SYSTEM`), on which side of a replication, and by which timelines it came to be.
pub(super) async fn identify(socket: &mut Socket) -> Result<Identified, PgWireError> {
    let missing = || PgWireError::Protocol("IDENTIFY_SYSTEM has no row".into());
    // A connection for replication takes SQL as well. Asked here, since this may be another server than that of the other
    // connection: an address is led elsewhere at some moment. And asked first: a standby that is promoted in between is
    // one that is in recovery, and not a primary on the timeline that has ended.
    let row = query(socket, &format!("select pg_is_in_recovery(), {STARTED_US}")).await?;
    let session = row.as_deref().and_then(session_of);
    let (in_recovery, started_us) =
        session.ok_or_else(|| PgWireError::Protocol("pg_is_in_recovery has no row".into()))?;
    let row = query(socket, "IDENTIFY_SYSTEM").await?.ok_or_else(missing)?;
    let (system, timeline, flushed) = server_of(&row).ok_or_else(missing)?;
    let ended = if timeline > 1 { history(socket, timeline).await? } else { Vec::new() };
    Ok(Identified { server: Server { system, timeline, in_recovery, ended }, started_us, flushed })
}

/// Whether the server is in recovery, and when it was started.
fn session_of(row: &[u8]) -> Option<(bool, i64)> {
    let (in_recovery, rest) = column(row.get(2..)?)?;
    let (started_us, _) = column(rest)?;
    Some((in_recovery == "t", started_us.parse().ok()?))
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

/// The first three columns: the system's identifier, the timeline, and up to where the WAL is on the disk, as text.
fn server_of(row: &[u8]) -> Option<(String, u32, Lsn)> {
    let (system, rest) = column(row.get(2..)?)?;
    let (timeline, rest) = column(rest)?;
    let (flushed, _) = column(rest)?;
    Some((system.to_owned(), timeline.parse().ok()?, flushed.parse().ok()?))
}

fn column(row: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = row.split_first_chunk::<4>()?;
    let (value, rest) = rest.split_at_checked(usize::try_from(i32::from_be_bytes(*length)).ok()?)?;
    Some((std::str::from_utf8(value).ok()?, rest))
}

/// Takes the slot, and streams from its own position.
pub(super) async fn start(socket: &mut Socket, source: &SourceSettings) -> Result<(), PgWireError> {
    let publication = source.publication.replace('"', "\"\"").replace('\'', "''");
    // Otherwise messages of every prefix would come for nothing.
    let messages = if source.messages.is_empty() { "" } else { ", messages 'true'" };
    let command = format!(
        "START_REPLICATION SLOT \"{}\" LOGICAL 0/0 \
         (proto_version '1', publication_names '\"{publication}\"', binary 'true'{messages})",
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
        assert_eq!(server_of(&row), Some(("7000".into(), 3, Lsn(1))));
        for length in 0..21 {
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
