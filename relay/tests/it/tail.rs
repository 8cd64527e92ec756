use anyhow::{Context, Result, ensure};
use harness::{Finished, PrivateKafka, Program, Stack, Topic, Written, wait_until};
use serde_json::Value;

use crate::case::{Case, SOON};

/// A topic of events and one beside it, and a walpost that is told of them and of nothing else: no database.
struct Topics {
    events: Topic,
    beside: Topic,
    walpost: Program,
}

impl Topics {
    async fn new() -> Result<Self> {
        Self::on(&Stack::shared().await?.brokers).await
    }

    async fn on(brokers: &str) -> Result<Self> {
        let (events, beside) = (Topic::fresh(brokers, 2).await?, Topic::fresh(brokers, 1).await?);
        let walpost = walpost(&events).env("WALPOST_TAIL_TOPICS", &beside.name);
        Ok(Self { events, beside, walpost })
    }

    /// All that is there, as `arguments` have it shown.
    async fn shown(&self, arguments: &[&str]) -> Result<Finished> {
        let all = ["tail", "--from-start", "--until-end"];
        self.walpost.output(&[&all, arguments].concat()).await?.success()
    }

    /// The same, as JSON lines.
    async fn lines(&self, arguments: &[&str]) -> Result<Vec<Value>> {
        let shown = self.shown(&[&["--json"], arguments].concat()).await?.stdout;
        shown.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
    }
}

fn walpost(events: &Topic) -> Program {
    let program = Program::new(env!("CARGO_BIN_EXE_walpost"));
    program.env("WALPOST_KAFKA_BROKERS", &events.brokers).env("WALPOST_TOPIC", &events.name)
}

/// The text at `field` of each line, in the order of the alphabet: topics and partitions have none between them.
fn sorted(lines: &[Value], field: &str) -> Vec<String> {
    let mut texts: Vec<_> =
        lines.iter().map(|line| line[field].as_str().unwrap_or_default().to_owned()).collect();
    texts.sort();
    texts
}

#[tokio::test]
async fn every_topic_is_shown_with_the_fields_of_the_contract() -> Result<()> {
    let case = Case::new().await?;
    let _relay = case.relay.init_and_run().await?;
    let sql = "insert into package_event (package_id, event_type, payload) values \
               (7, 'Created', '{\"ID\": 7, \"MaximumVolume\": 700.50}'), (7, 'Removed', null)";
    case.database.execute(sql).await?;
    case.audit().await?;
    let commands = Topic::fresh(&case.topic.brokers, 1).await?;
    let cache = Topic::fresh(&case.topic.brokers, 1).await?;
    commands.write(&[Written::text("chat", "{\n \"Command\": \"/list\"\n}")]).await?;
    cache.write(&[Written::text("chat", "{\"Hit\": true}")]).await?;

    let beside = format!("--tail-topics={},{}", commands.name, cache.name);
    let shown = case.relay.command(&["tail", "--from-start", "--until-end", "--json", &beside]).await?;
    let shown = shown.success()?.stdout;
    let lines: Vec<Value> = shown.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    ensure!(lines.len() == 4, "{shown}");
    let of = |topic: &Topic| lines.iter().filter(|line| line["topic"] == topic.name).collect::<Vec<_>>();
    let (events, commands, cache) = (of(&case.topic), of(&commands), of(&cache));

    let created = &events[0]["value"];
    ensure!(events[0]["format"] == "package-event" && events[0]["key"] == "7", "{shown}");
    ensure!(created["PackageID"] == 7 && created["ID"].is_u64() && created["Type"] == "Created", "{shown}");
    ensure!(created["Payload"]["MaximumVolume"] == 700.5 && shown.contains("700.50"), "{shown}");
    chrono::DateTime::parse_from_rfc3339(created["Created"].as_str().context("Created")?)?;
    chrono::DateTime::parse_from_rfc3339(events[0]["timestamp"].as_str().context("timestamp")?)?;
    ensure!(events[0]["headers"]["ce_type"] == "hablof.logistic_package_api.package.created", "{shown}");
    ensure!(events[1]["value"]["Type"] == "Removed" && events[1]["value"]["Payload"].is_null(), "{shown}");
    ensure!(events[1]["offset"].as_i64() > events[0]["offset"].as_i64(), "a key has its order: {shown}");
    ensure!(commands[0]["value"]["Command"] == "/list" && commands[0]["format"] == "json", "{shown}");
    ensure!(cache[0]["value"]["Hit"] == true && cache[0]["partition"] == 0, "{shown}");
    Ok(())
}

#[tokio::test]
async fn from_now_shows_what_comes_and_nothing_that_was_there() -> Result<()> {
    let topics = Topics::new().await?;
    topics.events.write(&[Written::text("old", "old")]).await?;
    topics.beside.write(&[Written::text("old", "old")]).await?;
    let mut tail = topics.walpost.spawn(&["tail"])?;
    // It does not say when it has looked where the topics end, so they grow until it shows that they do.
    wait_until("new records of both topics are shown", SOON, async || {
        tail.expect_running()?;
        topics.events.write(&[Written::text("new", "event")]).await?;
        topics.beside.write(&[Written::text("new", "command")]).await?;
        let log = tail.log();
        Ok([&topics.events, &topics.beside].iter().all(|topic| log.contains(&topic.name)))
    })
    .await?;
    let ended = tail.terminate(SOON).await?;
    ensure!(ended.success() && !tail.log().contains("old"), "{ended}: {}", tail.log());
    Ok(())
}

#[tokio::test]
async fn until_the_end_without_the_start_is_nothing() -> Result<()> {
    let topics = Topics::new().await?;
    topics.events.write(&[Written::text("a", "a")]).await?;
    let ended = topics.walpost.output(&["tail", "--until-end"]).await?.success()?;
    ensure!(ended.stdout.is_empty() && ended.stderr.is_empty(), "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn a_filter_lets_through_what_it_names_and_nothing_else() -> Result<()> {
    let topics = Topics::new().await?;
    let typed = |key: &'static str, value, headers| Written { headers, ..Written::text(key, value) };
    topics
        .events
        .write(&[
            typed("7", "a", &[("ce_type", "shop.package.created")]),
            typed("7", "b", &[("ce_type", "shop.package.removed")]),
            typed("77", "c", &[("ce_type", "shop.package.updated")]),
        ])
        .await?;
    topics.beside.write(&[Written::text("7", "d")]).await?;

    let shown = async |arguments: &[&str]| Ok(sorted(&topics.lines(arguments).await?, "value"));
    let expect = async |arguments: &[&str], values: &[&str]| -> Result<()> {
        let found: Result<Vec<String>> = shown(arguments).await;
        let found = found?;
        ensure!(found == values, "{arguments:?} shows {found:?}");
        Ok(())
    };
    expect(&[], &["a", "b", "c", "d"]).await?;
    expect(&["--key=7"], &["a", "b", "d"]).await?;
    expect(&["--type=CREATED"], &["a"]).await?;
    expect(&["--type=created", "--type=Updated"], &["a", "c"]).await?;
    expect(&["--type=Removed", "--key=77"], &[]).await?;
    expect(&["--tail-topics="], &["a", "b", "c"]).await
}

#[tokio::test]
async fn a_value_that_is_no_event_is_shown_as_what_it_is() -> Result<()> {
    let topics = Topics::new().await?;
    topics
        .beside
        .write(&[
            Written { key: Some(b"gone"), ..Written::default() },
            Written::text("empty", ""),
            Written { value: Some(b"\xff\x00"), ..Written::default() },
        ])
        .await?;
    let lines = topics.lines(&[]).await?;
    ensure!(lines[0]["value"].is_null() && lines[0]["format"].is_null(), "{lines:?}");
    ensure!(lines[1]["value"] == "" && lines[1]["format"] == "text", "{lines:?}");
    ensure!(lines[2]["value"]["hex"] == "ff00" && lines[2]["format"] == "bytes", "{lines:?}");
    ensure!(lines[2]["key"].is_null(), "{lines:?}");
    let text = topics.shown(&[]).await?.stdout;
    ensure!(text.lines().next().is_some_and(|line| line.ends_with("null")), "{text}");
    Ok(())
}

#[tokio::test]
async fn a_record_cannot_drive_the_terminal() -> Result<()> {
    let topics = Topics::new().await?;
    let evil = "\x1b]0;owned\x07\r\n\u{9b}2J\u{202e}";
    let json = format!("{{\"Title\": \"\u{9b}2J\u{202e}{}\"}}", r"\u001b[2J");
    let headers = [("ce_type", evil), (evil, evil)];
    topics
        .events
        .write(&[
            Written { headers: &headers, ..Written::text(evil, evil) },
            Written { headers: &headers, ..Written::text(evil, &json) },
        ])
        .await?;
    for arguments in [&[] as &[&str], &["--json"]] {
        let shown = topics.shown(arguments).await?.stdout;
        let harmful = |letter: char| (letter.is_control() && letter != '\n') || letter == '\u{202e}';
        ensure!(!shown.contains(harmful) && shown.lines().count() == 2, "{shown:?}");
    }
    ensure!(topics.lines(&[]).await?.iter().all(|line| line["key"] == evil), "JSON says what it was");
    Ok(())
}

#[tokio::test]
async fn a_topic_beside_that_does_not_exist_is_left_out_with_a_note() -> Result<()> {
    let topics = Topics::new().await?;
    topics.beside.write(&[Written::text("k", "there")]).await?;
    let missing = Topic::unused_name();
    let ended = topics.shown(&[&format!("--tail-topics={missing},{}", topics.beside.name)]).await?;
    ensure!(ended.stdout.contains("there"), "{ended:?}");
    ensure!(ended.stderr.contains(&missing) && ended.stderr.contains("--tail-topics"), "{ended:?}");
    ensure!(!ended.stderr.contains(&topics.beside.name), "{ended:?}");

    let ended = topics.walpost.output(&["tail", "--topic", &missing]).await?;
    ensure!(
        ended.code() == 1 && ended.stderr.contains(&missing),
        "the topic of events must exist: {ended:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_closed_pipe_ends_it_quietly_even_when_nothing_more_comes() -> Result<()> {
    let topics = Topics::new().await?;
    topics.events.write(&[Written::text("a", "the only one")]).await?;
    let shell = Program::new("/bin/sh").env("WALPOST", env!("CARGO_BIN_EXE_walpost"));
    let shell = shell.env("WALPOST_KAFKA_BROKERS", &topics.events.brokers);
    let shell = shell.env("WALPOST_TOPIC", &topics.events.name);
    let script = "{ \"$WALPOST\" tail --from-start --tail-topics=; echo code $? >&2; } | head -1";
    let ended = shell.output(&["-c", script]).await?;
    ensure!(ended.stdout.ends_with("the only one\n") && ended.stderr == "code 0\n", "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn a_broker_that_comes_back_is_read_on() -> Result<()> {
    let kafka = PrivateKafka::start().await?;
    let topics = Topics::on(kafka.brokers()).await?;
    topics.events.write(&[Written::text("a", "before")]).await?;
    let mut tail = topics.walpost.spawn(&["tail", "--from-start"])?;
    wait_until("the first record is shown", SOON, async || Ok(tail.log().contains("before"))).await?;
    kafka.kill().await?;
    wait_until("the loss is noticed", SOON, async || Ok(tail.log().contains("a broker is away"))).await?;
    kafka.start_again().await?;
    topics.events.write(&[Written::text("a", "after")]).await?;
    wait_until("the next record is shown", SOON, async || {
        tail.expect_running()?;
        Ok(tail.log().contains("after"))
    })
    .await?;
    ensure!(tail.log().matches("before").count() == 1, "nothing comes twice: {}", tail.log());
    Ok(())
}
