//! Versions of the specification.

use crate::failure::{Code, Failure};

/// Versions that are spoken, the oldest first.
pub const SUPPORTED: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// A version that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(usize);

impl Version {
    /// The latest one.
    pub(crate) const LATEST: Version = Version(SUPPORTED.len() - 1);
    /// Has CHECK.
    pub(crate) const V0_4: Version = Version(1);
    /// Addresses have no `version` any more.
    pub(crate) const V1_0: Version = Version(2);
    /// Has GC and STATUS, and more about interfaces and routes.
    pub(crate) const V1_1: Version = Version(3);

    /// The version that a configuration says; without one it is of the first, which had no such field.
    pub(crate) fn find(text: Option<&str>) -> Result<Version, Failure> {
        let text = text.unwrap_or("0.1.0");
        let found = SUPPORTED.iter().position(|supported| *supported == text);
        found.map(Version).ok_or_else(|| {
            Failure::new(
                Code::IncompatibleVersion,
                "incompatible CNI version",
                format!(
                    "the configuration has cniVersion {text:?}, and podplane-cni speaks {}: set one of these in the \
                     network configuration",
                    SUPPORTED.join(", ")
                ),
            )
        })
    }

    pub(crate) fn as_str(self) -> &'static str {
        SUPPORTED[self.0]
    }
}
