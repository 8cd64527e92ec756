//! A schema registry of a test's own, in this process: as much of Confluent's interface as clients that read and write use,
//! written from its documentation
//! (<https://docs.confluent.io/platform/current/schema-registry/develop/api.html>).
//!
//! Left out: deletion, contexts, modes, references, rules, and compatibility of anything but Avro.

mod routes;
mod store;
#[cfg(test)]
mod tests;
mod tls;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::port;
use crate::secure::Certificates;
pub use store::{Asked, Store, Version};

/// A registry. It can be away, and is gone when this is dropped; what it knows outlives its being away.
pub struct SchemaRegistry {
    shared: Arc<Shared>,
    addr: SocketAddr,
    serving: Option<JoinHandle<()>>,
    /// The door with TLS, where there is one.
    door: Option<(SocketAddr, JoinHandle<()>)>,
}

pub(crate) struct Shared {
    store: Mutex<Store>,
    /// `name:password`, where it asks for them.
    user: Mutex<Option<String>>,
}

impl Shared {
    pub(crate) fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn user(&self) -> MutexGuard<'_, Option<String>> {
        self.user.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SchemaRegistry {
    /// One that knows nothing.
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn start() -> Result<Self> {
        let mut registry = Self::away()?;
        registry.come().await?;
        Ok(registry)
    }

    /// One that is yet to come.
    ///
    /// # Errors
    /// When there is no free port.
    pub fn away() -> Result<Self> {
        let shared = Shared { store: Mutex::new(Store::default()), user: Mutex::new(None) };
        Ok(Self { shared: Arc::new(shared), addr: port::free()?, serving: None, door: None })
    }

    /// It answers from now on.
    ///
    /// # Errors
    /// When its port was taken meanwhile.
    pub async fn come(&mut self) -> Result<()> {
        let listener = TcpListener::bind(self.addr).await.with_context(|| self.addr.to_string())?;
        let router = routes::router(Arc::clone(&self.shared));
        self.serving = Some(tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        }));
        Ok(())
    }

    /// It is gone, and keeps what it knows.
    pub fn go(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
        }
    }

    /// It answers nobody else any more than this user, by HTTP's basic authentication.
    pub fn ask_for(&self, name: &str, password: &str) {
        *self.shared.user() = Some(format!("{name}:{password}"));
    }

    /// It can be had by TLS as well; where.
    ///
    /// # Errors
    /// When the certificate is none.
    pub async fn with_tls(&mut self, certificates: &Certificates) -> Result<String> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        self.door = Some((addr, tls::door(listener, self.addr, certificates)?));
        Ok(format!("https://localhost:{}", addr.port()))
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What it knows, and what it was asked.
    pub fn store(&self) -> MutexGuard<'_, Store> {
        self.shared.store()
    }
}

impl Drop for SchemaRegistry {
    fn drop(&mut self) {
        self.go();
        if let Some((_, door)) = self.door.take() {
            door.abort();
        }
    }
}
