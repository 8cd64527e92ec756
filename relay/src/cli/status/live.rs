//! What the relay says of itself, on its own page.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::screen::printable;
use crate::config::Settings;
use crate::observe::snapshot::Snapshot;

/// It answers at once, or something is wrong with it.
const TIMEOUT: Duration = Duration::from_secs(2);

/// A snapshot has a few kilobytes; whatever else may be listening there is not read for long.
const BODY_BYTES_MAX: usize = 1 << 20;

/// Where a relay of this machine is asked; `source` is its name, where it has one.
pub(super) fn url(addr: SocketAddr, source: Option<&str>) -> String {
    format!("http://{}{}", reachable(addr), path(source))
}

fn path(source: Option<&str>) -> String {
    source.map_or_else(|| "/status".to_owned(), |name| format!("/sources/{name}/status"))
}

/// An address that is listened on, as one to connect to.
fn reachable(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        // There may be no IPv6 here: every address is listened on, that of IPv4 among them.
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}

/// Asks the relay; the error says why it did not answer.
pub(super) async fn ask(settings: &Settings) -> Result<Snapshot, String> {
    let addr = reachable(settings.http_addr);
    let answer = tokio::time::timeout(TIMEOUT, get(addr, &path(settings.name.as_deref()))).await;
    let body = answer.map_err(|_| format!("no answer within {} s", TIMEOUT.as_secs()))??;
    let snapshot = read(&body).map_err(|error| format!("another program answers: {error}"))?;
    if snapshot.slot.name != settings.source.slot {
        return Err(format!("the relay there follows the slot {}", snapshot.slot.name));
    }
    Ok(snapshot)
}

/// Whoever answers there does not drive the terminal: what is shown has no control characters.
fn read(body: &[u8]) -> serde_json::Result<Snapshot> {
    let mut value: Value = serde_json::from_slice(body)?;
    clean(&mut value);
    serde_json::from_value(value)
}

fn clean(value: &mut Value) {
    match value {
        Value::String(text) => *text = printable(text),
        Value::Array(values) => values.iter_mut().for_each(clean),
        Value::Object(fields) => fields.values_mut().for_each(clean),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

async fn get(addr: SocketAddr, path: &str) -> Result<Bytes, String> {
    let stream = TcpStream::connect(addr).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let request = Request::get(path).header(HOST, addr.to_string()).body(Empty::<Bytes>::new());
    let request = request.map_err(|error| error.to_string())?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        if !answer.status().is_success() {
            return Err(format!("it answers {}", answer.status()));
        }
        let body = Limited::new(answer.into_body(), BODY_BYTES_MAX).collect().await;
        Ok(body.map_err(|error| error.to_string())?.to_bytes())
    };
    tokio::select! {
        biased;
        answered = exchange => answered,
        ended = connection => Err(ended.err().map_or("it hung up".into(), |error| error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_answers_does_not_drive_the_terminal() {
        let mut value =
            serde_json::json!({"state": "\u{1b}]52;c;x\u{7}", "recent": [{"key": "a\u{9b}b"}], "n": 1});
        clean(&mut value);
        assert_eq!(value, serde_json::json!({"state": " ]52;c;x ", "recent": [{"key": "a b"}], "n": 1}));
    }

    #[test]
    fn a_relay_that_listens_everywhere_is_asked_here() {
        for (listens, asked) in [
            ("0.0.0.0:9101", "http://127.0.0.1:9101/status"),
            ("[::]:9101", "http://127.0.0.1:9101/status"),
            ("10.0.0.7:80", "http://10.0.0.7:80/status"),
        ] {
            assert_eq!(listens.parse().map(|addr| url(addr, None)), Ok(asked.to_owned()));
        }
        let named = "127.0.0.1:1".parse().map(|addr| url(addr, Some("orders")));
        assert_eq!(named, Ok("http://127.0.0.1:1/sources/orders/status".to_owned()));
    }
}
