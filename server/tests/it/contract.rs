//! The rules of the contract, each stated once, for gRPC and for REST.

use anyhow::{Context, Result};
use logistic_package_proto::FILE_DESCRIPTOR_SET;
use logistic_package_proto::package_api::{
    CreatePackageV1Request, DescribePackageV1Request, ListPackagesV1Request, RemovePackageV1Request,
    UpdatePackageV1Request,
};
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::support::{Setup, TestServer};

const UNKNOWN: &str = "4611686018427387904";
const PAST_EVERY_ID: &str = "9223372036854775808";
const LARGEST: &str = "18446744073709551615";

/// What an rpc answers to a request in JSON: nothing wrong, or a code, a message and the fields at fault.
struct Rule {
    rpc: &'static str,
    request: Value,
    refused: Option<(Code, &'static str, &'static [&'static str])>,
}

fn invalid(rpc: &'static str, request: Value, fields: &'static [&'static str]) -> Rule {
    Rule { rpc, request, refused: Some((Code::InvalidArgument, fields[0], fields)) }
}

fn unchanged(request: Value) -> Rule {
    Rule { rpc: "Update", request, refused: Some((Code::InvalidArgument, "no changes specified", &[])) }
}

fn missing(rpc: &'static str, request: Value) -> Rule {
    Rule { rpc, request, refused: Some((Code::NotFound, "package not found", &[])) }
}

fn good(rpc: &'static str, request: Value) -> Rule {
    Rule { rpc, request, refused: None }
}

fn create(title: &str, material: &str, volume: &Value) -> Value {
    json!({"Title": title, "Material": material, "MaximumVolume": volume, "Reusable": true})
}

fn rules(id: &str) -> Vec<Rule> {
    let (longest, too_long) = ("ж".repeat(32), "ж".repeat(33));
    let volume = &json!(0.5);
    let mut rules = vec![
        good("Create", create(&longest, &"📦".repeat(32), volume)),
        good("Create", create("x", "y", &json!(3.4e38))),
        invalid("Create", create("", "y", volume), &["Title"]),
        invalid("Create", create(&too_long, "y", volume), &["Title"]),
        invalid("Create", create("a\0b", "y", volume), &["Title"]),
        invalid("Create", create("x", "", volume), &["Material"]),
        invalid("Create", create("x", &too_long, volume), &["Material"]),
        invalid("Create", create("x", "\0", volume), &["Material"]),
        invalid("Create", json!({}), &["Title", "Material", "MaximumVolume"]),
        good("Update", json!({"PackageID": id, "Title": longest})),
        good("Update", json!({"PackageID": id, "Material": longest})),
        good("Update", json!({"PackageID": id, "MaximumVolume": 1e-3})),
        good("Update", json!({"PackageID": id, "Reusable": {"Reusable": false}})),
        good("Update", json!({"PackageID": id, "Reusable": {"Reusable": false}})),
        unchanged(json!({"PackageID": id})),
        unchanged(json!({"PackageID": id, "Title": "", "Material": "", "MaximumVolume": 0})),
        unchanged(json!({"PackageID": UNKNOWN})),
        unchanged(json!({"PackageID": LARGEST})),
        invalid("Update", json!({"PackageID": "0"}), &["PackageID"]),
        invalid("Update", json!({"PackageID": "0", "Title": too_long}), &["PackageID", "Title"]),
        invalid(
            "Update",
            json!({"PackageID": UNKNOWN, "Title": too_long, "Material": "\0"}),
            &["Title", "Material"],
        ),
        invalid("Update", json!({"PackageID": id, "MaximumVolume": -1}), &["MaximumVolume"]),
        good("List", json!({})),
        good("List", json!({"Offset": LARGEST, "Limit": LARGEST})),
    ];
    for volume in [json!(0), json!(-0.5), json!("NaN"), json!("Infinity"), json!("-Infinity")] {
        rules.push(invalid("Create", create("x", "y", &volume), &["MaximumVolume"]));
    }
    for volume in ["NaN", "Infinity", "-Infinity"] {
        let request = json!({"PackageID": id, "MaximumVolume": volume});
        rules.push(invalid("Update", request, &["MaximumVolume"]));
    }
    for rpc in ["Describe", "Remove"] {
        rules.push(invalid(rpc, json!({"PackageID": "0"}), &["PackageID"]));
    }
    for unknown in [UNKNOWN, PAST_EVERY_ID, LARGEST] {
        rules.push(missing("Describe", json!({"PackageID": unknown})));
        rules.push(missing("Remove", json!({"PackageID": unknown})));
        rules.push(missing("Update", json!({"PackageID": unknown, "Title": "x"})));
    }
    rules.push(good("Describe", json!({"PackageID": id})));
    rules.push(good("Remove", json!({"PackageID": id})));
    rules.push(missing("Describe", json!({"PackageID": id})));
    rules
}

#[tokio::test]
async fn every_rule_holds_for_grpc() -> Result<()> {
    let mut setup = Setup::new().await?;
    let id = setup.create("box").await?.to_string();
    for rule in rules(&id) {
        let answer = by_grpc(&mut setup, &rule).await?;
        let found = answer.err().map(|status| {
            let details =
                status.get_details_bad_request().map(|details| details.field_violations).unwrap_or_default();
            assert!(details.iter().all(|violation| violation.description.starts_with("must be ")));
            let fields = details.into_iter().map(|violation| violation.field).collect::<Vec<_>>();
            (status.code(), status.message().to_owned(), fields)
        });
        judge(&rule, found);
    }
    Ok(())
}

#[tokio::test]
async fn every_rule_holds_for_rest() -> Result<()> {
    let mut setup = Setup::new().await?;
    let id = setup.create("box").await?.to_string();
    for rule in rules(&id) {
        let found = by_rest(&setup.server, &rule).await?;
        judge(&rule, found);
    }
    Ok(())
}

fn judge(rule: &Rule, found: Option<(Code, String, Vec<String>)>) {
    let expected = rule.refused.map(|(code, message, fields)| {
        (code, message.to_owned(), fields.iter().map(|field| (*field).to_owned()).collect())
    });
    assert_eq!(found, expected, "{} {}", rule.rpc, rule.request);
}

async fn by_grpc(setup: &mut Setup, rule: &Rule) -> Result<Result<(), Status>> {
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET)?;
    let suffix = if rule.rpc == "List" { "PackagesV1Request" } else { "PackageV1Request" };
    let name = format!("hablof.logistic_package_api.v1.{}{suffix}", rule.rpc);
    let message = DynamicMessage::deserialize(pool.get_message_by_name(&name).context(name)?, &rule.request)?;
    let client = &mut setup.client;
    Ok(match rule.rpc {
        "Create" => {
            client.create_package_v1(message.transcode_to::<CreatePackageV1Request>()?).await.map(drop)
        }
        "Describe" => {
            client.describe_package_v1(message.transcode_to::<DescribePackageV1Request>()?).await.map(drop)
        }
        "List" => client.list_packages_v1(message.transcode_to::<ListPackagesV1Request>()?).await.map(drop),
        "Remove" => {
            client.remove_package_v1(message.transcode_to::<RemovePackageV1Request>()?).await.map(drop)
        }
        _ => client.update_package_v1(message.transcode_to::<UpdatePackageV1Request>()?).await.map(drop),
    })
}

async fn by_rest(server: &TestServer, rule: &Rule) -> Result<Option<(Code, String, Vec<String>)>> {
    let id = rule.request["PackageID"].as_str().unwrap_or_default();
    let of_one = format!("/v1/packages/{id}");
    let (verb, path) = match rule.rpc {
        "Create" => ("POST", "/v1/packages".to_owned()),
        "Describe" => ("GET", of_one),
        "List" => ("GET", format!("/v1/packages{}", query(&rule.request))),
        "Remove" => ("DELETE", of_one),
        _ => ("PUT", of_one + &query(&rule.request)),
    };
    let body = if verb == "POST" { rule.request.to_string() } else { String::new() };
    let response = harness::http::send(server.addresses.rest, verb, &path, &[], &body).await?;
    if response.status == 200 {
        return Ok(None);
    }
    let error: Value = serde_json::from_str(&response.body)?;
    let code = Code::from_i32(i32::try_from(error["code"].as_i64().context("no code")?)?);
    assert_eq!(response.status, if code == Code::NotFound { 404 } else { 400 });
    let violations = error["details"].as_array().context("no details")?.iter().flat_map(|detail| {
        assert_eq!(detail["@type"], "type.googleapis.com/google.rpc.BadRequest");
        detail["fieldViolations"].as_array().unwrap().clone()
    });
    let fields = violations.map(|violation| violation["field"].as_str().unwrap().to_owned()).collect();
    Ok(Some((code, error["message"].as_str().context("no message")?.to_owned(), fields)))
}

/// The fields but the id, as grpc-gateway takes them.
fn query(request: &Value) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in request.as_object().unwrap() {
        match value {
            _ if name == "PackageID" => {}
            Value::String(text) => drop(query.append_pair(name, text)),
            Value::Object(_) => drop(query.append_pair("Reusable.Reusable", &value["Reusable"].to_string())),
            other => drop(query.append_pair(name, &other.to_string())),
        }
    }
    format!("?{}", query.finish())
}
