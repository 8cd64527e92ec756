//! The way through a pooler: what it refuses, and what it drops.

use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use futures::future::join_all;
use harness::database::by_way_of;
use harness::{Database, wait_until};
use logistic_package_api::store;
use logistic_package_proto::package_api::{DescribePackageV1Request, RemovePackageV1Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tonic::{Code, Request};

use crate::support::{self, Client, DEADLINE, Setup, TestServer, box_of_wood, new_title, settings};

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
async fn door_of_a_pooler(target: SocketAddr) -> Result<SocketAddr> {
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
struct PgBouncer {
    address: SocketAddr,
    folder: PathBuf,
    _running: Child,
}

impl PgBouncer {
    /// `None` where it is not installed; CI insists (`REQUIRE_PGBOUNCER`).
    async fn before(database: &Database, more: &str) -> Result<Option<Self>> {
        let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"]
            .into_iter()
            .find(|path| PathBuf::from(path).exists());
        let Some(program) = program else {
            ensure!(std::env::var_os("REQUIRE_PGBOUNCER").is_none(), "pgbouncer is not installed");
            eprintln!("SKIPPED: pgbouncer is not installed, nothing is known of the way through it");
            return Ok(None);
        };
        let (address, server) = (harness::port::free()?, database.addr()?);
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

    fn log(&self) -> String {
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

/// A database that says of each package under which settings it was made, and whose own defaults would be wrong ones.
async fn telling_database() -> Result<Database> {
    let database = support::database().await?;
    store::migrate(&settings(&database.url, &[]).database, DEADLINE).await?;
    let telling = format!(
        "create function tells() returns trigger language plpgsql as $$
         begin
             new.material := concat_ws(' ', current_setting('transaction_isolation'),
                 current_setting('lock_timeout'), current_setting('enable_seqscan'));
             return new;
         end $$;
         create trigger tells before insert on package for each row execute function tells();
         alter database {name} set default_transaction_isolation = 'serializable';
         alter database {name} set extra_float_digits = 0;",
        name = database.name()
    );
    database.execute(&telling).await?;
    Ok(database)
}

/// Every rpc, and what each runs under.
async fn every_call_is_as_it_is_without(server: &TestServer, database: &Database) -> Result<()> {
    let mut client = Client::new(server.channel().await?);
    for number in 0..3 {
        let request = logistic_package_proto::package_api::CreatePackageV1Request {
            maximum_volume: 700.123_4,
            ..box_of_wood()
        };
        let id = client.create_package_v1(request).await?.into_inner().id;
        let describe = DescribePackageV1Request { package_id: id };
        let package = client.describe_package_v1(describe).await?.into_inner().value.context("no package")?;
        assert_eq!(package.material, "read committed 1234ms off");
        for _ in 0..2 {
            let mut once = Request::new(new_title(id, "once"));
            once.metadata_mut().insert("idempotency-key", format!("{id}-{number}").parse()?);
            client.update_package_v1(once).await?;
        }
        client.update_package_v1(new_title(id, "crate")).await?;
        client.remove_package_v1(RemovePackageV1Request { package_id: id }).await?;
        let removed = client.remove_package_v1(RemovePackageV1Request { package_id: id }).await.unwrap_err();
        assert_eq!(removed.code(), Code::NotFound);
    }
    let events = "select count(*), bool_and((payload->>'MaximumVolume') = '700.1234') from package_event";
    let row = database.client().await?.query_one(events, &[]).await?;
    assert_eq!((row.get::<_, i64>(0), row.get::<_, bool>(1)), (12, true));
    many_at_once(&client).await?;
    wait_until("it is ready", DEADLINE, async || Ok(server.status("/ready").await?.0 == 200)).await
}

/// Calls that share statements, over more connections than the pooler has.
async fn many_at_once(client: &Client) -> Result<()> {
    let calls = (0..300).map(|_| {
        let mut client = client.clone();
        async move {
            let id = client.create_package_v1(box_of_wood()).await?.into_inner().id;
            client.update_package_v1(new_title(id, "crate")).await?;
            let describe = DescribePackageV1Request { package_id: id };
            let package =
                client.describe_package_v1(describe).await?.into_inner().value.context("no package")?;
            ensure!(
                package.title == "crate" && package.material == "read committed 1234ms off",
                "{package:?}"
            );
            Ok(())
        }
    });
    join_all(calls).await.into_iter().collect()
}

/// A bound that is seen in what a package says of itself; the others are wide, for a slow machine.
const BOUNDS: [&str; 6] = [
    "--database-lock-timeout-ms",
    "1234",
    "--database-acquire-timeout-ms",
    "60000",
    "--call-timeout-ms",
    "60000",
];
const TRANSACTION: [&str; 2] = ["--database-pooling", "transaction"];

#[tokio::test]
async fn no_startup_parameter_is_sent_that_a_pooler_refuses() -> Result<()> {
    let database = telling_database().await?;
    let url = by_way_of(&database.url, door_of_a_pooler(database.addr()?).await?)?;
    store::migrate(&settings(&url, &[]).database, DEADLINE).await?;
    let server = TestServer::start(settings(&url, &BOUNDS)).await?;
    every_call_is_as_it_is_without(&server, &database).await?;
    // What the operator asks for is his to leave out.
    let error = TestServer::start(settings(&format!("{url}?options=-c%20geqo%3Doff"), &[])).await;
    let error = error.err().context("it started")?.to_string();
    assert!(
        error.contains("unsupported startup parameter") && error.contains("leave `options` out"),
        "{error}"
    );
    Ok(())
}

#[tokio::test]
async fn the_transaction_mode_is_as_good_without_a_pooler() -> Result<()> {
    let database = telling_database().await?;
    let server = TestServer::start(settings(&database.url, &[&BOUNDS[..], &TRANSACTION].concat())).await?;
    every_call_is_as_it_is_without(&server, &database).await
}

#[tokio::test]
async fn a_pool_in_session_mode_is_as_good_as_none() -> Result<()> {
    let database = telling_database().await?;
    let Some(bouncer) = PgBouncer::before(&database, "pool_mode = session\ndefault_pool_size = 40").await?
    else {
        return Ok(());
    };
    let url = by_way_of(&database.url, bouncer.address)?;
    let server = TestServer::start(settings(&url, &BOUNDS)).await.with_context(|| bouncer.log())?;
    every_call_is_as_it_is_without(&server, &database).await
}

#[tokio::test]
async fn a_pool_in_transaction_mode_is_refused_in_plain_words() -> Result<()> {
    let database = support::database().await?;
    let Some(bouncer) = PgBouncer::before(&database, "pool_mode = transaction").await? else { return Ok(()) };
    let url = by_way_of(&database.url, bouncer.address)?;
    let migrated = store::migrate(&settings(&url, &[]).database, DEADLINE).await;
    let started = TestServer::start(settings(&url, &[])).await;
    let errors =
        [migrated.err().map(|error| error.to_string()), started.err().map(|error| error.to_string())];
    for error in errors {
        let error = error.context("it was not refused")?;
        assert!(error.contains("a pooler in transaction mode is on the way"), "{error}");
        assert!(error.contains("PACKAGE_API_DATABASE_POOLING=transaction"), "{error}");
    }
    Ok(())
}

/// A pooler that hands its backends out in turn, so that two sessions at the start do not meet.
#[tokio::test]
async fn a_pool_in_transaction_mode_is_found_out_at_the_latest_by_readiness() -> Result<()> {
    let database = support::database().await?;
    store::migrate(&settings(&database.url, &[]).database, DEADLINE).await?;
    let modest = "pool_mode = transaction\nserver_round_robin = 1\nmin_pool_size = 4\ndefault_pool_size = 4";
    let Some(bouncer) = PgBouncer::before(&database, modest).await? else { return Ok(()) };
    let url = by_way_of(&database.url, bouncer.address)?;
    let busy = async || Ok(harness::database::connect(&url).await.is_ok());
    wait_until("it has backends", DEADLINE, busy).await?;
    let server = match TestServer::start(settings(&url, &[])).await {
        Ok(server) => server,
        Err(error) => {
            assert!(error.to_string().contains("a pooler in transaction mode"), "{error}");
            return Ok(());
        }
    };
    wait_until("it is found out", DEADLINE, async || {
        let (code, text) = server.status("/ready").await?;
        Ok(code == 503 && text.contains("a pooler in transaction mode"))
    })
    .await
}

#[tokio::test]
async fn through_a_pool_in_transaction_mode_no_setting_and_no_statement_is_lost() -> Result<()> {
    let database = support::database().await?;
    let mode = "pool_mode = transaction\ndefault_pool_size = 3";
    let Some(bouncer) = PgBouncer::before(&database, mode).await? else { return Ok(()) };
    let url = by_way_of(&database.url, bouncer.address)?;
    let error =
        TestServer::start(settings(&url, &TRANSACTION)).await.err().context("it started")?.to_string();
    assert!(error.contains("1, 2, 3") && error.contains("`logistic-package-api migrate`"), "{error}");

    let database = telling_database().await?;
    let Some(bouncer) = PgBouncer::before(&database, mode).await? else { return Ok(()) };
    let url = by_way_of(&database.url, bouncer.address)?;
    let server = TestServer::start(settings(&url, &[&BOUNDS[..], &TRANSACTION].concat())).await?;
    every_call_is_as_it_is_without(&server, &database).await.with_context(|| bouncer.log())?;
    // Nothing was left to whoever has the backends next.
    let stranger = harness::database::connect(&url).await?;
    let left = stranger
        .simple_query("select current_setting('lock_timeout'), current_setting('enable_seqscan')")
        .await?;
    let row = left.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let row = row.context("no row")?;
    assert_eq!((row.get(0), row.get(1)), (Some("0"), Some("on")));
    Ok(())
}

#[tokio::test]
async fn a_lock_is_waited_for_no_longer_in_transaction_mode() -> Result<()> {
    let database = support::database().await?;
    store::migrate(&settings(&database.url, &[]).database, DEADLINE).await?;
    let mut setup =
        Setup::over_with(database, &[&TRANSACTION[..], &["--database-lock-timeout-ms", "100"]].concat())
            .await?;
    let id = setup.create("box").await?;
    let holder = setup.database.client().await?;
    holder.batch_execute("begin; select from package for update").await?;
    let status = setup.client.update_package_v1(new_title(id, "crate")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    holder.batch_execute("commit").await?;
    setup.client.update_package_v1(new_title(id, "crate")).await?;
    assert_eq!(setup.describe(id).await?.title, "crate");
    Ok(())
}
