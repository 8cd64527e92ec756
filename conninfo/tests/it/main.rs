//! The same strings to psql and to this crate: where psql goes, as whom and with what, we go; what it refuses, we refuse.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use conninfo::{Conninfo, Place};
use harness::stack::{Output, script};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

/// Far longer than psql takes to a server that answers.
const DEADLINE: Duration = Duration::from_secs(30);

/// What both take, `{1}` and `{2}` for two ports of 127.0.0.1.
const TAKEN: [&str; 29] = [
    "host=127.0.0.1 port={1}",
    "host = 127.0.0.1  port= {1} user = 'a  b' dbname=x",
    "host=127.0.0.1 port={1} dbname='it\\'s'",
    "host=127.0.0.1 port={1} dbname=a\\ b\\\\c",
    "host=127.0.0.1 port={1} options='-c a=b'",
    "hostaddr=127.0.0.1 port={1}",
    "host=nowhere.invalid hostaddr=127.0.0.1 port={1}",
    "host=127.0.0.1,127.0.0.1 port={1},{2}",
    "host=127.0.0.1,127.0.0.1 port={1}",
    "host=127.0.0.1 port={1} dbname=a dbname=b user=c user=d",
    "host=127.0.0.1 port={1} application_name=x fallback_application_name=y",
    "host=127.0.0.1 port={1} requiressl=0",
    "host=127.0.0.1 port={1} gssencmode=disable sslmode=disable",
    "host=127.0.0.1 port={1} connect_timeout=' 5 ' keepalives=0 tcp_user_timeout=7 keepalives_idle=-1",
    "host=127.0.0.1 port='{1}' target_session_attrs=any load_balance_hosts=disable channel_binding=disable",
    "host=127.0.0.1 port={1} passfile=/nonexistent password='  '",
    "\thost=127.0.0.1\n port={1}\r\n",
    "host=127.0.0.1 port={1} user=\u{e9}",
    "host=127.0.0.1 port={1} client_encoding=UTF8 sslcompression=0 krbsrvname=x",
    "postgres://u%20x:p%40@127.0.0.1:{1}/d%2fb?application_name=a%26b",
    "postgresql://127.0.0.1:{1}",
    "postgresql://127.0.0.1:{1},127.0.0.1:{2}/x",
    "postgresql:///x?host=127.0.0.1&port={1}",
    "postgres://u:a?b@127.0.0.1:{1}/x",
    "postgres://u:a:b@127.0.0.1:{1}/x",
    "postgres://:p@127.0.0.1:{1}/x",
    "postgres://%C3%A9@127.0.0.1:{1}/",
    "postgres://u@127.0.0.1:{1}/?dbname=z",
    "postgres://u@127.0.0.1:{1}/x?options=-c%20geqo%3Doff",
];

/// What both refuse.
const REFUSED: [&str; 28] = [
    "host=127.0.0.1 port={1} nonsense=1",
    "host=127.0.0.1 port={1} sslmode=Disable",
    "host=127.0.0.1 port={1} sslmode=''",
    "host=127.0.0.1 port=0",
    "host=127.0.0.1 port=x",
    "host=127.0.0.1 port=70000",
    "host=127.0.0.1,127.0.0.1 port={1},{2},{1}",
    "host=127.0.0.1 hostaddr=127.0.0.1,127.0.0.1 port={1}",
    "hostaddr=127.0.0.1.5 port={1}",
    "host=127.0.0.1 port={1} user='x",
    "host 127.0.0.1 port={1}",
    "host=127.0.0.1 port={1} password='it''s'",
    "host=127.0.0.1 port={1} target_session_attrs=master",
    "host=127.0.0.1 port={1} load_balance_hosts=maybe",
    "host=127.0.0.1 port={1} channel_binding=sometimes",
    "host=127.0.0.1 port={1} gssencmode=maybe",
    "host=127.0.0.1 port={1} gssencmode=require",
    "host=127.0.0.1 port={1} connect_timeout=soon",
    "host=127.0.0.1 port={1} keepalives=yes",
    "host=127.0.0.1 port={1} ssl_min_protocol_version=SSLv3",
    "host=127.0.0.1 port={1} sslrootcert=system sslmode=prefer",
    "postgres://127.0.0.1:{1}/x?sslmode",
    "postgres://127.0.0.1:{1}/x?options=a=b",
    "postgres://127.0.0.1:{1}/%zz",
    "postgres://127.0.0.1:{1}/%00",
    "postgres://127.0.0.1:{1}/x?nonsense=1",
    "postgres://[::1",
    "postgres://a b@127.0.0.1:{1}/x",
];

/// A listener for each of the two ports.
struct Listeners([TcpListener; 2]);

impl Listeners {
    async fn start() -> Result<Self> {
        let listen = async || TcpListener::bind("127.0.0.1:0").await;
        Ok(Self([listen().await?, listen().await?]))
    }

    fn port(&self, index: usize) -> Result<u16> {
        Ok(self.0[index].local_addr()?.port())
    }

    /// The next connection's port, and what it says first.
    async fn hear(&self) -> Result<(u16, BTreeMap<String, String>)> {
        let (mut stream, _) = tokio::select! {
            accepted = self.0[0].accept() => accepted?,
            accepted = self.0[1].accept() => accepted?,
        };
        let said = startup(&mut stream).await?;
        Ok((stream.local_addr()?.port(), said))
    }
}

/// The parameters of the StartupMessage (PostgreSQL, "Message Formats"); encryption is refused.
async fn startup(stream: &mut TcpStream) -> Result<BTreeMap<String, String>> {
    loop {
        let length = usize::try_from(stream.read_i32().await?)?;
        let mut body = vec![0; length.checked_sub(4).context("a length")?];
        stream.read_exact(&mut body).await?;
        if body.len() == 4 {
            stream.write_all(b"N").await?;
            continue;
        }
        let texts: Vec<_> = body[4..].split(|&byte| byte == 0).map(String::from_utf8_lossy).collect();
        let pairs = texts.chunks_exact(2).filter(|pair| !pair[0].is_empty());
        return Ok(pairs.map(|pair| (pair[0].to_string(), pair[1].to_string())).collect());
    }
}

fn psql(program: &str, text: &str) -> Command {
    let mut command = Command::new(program);
    command.args([text, "-X", "-w", "-c", "select 1"]).env_clear();
    command.env("PGUSER", "me").env("HOME", "/nonexistent").env("PATH", "/usr/bin:/bin");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    command
}

fn parsed(text: &str) -> Result<Conninfo, String> {
    Conninfo::parse(text, &[("PGUSER".into(), "me".into()), ("HOME".into(), "/nonexistent".into())])
}

async fn with_ports(listeners: &Listeners, text: &str) -> Result<String> {
    let text = text.replace("{1}", &listeners.port(0)?.to_string());
    Ok(text.replace("{2}", &listeners.port(1)?.to_string()))
}

#[tokio::test]
async fn what_psql_takes_means_the_same() -> Result<()> {
    let program = script(&["bin", "psql"], Output::Quiet).await?;
    for text in TAKEN {
        let listeners = Listeners::start().await?;
        let text = with_ports(&listeners, text).await?;
        let mut child = psql(program.trim(), &text).spawn()?;
        let heard = tokio::time::timeout(DEADLINE, async {
            tokio::select! {
                heard = listeners.hear() => heard,
                ended = child.wait() => anyhow::bail!("psql refuses it: {ended:?}"),
            }
        });
        let (port, said) = heard.await?.with_context(|| text.clone())?;
        let ours = parsed(&text).map_err(anyhow::Error::msg).with_context(|| text.clone())?;
        let first = &ours.addresses[0];
        ensure!(
            matches!(&first.place, Place::Tcp { .. }) && first.port == port,
            "{text}: {first} and {port}"
        );
        let is = |name: &str| said.get(name).map(String::as_str);
        ensure!(is("user") == Some(&ours.user), "{text}: {said:?}");
        ensure!(is("database") == Some(&ours.database), "{text}: {said:?}");
        ensure!(is("options") == ours.options.as_deref(), "{text}: {said:?}");
        let name = ours.application_name.as_deref().unwrap_or("psql");
        ensure!(is("application_name") == Some(name), "{text}: {said:?}");
    }
    Ok(())
}

#[tokio::test]
async fn what_psql_refuses_is_refused() -> Result<()> {
    let program = script(&["bin", "psql"], Output::Quiet).await?;
    for text in REFUSED {
        let listeners = Listeners::start().await?;
        let text = with_ports(&listeners, text).await?;
        let mut child = psql(program.trim(), &text).spawn()?;
        let ended = tokio::time::timeout(DEADLINE, async {
            tokio::select! {
                // It connects before it looks at some of them, and says nothing.
                Ok(heard) = listeners.hear() => anyhow::bail!("psql takes it: {heard:?}"),
                ended = child.wait() => Ok(ended?),
            }
        });
        let ended = ended.await?.with_context(|| text.clone())?;
        ensure!(!ended.success(), "{text}");
        ensure!(parsed(&text).is_err(), "{text} is taken");
    }
    Ok(())
}
