//! Errors as the specification wants them: a code, a short message and a long one that says what to do next.

use crate::version::Version;
use serde_json::json;

/// Codes of the specification, and ours from 100 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// The configuration is of a version that is not spoken, or that does not have the command.
    IncompatibleVersion = 1,
    /// A field that means something which podplane does not do.
    UnsupportedField = 2,
    /// There is no such container: nothing has to be cleaned up.
    UnknownContainer = 3,
    /// A variable of the environment.
    InvalidEnvironment = 4,
    /// Reading or writing.
    Io = 5,
    /// The configuration is no JSON of the right shape.
    Decode = 6,
    /// The configuration is wrong.
    InvalidConfiguration = 7,
    /// It may work later.
    TryAgain = 11,
    /// STATUS: no ADD would succeed.
    NotAvailable = 50,
    /// STATUS: and what is attached does not work either.
    Degraded = 51,
    /// The kernel or the node process did not do it.
    Failed = 100,
    /// CHECK: something is not as ADD left it.
    NotAsAdded = 101,
}

/// Why a command was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) message: &'static str,
    pub(crate) details: String,
    pub(crate) version: Version,
}

impl Failure {
    pub(crate) fn new(code: Code, message: &'static str, details: impl Into<String>) -> Failure {
        Failure { code, message, details: details.into(), version: Version::LATEST }
    }

    pub(crate) fn io(details: impl Into<String>) -> Failure {
        Failure::new(Code::Io, "input or output failed", details)
    }

    pub(crate) fn environment(details: impl Into<String>) -> Failure {
        Failure::new(Code::InvalidEnvironment, "invalid environment", details)
    }

    pub(crate) fn configuration(details: impl Into<String>) -> Failure {
        Failure::new(Code::InvalidConfiguration, "invalid network configuration", details)
    }

    pub(crate) fn to_json(&self) -> String {
        let Failure { code, message, details, version } = self;
        // Runtimes show the short message alone, so it says all.
        let message = format!("podplane: {message}: {details}");
        let error = json!({"cniVersion": version.as_str(), "code": *code as u32, "msg": message, "details": details});
        format!("{error}\n")
    }
}
