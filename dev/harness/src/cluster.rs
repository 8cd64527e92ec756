//! Three brokers of a test's own, each behind proxies of its own, to be rolled, killed, paused and cut off one by one.

use std::ops::RangeInclusive;

use anyhow::Result;

use crate::kafka_proxy::KafkaProxy;
use crate::port;
use crate::private::Instance;
use crate::proxy::Proxy;

/// The numbers of the brokers.
pub const BROKERS: RangeInclusive<i32> = 1..=3;

/// Who may come by [`PrivateKafkaCluster::proxied`]: with SASL's PLAIN and this name, so that rights can be taken from him
/// ([`crate::rights`]). Who comes straight may do everything.
pub const USER: &str = "relay";

/// His password.
pub const PASSWORD: &str = "of-a-test";

/// Who has no name is the brokers, the controller or a test. Without any rule everybody else may do everything as well.
const RULES: [&str; 3] = [
    "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users=User:ANONYMOUS",
    "allow.everyone.if.no.acl.found=true",
];

/// The controller's number, as `dev/stack` gives it: what is set without a number is for brokers.
const CONTROLLER: u8 = 100;

/// The way to one broker, for clients that come by [`PrivateKafkaCluster::proxied`]. What comes passes both proxies.
#[derive(Debug)]
pub struct Way {
    /// Resets, swallows, slows.
    pub connections: Proxy,
    /// Refuses requests.
    pub requests: KafkaProxy,
}

/// Three brokers and a controller; topics have three replicas, and a record is stored when two have it.
#[derive(Debug)]
pub struct PrivateKafkaCluster {
    ways: Vec<Way>,
    instance: Instance,
}

impl PrivateKafkaCluster {
    /// Starts them.
    ///
    /// # Errors
    /// When one does not come up.
    pub async fn start() -> Result<Self> {
        let (mut ways, mut settings) = (Vec::new(), Vec::new());
        for broker in BROKERS {
            let target = port::free()?;
            let requests = KafkaProxy::start(target).await?;
            let connections = Proxy::start(requests.addr()).await?;
            settings.push(format!(
                "{broker}:listeners=PLAINTEXT://127.0.0.1:{{broker}},PROXIED://127.0.0.1:{}",
                target.port()
            ));
            settings.push(format!(
                "{broker}:advertised.listeners=PLAINTEXT://127.0.0.1:{{broker}},PROXIED://127.0.0.1:{}",
                connections.addr().port()
            ));
            ways.push(Way { connections, requests });
        }
        let by_name = [
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:SASL_PLAINTEXT",
            "listener.name.proxied.sasl.enabled.mechanisms=PLAIN",
            &format!(
                "listener.name.proxied.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule \
                 required user_{USER}=\"{PASSWORD}\";"
            ),
        ];
        settings.extend(by_name.iter().chain(&RULES).map(ToString::to_string));
        settings.extend(RULES.map(|rule| format!("{CONTROLLER}:{rule}")));
        let mut extra = vec!["--brokers", "3"];
        extra.extend(settings.iter().flat_map(|setting| ["--kafka-set", setting]));
        Ok(Self { instance: Instance::up("kafka", "KAFKA_BROKERS", &extra).await?, ways })
    }

    /// The bootstrap servers, past the proxies.
    #[must_use]
    pub fn brokers(&self) -> &str {
        &self.instance.address
    }

    /// The bootstrap servers, each behind its proxies.
    #[must_use]
    pub fn proxied(&self) -> String {
        let addresses: Vec<_> = self.ways.iter().map(|way| way.connections.addr().to_string()).collect();
        addresses.join(",")
    }

    /// The ways to all brokers.
    #[must_use]
    pub fn ways(&self) -> &[Way] {
        &self.ways
    }

    /// The way to `broker`.
    ///
    /// # Panics
    /// When there is no such broker.
    #[must_use]
    pub fn way(&self, broker: i32) -> &Way {
        &self.ways[usize::try_from(broker - BROKERS.start()).expect("brokers are numbered from 1")]
    }

    /// Kills `broker`: a crash.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub async fn kill(&self, broker: i32) -> Result<()> {
        self.act("kill", broker).await
    }

    /// Starts `broker` again, at the address it had.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_again(&self, broker: i32) -> Result<()> {
        self.act("start", broker).await
    }

    /// Starts whatever of them does not run.
    ///
    /// # Errors
    /// When one does not come up.
    pub async fn start_all(&self) -> Result<()> {
        self.instance.act("start", &[]).await
    }

    /// Stops `broker` in good order, which hands its leaderships on, and starts it again.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn restart(&self, broker: i32) -> Result<()> {
        self.act("restart", broker).await
    }

    /// Makes `broker` stand still: connections stay open, nothing answers.
    ///
    /// # Errors
    /// When it cannot be paused.
    pub async fn pause(&self, broker: i32) -> Result<()> {
        self.act("pause", broker).await
    }

    /// Lets `broker` go on.
    ///
    /// # Errors
    /// When it cannot be resumed.
    pub async fn resume(&self, broker: i32) -> Result<()> {
        self.act("resume", broker).await
    }

    async fn act(&self, action: &str, broker: i32) -> Result<()> {
        self.instance.act(action, &["--broker", &broker.to_string()]).await
    }
}
