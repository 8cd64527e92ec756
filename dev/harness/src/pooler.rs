//! Poolers between a program and Postgres.

use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use crate::{Database, wait_until};

/// For it to listen.
const DEADLINE: Duration = Duration::from_secs(60);

/// What PgBouncer follows, and so takes.
const TAKEN: [&str; 7] = [
    "user",
    "database",
    "client_encoding",
    "DateStyle",
    "TimeZone",
    "application_name",
    "standard_conforming_strings",
];
const SSL_REQUEST: u32 = 80_877_103;

/// A pooler as far as its door goes: it refuses any startup parameter that it does not follow.
///
/// # Errors
/// When the kernel has no port left.
pub async fn door_of_a_pooler(target: SocketAddr) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = let_in(client, target).await;
            });
        }
    });
    Ok(address)
}

async fn let_in(mut client: TcpStream, target: SocketAddr) -> Result<()> {
    let startup = loop {
        let length = client.read_u32().await?;
        let mut message = vec![0; usize::try_from(length)?.saturating_sub(4)];
        client.read_exact(&mut message).await?;
        if message[..4] != SSL_REQUEST.to_be_bytes() {
            break [&length.to_be_bytes()[..], &message].concat();
        }
        client.write_all(b"N").await?;
    };
    let texts: Vec<_> = startup[8..].split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    let refused =
        texts.chunks(2).map(|pair| &*pair[0]).find(|name| !name.is_empty() && !TAKEN.contains(name));
    if let Some(refused) = refused {
        let fields = format!("SFATAL\0C08P01\0Munsupported startup parameter: {refused}\0\0");
        client.write_u8(b'E').await?;
        client.write_u32(u32::try_from(fields.len() + 4)?).await?;
        client.write_all(fields.as_bytes()).await?;
        return Ok(());
    }
    let mut server = TcpStream::connect(target).await?;
    server.write_all(&startup).await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

/// A PgBouncer of a test's own, gone with it.
pub struct PgBouncer {
    address: SocketAddr,
    folder: PathBuf,
    _running: Child,
}

impl PgBouncer {
    /// One before the server of this database; `more` goes to the end of its settings. `None` where it is not installed; CI
    /// insists (`REQUIRE_PGBOUNCER`).
    ///
    /// # Errors
    /// When it does not start.
    pub async fn before(database: &Database, more: &str) -> Result<Option<Self>> {
        let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"]
            .into_iter()
            .find(|path| PathBuf::from(path).exists());
        let Some(program) = program else {
            ensure!(std::env::var_os("REQUIRE_PGBOUNCER").is_none(), "pgbouncer is not installed");
            eprintln!("SKIPPED: pgbouncer is not installed, nothing is known of the way through it");
            return Ok(None);
        };
        let (address, server) = (crate::port::free()?, database.addr()?);
        let folder =
            std::env::temp_dir().join(format!("pgbouncer-{}-{}", std::process::id(), address.port()));
        std::fs::create_dir_all(&folder)?;
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755))?;
        let (users, file) = (folder.join("users.txt"), folder.join("pgbouncer.ini"));
        let (user, password) = user_and_password(&database.url)?;
        std::fs::write(&users, format!("\"{user}\" \"{password}\"\n"))?;
        let mut ini = std::fs::File::create(&file)?;
        writeln!(
            ini,
            "[databases]\n* = host={} port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {}\n\
             unix_socket_dir =\nauth_type = trust\nauth_file = {}\nmax_client_conn = 500\n{more}",
            server.ip(),
            server.port(),
            address.port(),
            users.display()
        )?;
        let mut command = Command::new(program);
        // It does not run as root.
        if std::fs::metadata("/proc/self")?.uid() == 0 {
            command.args(["-u", "nobody"]);
        }
        let log = std::fs::File::create(folder.join("log"))?;
        command
            .arg("-q")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true);
        let bouncer = Self { address, folder, _running: command.spawn()? };
        let listens = async || Ok(TcpStream::connect(address).await.is_ok());
        wait_until("pgbouncer listens", DEADLINE, listens).await.with_context(|| bouncer.log())?;
        Ok(Some(bouncer))
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// What it said.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn user_and_password(url: &str) -> Result<(String, String)> {
    let (_, rest) = url.split_once("://").context("a URL")?;
    let (who, _) = rest.rsplit_once('@').context("a user")?;
    let (user, password) = who.split_once(':').unwrap_or((who, ""));
    Ok((user.to_owned(), password.to_owned()))
}
