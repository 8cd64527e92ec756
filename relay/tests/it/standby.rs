use anyhow::Result;
use harness::http::Response;

use crate::case::{Case, SOON};

fn stands_by(response: &Response) -> bool {
    response.status == 503 && response.body.contains("\"standby\"")
}

#[tokio::test]
async fn a_second_relay_on_the_slot_stands_by_and_takes_over() -> Result<()> {
    let case = Case::new().await?;
    let mut first = case.relay.init_and_run().await?;
    case.commit(20, 5, 1).await?;
    let mut second = case.relay.beside()?.run()?;
    second.status("the second relay stands by", stands_by).await?;
    assert_eq!(second.get("/live").await?.status, 200);

    first.kill()?;
    second.ready().await?;
    case.commit(20, 5, 1).await?;
    assert_eq!(case.audit().await?.published, 40);
    Ok(())
}

#[tokio::test]
async fn a_relay_that_ends_in_good_order_hands_over_without_a_repetition() -> Result<()> {
    let case = Case::new().await?;
    let mut first = case.relay.init_and_run().await?;
    let mut second = case.relay.beside()?.run()?;
    second.status("the second relay stands by", stands_by).await?;
    case.commit(100, 5, 1).await?;
    first.terminate(SOON).await?;
    second.ready().await?;
    case.commit(100, 5, 1).await?;
    assert_eq!(case.audit().await?.duplicates, 0);
    Ok(())
}
