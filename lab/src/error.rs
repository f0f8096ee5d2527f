//! Why a lab command gives no answer. Two kinds only, because the command line has two exit codes for them.

use std::fmt;
use std::io;

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LabError {
    /// The user's arguments or manifests cannot be used (exit code 2).
    BadInput(String),
    /// It was tried and did not work, or cannot work here (exit code 1).
    Failed(String),
}

impl LabError {
    /// A failure with the thing that failed in front of the system's reason.
    pub(crate) fn io(what: impl fmt::Display, error: impl Into<io::Error>) -> LabError {
        LabError::Failed(format!("{what}: {}", error.into()))
    }
}

impl fmt::Display for LabError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LabError::BadInput(text) | LabError::Failed(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for LabError {}

/// Result of lab operations.
pub type Result<T, E = LabError> = std::result::Result<T, E>;
