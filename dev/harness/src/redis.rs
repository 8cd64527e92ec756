//! A Redis of a test's own, to be killed and cut off.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::port;
use crate::process::Process;
use crate::program::Program;
use crate::proxy::Proxy;
use crate::stack::{Output, script};
use crate::wait::wait_until;

/// It answers within a fraction of a second; a busy machine takes longer.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// A Redis server, without a disk, and a proxy in front of it. Both end when this is dropped.
#[derive(Debug)]
pub struct PrivateRedis {
    process: Process,
    addr: SocketAddr,
    proxy: Proxy,
    binary: String,
}

impl PrivateRedis {
    /// Starts one: the installed program, or one that is fetched.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start() -> Result<Self> {
        let binary = script(&["bin", "redis-server"], Output::Quiet).await?.trim().to_owned();
        let addr = port::free()?;
        let process = spawn(&binary, addr)?;
        let redis = Self { process, addr, proxy: Proxy::start(addr).await?, binary };
        redis.wait_until_it_answers().await?;
        Ok(redis)
    }

    /// Its URL, by way of the proxy.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}/0", self.proxy.addr())
    }

    /// Its URL, past the proxy.
    #[must_use]
    pub fn direct_url(&self) -> String {
        format!("redis://{}/0", self.addr)
    }

    /// What may befall its connections: refused ones look as if it were gone, and the data is kept.
    #[must_use]
    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// A crash: the data is gone with it.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Starts it again, empty, where it was.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_again(&mut self) -> Result<()> {
        self.process = spawn(&self.binary, self.addr)?;
        self.wait_until_it_answers().await
    }

    /// Makes it stand still: connections stay open, nothing answers.
    ///
    /// # Errors
    /// When it cannot be paused.
    pub async fn pause(&self) -> Result<()> {
        self.process.pause().await
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When it cannot be resumed.
    pub async fn resume(&self) -> Result<()> {
        self.process.resume().await
    }

    /// The value of a key, past the proxy.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn get(&self, key: &str) -> Result<Option<String>> {
        self.query(redis::cmd("GET").arg(key)).await
    }

    /// Sets a key that stays for ever, past the proxy.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn set(&self, key: &str, value: &str) -> Result<()> {
        self.query(redis::cmd("SET").arg(key).arg(value)).await
    }

    /// Seconds until a key goes; below 0 where it stays for ever or is not there.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn ttl(&self, key: &str) -> Result<i64> {
        self.query(redis::cmd("TTL").arg(key)).await
    }

    async fn query<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> Result<T> {
        let client = redis::Client::open(self.direct_url())?;
        let mut connection = client.get_multiplexed_async_connection().await.context("Redis")?;
        Ok(command.query_async(&mut connection).await?)
    }

    async fn wait_until_it_answers(&self) -> Result<()> {
        let answers = async || Ok(self.query::<String>(&redis::cmd("PING")).await.is_ok());
        wait_until("Redis answers", START_DEADLINE, answers).await.with_context(|| self.process.log_tail())
    }
}

fn spawn(binary: &str, addr: SocketAddr) -> Result<Process> {
    let port = addr.port().to_string();
    Program::new(binary).spawn(&["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
}
