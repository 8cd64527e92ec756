use anyhow::{Context, Result, ensure};
use harness::{Program, port};
use package_facade::board::Board;
use package_facade::config::TABLE;
use package_facade::metrics::Metrics;

fn facade() -> Program {
    Program::new(env!("CARGO_BIN_EXE_package-facade"))
}

#[tokio::test]
async fn wrong_settings_end_it_with_2_and_are_all_named() -> Result<()> {
    let program = facade().env("PACKAGE_FACADE_KAFKA_BROKERS", "nowhere");
    for command in ["run", "check-config"] {
        let ended = program
            .output(&[command, "--http-addr=here", "--kafka-property=enable.auto.commit=false"])
            .await?;
        ensure!(ended.code() == 2 && ended.stdout.is_empty(), "{ended:?}");
        for part in [
            "3 wrong settings",
            "PACKAGE_FACADE_KAFKA_BROKERS",
            "--http-addr",
            "`enable.auto.commit` is refused",
        ] {
            ensure!(ended.stderr.contains(part), "{part} is not in {}", ended.stderr);
        }
    }
    let ended = facade().output(&["print"]).await?;
    ensure!(ended.code() == 2, "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn check_config_shows_each_setting_and_where_it_comes_from() -> Result<()> {
    let ended = facade()
        .env("KAFKA_BROKERS", "kafka:9092")
        .output(&["check-config", "--group=mine"])
        .await?
        .success()?;
    for part in
        ["kafka-brokers = kafka:9092  (KAFKA_BROKERS)", "group = mine  (--group)", "omp-tgbot-commands"]
    {
        ensure!(ended.stdout.contains(part), "{part} is not in {}", ended.stdout);
    }
    Ok(())
}

#[tokio::test]
async fn an_address_that_is_taken_ends_it_with_its_name() -> Result<()> {
    let addr = port::free()?;
    let _taken = std::net::TcpListener::bind(addr)?;
    let ended = facade().output(&["run", &format!("--http-addr={addr}")]).await?;
    ensure!(ended.code() == 1 && ended.stderr.contains("http-addr"), "{ended:?}");
    Ok(())
}

/// `UPDATE_DOCS=1 cargo test -p package-facade` writes both tables anew.
#[test]
fn the_page_has_every_setting_and_every_metric() -> Result<()> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/facade.md");
    let page = std::fs::read_to_string(path)?;
    let expected = with_part(&page, "settings", &settings::markdown(&TABLE))?;
    let expected = with_part(&expected, "metrics", &metrics()?)?;
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &expected)?;
        return Ok(());
    }
    ensure!(page == expected, "run UPDATE_DOCS=1 cargo test -p package-facade");
    Ok(())
}

/// The page with `text` between the two comments that name this part.
fn with_part(page: &str, name: &str, text: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->\n"));
    let (before, rest) = page.split_once(&begin).with_context(|| begin.clone())?;
    let (_, after) = rest.split_once(&end).with_context(|| end.clone())?;
    Ok(format!("{before}{begin}{text}{end}{after}"))
}

fn metrics() -> Result<String> {
    let metrics = Metrics::new(std::iter::once("t"))?;
    let board = Board::new(0);
    board.assign(std::iter::once(("t".to_owned(), 0)));
    board
        .update(package_facade::board::Snapshot { lags: vec![("t".to_owned(), 0, 0)], ..Default::default() });
    let page = metrics.text(&board)?;
    let mut table = String::from("| metric | kind | |\n|---|---|---|\n");
    for (name, help) in page.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' ')) {
        if name.starts_with("package_facade_") {
            let kind = page.lines().find_map(|line| line.strip_prefix(&format!("# TYPE {name} ")));
            table += &format!("| `{name}` | {} | {help} |\n", kind.unwrap_or_default());
        }
    }
    Ok(table)
}
