//! Servers of a test's own, to be stopped, killed and paused.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::database::address;
use crate::kafka_proxy::KafkaProxy;
use crate::port;
use crate::stack::{Output, exported, script, script_path, script_with};

/// Removing an instance stops its server by force: a few seconds are plenty.
const REMOVE_DEADLINE: Duration = Duration::from_secs(30);

/// An instance of one server, removed with its data when dropped. What the environment names is never touched.
#[derive(Debug)]
pub(crate) struct Instance {
    name: String,
    server: &'static str,
    pub(crate) address: String,
}

impl Instance {
    pub(crate) async fn up(server: &'static str, variable: &str, extra: &[&str]) -> Result<Self> {
        Self::up_with(server, variable, extra, &[]).await
    }

    async fn up_with(
        server: &'static str,
        variable: &str,
        extra: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        let id = uuid::Uuid::new_v4().simple().to_string();
        // Made before the start, so that a start that fails half-way is removed as well.
        let name = format!("test-{server}-{}", &id[..8]);
        let mut instance = Self { name, server, address: String::new() };
        let up = ["up", "--instance", &instance.name, "--only", server, "--private"];
        script_with(environment, &[&up, extra].concat(), Output::Quiet).await?;
        let printed = script(&["env", "--instance", &instance.name], Output::Quiet).await?;
        instance.address = exported(&printed, variable)
            .with_context(|| format!("the instance {} has no {variable}:\n{printed}", instance.name))?;
        Ok(instance)
    }

    pub(crate) async fn act(&self, action: &str, extra: &[&str]) -> Result<()> {
        let command = [action, self.server, "--instance", &self.name];
        script(&[&command, extra].concat(), Output::Quiet).await?;
        Ok(())
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let mut command = Command::new("python3");
        command.arg(script_path()).args(["remove", "--instance", &self.name]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let Ok(mut child) = child else { return };
        let started = Instant::now();
        while started.elapsed() < REMOVE_DEADLINE {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        eprintln!("the instance {} could not be removed in {REMOVE_DEADLINE:?}", self.name);
        let _ = child.kill();
        let _ = child.wait();
    }
}

macro_rules! faults {
    ($server:ident) => {
        impl $server {
            /// Stops it in good order.
            ///
            /// # Errors
            /// When it does not stop.
            pub async fn stop(&self) -> Result<()> {
                self.0.act("stop", &[]).await
            }

            /// Kills it: a crash.
            ///
            /// # Errors
            /// When it cannot be killed.
            pub async fn kill(&self) -> Result<()> {
                self.0.act("kill", &[]).await
            }

            /// Starts it again, at the address it had.
            ///
            /// # Errors
            /// When it does not come up.
            pub async fn start_again(&self) -> Result<()> {
                self.0.act("start", &[]).await
            }

            /// Stops it in good order and starts it again.
            ///
            /// # Errors
            /// When it does not come up.
            pub async fn restart(&self) -> Result<()> {
                self.0.act("restart", &[]).await
            }

            /// Makes it stand still: connections stay open, nothing answers.
            ///
            /// # Errors
            /// When it cannot be paused.
            pub async fn pause(&self) -> Result<()> {
                self.0.act("pause", &[]).await
            }

            /// Lets it go on.
            ///
            /// # Errors
            /// When it cannot be resumed.
            pub async fn resume(&self) -> Result<()> {
                self.0.act("resume", &[]).await
            }
        }
    };
}

/// A Postgres of the test's own.
#[derive(Debug)]
pub struct PrivatePostgres(Instance);

impl PrivatePostgres {
    /// Starts one with the settings of the repository.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start() -> Result<Self> {
        Self::start_with(&[]).await
    }

    /// Starts one of another version (`PG` of the stack): 14 to 17 are built with TLS, 18 is not.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_version(version: &str) -> Result<Self> {
        Ok(Self(Instance::up_with("postgres", "DATABASE_URL", &[], &[("PG", version)]).await?))
    }

    /// Starts one with `settings` (`name=value`) over those of the repository.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_with(settings: &[&str]) -> Result<Self> {
        Self::start_on(None, settings).await
    }

    /// The same on a disk of its own, of so many megabytes, where that is said.
    ///
    /// # Errors
    /// When it does not come up, or the machine makes no such disks.
    pub async fn start_on(disk_mb: Option<u32>, settings: &[&str]) -> Result<Self> {
        Self::up(disk_mb, settings, &[]).await
    }

    async fn up(disk_mb: Option<u32>, settings: &[&str], more: &[&str]) -> Result<Self> {
        let disk_mb = disk_mb.map(|megabytes| megabytes.to_string());
        let mut extra: Vec<&str> = settings.iter().flat_map(|setting| ["--pg-set", *setting]).collect();
        extra.extend(disk_mb.iter().flat_map(|megabytes| ["--disk-mb", megabytes]));
        Ok(Self(Instance::up("postgres", "DATABASE_URL", &[&extra, more].concat()).await?))
    }

    /// Starts a physical standby of `self`, with the slot `standby` on `self`, and `settings` of its own.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn standby_with(&self, settings: &[&str]) -> Result<Self> {
        self.standby_on(None, settings).await
    }

    /// The same on a disk of its own, of so many megabytes, where that is said.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn standby_on(&self, disk_mb: Option<u32>, settings: &[&str]) -> Result<Self> {
        let settings = [&["hot_standby_feedback=on", "primary_slot_name=standby"], settings].concat();
        Self::up(disk_mb, &settings, &["--standby-of", &self.0.name]).await
    }

    /// Fills up its disk, which must be its own: not one block is left.
    ///
    /// # Errors
    /// When it has none of its own.
    pub async fn fill_disk(&self) -> Result<()> {
        self.0.act("fill", &[]).await
    }

    /// Makes room on its disk again. A server that has ended meanwhile is to be started.
    ///
    /// # Errors
    /// When the script cannot.
    pub async fn free_disk(&self) -> Result<()> {
        self.0.act("free", &[]).await
    }

    /// Where it listens.
    ///
    /// # Errors
    /// Never for a URL that the script made.
    pub fn addr(&self) -> Result<SocketAddr> {
        address(self.url())
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.0.address
    }
}

/// A Kafka of the test's own.
#[derive(Debug)]
pub struct PrivateKafka(Instance);

impl PrivateKafka {
    /// Starts one.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start() -> Result<Self> {
        Self::start_with(&[]).await
    }

    /// Starts one with `properties` (`name=value`) over those that it has.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_with(properties: &[&str]) -> Result<Self> {
        let extra: Vec<&str> = properties.iter().flat_map(|property| ["--kafka-set", *property]).collect();
        Ok(Self(Instance::up("kafka", "KAFKA_BROKERS", &extra).await?))
    }

    /// The same, with users that may come with SCRAM-SHA-512: `name:password`.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_with_user(properties: &[&str], user: &str) -> Result<Self> {
        let extra: Vec<&str> = properties.iter().flat_map(|property| ["--kafka-set", *property]).collect();
        let environment = [("WALPOST_DEV_KAFKA_USERS", user)];
        Ok(Self(Instance::up_with("kafka", "KAFKA_BROKERS", &extra, &environment).await?))
    }

    /// Starts one with a second listener at port `listener`, which tells its clients to come by way of port `way`:
    /// that of a proxy.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_behind(listener: u16, way: u16) -> Result<Self> {
        let listeners = format!(
            "listeners=PLAINTEXT://127.0.0.1:{{broker}},CONTROLLER://127.0.0.1:{{controller}},\
             PROXIED://127.0.0.1:{listener}"
        );
        let advertised =
            format!("advertised.listeners=PLAINTEXT://127.0.0.1:{{broker}},PROXIED://127.0.0.1:{way}");
        let map = "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT";
        Self::start_with(&[&listeners, &advertised, map]).await
    }

    /// Starts one whose second listener is behind a proxy that speaks Kafka: clients that come to
    /// [`KafkaProxy::addr`] stay with it.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_behind_proxy() -> Result<(Self, KafkaProxy)> {
        let target = port::free()?;
        let proxy = KafkaProxy::start(target).await?;
        let kafka = Self::start_behind(target.port(), proxy.addr().port()).await?;
        Ok((kafka, proxy))
    }

    /// Runs one of Kafka's own tools, by its class: it is told where the brokers are.
    ///
    /// # Errors
    /// When it fails: with the end of what it said.
    pub async fn tool(&self, class: &str, arguments: &[&str]) -> Result<String> {
        script(&[&["tool", "--instance", &self.0.name, class], arguments].concat(), Output::Quiet).await
    }

    /// Its bootstrap servers.
    #[must_use]
    pub fn brokers(&self) -> &str {
        &self.0.address
    }
}

faults!(PrivatePostgres);
faults!(PrivateKafka);
