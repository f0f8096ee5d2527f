//! What is remembered about an attached sandbox, and its form on disk: JSON with a version. Fields are added, never renamed; a
//! record of a later version is not read.

pub use cni::api::{Bandwidth, PortMapping};

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use wire::MacAddr;

/// Version of the form on disk. It grows when a reader of the one before would misunderstand.
pub const RECORD_VERSION: u32 = 1;

/// What names an attachment: a late request about an old sandbox of a pod never means the pod's next one (P09).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SandboxName {
    /// Id of the sandbox, chosen by the container runtime.
    pub container_id: String,
    /// Name of the interface inside.
    pub ifname: String,
}

impl SandboxName {
    /// The attachment of `ifname` to `container_id`.
    pub fn new(container_id: impl Into<String>, ifname: impl Into<String>) -> SandboxName {
        SandboxName { container_id: container_id.into(), ifname: ifname.into() }
    }

    /// The file of its record: both parts with everything as `%XX` that is no letter, digit, `-`, `_` or `.`, so that no id is a
    /// path, whatever a caller sends.
    pub(super) fn file(&self) -> String {
        let mut file = String::with_capacity(self.container_id.len() + self.ifname.len() + 6);
        escape(&self.container_id, &mut file);
        file.push('@');
        escape(&self.ifname, &mut file);
        file.push_str(super::files::RECORD_SUFFIX);
        file
    }
}

impl fmt::Display for SandboxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "interface {} of container {}", self.ifname, self.container_id)
    }
}

fn escape(part: &str, file: &mut String) {
    for (at, byte) in part.bytes().enumerate() {
        match byte {
            // A file that begins with a dot is a temporary one.
            b'.' if at == 0 => file.push_str("%2E"),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => file.push(char::from(byte)),
            _ => file.push_str(&format!("%{byte:02X}")),
        }
    }
}

/// The pod that a sandbox is of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PodName {
    /// metadata.namespace.
    pub namespace: String,
    /// metadata.name.
    pub name: String,
    /// metadata.uid, if the runtime gave it: a pod that is made again under its name is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}

impl fmt::Display for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// An attached sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// [`RECORD_VERSION`] of who wrote it.
    pub version: u32,
    /// Id of the sandbox; with `ifname` its name.
    pub container_id: String,
    /// Name of the interface.
    pub ifname: String,
    /// Its network namespace, as the node process sees it.
    pub netns: PathBuf,
    /// Inode of the namespace: another one at the path is another sandbox.
    pub netns_inode: u64,
    /// The pod that it is of.
    pub pod: PodName,
    /// Its addresses; they are in use while the record exists.
    pub addresses: Vec<IpAddr>,
    /// Whether this node chose the addresses: then its tables have them for the pod, whatever the pod's object says.
    pub leased: bool,
    /// MAC of the interface.
    #[serde(with = "mac_text")]
    pub mac: MacAddr,
    /// Labels of the pod while no object describes it; `None`: an object must.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub implicit: Option<BTreeMap<String, String>>,
    /// Ports of the node that lead to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub port_mappings: Vec<PortMapping>,
    /// Limits that were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Bandwidth>,
    /// Name of the CNI network that it was attached to; `None`: not by CNI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// The boot that it belongs to (`/proc/sys/kernel/random/boot_id`): no sandbox outlives that.
    pub boot_id: String,
    /// When it was attached, in milliseconds since 1970.
    pub attached_unix_ms: u64,
}

impl Record {
    /// Its name.
    pub fn sandbox(&self) -> SandboxName {
        SandboxName::new(&*self.container_id, &*self.ifname)
    }
}

/// A MAC as text.
mod mac_text {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};
    use wire::MacAddr;

    pub(super) fn serialize<S: Serializer>(mac: &MacAddr, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(mac)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MacAddr, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
