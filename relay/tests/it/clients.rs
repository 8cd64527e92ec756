//! Clients of the relay's own port that stop, wherever they are.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use harness::http::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::case::{Case, SOON};

const EVENTS: &[u8] = b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n";

/// A client that says so much, and does nothing more.
async fn stops_after(addr: SocketAddr, says: &[u8]) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4_096)?;
    let mut stream = socket.connect(addr).await?;
    // It may have been told to go already.
    let _ = stream.write_all(says).await;
    Ok(stream)
}

#[tokio::test]
async fn probes_are_answered_whatever_stands_at_the_door() -> Result<()> {
    let case = Case::new().await?;
    let relay = case.relay.init_and_run().await?;
    let says = [
        &b""[..],
        b"G",
        b"GET /live HTTP/1.1\r\nHost:",
        b"POST /live HTTP/1.1\r\nContent-Length: 9\r\n\r\n1",
    ];
    let mut stopped = Vec::new();
    for number in 0..600 {
        stopped.push(stops_after(relay.http_addr(), says[number % says.len()]).await?);
    }
    for path in ["/live", "/ready", "/healthy", "/status", "/metrics"] {
        for _ in 0..5 {
            assert_eq!(get(relay.http_addr(), path).await?.status, 200, "{path}");
        }
    }
    drop(stopped);
    Ok(())
}

#[tokio::test]
async fn pages_that_stop_reading_make_room_for_others() -> Result<()> {
    let case = Case::new().await?;
    let relay = case.relay.init_and_run().await?;
    let mut stopped = Vec::new();
    for _ in 0..40 {
        stopped.push(stops_after(relay.http_addr(), EVENTS).await?);
    }
    let mut stream = TcpStream::connect(relay.http_addr()).await?;
    stream.write_all(EVENTS).await?;
    let mut said = String::new();
    while !said.contains("event: snapshot") {
        let mut bytes = [0; 4_096];
        let read = timeout(SOON, stream.read(&mut bytes)).await??;
        ensure!(read > 0, "it was closed after {said}");
        said.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    drop(stopped);
    Ok(())
}
