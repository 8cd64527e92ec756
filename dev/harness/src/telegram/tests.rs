use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::{FakeTelegram, Fault};
use crate::http;

async fn call(telegram: &FakeTelegram, method: &str, params: &Value) -> Result<(u16, Value)> {
    let path = format!("/bot{}/{method}", telegram.token());
    let headers = [("content-type", "application/json")];
    let answer = http::send(telegram.addr(), "POST", &path, &headers, &params.to_string()).await?;
    Ok((answer.status, serde_json::from_str(&answer.body)?))
}

async fn ids(telegram: &FakeTelegram, params: &Value) -> Result<Vec<i64>> {
    let (_, answer) = call(telegram, "getUpdates", params).await?;
    let updates = answer["result"].as_array().cloned().unwrap_or_default();
    Ok(updates.iter().filter_map(|update| update["update_id"].as_i64()).collect())
}

#[tokio::test]
async fn an_offset_confirms_what_is_before_it() -> Result<()> {
    let telegram = FakeTelegram::start().await?;
    (1..=3).for_each(|id| telegram.push(json!({ "update_id": id, "message": {} })));
    assert_eq!(ids(&telegram, &json!({})).await?, [1, 2, 3]);
    assert_eq!(ids(&telegram, &json!({ "offset": 2, "limit": 1 })).await?, [2]);
    assert_eq!(telegram.unconfirmed(), [2, 3]);
    // Again at once looks like a loop: one update alone.
    assert_eq!(ids(&telegram, &json!({ "offset": 2 })).await?, [2]);
    assert_eq!(ids(&telegram, &json!({ "offset": -1 })).await?, [3]);
    assert!(ids(&telegram, &json!({ "offset": 4, "allowed_updates": ["message"] })).await?.is_empty());
    telegram.push(json!({ "update_id": 4, "poll": {} }));
    assert!(telegram.unconfirmed().is_empty(), "that kind was not asked for");
    Ok(())
}

#[tokio::test]
async fn a_second_poller_puts_out_the_first() -> Result<()> {
    let telegram = FakeTelegram::start().await?;
    let (long, short) = (json!({ "timeout": 30 }), json!({}));
    let first = call(&telegram, "getUpdates", &long);
    let second = async {
        crate::wait_until("the first one waits", Duration::from_secs(5), async || Ok(telegram.is_polled()))
            .await?;
        call(&telegram, "getUpdates", &short).await
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!((first?.0, second?.0), (409, 200));
    Ok(())
}

#[tokio::test]
async fn limits_are_telegrams_own() -> Result<()> {
    let telegram = FakeTelegram::start().await?;
    let status = async |params: Value| anyhow::Ok(call(&telegram, "sendMessage", &params).await?.0);
    // In UTF-16 units: each of these has two.
    assert_eq!(status(json!({ "chat_id": 5, "text": "🔹".repeat(2048) })).await?, 200);
    assert_eq!(status(json!({ "chat_id": 5, "text": "🔹".repeat(2049) })).await?, 400);
    assert_eq!(status(json!({ "chat_id": 5, "text": " " })).await?, 400);
    let button = |data: &str| json!({ "inline_keyboard": [[{ "text": "x", "callback_data": data }]] });
    // In bytes: each of these has two.
    assert_eq!(
        status(json!({ "chat_id": 5, "text": "x", "reply_markup": button(&"я".repeat(32)) })).await?,
        200
    );
    assert_eq!(
        status(json!({ "chat_id": 5, "text": "x", "reply_markup": button(&"я".repeat(33)) })).await?,
        400
    );
    telegram.order("sendMessage", 1, Fault::flood(3));
    let (code, answer) = call(&telegram, "sendMessage", &json!({ "chat_id": 5, "text": "x" })).await?;
    assert_eq!((code, &answer["parameters"]["retry_after"]), (429, &json!(3)));
    assert_eq!(status(json!({ "chat_id": 5, "text": "x" })).await?, 200);
    Ok(())
}
