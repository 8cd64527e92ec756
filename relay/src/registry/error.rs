//! What can be wrong with a registry. Each says which registry it is, and what helps.

use walpost_core::event::framing::{Registered, Version};

/// Why a schema is not known.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The settings name none.
    #[error("there is no schema registry in the settings")]
    NoRegistry,
    /// It is away, or something else is there.
    #[error("the schema registry at {url} does not answer: {reason}")]
    Away {
        /// Where it should be.
        url: String,
        /// What happened.
        reason: String,
    },
    /// It does not let walpost in.
    #[error("the schema registry at {url} refuses ({status}): {said}")]
    Denied {
        /// Where it is.
        url: String,
        /// The answer's status.
        status: u16,
        /// What it says.
        said: String,
    },
    /// It has no such subject.
    #[error("the schema registry at {url} has no subject {subject}")]
    NoSubject {
        /// Where it is.
        url: String,
        /// What was asked for.
        subject: String,
    },
    /// The subject has no such version.
    #[error("the subject {subject} of the schema registry at {url} has no version {version}")]
    NoVersion {
        /// Where it is.
        url: String,
        /// The subject.
        subject: String,
        /// What was asked for.
        version: Version,
    },
    /// The file is no version of the subject.
    #[error("the schema in {file} is no version of the subject {subject} of the schema registry at {url}")]
    NotOfSubject {
        /// Where it is.
        url: String,
        /// The subject.
        subject: String,
        /// The file of the settings.
        file: String,
    },
    /// The file is another version than the settings name.
    #[error(
        "the schema in {file} is version {version} of the subject {}, and the settings name version {}",
        named.subject,
        named.version
    )]
    AnotherVersion {
        /// The file of the settings.
        file: String,
        /// What it is.
        version: u32,
        /// What the settings name.
        named: Box<Registered>,
    },
    /// What it has is of no use.
    #[error("the schema registry at {url}: {what}")]
    Unfit {
        /// Where it is.
        url: String,
        /// Why.
        what: String,
    },
    /// There is nothing to register.
    #[error("there is no schema to register under the subject {subject}")]
    NoFile {
        /// The subject.
        subject: String,
    },
    /// It does not take what is to be registered.
    #[error(
        "the schema registry at {url} does not take {file} as a version of the subject {subject} ({status}): {said}"
    )]
    NotTaken {
        /// Where it is.
        url: String,
        /// The subject.
        subject: String,
        /// The file.
        file: String,
        /// The answer's status.
        status: u16,
        /// What it says.
        said: String,
    },
}

impl RegistryError {
    /// What helps.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NoRegistry => "say where it is by --registry-url",
            Self::Away { .. } => "start it, or correct --registry-url; `walpost run` asks again by itself",
            Self::Denied { .. } => {
                "correct --registry-user or its password (WALPOST_REGISTRY_PASSWORD, or the file that \
                WALPOST_REGISTRY_PASSWORD_FILE names, which is read again), or let the user read the subject"
            }
            Self::NoSubject { .. } => {
                "register its schema (`walpost init --register` registers that of --schema), or correct --subject"
            }
            Self::NoVersion { .. } => "register it, or correct --schema-version",
            Self::NotOfSubject { .. } => {
                "register it by `walpost init --register`, or take --schema away to write by what the subject has"
            }
            Self::AnotherVersion { .. } => "correct --schema or --schema-version",
            Self::Unfit { .. } => {
                "register a schema that fits, or correct --subject, --schema-version, --format or --message"
            }
            Self::NoFile { .. } => "name its file by --schema",
            Self::NotTaken { .. } => {
                "change the schema so that it is compatible, or the subject's rule in the registry"
            }
        }
    }
}
