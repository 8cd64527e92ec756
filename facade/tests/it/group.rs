use anyhow::{Result, ensure};
use harness::{Topic, wait_until};

use crate::case::{Case, Facade, SOON, numbers_in, write_numbered};

/// What the instances printed, together and in the order of numbers.
fn together(facades: &[&Facade]) -> Vec<usize> {
    let mut numbers: Vec<_> = facades.iter().flat_map(|facade| numbers_in(&facade.printed())).collect();
    numbers.sort_unstable();
    numbers
}

async fn print_all(facades: &[&Facade], count: usize) -> Result<()> {
    let all = async || Ok(together(facades).len() >= count);
    wait_until(&format!("{count} are printed"), SOON, all).await?;
    ensure!(together(facades) == (0..count).collect::<Vec<_>>(), "each once: {:?}", together(facades));
    Ok(())
}

#[tokio::test]
async fn instances_share_the_partitions_and_print_each_record_once() -> Result<()> {
    let mut case = Case::new().await?;
    case.commands = Topic::fresh(&case.brokers, 4).await?;
    let mut one = case.start()?;
    one.answers(200, "ready: 7 partitions").await?;
    write_numbered(&case.commands, 0..200).await?;
    print_all(&[&one], 200).await?;

    // Partitions go over to it as it joins: what the first has printed of them is committed before.
    let mut two = case.start()?;
    let halves = async || {
        let (of_one, of_two) =
            (one.metric("package_facade_partitions").await?, two.metric("package_facade_partitions").await);
        Ok(of_one > 0.0 && of_two.is_ok_and(|of_two| of_two > 0.0 && of_one + of_two == 7.0))
    };
    wait_until("both have some", SOON, halves).await?;
    one.is_ready().await?;
    two.is_ready().await?;
    write_numbered(&case.commands, 200..400).await?;
    print_all(&[&one, &two], 400).await?;
    ensure!(!numbers_in(&two.printed()).is_empty(), "the second has its share");

    // One that stops leaves at once: the other has all of them long before the session would have ended.
    one.stop().await?;
    two.answers(200, "ready: 7 partitions").await?;
    write_numbered(&case.commands, 400..500).await?;
    print_all(&[&one, &two], 500).await?;
    two.stop().await
}

#[tokio::test]
async fn an_instance_too_many_stands_by_and_is_ready() -> Result<()> {
    let case = Case::new().await?;
    let file = case.file("one.toml");
    // One partition for two. Only a file or a flag can say that a topic is not read: an empty variable is none.
    std::fs::write(&file, "package_events_topic = ''\ncommands_topic = ''\ncache_events_topic = ''\n")?;
    let mut program = case.program().env("PACKAGE_FACADE_CONFIG", &file);
    for topic in ["PACKAGE_EVENTS", "COMMANDS", "CACHE_EVENTS"] {
        program = program.without_env(&format!("PACKAGE_FACADE_{topic}_TOPIC"));
    }
    let (mut one, mut two) = (case.start_with(program.clone())?, case.start_with(program)?);
    one.is_ready().await?;
    two.is_ready().await?;
    let shared = async || {
        let (of_one, of_two) = (one.get("/ready").await?, two.get("/ready").await?);
        let says =
            |text: &str| [&of_one, &of_two].iter().filter(|answer| answer.body.starts_with(text)).count();
        Ok(says("ready: 1 partitions") == 1 && says("ready: 0 partitions") == 1)
    };
    wait_until("one has the partition, and both are ready", SOON, shared).await?;
    one.stop().await?;
    two.answers(200, "ready: 1 partitions").await?;
    two.stop().await
}
