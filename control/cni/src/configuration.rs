//! The network configuration on standard input, checked.

use crate::api::{Bandwidth, Del, Dns, PortMapping};
use crate::environment::Args;
use crate::failure::{Code, Failure};
use crate::version::Version;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

/// Where a node process listens that was started without a thought about where.
const DEFAULT_SOCKET: &str = "/run/podplane/node.sock";

/// Variable that names the socket.
const SOCKET_VARIABLE: &str = "PODPLANE_SOCKET";

/// A configuration that may be acted on.
#[derive(Clone, Debug)]
pub(crate) struct Configuration {
    pub(crate) version: Version,
    pub(crate) name: String,
    pub(crate) socket: PathBuf,
    /// What the configuration and the runtime say about resolvers, the runtime last.
    pub(crate) dns: Option<Dns>,
    pub(crate) port_mappings: Vec<PortMapping>,
    pub(crate) bandwidth: Option<Bandwidth>,
    pub(crate) ips: Vec<IpAddr>,
    pub(crate) mac: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) prev_result: Option<Value>,
    /// What a runtime still has, for GC; `None`: it does not say.
    pub(crate) valid: Option<Vec<Del>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Raw {
    #[serde(rename = "cniVersion")]
    cni_version: Option<String>,
    name: Option<String>,
    socket: Option<PathBuf>,
    dns: Option<Dns>,
    ipam: Option<Value>,
    #[serde(rename = "runtimeConfig")]
    runtime: Option<Runtime>,
    args: Option<RawArgs>,
    #[serde(rename = "prevResult")]
    prev_result: Option<Value>,
    #[serde(rename = "cni.dev/valid-attachments")]
    valid: Option<Vec<RawAttachment>>,
    /// The name that the specification's text had first, and that libcni still sends beside the other.
    #[serde(rename = "cni.dev/attachments")]
    valid_before: Option<Vec<RawAttachment>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Runtime {
    port_mappings: Option<Vec<PortMapping>>,
    bandwidth: Option<Bandwidth>,
    ips: Option<Vec<String>>,
    mac: Option<String>,
    dns: Option<RuntimeDns>,
}

/// The capability dns has names of its own.
#[derive(Default, Deserialize)]
#[serde(default)]
struct RuntimeDns {
    servers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawArgs {
    cni: Option<RawCniArgs>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawCniArgs {
    labels: Option<Vec<Label>>,
    ips: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Label {
    key: String,
    #[serde(default)]
    value: String,
}

#[derive(Deserialize)]
struct RawAttachment {
    #[serde(rename = "containerID")]
    container_id: String,
    ifname: String,
}

/// What VERSION is asked with: a configuration of which nothing else matters.
pub(crate) fn asked_version(text: &[u8]) -> Result<Option<String>, Failure> {
    if text.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let value: Value = decode(text)?;
    Ok(value.get("cniVersion").and_then(Value::as_str).map(str::to_owned))
}

/// Reads an object; a list would be taken for the fields in order.
fn decode<T: for<'de> Deserialize<'de>>(text: &[u8]) -> Result<T, Failure> {
    let object: Result<Map<String, Value>, _> = serde_json::from_slice(text);
    object.and_then(|object| serde_json::from_value(object.into())).map_err(|error| {
        let details = match text.is_empty() {
            true => "standard input is empty: the runtime must write the network configuration there".to_owned(),
            false => format!("the network configuration on standard input: {error}"),
        };
        Failure::new(Code::Decode, "undecodable network configuration", details)
    })
}

/// Reads a configuration. `args` are those of CNI_ARGS, which count where nothing else says the same.
pub(crate) fn read(
    text: &[u8],
    args: &Args,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Configuration, Failure> {
    let raw: Raw = decode(text)?;
    let version = Version::find(raw.cni_version.as_deref())?;
    check(raw, version, args, variable).map_err(|failure| Failure { version, ..failure })
}

fn check(
    raw: Raw,
    version: Version,
    args: &Args,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Configuration, Failure> {
    let name = raw.name.filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| Failure::configuration("name is missing: give the network a name"))?;
    check_name(&name)?;
    if let Some(ipam) = &raw.ipam
        && ipam.get("type").and_then(Value::as_str).is_some_and(|kind| !kind.is_empty())
    {
        let details =
            format!("ipam {ipam}: podplane gives addresses itself, of the node's spec.podCIDRs; remove the field");
        return Err(Failure::new(Code::UnsupportedField, "unsupported field", details));
    }
    let socket = raw.socket.filter(|socket| !socket.as_os_str().is_empty());
    if let Some(socket) = socket.as_ref().filter(|socket| !socket.is_absolute()) {
        return Err(Failure::configuration(format!("socket {} is not an absolute path", socket.display())));
    }
    let of_environment = || variable(SOCKET_VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
    let socket = socket.or_else(of_environment).unwrap_or_else(|| DEFAULT_SOCKET.into());
    let runtime = raw.runtime.unwrap_or_default();
    let cni_args = raw.args.and_then(|args| args.cni).unwrap_or_default();
    let ips = match (runtime.ips, cni_args.ips, &args.ip) {
        (Some(ips), ..) => addresses("runtimeConfig.ips", ips.iter().map(String::as_str))?,
        (_, Some(ips), _) => addresses("args.cni.ips", ips.iter().map(String::as_str))?,
        (.., Some(ips)) => addresses("CNI_ARGS IP", ips.split(','))?,
        _ => Vec::new(),
    };
    let of_attachment =
        |attachment: RawAttachment| Del { container_id: attachment.container_id, ifname: attachment.ifname };
    let valid = raw.valid.or(raw.valid_before);
    Ok(Configuration {
        version,
        name,
        socket,
        dns: resolver(raw.dns, runtime.dns),
        port_mappings: port_mappings(runtime.port_mappings.unwrap_or_default())?,
        bandwidth: runtime.bandwidth.filter(Bandwidth::is_limited),
        ips,
        mac: runtime.mac.or_else(|| args.mac.clone()).filter(|mac| !mac.is_empty()),
        labels: cni_args.labels.unwrap_or_default().into_iter().map(|label| (label.key, label.value)).collect(),
        prev_result: raw.prev_result.filter(|result| !result.is_null()),
        valid: valid.map(|valid| valid.into_iter().map(of_attachment).collect()),
    })
}

fn check_name(name: &str) -> Result<(), Failure> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(plain) {
        return Ok(());
    }
    Err(Failure::configuration(format!(
        "name {name:?} is not a letter or digit followed by letters, digits, \"_\", \".\" and \"-\""
    )))
}

/// `IP[/PREFIX]` each. The prefix says nothing: a pod has a /32 or /128 and one gateway.
fn addresses<'a>(field: &str, texts: impl Iterator<Item = &'a str>) -> Result<Vec<IpAddr>, Failure> {
    let one = |text: &str| {
        let address = text.trim().split('/').next().unwrap_or_default();
        let wrong = || Failure::configuration(format!("{field}: {text:?} is not an IP address"));
        address.parse().map_err(|_| wrong())
    };
    texts.map(one).collect()
}

fn port_mappings(asked: Vec<PortMapping>) -> Result<Vec<PortMapping>, Failure> {
    let mut mappings = Vec::new();
    for mapping in asked {
        let protocol = mapping.protocol.to_ascii_lowercase();
        if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
            let details = format!("runtimeConfig.portMappings: protocol {protocol:?} is not tcp, udp or sctp");
            return Err(Failure::configuration(details));
        }
        if mapping.container_port == 0 {
            let port = mapping.host_port;
            return Err(Failure::configuration(format!(
                "runtimeConfig.portMappings: hostPort {port} has containerPort 0"
            )));
        }
        if mapping.host_port > 0 {
            mappings.push(PortMapping { protocol, ..mapping });
        }
    }
    Ok(mappings)
}

/// The configuration's `dns`, with what the runtime says instead.
fn resolver(configured: Option<Dns>, runtime: Option<RuntimeDns>) -> Option<Dns> {
    let mut dns = configured.unwrap_or_default();
    if let Some(RuntimeDns { servers, searches, options }) = runtime {
        let replace = |field: &mut Vec<String>, value: Vec<String>| {
            if !value.is_empty() {
                *field = value;
            }
        };
        replace(&mut dns.nameservers, servers);
        replace(&mut dns.search, searches);
        replace(&mut dns.options, options);
    }
    (dns != Dns::default()).then_some(dns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Configuration, Failure> {
        read(text.as_bytes(), &Args::default(), |_| None)
    }

    fn failure(text: &str) -> (u32, String) {
        let failure = parse(text).unwrap_err();
        (failure.code as u32, failure.details)
    }

    #[test]
    fn a_plain_configuration_has_its_defaults() {
        let read = parse(r#"{"cniVersion": "1.0.0", "name": "podplane", "type": "podplane-cni", "unknown": {"a": 1}}"#)
            .unwrap();
        assert_eq!((read.version.as_str(), read.socket.to_str()), ("1.0.0", Some("/run/podplane/node.sock")));
        assert!(read.dns.is_none() && read.prev_result.is_none() && read.valid.is_none() && read.ips.is_empty());
    }

    #[test]
    fn the_sample_is_a_list_that_a_runtime_makes_configurations_of() {
        let list: Value = serde_json::from_str(include_str!("../../../deploy/cni/05-podplane.conflist")).unwrap();
        assert_eq!(list["cniVersions"], serde_json::json!(crate::SUPPORTED));
        let mut configuration = list["plugins"][0].clone();
        configuration["name"] = list["name"].clone();
        configuration["cniVersion"] = list["cniVersion"].clone();
        let read = parse(&configuration.to_string()).unwrap();
        assert_eq!((read.name.as_str(), read.socket.to_str()), ("podplane", Some(DEFAULT_SOCKET)));
    }

    #[test]
    fn the_socket_is_that_of_the_configuration_else_of_the_environment() {
        let variable = |name: &str| (name == "PODPLANE_SOCKET").then(|| "/env.sock".into());
        let socket = |text: &str| read(text.as_bytes(), &Args::default(), variable).unwrap().socket;
        assert_eq!(
            socket(r#"{"cniVersion": "1.1.0", "name": "n", "socket": "/own.sock"}"#),
            PathBuf::from("/own.sock")
        );
        assert_eq!(socket(r#"{"cniVersion": "1.1.0", "name": "n"}"#), PathBuf::from("/env.sock"));
        assert_eq!(failure(r#"{"cniVersion": "1.1.0", "name": "n", "socket": "own.sock"}"#).0, 7);
    }

    #[test]
    fn what_is_wrong_has_its_code_and_names_the_field() {
        for (text, code, part) in [
            ("", 6, "standard input is empty"),
            ("{", 6, "line 1"),
            ("[]", 6, "invalid"),
            (r#"{"cniVersion": 1}"#, 6, "invalid type: integer"),
            (r#"{"name": "n"}"#, 1, "cniVersion \"0.1.0\""),
            (r#"{"cniVersion": "2.0.0", "name": "n"}"#, 1, "0.3.1, 0.4.0, 1.0.0, 1.1.0"),
            (r#"{"cniVersion": "1.1.0"}"#, 7, "name is missing"),
            (r#"{"cniVersion": "1.1.0", "name": "../n"}"#, 7, "name \"../n\""),
            (
                r#"{"cniVersion": "1.1.0", "name": "n", "ipam": {"type": "host-local"}}"#,
                2,
                r#"ipam {"type":"host-local"}"#,
            ),
            (r#"{"cniVersion": "1.1.0", "name": "n", "runtimeConfig": {"ips": ["x"]}}"#, 7, "runtimeConfig.ips: \"x\""),
            (
                r#"{"cniVersion": "1.1.0", "name": "n", "runtimeConfig": {"portMappings": [{"hostPort": 70000, "containerPort": 1}]}}"#,
                6,
                "70000",
            ),
            (
                r#"{"cniVersion": "1.1.0", "name": "n", "runtimeConfig": {"portMappings": [{"hostPort": 7, "containerPort": 1, "protocol": "icmp"}]}}"#,
                7,
                "protocol \"icmp\"",
            ),
        ] {
            let (found, details) = failure(text);
            assert!(found == code && details.contains(part), "{text}: {found} {details}");
        }
    }

    #[test]
    fn p17_addresses_are_taken_from_the_capability_before_arguments() {
        let args = Args { ip: Some("10.0.0.9/24,fd00::9".into()), ..Args::default() };
        let ips = |text: &str| read(text.as_bytes(), &args, |_| None).unwrap().ips;
        let all = r#"{"cniVersion": "1.1.0", "name": "n", "runtimeConfig": {"ips": ["10.0.0.7/16"]}, "args": {"cni": {"ips": ["10.0.0.8"]}}}"#;
        assert_eq!(ips(all), ["10.0.0.7".parse::<IpAddr>().unwrap()]);
        let two = r#"{"cniVersion": "1.1.0", "name": "n", "args": {"cni": {"ips": ["10.0.0.8"]}}}"#;
        assert_eq!(ips(two), ["10.0.0.8".parse::<IpAddr>().unwrap()]);
        let one = r#"{"cniVersion": "1.1.0", "name": "n"}"#;
        assert_eq!(ips(one), ["10.0.0.9", "fd00::9"].map(|text| text.parse::<IpAddr>().unwrap()));
    }

    #[test]
    fn what_the_runtime_says_about_ports_labels_and_resolvers_is_taken() {
        let read = parse(
            r#"{"cniVersion": "1.1.0", "name": "n", "dns": {"nameservers": ["10.0.0.1"], "search": ["a"]},
                "args": {"cni": {"labels": [{"key": "app", "value": "web"}]}},
                "runtimeConfig": {"dns": {"servers": ["10.0.0.2"]}, "bandwidth": {"ingressRate": 0},
                  "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "TCP", "hostIP": ""},
                                   {"hostPort": 0, "containerPort": 81, "protocol": "tcp"}]}}"#,
        )
        .unwrap();
        let dns = read.dns.unwrap();
        assert_eq!((dns.nameservers, dns.search), (vec!["10.0.0.2".to_owned()], vec!["a".to_owned()]));
        assert_eq!(read.labels.get("app").map(String::as_str), Some("web"));
        let [mapping] = &read.port_mappings[..] else { panic!("{:?}", read.port_mappings) };
        assert_eq!((mapping.host_port, mapping.protocol.as_str(), mapping.host_ip), (8080, "tcp", None));
        assert_eq!(read.bandwidth, None);
    }
}
