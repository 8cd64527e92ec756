//! REST beside the original's gateway: what grpc-gateway v2 takes and refuses, this takes and refuses.
//!
//! Each row names where its answer comes from: a file of grpc-gateway v2 or of Go's standard library, or CONTRACT where
//! this service was told to differ.

use anyhow::{Context, Result, ensure};
use harness::http::send;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::Setup;

const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");
const TEXT: (&str, &str) = ("Content-Type", "text/plain");
const JSON: (&str, &str) = ("Content-Type", "application/json");

const MUX: &str = "runtime/mux.go, ServeMux.ServeHTTP: path length fallback";
const QUERY: &str = "runtime/query.go, PopulateQueryParameters";
const TEMPLATE: &str = "protoc-gen-grpc-gateway/internal/gengateway/template.go";
const PROTOJSON: &str = "google.golang.org/protobuf/encoding/protojson, unmarshalMessage";
const DECODER: &str = "runtime/marshal_jsonpb.go, decodeJSONPb: one value of the stream";
const PARSE_FORM: &str = "net/http, Request.ParseForm; net/url, ParseQuery";
const STRCONV: &str = "runtime/convert.go, by strconv";
const MARSHAL: &str = "google.golang.org/protobuf/proto: a string must be UTF-8";
const CONTRACT: &str = "the contract of this service";

/// What is answered.
enum Answer {
    /// 200, and the package is then so as far as it is named here.
    Package(Value),
    /// 200 with this body.
    Body(&'static str),
    /// This status, code, and part of the message.
    Refused(u16, i64, &'static str),
}

use Answer::{Body, Package, Refused};

/// A request for package 1, which is `{"Title":"box","Material":"wood","MaximumVolume":700.5,"Reusable":true}`.
struct Row {
    verb: &'static str,
    target: &'static str,
    header: (&'static str, &'static str),
    body: &'static str,
    answer: Answer,
    source: &'static str,
}

fn row(
    verb: &'static str,
    target: &'static str,
    header: (&'static str, &'static str),
    body: &'static str,
    answer: Answer,
    source: &'static str,
) -> Row {
    Row { verb, target, header, body, answer, source }
}

const ONE: &str = "/v1/packages/1";
const CHANGED: &str = r#"{"Suc":true}"#;

fn titled(title: &str) -> Answer {
    Package(json!({"Title": title}))
}

fn queries_and_forms() -> Vec<Row> {
    vec![
        row("PUT", "/v1/packages/1?Title=crate", JSON, "", titled("crate"), QUERY),
        row("PUT", "/v1/packages/1?Title=a+b%20c%2Bd", JSON, "", titled("a b c+d"), PARSE_FORM),
        row("PUT", "/v1/packages/1?Title=a=b", JSON, "", titled("a=b"), PARSE_FORM),
        row("PUT", "/v1/packages/1?Title=%ff", JSON, "", Refused(400, 3, "Title"), MARSHAL),
        row("PUT", "/v1/packages/1?Title=%c3%28", JSON, "", Refused(400, 3, "Title"), MARSHAL),
        row("PUT", "/v1/packages/1?Title=x&Unknown=%ff", JSON, "", titled("x"), QUERY),
        row("PUT", "/v1/packages/1?Title=%zz", JSON, "", Refused(400, 3, "invalid URL escape"), PARSE_FORM),
        row("PUT", "/v1/packages/1?Title=a;b", JSON, "", Refused(400, 3, "semicolon"), PARSE_FORM),
        row("PUT", "/v1/packages/1?Title=a&Title=b", JSON, "", Refused(400, 3, "too many values"), QUERY),
        row("PUT", "/v1/packages/1?Title.x=a", JSON, "", Refused(400, 3, "is not a message"), QUERY),
        row("PUT", "/v1/packages/1?Reusable=true", JSON, "", Refused(400, 3, "Reusable"), QUERY),
        row(
            "PUT",
            "/v1/packages/1?Reusable.Reusable=f",
            JSON,
            "",
            Package(json!({"Reusable": false})),
            STRCONV,
        ),
        row(
            "PUT",
            "/v1/packages/1?Reusable.Reusable=no",
            JSON,
            "",
            Refused(400, 3, "Reusable.Reusable"),
            STRCONV,
        ),
        row(
            "PUT",
            "/v1/packages/1?MaximumVolume=700.1",
            JSON,
            "",
            Package(json!({"MaximumVolume": 700.1})),
            STRCONV,
        ),
        row("PUT", "/v1/packages/1?MaximumVolume=1e39", JSON, "", Refused(400, 3, "MaximumVolume"), STRCONV),
        row("PUT", "/v1/packages/1?MaximumVolume=inf", JSON, "", Refused(400, 3, "MaximumVolume"), STRCONV),
        row("PUT", "/v1/packages/1?MaximumVolume=", JSON, "", Refused(400, 3, "MaximumVolume"), STRCONV),
        // What stands in the path is not looked for in the query.
        row("PUT", "/v1/packages/1?Title=x&PackageID=none", JSON, "", titled("x"), TEMPLATE),
        row("GET", "/v1/packages/1?PackageID=none&x=%zz", JSON, "", titled("box"), TEMPLATE),
        row("DELETE", "/v1/packages/1?x=%zz", JSON, "", Body(CHANGED), TEMPLATE),
        row("GET", "/v1/packages?Limit=%2B1", JSON, "", Refused(400, 3, "Limit"), STRCONV),
        row("GET", "/v1/packages/+1", JSON, "", Refused(400, 3, "PackageID"), STRCONV),
        row("GET", "/v1/packages/%ff", JSON, "", Refused(400, 3, "PackageID"), STRCONV),
        row("GET", "/v1/packages?Limit=1;x", JSON, "", Refused(400, 3, "semicolon"), PARSE_FORM),
        // Forms.
        row("PUT", ONE, FORM, "Title=crate", titled("crate"), PARSE_FORM),
        row(
            "PUT",
            ONE,
            FORM,
            "Title=a+b&Material=%D0%B6",
            Package(json!({"Title": "a b", "Material": "ж"})),
            PARSE_FORM,
        ),
        row(
            "PUT",
            "/v1/packages/1?Material=pine",
            FORM,
            "Title=x",
            Package(json!({"Title": "x", "Material": "pine"})),
            PARSE_FORM,
        ),
        row("PUT", "/v1/packages/1?Title=a", FORM, "Title=b", Refused(400, 3, "too many values"), PARSE_FORM),
        row("PUT", ONE, FORM, "Title=%ff", Refused(400, 3, "Title"), MARSHAL),
        row(
            "PUT",
            ONE,
            ("Content-Type", "Application/X-WWW-Form-URLencoded; charset=utf-8"),
            "Title=x",
            titled("x"),
            PARSE_FORM,
        ),
        row("PUT", ONE, TEXT, "Title=crate", Refused(400, 3, "no changes specified"), PARSE_FORM),
        row("PUT", "/v1/packages/1?Title=x", TEXT, "whatever", titled("x"), TEMPLATE),
        // A body of JSON, which is new, whatever it is called.
        row("PUT", ONE, JSON, r#"{"Title":"x"}"#, titled("x"), CONTRACT),
        row("PUT", ONE, FORM, r#"{"Title":"x"}"#, titled("x"), CONTRACT),
        row("PUT", "/v1/packages/1?Title=y", JSON, r#"{"Title":"x"}"#, titled("y"), CONTRACT),
        row("PUT", ONE, JSON, r#"{"Title":"#, Refused(400, 3, "not JSON"), CONTRACT),
        // A form by POST may stand for a GET, which is never one that changes anything.
        row("POST", ONE, FORM, "", titled("box"), MUX),
        row("POST", ONE, JSON, "", Refused(501, 12, "Method Not Allowed"), MUX),
        row("POST", ONE, FORM, "Title=x", titled("box"), MUX),
    ]
}

fn bodies() -> Vec<Row> {
    let post = |body, answer, source| row("POST", "/v1/packages", JSON, body, answer, source);
    let made = || Body(r#"{"ID":"2"}"#);
    vec![
        post(r#"{"Title":"a","Material":"b","MaximumVolume":1}"#, made(), PROTOJSON),
        post(
            r#"{"Title":"a","Title":"a","Material":"b","MaximumVolume":1}"#,
            Refused(400, 3, "duplicate field"),
            PROTOJSON,
        ),
        post(r#"{"Title":"a","Material":"b","MaximumVolume":1,"x":1,"x":2}"#, made(), PROTOJSON),
        post(r#"{"Title":"a","Material":"b","MaximumVolume":1,"Reusable":null}"#, made(), PROTOJSON),
        post(r#"{"Title":"a","Material":"b","MaximumVolume":"1.5"}"#, made(), PROTOJSON),
        post(r#"{"Title":"a","Material":"b","MaximumVolume":3.4028235e38}"#, made(), PROTOJSON),
        post(r#"{"Title":"a","Material":"b","MaximumVolume":1e39}"#, Refused(400, 3, "float"), PROTOJSON),
        post(r#"{"Title":"a","Material":"b","MaximumVolume":"+1"}"#, Refused(400, 3, "float"), PROTOJSON),
        post(
            r#"{"Title":"a","Material":"b","MaximumVolume":"NaN"}"#,
            Refused(400, 3, "MaximumVolume"),
            PROTOJSON,
        ),
        post(r#"{"Title":7,"Material":"b","MaximumVolume":1}"#, Refused(400, 3, "not JSON"), PROTOJSON),
        post(
            r#"{"Title":"\ud800","Material":"b","MaximumVolume":1}"#,
            Refused(400, 3, "not JSON"),
            PROTOJSON,
        ),
        post(r#"{"Title":"a","Material":"b","MaximumVolume":1} {"Title":"#, made(), DECODER),
        post("null", Refused(400, 3, "not JSON"), PROTOJSON),
        post("[]", Refused(400, 3, "not JSON"), PROTOJSON),
        post("Title=a", Refused(400, 3, "not JSON"), DECODER),
        post(" \n", Refused(400, 3, "Title"), DECODER),
        row(
            "POST",
            "/v1/packages?Title=x&y=%zz",
            FORM,
            r#"{"Title":"a","Material":"b","MaximumVolume":1}"#,
            made(),
            TEMPLATE,
        ),
        row(
            "POST",
            "/v1/packages",
            FORM,
            "Title=a&Material=b&MaximumVolume=1",
            Refused(400, 3, "not JSON"),
            TEMPLATE,
        ),
    ]
}

#[tokio::test]
async fn each_request_is_answered_as_by_the_original() -> Result<()> {
    let setup = Setup::new().await?;
    let mut wrong = Vec::new();
    for row in queries_and_forms().into_iter().chain(bodies()) {
        if let Err(error) = try_row(&setup, &row).await {
            let Row { verb, target, header, body, source, .. } = row;
            wrong.push(format!("{verb} {target} ({}) {body}: {error:#}; by {source}", header.1));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

const BOX: &str = r#"{"Title":"box","Material":"wood","MaximumVolume":700.5,"Reusable":true}"#;

async fn try_row(setup: &Setup, row: &Row) -> Result<()> {
    setup.database.execute("truncate package restart identity").await?;
    let rest = setup.server.addresses.rest;
    send(rest, "POST", "/v1/packages", &[], BOX).await?;
    let answer = send(rest, row.verb, row.target, &[row.header], row.body).await?;
    let said = || format!("{} {}", answer.status, answer.body);
    let whole: Value = serde_json::from_str(&answer.body).with_context(said)?;
    let is_so = match &row.answer {
        Body(body) => answer.status == 200 && answer.body == *body,
        Refused(status, code, message) => {
            let found = whole["message"].as_str().unwrap_or_default();
            answer.status == *status && whole["code"] == *code && found.contains(message)
        }
        Package(expected) => {
            let now = send(rest, "GET", ONE, &[], "").await?;
            let now: Value = serde_json::from_str(&now.body)?;
            let fields = expected.as_object().context("no object")?;
            answer.status == 200 && fields.iter().all(|(name, value)| now["Value"][name] == *value)
        }
    };
    ensure!(is_so, "{}", said());
    Ok(())
}

#[tokio::test]
async fn a_volume_is_printed_as_it_was_given_everywhere() -> Result<()> {
    let setup = Setup::new().await?;
    let rest = setup.server.addresses.rest;
    for volume in ["700.1", "0.1", "3", "16777216", "1.1754944e-38", "3.4028235e+38", "9007199000000000"] {
        let body = format!(r#"{{"Title":"box","Material":"wood","MaximumVolume":{volume}}}"#);
        let made: Value = serde_json::from_str(&send(rest, "POST", "/v1/packages", &[], &body).await?.body)?;
        let id = made["ID"].as_str().context("no id")?;
        let path = format!("/v1/packages/{id}");
        let one = send(rest, "GET", &path, &[], "").await?.body;
        let printed = format!("\"MaximumVolume\":{volume},");
        assert!(one.contains(&printed), "{printed} is not in {one}");
        let page = send(rest, "GET", "/v1/packages?Limit=500", &[], "").await?.body;
        assert!(page.contains(&printed), "{printed} is not in {page}");
        // What it prints it takes back, as JSON and as a query.
        for (target, body) in [
            (path.clone(), format!("{{\"MaximumVolume\":{volume}}}")),
            (format!("{path}?MaximumVolume={}", volume.replace('+', "%2B")), String::new()),
        ] {
            assert_eq!(send(rest, "PUT", &target, &[], &body).await?.status, 200, "{target} {body}");
            let again = send(rest, "GET", &path, &[], "").await?.body;
            assert!(again.contains(&printed), "{printed} is not in {again}");
        }
        let same = "select bool_and((payload->>'MaximumVolume')::real = $1) from package_event where package_id = $2";
        let client = setup.database.client().await?;
        let row = client.query_one(same, &[&volume.parse::<f32>()?, &id.parse::<i64>()?]).await?;
        assert!(row.get::<_, bool>(0));
    }
    let client = setup.database.client().await?;
    let short = "select count(*) from package_event where payload->>'MaximumVolume' = '700.1'";
    assert_eq!(client.query_one(short, &[]).await?.get::<_, i64>(0), 3);
    Ok(())
}

/// Bytes that are no text, which a client of this test could not send.
#[tokio::test]
async fn a_body_that_is_not_utf_8_is_refused() -> Result<()> {
    let setup = Setup::new().await?;
    let body = b"{\"Title\":\"\xff\",\"Material\":\"b\",\"MaximumVolume\":1}";
    let mut stream = TcpStream::connect(setup.server.addresses.rest).await?;
    let head = format!("POST /v1/packages HTTP/1.0\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    assert!(answer.starts_with("HTTP/1.0 400"), "{answer}");
    Ok(())
}

#[tokio::test]
async fn a_form_may_stand_for_another_verb() -> Result<()> {
    let setup = Setup::new().await?;
    let rest = setup.server.addresses.rest;
    for _ in 0..2 {
        send(rest, "POST", "/v1/packages", &[], BOX).await?;
    }
    let instead = |verb| [FORM, ("X-HTTP-Method-Override", verb)];
    let listed = send(rest, "POST", "/v1/packages", &instead("get"), "Limit=1").await?;
    let listed: Value = serde_json::from_str(&listed.body)?;
    assert_eq!(listed["Packages"].as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(send(rest, "POST", ONE, &instead("PUT"), "Title=crate").await?.body, CHANGED);
    assert!(send(rest, "GET", ONE, &[], "").await?.body.contains("crate"));
    // Of a form alone.
    let json = [JSON, ("X-HTTP-Method-Override", "DELETE")];
    assert_eq!(send(rest, "POST", ONE, &json, "{}").await?.status, 501);
    assert_eq!(send(rest, "POST", ONE, &instead("DELETE"), "").await?.body, CHANGED);
    Ok(())
}
