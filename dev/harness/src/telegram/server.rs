//! HTTP: `/bot<token>/<method>`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::any;
use serde_json::{Map, Value, json};

use super::rules::number;
use super::state::Shared;
use super::{Call, Fault, calls};

/// Methods in the spelling of the documentation; they are taken in any case.
const METHODS: [&str; 12] = [
    "getMe",
    "getUpdates",
    "getWebhookInfo",
    "deleteWebhook",
    "getMyCommands",
    "setMyCommands",
    "setMyDescription",
    "setMyShortDescription",
    "sendMessage",
    "editMessageText",
    "answerCallbackQuery",
    "sendChatAction",
];
/// Telegram grants no longer polls.
const POLL_MAX_S: i64 = 50;

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new().route("/{bot}/{method}", any(handle)).with_state(shared)
}

async fn handle(
    State(shared): State<Arc<Shared>>,
    Path((bot, method)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let at = Instant::now();
    let params = params(query.as_deref().unwrap_or_default(), &headers, &body);
    let known = METHODS.into_iter().find(|known| known.eq_ignore_ascii_case(&method));
    let method = known.map_or(method, str::to_owned);
    let outcome = if bot != format!("bot{}", shared.token) || shared.lock().revoked {
        Err(Fault::refuse(401, "Unauthorized"))
    } else {
        carry_out(&shared, &method, &params).await
    };
    let (status, response) = written(outcome);
    if method != "getUpdates" {
        shared.lock().calls.push(Call { method, params, at, status });
    }
    response
}

async fn carry_out(shared: &Shared, method: &str, params: &Value) -> Result<Value, Fault> {
    match shared.fault(method) {
        Some(Fault::Late(delay)) => tokio::time::sleep(delay).await,
        Some(fault) => return Err(fault),
        None => {}
    }
    if method == "getUpdates" {
        return poll(shared, params).await;
    }
    calls::answer(&mut shared.lock(), method, params)
}

async fn poll(shared: &Shared, params: &Value) -> Result<Value, Fault> {
    let offset = number(&params["offset"]).unwrap_or(0);
    let limit = number(&params["limit"]).unwrap_or(100).clamp(1, 100);
    let seconds = number(&params["timeout"]).unwrap_or(0).clamp(0, POLL_MAX_S);
    let timeout = Duration::from_secs(seconds.unsigned_abs());
    let names = |value: &Value| {
        value.as_array().map(|names| names.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    };
    if !shared.lock().webhook.is_empty() {
        let active = "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first";
        return Err(Fault::refuse(409, active));
    }
    let mut changes = shared.watch();
    let this = shared.begin_poll();
    let limit =
        shared.lock().begin(offset, usize::try_from(limit).unwrap_or(100), names(&params["allowed_updates"]));
    let until = tokio::time::Instant::now() + timeout;
    loop {
        {
            let mut state = shared.lock();
            if !state.is_latest_poll(this) {
                let other = "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running";
                return Err(Fault::refuse(409, other));
            }
            if state.revoked {
                return Err(Fault::refuse(401, "Unauthorized"));
            }
            let found = state.first(limit);
            if !found.is_empty() || tokio::time::Instant::now() >= until {
                state.polls += 1;
                return Ok(json!(found));
            }
        }
        let _ = tokio::time::timeout_at(until, changes.changed()).await;
    }
}

/// From the query, a form or a JSON body, as Telegram takes them.
fn params(query: &str, headers: &HeaderMap, body: &[u8]) -> Value {
    let mut params: Map<String, Value> = form(query.as_bytes());
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.starts_with("application/json") {
        params.extend(serde_json::from_slice::<Map<String, Value>>(body).unwrap_or_default());
    } else {
        params.extend(form(body));
    }
    Value::Object(params)
}

/// Objects and lists are JSON in a form.
fn form(text: &[u8]) -> Map<String, Value> {
    let read = |value: &str| match serde_json::from_str::<Value>(value) {
        Ok(structured) if structured.is_object() || structured.is_array() => structured,
        _ => Value::from(value),
    };
    form_urlencoded::parse(text).map(|(name, value)| (name.into_owned(), read(&value))).collect()
}

fn written(outcome: Result<Value, Fault>) -> (u16, Response) {
    let (status, body) = match outcome {
        Ok(result) => (200, json!({ "ok": true, "result": result })),
        Err(Fault::Refuse(code, description, parameters)) => {
            let mut body = json!({ "ok": false, "error_code": code, "description": description });
            if !parameters.is_null() {
                body["parameters"] = parameters;
            }
            (code, body)
        }
        Err(Fault::Html(code)) => {
            return (code, (status_of(code), Html("<html>Bad Gateway</html>")).into_response());
        }
        Err(Fault::Late(_)) => {
            (500, json!({ "ok": false, "error_code": 500, "description": "Internal Server Error" }))
        }
    };
    (
        status,
        (status_of(status), [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response(),
    )
}

fn status_of(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}
