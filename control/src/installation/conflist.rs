//! The network configuration list that leads a container runtime to podplane, as text.
//!
//! Others append plugins to it (a service mesh its redirection, for example) instead of having a file of their own, so of a list that
//! is there only what is podplane's is replaced.

use super::PLUGIN;
use serde_json::{Map, Value, json};
use std::path::Path;

/// Name of the file. Runtimes take the first one by name, and other networks' begin with 10.
pub const CONFLIST_FILE: &str = "05-podplane.conflist";

/// Name of the network, for runtimes that know several.
const NETWORK: &str = "podplane";

/// What a runtime that reads no `cniVersions` gets: the latest version of libcni 1.1, which is in containerd 1.6 and 1.7.
const VERSION: &str = "1.0.0";

/// Versions of which a runtime chooses the highest that it knows.
const VERSIONS: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// The list for a node whose API is at `socket`, with the plugins of `present` that come after podplane's.
pub(super) fn merge(socket: &Path, present: Option<&[u8]>) -> Vec<u8> {
    let own = json!({
        "type": PLUGIN,
        "socket": socket,
        "capabilities": {"portMappings": true, "ips": true, "mac": true, "dns": true},
    });
    let mut plugins = vec![own];
    plugins.extend(present.and_then(parse).map(followers).unwrap_or_default());
    let list = json!({
        "cniVersion": VERSION,
        "cniVersions": VERSIONS,
        "name": NETWORK,
        "plugins": plugins,
    });
    let mut text = serde_json::to_vec_pretty(&list).expect("a list of literals is JSON");
    text.push(b'\n');
    text
}

/// Whether a configuration list is podplane's.
pub(super) fn is_ours(present: &[u8]) -> bool {
    parse(present).is_some()
}

/// A list whose first plugin is podplane's.
fn parse(text: &[u8]) -> Option<Map<String, Value>> {
    let Ok(Value::Object(list)) = serde_json::from_slice(text) else { return None };
    let first = list.get("plugins")?.get(0)?.get("type")?;
    (first == PLUGIN).then_some(list)
}

fn followers(mut list: Map<String, Value>) -> Vec<Value> {
    match list.remove("plugins") {
        Some(Value::Array(plugins)) => plugins.into_iter().skip(1).filter(|plugin| plugin["type"] != PLUGIN).collect(),
        _ => Vec::new(),
    }
}
