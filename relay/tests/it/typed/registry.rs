use harness::SecretFile;
use harness::secure::Certificates;

use super::*;

const AVRO: &str = "format = \"avro\"\n";

async fn insert(typed: &Typed, number: i64) -> Result<()> {
    let sql = format!("insert into outbox values ({number}, 'o-{number}', '{{\"id\": {number}}}')");
    typed.database.execute(&sql).await
}

/// It says so, and goes on when the registry is there: nobody starts it again.
#[tokio::test]
async fn a_registry_that_is_away_at_start_is_waited_for() -> Result<()> {
    let mut typed = Typed::new("payload jsonb", AVRO).await?;
    let id = typed.knows("AVRO", ORDER);
    typed.relay.init().await?;
    typed.registry.go();
    insert(&typed, 1).await?;
    let mut relay = typed.relay.run()?;
    let said = relay
        .status("the registry is named", |answer| {
            answer.body.contains("schema registry") && answer.status == 503
        })
        .await?;
    ensure!(said.body.contains("\"retrying\"") && said.body.contains(&typed.registry.url()), "{}", said.body);
    ensure!(relay.metric("walpost_reconnects_total{peer=\"registry\"}").await? > 0.0);
    typed.registry.come().await?;
    relay.ready().await?;
    let arrived = typed.arrived(1).await?;
    assert_eq!(arrived[0].value, [&[0][..], &id.to_be_bytes(), &[2, 0]].concat());
    Ok(())
}

/// What it was told at the start stays: rows that come again have the same bytes.
#[tokio::test]
async fn what_was_asked_at_the_start_holds_until_the_next_whatever_becomes_of_the_registry() -> Result<()> {
    let mut typed = Typed::new("payload jsonb", AVRO).await?;
    let id = typed.knows("AVRO", ORDER);
    let mut relay = typed.relay.init_and_run().await?;
    insert(&typed, 1).await?;
    typed.arrived(1).await?;
    let newer =
        ORDER.replace(r#"{"name": "id""#, r#"{"name": "more", "type": "int", "default": 5}, {"name": "id""#);
    let next = typed.knows("AVRO", &newer);
    typed.registry.go();
    let end =
        "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = $1 and active";
    typed.database.client().await?.execute(end, &[&typed.database.slot_name()]).await?;
    insert(&typed, 2).await?;
    let arrived = typed.arrived(2).await?;
    assert!(arrived.iter().all(|record| record.value[1..5] == id.to_be_bytes()));
    relay.terminate(SOON).await?;
    typed.registry.come().await?;
    let mut relay = typed.relay.run_ready().await?;
    insert(&typed, 3).await?;
    let third = typed.arrived(3).await?.pop().context("a record")?.value;
    assert_eq!(third, [&[0][..], &next.to_be_bytes(), &[10, 6, 0]].concat());
    relay.terminate(SOON).await.map(drop)
}

#[tokio::test]
async fn a_subject_or_a_version_that_is_missing_is_named_and_waited_for() -> Result<()> {
    let typed = Typed::new("payload jsonb", "format = \"avro\"\nschema_version = \"2\"\n").await?;
    let subject = typed.subject();
    for command in ["init", "preview", "check"] {
        let ended = typed.relay.command(&[command]).await?;
        let said = format!("{}{}", ended.stdout, ended.stderr);
        ensure!(ended.code() == 1, "{command}: {said}");
        for part in [&format!("has no subject {subject}"), "walpost init --register", "--subject"] {
            ensure!(said.contains(part), "{command} does not say {part}: {said}");
        }
    }
    let slots = "select count(*) from pg_replication_slots where slot_name = $1";
    let slots: i64 =
        typed.database.client().await?.query_one(slots, &[&typed.database.slot_name()]).await?.get(0);
    ensure!(slots == 0, "a slot was made, which holds back the log");
    typed.knows("AVRO", ORDER);
    let mut relay = typed.relay.run()?;
    relay.status("the version is named", |answer| answer.body.contains("has no version 2")).await?;
    typed.knows("AVRO", &ORDER.replace("note", "remark"));
    // Now it is the slot that is missing, and that does halt.
    relay.halted().await?;
    relay.terminate(SOON).await?;
    typed.relay.init_and_run().await?.terminate(SOON).await.map(drop)
}

#[tokio::test]
async fn a_schema_in_another_language_is_named_before_anything_is_sent() -> Result<()> {
    let typed = Typed::new("payload jsonb", AVRO).await?;
    typed.knows("JSON", "{}");
    let said = typed.relay.command(&["init"]).await?.stderr;
    for part in ["is a schema in JSON", "format avro need one in AVRO", &typed.subject()] {
        ensure!(said.contains(part), "{part}: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn the_password_comes_from_a_file_over_tls_is_rotated_and_is_in_no_log() -> Result<()> {
    let mut typed = Typed::new("payload jsonb", AVRO).await?;
    typed.knows("AVRO", ORDER);
    typed.registry.ask_for("walpost", "s3cr3t-0ne");
    let certificates = Certificates::for_name("localhost")?;
    let url = typed.registry.with_tls(&certificates).await?;
    let file = SecretFile::new(&format!("registry-{}", typed.database.name()), "wr0ng-s3cr3t")?;
    let relay = typed
        .relay
        .clone()
        .env("WALPOST_REGISTRY_URL", &url)
        .env("WALPOST_REGISTRY_USER", "walpost")
        .env("WALPOST_REGISTRY_PASSWORD_FILE", file.path())
        .env("WALPOST_LOG_LEVEL", "trace");
    let untrusted = relay.command(&["init"]).await?;
    ensure!(untrusted.code() == 1 && untrusted.stderr.contains("TLS"), "{}", untrusted.stderr);
    let relay = relay.env("WALPOST_REGISTRY_CA", certificates.authority());
    let denied = relay.command(&["init"]).await?;
    ensure!(denied.code() == 1 && denied.stderr.contains("refuses (401)"), "{}", denied.stderr);
    file.write("s3cr3t-0ne")?;
    relay.init().await?;
    file.write("wr0ng-s3cr3t")?;
    let mut process = relay.run()?;
    process.status("the refusal is said", |answer| answer.body.contains("refuses (401)")).await?;
    file.write("s3cr3t-0ne")?;
    process.ready().await?;
    insert(&typed, 1).await?;
    typed.arrived(1).await?;
    process.terminate(SOON).await?;
    let log = process.log();
    let encoded = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, "walpost:s3cr3t-0ne");
    for secret in ["s3cr3t-0ne", "wr0ng-s3cr3t", encoded.as_str()] {
        ensure!(!log.contains(secret), "{secret} is in the log");
    }
    Ok(())
}

#[tokio::test]
async fn a_password_in_the_url_or_on_the_command_line_is_refused_and_not_shown() -> Result<()> {
    let typed = Typed::new("payload jsonb", AVRO).await?;
    let in_url = typed.relay.clone().env("WALPOST_REGISTRY_URL", "http://me:s3cr3t@sr:8081");
    let flag = ["init", "--registry-user=me", "--registry-password=s3cr3t"];
    for ended in [in_url.command(&["init"]).await?, typed.relay.command(&flag).await?] {
        let said = format!("{}{}", ended.stdout, ended.stderr);
        ensure!(ended.code() == 2 && said.contains("WALPOST_REGISTRY_PASSWORD_FILE"), "{said}");
        ensure!(!said.contains("s3cr3t"), "{said}");
    }
    Ok(())
}
