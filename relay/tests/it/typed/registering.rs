use super::*;

const WITH_FILE: &str = "format = \"avro\"\nschema = \"order.avsc\"\n";

#[tokio::test]
async fn nothing_is_registered_unless_init_is_told_to() -> Result<()> {
    let typed = Typed::new("payload jsonb", WITH_FILE).await?;
    typed.file("order.avsc", ORDER.as_bytes())?;
    for command in ["init", "check", "preview"] {
        let ended = typed.relay.command(&[command]).await?;
        let said = format!("{}{}", ended.stdout, ended.stderr);
        ensure!(ended.code() == 1 && said.contains("walpost init --register"), "{command}: {said}");
        ensure!(said.contains("order.avsc") && said.contains(&typed.subject()), "{command}: {said}");
    }
    let mut relay = typed.relay.run()?;
    relay.status("the file is named", |answer| answer.body.contains("order.avsc is no version")).await?;
    ensure!(!typed.registry.store().was_written_to(), "{:?}", typed.registry.store().asked);
    let said = typed.relay.command(&["init", "--register"]).await?.success()?.stdout;
    let registered = format!("subject {}: order.avsc registered, version 1, id 1", typed.subject());
    ensure!(said.contains(&registered), "{said}");
    // Again it finds it, and writes nothing.
    typed.registry.store().asked.clear();
    let said = typed.relay.command(&["init", "--register"]).await?.success()?.stdout;
    ensure!(said.contains("order.avsc there, version 1, id 1"), "{said}");
    ensure!(!typed.registry.store().was_written_to());
    relay.terminate(SOON).await?;
    let mut relay = typed.relay.run_ready().await?;
    typed.database.execute("insert into outbox values (1, 'o-1', '{\"id\": 41, \"note\": \"hi\"}')").await?;
    assert_eq!(typed.arrived(1).await?[0].value, [0, 0, 0, 0, 1, 0x52, 2, 4, b'h', b'i']);
    relay.terminate(SOON).await.map(drop)
}

#[tokio::test]
async fn a_schema_that_is_incompatible_is_refused_in_the_words_of_the_registry() -> Result<()> {
    let typed = Typed::new("payload jsonb", WITH_FILE).await?;
    typed.knows("AVRO", ORDER);
    typed.file("order.avsc", ORDER.replace("\"long\"", "\"string\"").as_bytes())?;
    let ended = typed.relay.command(&["init", "--register"]).await?;
    ensure!(ended.code() == 1, "{}", ended.stdout);
    for part in [
        "order.avsc",
        &typed.subject(),
        "(409)",
        "is incompatible with an earlier schema",
        "oldSchemaVersion: 1",
    ] {
        ensure!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
    assert_eq!(typed.registry.store().of_subject(&typed.subject()).count(), 1);
    Ok(())
}

#[tokio::test]
async fn a_file_that_is_another_version_than_the_settings_name_is_a_mistake_that_names_both() -> Result<()> {
    let typed = Typed::new("payload jsonb", &format!("{WITH_FILE}schema_version = \"latest\"\n")).await?;
    typed.file("order.avsc", ORDER.as_bytes())?;
    typed.knows("AVRO", ORDER);
    typed.relay.init().await?;
    typed.knows("AVRO", &ORDER.replace("note", "remark"));
    let said = typed.relay.command(&["check"]).await?.stdout;
    for part in ["order.avsc is version 1 of the subject", "name version 2", "--schema-version"] {
        ensure!(said.contains(part), "{part}: {said}");
    }
    // Where nothing is said of the version, it is the file's.
    let path = typed.folder.join("walpost.toml");
    let text = fs::read_to_string(&path)?.replace("schema_version = \"latest\"\n", "");
    fs::write(&path, text)?;
    typed.relay.run_ready().await?.terminate(SOON).await.map(drop)
}
