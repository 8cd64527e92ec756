//! Takes rights on a topic from a user and gives them back, as an operator does, at once: Kafka's own tool takes seconds.
//!
//! What denies wins over what allows. A topic with any rule of its own is closed to everybody whom none of them allows,
//! whatever `allow.everyone.if.no.acl.found` is: so a topic is opened to its user (`open_to`) before a right of it is denied.
//! (`CreateAclsRequest.json` and `DeleteAclsRequest.json` version 2 in Apache Kafka.)

use anyhow::{Context, Result};

use crate::kafka_proxy::wire::Writer;
use crate::raw_admin::{on_any, request};
use crate::topic::Topic;

const CREATE_ACLS: i16 = 30;
const DELETE_ACLS: i16 = 31;

/// Both answers have it in the first result, behind the number of results.
const ERROR_AT: usize = 10;

/// What may be done with a topic, by Kafka's number of it (`AclOperation.java`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Everything.
    All = 2,
    /// To publish.
    Write = 4,
    /// To see that it is there.
    Describe = 8,
}

/// Kafka's `AclPermissionType.java`.
#[derive(Debug, Clone, Copy)]
enum Permission {
    Deny = 2,
    Allow = 3,
}

/// Allows everything with `topic` to `user`.
///
/// # Errors
/// When no broker takes that.
pub async fn open_to(user: &str, topic: &Topic) -> Result<()> {
    create(user, topic, Right::All, Permission::Allow).await
}

/// Denies `right` on `topic` to `user`; brokers know it a moment later.
///
/// # Errors
/// When no broker takes that.
pub async fn deny(user: &str, topic: &Topic, right: Right) -> Result<()> {
    create(user, topic, right, Permission::Deny).await
}

async fn create(user: &str, topic: &Topic, right: Right, permission: Permission) -> Result<()> {
    let create = rule(CREATE_ACLS, user, topic, right, permission);
    on_any(&topic.brokers, &[create], ERROR_AT).await.with_context(|| format!("{permission:?} {right:?}"))
}

/// Denies it no longer.
///
/// # Errors
/// When no broker takes that.
pub async fn deny_no_longer(user: &str, topic: &Topic, right: Right) -> Result<()> {
    let delete = rule(DELETE_ACLS, user, topic, right, Permission::Deny);
    on_any(&topic.brokers, &[delete], ERROR_AT)
        .await
        .with_context(|| format!("{right:?} is denied no longer"))
}

/// Both requests name a rule by the same fields.
fn rule(key: i16, user: &str, topic: &Topic, right: Right, permission: Permission) -> Writer {
    const TOPIC: u8 = 2;
    const LITERAL: u8 = 3;
    let mut out = request(key, 2);
    out.length(true, 1);
    out.0.push(TOPIC);
    out.text(true, &topic.name);
    out.0.push(LITERAL);
    out.text(true, &format!("User:{user}"));
    out.text(true, "*"); // from any host
    out.0.extend([right as u8, permission as u8]);
    out.tags(true);
    out.tags(true);
    out
}
