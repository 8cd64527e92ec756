//! Clients that stop, wherever they are: their places are free again within half a minute, memory stays bounded, and
//! probes are answered all the while.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::join_all;
use harness::http::{get, send};
use harness::secure::Certificates;
use harness::{Database, wait_until};
use logistic_package_api::store;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::Instant;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::support::{self, DEADLINE, TestServer, settings};

/// As documented, and a little for a slow machine.
const PLACE_DEADLINE: Duration = Duration::from_secs(30 + 5);

/// Places of each port in these tests.
const PLACES: usize = 2;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: u8 = 4;
const HEADERS: u8 = 1;
const DATA: u8 = 0;
const PING: u8 = 6;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Port {
    Grpc,
    Rest,
}

/// Where a client stops.
#[derive(Debug, Clone)]
struct Stop {
    port: Port,
    what: &'static str,
    says: Vec<u8>,
    then: Then,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// Nothing more, not even reading.
    Nothing,
    /// It answers every ping, and does nothing else.
    Pongs,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The header block of a gRPC call, without compression (RFC 7541).
fn call(method: &str) -> Vec<u8> {
    let path = format!("/hablof.logistic_package_api.v1.LogisticPackageApiService/{method}");
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()][..], text.as_bytes()].concat();
    let (post, http) = (vec![0x83], vec![0x86]);
    let content_type = [vec![0x0f, 0x10], text("application/grpc")].concat();
    let te = [vec![0x00], text("te"), text("trailers")].concat();
    [post, http, [vec![0x04], text(&path)].concat(), [vec![0x01], text("x")].concat(), content_type, te]
        .concat()
}

fn stops() -> Vec<Stop> {
    let begun = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    let no_window = [PREFACE, &frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])].concat();
    let list = [frame(HEADERS, END_HEADERS, 1, &call("ListPackagesV1")), frame(DATA, END_STREAM, 1, &[0; 5])]
        .concat();
    let create = frame(HEADERS, END_HEADERS, 1, &call("CreatePackageV1"));
    let half_a_message = [create.clone(), frame(DATA, 0, 1, &[0, 0, 0, 0, 9, 1])].concat();
    let half_a_frame = &frame(HEADERS, END_HEADERS, 1, &call("CreatePackageV1"))[..20];
    let watch = frame(HEADERS, END_HEADERS, 1, &call("ListPackagesV1"));
    let post = "POST /v1/packages HTTP/1.1\r\nHost: x\r\n";
    let rest = |what, says: &[u8]| Stop { port: Port::Rest, what, says: says.to_vec(), then: Then::Nothing };
    let grpc = |what, says: Vec<u8>| Stop { port: Port::Grpc, what, says, then: Then::Nothing };
    let alive = |what, says: Vec<u8>| Stop { port: Port::Grpc, what, says, then: Then::Pongs };
    vec![
        rest("before the first byte", b""),
        rest("after the first byte", b"P"),
        rest("in the preface", &PREFACE[..20]),
        rest("behind the preface", PREFACE),
        rest("in the head", b"GET /v1/packages HTTP/1.1\r\nHost:"),
        rest("before the body", format!("{post}Content-Length: 100\r\n\r\n").as_bytes()),
        rest("in the body", format!("{post}Content-Length: 100\r\n\r\n{{").as_bytes()),
        rest("in a chunk", format!("{post}Transfer-Encoding: chunked\r\n\r\nff\r\n{{").as_bytes()),
        rest("behind the answer", b"GET /v1/packages/1 HTTP/1.1\r\nHost: x\r\n\r\n"),
        rest("in the answer", &b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1_500)),
        grpc("before the first byte", Vec::new()),
        grpc("in the preface", PREFACE[..20].to_vec()),
        grpc("behind the preface", begun.clone()),
        grpc("in a frame", [&begun[..], half_a_frame].concat()),
        grpc("before the message", [&begun[..], &create].concat()),
        grpc("in the message", [&begun[..], &half_a_message].concat()),
        grpc("in the answer", [&begun[..], &watch].concat()),
        // A client that lives keeps its connection, but no answer that it does not take.
        alive("in the answer, alive", [&no_window[..], &list].concat()),
    ]
}

async fn stop_there(address: SocketAddr, stop: &Stop) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4_096)?;
    let mut stream = socket.connect(address).await?;
    stream.write_all(&stop.says).await?;
    Ok(stream)
}

/// Answers pings until the connection ends.
async fn pong(mut stream: TcpStream) -> Result<()> {
    loop {
        let length = [0, stream.read_u8().await?, stream.read_u8().await?, stream.read_u8().await?];
        let (kind, flags) = (stream.read_u8().await?, stream.read_u8().await?);
        stream.read_u32().await?;
        let mut payload = vec![0; usize::try_from(u32::from_be_bytes(length))?];
        stream.read_exact(&mut payload).await?;
        if kind == PING && flags & ACK == 0 {
            stream.write_all(&frame(PING, ACK, 0, &payload)).await?;
        }
    }
}

/// By what needs no database: on a busy machine that has its own reasons to be late.
async fn is_served(server: &TestServer, port: Port) -> bool {
    match port {
        Port::Rest => send(server.addresses.rest, "GET", "/openapi.json", &[], "").await.is_ok(),
        Port::Grpc => match server.channel().await {
            Ok(channel) => {
                let check =
                    async move { HealthClient::new(channel).check(HealthCheckRequest::default()).await };
                tokio::time::timeout(Duration::from_secs(5), check).await.is_ok_and(|checked| checked.is_ok())
            }
            Err(_) => false,
        },
    }
}

/// Every place is taken by clients that stop; how long it took until somebody else was served.
async fn taken_and_freed(server: &TestServer, stop: &Stop) -> Result<Duration> {
    let address = if stop.port == Port::Rest { server.addresses.rest } else { server.addresses.grpc };
    let since = Instant::now();
    let mut stopped = Vec::new();
    for _ in 0..PLACES {
        let stream = stop_there(address, stop).await?;
        match stop.then {
            Then::Pongs => drop(tokio::spawn(pong(stream))),
            Then::Nothing => stopped.push(stream),
        }
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    ensure!(!is_served(server, stop.port).await, "the places are not taken: the test tests nothing");
    let served = async || {
        ensure!(server.status("/live").await?.0 == 200, "it is not live");
        // A busy machine may take longer than a second to ask the database; it is the answer that counts.
        server.status("/ready").await?;
        Ok(is_served(server, stop.port).await)
    };
    wait_until("a place is free", PLACE_DEADLINE, served).await?;
    Ok(since.elapsed())
}

async fn database_with_a_page() -> Result<Database> {
    let database = support::database().await?;
    store::migrate(&settings(&database.url, &[]).database, DEADLINE).await?;
    let insert = "insert into package (title, material, max_volume, reusable, created_at) \
         select 'a title of thirty-two characters', 'y', 1, false, now() from generate_series(1, 500) n";
    database.execute(insert).await?;
    Ok(database)
}

#[tokio::test(flavor = "multi_thread")]
async fn wherever_clients_stop_their_places_are_free_within_half_a_minute() -> Result<()> {
    let database = database_with_a_page().await?;
    let stops = stops();
    let places = PLACES.to_string();
    // A refusal, for a database that a busy machine reaches late, is no answer that a client could leave untaken.
    let patience = ["--database-acquire-timeout-ms", "20000"];
    let few = [&["--connections-max", &places, "--database-connections", "1"], &patience[..]].concat();
    let mut servers = Vec::new();
    for _ in &stops {
        servers.push(TestServer::start(settings(&database.url, &few)).await?);
    }
    let each = servers.iter().zip(&stops).map(|(server, stop)| taken_and_freed(server, stop));
    let freed = join_all(each).await;
    let mut failed = Vec::new();
    for (stop, freed) in stops.iter().zip(freed) {
        match freed {
            Ok(after) => eprintln!("{:?}, {}: {:.1} s", stop.port, stop.what, after.as_secs_f64()),
            Err(error) => failed.push(format!("{:?}, {}: {error:#}", stop.port, stop.what)),
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
    Ok(())
}

#[tokio::test]
async fn clients_that_stop_in_their_tls_are_let_go() -> Result<()> {
    let ours = Certificates::for_name("localhost")?;
    let file = ours.server().display().to_string();
    let database = database_with_a_page().await?;
    let tls = ["--tls-cert", &file, "--tls-key", &file, "--connections-max", "2"];
    let server = TestServer::start(settings(&database.url, &tls)).await?;
    for address in [server.addresses.rest, server.addresses.grpc] {
        let mut stopped = Vec::new();
        for number in 0..PLACES {
            let mut stream = TcpStream::connect(address).await?;
            // A record of 512 bytes, a ClientHello, of which five bytes come.
            let hello = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3];
            stream.write_all(&hello[..if number % 2 == 0 { 0 } else { hello.len() }]).await?;
            stopped.push(stream);
        }
        for mut stream in stopped {
            let ended = tokio::time::timeout(PLACE_DEADLINE, stream.read_to_end(&mut Vec::new())).await;
            assert!(ended.is_ok(), "it is still there");
        }
    }
    Ok(())
}

#[tokio::test]
async fn probes_are_answered_whatever_stands_at_their_door() -> Result<()> {
    let database = support::database().await?;
    let server = TestServer::start(settings(&database.url, &[])).await?;
    for (address, path) in [(server.addresses.status, "/live"), (server.addresses.metrics, "/metrics")] {
        let mut stopped = Vec::new();
        for number in 0..150 {
            let mut stream = TcpStream::connect(address).await?;
            let says: &[u8] = [&b""[..], b"GET /live HTTP/1.1\r\n", PREFACE][number % 3];
            // It may have been told to go already.
            let _ = stream.write_all(says).await;
            stopped.push(stream);
        }
        for _ in 0..10 {
            assert_eq!(get(address, path).await?.status, 200);
        }
        drop(stopped);
    }
    assert_eq!(server.status("/ready").await?.0, 200);
    Ok(())
}

#[tokio::test]
async fn a_body_that_does_not_come_is_answered_with_408() -> Result<()> {
    let database = support::database().await?;
    let server = TestServer::start(settings(&database.url, &[])).await?;
    let mut stream = TcpStream::connect(server.addresses.rest).await?;
    let head = "POST /v1/packages HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{";
    stream.write_all(head.as_bytes()).await?;
    let mut answer = String::new();
    tokio::time::timeout(PLACE_DEADLINE, stream.read_to_string(&mut answer)).await??;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains(r#""code":4"#) && answer.contains("did not arrive within 15 s"), "{answer}");
    Ok(())
}

/// A connection that does not end is ended some time after its age.
#[tokio::test]
async fn an_age_is_an_age() -> Result<()> {
    let database = support::database().await?;
    let age = ["--connection-age-s", "1", "--call-timeout-ms", "1000"];
    let server = TestServer::start(settings(&database.url, &age)).await?;
    let watch = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    let mut stream = TcpStream::connect(server.addresses.grpc).await?;
    stream.write_all(&watch).await?;
    let path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let mut headers = call("x");
    let (from, length) = (2, 2 + usize::from(headers[3]));
    let path = [&[0x04, u8::try_from(path.len())?][..], path.as_bytes()].concat();
    drop(headers.splice(from..from + length, path));
    stream.write_all(&frame(HEADERS, END_HEADERS, 1, &headers)).await?;
    let since = Instant::now();
    let _ = tokio::time::timeout(PLACE_DEADLINE, pong(stream)).await.context("it is still there")?;
    assert!(since.elapsed() < Duration::from_secs(25), "{:?}", since.elapsed());
    Ok(())
}

/// A server as a process of its own, and where it listens.
struct Program {
    child: Child,
    rest: SocketAddr,
    grpc: SocketAddr,
    status: SocketAddr,
}

impl Program {
    /// With so many open files at first; a shell's own limit is not this test's.
    async fn with_open_files(number: u32, database_url: &str) -> Result<Self> {
        let any = "127.0.0.1:0";
        let start = format!("ulimit -Sn {number}; exec \"$@\"");
        let mut child = Command::new("/bin/sh")
            .args(["-c", &start, "sh", env!("CARGO_BIN_EXE_logistic-package-api"), "serve"])
            .args(["--grpc-addr", any, "--rest-addr", any, "--status-addr", any, "--metrics-addr", any])
            .env_clear()
            .env("PACKAGE_API_DATABASE_URL", database_url)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut log = BufReader::new(child.stderr.take().context("no log")?).lines();
        let serving = loop {
            let line = log.next_line().await?.context("it ended")?;
            let line: serde_json::Value = serde_json::from_str(&line)?;
            if line["message"] == "serving" {
                break line;
            }
        };
        tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
        let address =
            |name: &str| -> Result<SocketAddr> { Ok(serving[name].as_str().context("no address")?.parse()?) };
        Ok(Self { rest: address("rest")?, grpc: address("grpc")?, status: address("status")?, child })
    }
}

#[tokio::test]
async fn as_many_clients_as_are_allowed_leave_files_for_a_probe() -> Result<()> {
    let database = support::database().await?;
    let program = Program::with_open_files(100, &database.url).await?;
    let mut stopped = Vec::new();
    for number in 0..300 {
        stopped.push(TcpStream::connect(if number % 2 == 0 { program.rest } else { program.grpc }).await?);
    }
    for path in ["/live", "/ready"] {
        assert_eq!(get(program.status, path).await?.status, 200, "{path}");
    }
    drop(stopped);
    Ok(())
}

#[tokio::test]
async fn bodies_without_an_end_fill_no_memory() -> Result<()> {
    let database = support::database().await?;
    let Program { child, rest, grpc, .. } = Program::with_open_files(1_000, &database.url).await?;
    let process = child.id().context("it ended")?;

    let before = resident_mib(process)?;
    let body = vec![b' '; (4 << 20) - 1];
    let head = format!("POST /v1/packages HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len() + 1);
    let large = |address, head: Vec<u8>| {
        let body = &body;
        async move {
            let mut stream = TcpStream::connect(address).await?;
            stream.write_all(&head).await?;
            // Refused, some of them, before they have said it all.
            let _ = tokio::time::timeout(Duration::from_secs(5), stream.write_all(body)).await;
            anyhow::Ok(stream)
        }
    };
    let by_rest = join_all((0..100).map(|_| large(rest, head.clone().into_bytes()))).await;
    // Over HTTP/2 in frames of 16 KiB, as far as the window goes.
    let message = [&[0][..], &(4_u32 << 20).to_be_bytes()].concat();
    let begun = [
        PREFACE,
        &frame(SETTINGS, 0, 0, &[]),
        &frame(HEADERS, END_HEADERS, 1, &call("CreatePackageV1")),
        &frame(DATA, 0, 1, &message),
    ]
    .concat();
    let piece = frame(DATA, 0, 1, &[b' '; 16 << 10]);
    let begun = [begun, piece.repeat(60)].concat();
    let by_grpc = join_all((0..100).map(|_| async {
        let mut stream = TcpStream::connect(grpc).await?;
        let _ = tokio::time::timeout(Duration::from_secs(5), stream.write_all(&begun)).await;
        anyhow::Ok(stream)
    }))
    .await;
    let most = resident_mib(process)?;
    eprintln!("{before} MiB before, {most} MiB with 200 unfinished bodies");
    assert!(most < before + 160, "{before} MiB before, {most} MiB with 200 unfinished bodies");
    // Whoever asks for something small is served meanwhile.
    let small = r#"{"Title":"box","Material":"wood","MaximumVolume":700.5}"#;
    assert_eq!(send(rest, "POST", "/v1/packages", &[], small).await?.status, 200);
    drop((by_rest, by_grpc));
    Ok(())
}

fn resident_mib(process: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? / 1_024)
}
