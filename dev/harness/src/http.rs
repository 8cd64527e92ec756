//! One request over plain TCP.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A status endpoint that takes longer than this is as good as dead.
const DEADLINE: Duration = Duration::from_secs(10);

/// A metrics page is some tens of kilobytes; more than this is a bug worth failing on.
const BODY_BYTES_MAX: u64 = 8 << 20;

/// The answer to a GET.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The status line and the headers, as text in lower case.
    pub head: String,
    /// The body, as text.
    pub body: String,
}

/// Fetches `path` from `addr`.
///
/// # Errors
/// When nobody listens, or the answer is late or not HTTP.
pub async fn get(addr: SocketAddr, path: &str) -> Result<Response> {
    send(addr, "GET", path, &[], "").await
}

/// Makes a request of any kind.
///
/// # Errors
/// When nobody listens, or the answer is late or not HTTP.
pub async fn send(
    addr: SocketAddr,
    verb: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<Response> {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let request = format!(
        "{verb} {path} HTTP/1.0\r\nHost: {addr}\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = tokio::time::timeout(DEADLINE, exchange(addr, &request)).await;
    answer
        .with_context(|| format!("http://{addr}{path} did not answer in {DEADLINE:?}"))?
        .with_context(|| format!("http://{addr}{path}"))
}

/// Speaks HTTP/1.0, since the answer then ends with the connection and is never chunked.
async fn exchange(addr: SocketAddr, request: &str) -> Result<Response> {
    let mut stream = TcpStream::connect(addr).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(BODY_BYTES_MAX).read_to_end(&mut answer).await?;
    parse(&String::from_utf8_lossy(&answer))
}

fn parse(answer: &str) -> Result<Response> {
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer without a head")?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.context("an answer without a status")?;
    Ok(Response { status, head: head.to_lowercase(), body: body.to_owned() })
}

/// The value of a metric in the Prometheus text format, added up over its label sets. With labels (`a{p="0"}`) it is
/// that of the one series that has just those.
#[must_use]
pub fn metric(page: &str, name: &str) -> Option<f64> {
    let values = page.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = match rest.strip_prefix('{').filter(|_| !name.ends_with('}')) {
            Some(labels) => labels.rsplit_once("} ")?.1,
            None => rest.strip_prefix(' ')?,
        };
        value.split(' ').next()?.parse::<f64>().ok()
    });
    values.reduce(|sum, value| sum + value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_added_up_over_its_labels() {
        let page = "# TYPE a counter\na{p=\"0\"} 2\na{p=\"} 1\"} 3\na_total 9\nb 1.5\n";
        assert_eq!(metric(page, "a"), Some(5.0));
        assert_eq!(metric(page, "a{p=\"0\"}"), Some(2.0));
        assert_eq!(metric(page, "b"), Some(1.5));
        assert_eq!(metric(page, "c"), None);
    }

    #[test]
    fn an_answer_has_a_status_and_a_body() {
        let response = parse("HTTP/1.0 503 Service Unavailable\r\nx: y\r\n\r\n{}").expect("HTTP");
        assert_eq!((response.status, response.body.as_str()), (503, "{}"));
    }
}
