//! TLS before it.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::secure::{Certificates, server_config};

pub(super) fn door(
    listener: TcpListener,
    target: SocketAddr,
    certificates: &Certificates,
) -> Result<JoinHandle<()>> {
    let acceptor = TlsAcceptor::from(Arc::new(server_config(&certificates.server())?));
    Ok(tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(pass(client, target, acceptor.clone()));
        }
    }))
}

async fn pass(client: TcpStream, target: SocketAddr, acceptor: TlsAcceptor) -> Result<()> {
    let mut encrypted = acceptor.accept(client).await?;
    let mut server = TcpStream::connect(target).await?;
    copy_bidirectional(&mut encrypted, &mut server).await?;
    Ok(())
}
