//! What a matrix is expected to say: connections that must be allowed or denied, and whether the tables agree.
//!
//! In: a saved matrix (`policy matrix -o json`) or a list that a person wrote. Out: for each expectation whether every
//! connection that it names has the expected outcome, and if not, which have another one and the rule behind it. An
//! expectation that names no connection fails: what is not there cannot be as expected.

use super::{Family, Outcome, common_addresses};
use crate::conversation::{Conversation, End};
use crate::objects::document;
use crate::tables::{PodIndex, Tables};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use std::fmt;
use wire::Protocol;

/// Connections of one expectation that are told when they are not as expected; more would only repeat the cause.
const MISMATCHES_TOLD_MAX: usize = 10;

/// Some pods: `NAMESPACE/NAME`, in which `*` stands for any characters, so that `NAMESPACE/*` is a namespace, `*/*` every pod
/// and `shop/frontend-*` the pods of a Deployment, whose names nobody chooses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPattern {
    namespace: String,
    name: String,
}

impl PodPattern {
    fn parse(text: &str) -> Option<PodPattern> {
        let (namespace, name) = text.split_once('/')?;
        let is_part = |part: &str| !part.is_empty() && !part.contains('/');
        (is_part(namespace) && is_part(name))
            .then(|| PodPattern { namespace: namespace.to_owned(), name: name.to_owned() })
    }

    /// Whether it names one pod.
    fn is_exact(&self) -> bool {
        !self.namespace.contains('*') && !self.name.contains('*')
    }

    fn find(&self, tables: &Tables) -> Vec<PodIndex> {
        if self.is_exact() {
            return tables.find_pod(&self.namespace, &self.name).into_iter().collect();
        }
        let matching =
            tables.pods().filter(|(_, pod)| is_like(&pod.namespace, &self.namespace) && is_like(&pod.name, &self.name));
        matching.map(|(index, _)| index).collect()
    }
}

impl fmt::Display for PodPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Whether `text` is `pattern` with something for every `*`.
fn is_like(text: &str, pattern: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return text == pattern };
    let Some(mut text) = text.strip_prefix(start) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        match text.find(part) {
            Some(at) => text = &text[at + part.len()..],
            None => return false,
        }
    }
    text.ends_with(end)
}

/// Connections that must all have one outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// The clients.
    pub from: PodPattern,
    /// The servers.
    pub to: PodPattern,
    /// TCP, UDP, SCTP or ICMP.
    pub protocol: Protocol,
    /// The server's port; 0 for ICMP.
    pub port: u16,
    /// What policy must say.
    pub outcome: Outcome,
}

/// One expectation beside what the tables say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// The clients, as expected.
    #[serde(serialize_with = "displayed")]
    pub from: PodPattern,
    /// The servers, as expected.
    #[serde(serialize_with = "displayed")]
    pub to: PodPattern,
    /// The protocol, as Kubernetes writes it.
    #[serde(serialize_with = "displayed")]
    pub protocol: Protocol,
    /// The server's port.
    pub port: u16,
    /// The expected outcome.
    pub expected: Outcome,
    /// Whether all connections have it, and there is at least one.
    pub passed: bool,
    /// How many connections it names: pairs of different pods with addresses of one family.
    pub connections: usize,
    /// How many of them have another outcome.
    pub mismatches: usize,
    /// The first of those.
    pub examples: Vec<Mismatch>,
    /// Why it fails although no connection has another outcome: it names none.
    pub message: Option<String>,
}

/// A connection that is not as expected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mismatch {
    /// The client, `NAMESPACE/NAME`.
    pub from: String,
    /// The server, `NAMESPACE/NAME`.
    pub to: String,
    /// What the tables say.
    pub outcome: Outcome,
    /// What decided, for people.
    pub reason: String,
}

/// All expectations of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How many are met.
    pub passed: usize,
    /// How many are not.
    pub failed: usize,
    /// Each, in the order of the file.
    pub results: Vec<Checked>,
}

/// Reads expectations: a list of `{from, to, protocol, port, outcome}`, or a map with such a list as `results` (what
/// [`Matrix`](super::Matrix) serializes to), as YAML or JSON. Without `protocol` it is TCP; ICMP has no port.
///
/// # Errors
/// What is wrong with the first entry that cannot be used, by its field.
pub fn parse(text: &str) -> Result<Vec<Expectation>, String> {
    let mut documents = document::split(text);
    let document = match documents.len() {
        0 => return Err("holds no expectation".to_owned()),
        1 => documents.remove(0),
        more => return Err(format!("{more} documents, expected one list of expectations")),
    };
    let value = document.content.map_err(|error| format!("line {}: {}", error.line, error.message))?;
    let (list, entries) = match value {
        Value::Array(entries) => ("", entries),
        Value::Object(mut fields) => match fields.remove("results") {
            Some(Value::Array(entries)) => ("results", entries),
            _ => return Err("results: required: a list of {from, to, protocol, port, outcome}".to_owned()),
        },
        _ => return Err("expected a list of {from, to, protocol, port, outcome}".to_owned()),
    };
    if entries.is_empty() {
        return Err("holds no expectation".to_owned());
    }
    let read = entries.iter().enumerate().map(|(position, entry)| {
        expectation(entry).map_err(|(field, message)| format!("{list}[{position}]{field}: {message}"))
    });
    read.collect()
}

type Mistake = (&'static str, String);

fn expectation(entry: &Value) -> Result<Expectation, Mistake> {
    let Value::Object(fields) = entry else {
        return Err(("", "expected {from, to, protocol, port, outcome}".to_owned()));
    };
    let known = ["from", "to", "protocol", "port", "outcome"];
    if let Some(unknown) = fields.keys().find(|field| !known.contains(&field.as_str())) {
        return Err(("", format!("unknown field {unknown:?}: expected {}", known.join(", "))));
    }
    let from = pattern(fields, "from").map_err(|message| (".from", message))?;
    let to = pattern(fields, "to").map_err(|message| (".to", message))?;
    let protocol = match fields.get("protocol") {
        None | Some(Value::Null) => Protocol::TCP,
        Some(value) => protocol(value).ok_or((".protocol", format!("{value} is not TCP, UDP, SCTP or ICMP")))?,
    };
    let port = port(protocol, fields.get("port")).map_err(|message| (".port", message))?;
    let outcome = match fields.get("outcome").and_then(Value::as_str) {
        Some("allow") => Outcome::Allow,
        Some("deny") => Outcome::Deny,
        _ => return Err((".outcome", "required: allow or deny".to_owned())),
    };
    Ok(Expectation { from, to, protocol, port, outcome })
}

fn pattern(fields: &Map<String, Value>, field: &str) -> Result<PodPattern, String> {
    let expected = "NAMESPACE/NAME, such as shop/db-0, shop/*, shop/web-* or */*";
    match fields.get(field) {
        Some(Value::String(text)) => PodPattern::parse(text).ok_or(format!("{text:?}: expected {expected}")),
        _ => Err(format!("required: {expected}")),
    }
}

fn protocol(value: &Value) -> Option<Protocol> {
    match value.as_str()?.to_ascii_uppercase().as_str() {
        "TCP" => Some(Protocol::TCP),
        "UDP" => Some(Protocol::UDP),
        "SCTP" => Some(Protocol::SCTP),
        "ICMP" => Some(Protocol::ICMP),
        _ => None,
    }
}

fn port(protocol: Protocol, value: Option<&Value>) -> Result<u16, String> {
    let number = value.filter(|value| !value.is_null());
    if !protocol.has_ports() {
        return if number.is_none_or(|value| *value == 0) { Ok(0) } else { Err("ICMP has no ports".to_owned()) };
    }
    let port = number.and_then(Value::as_u64).and_then(|number| u16::try_from(number).ok()).filter(|port| *port > 0);
    port.ok_or_else(|| "required: a number from 1 to 65535".to_owned())
}

/// Compares the tables with `expectations`. A pod's connection to itself counts only where both patterns name that very pod:
/// no policy forbids it, so `*/*` does not mean it.
pub fn check(tables: &Tables, expectations: &[Expectation], family: Option<Family>) -> Report {
    let results: Vec<Checked> = expectations.iter().map(|expected| check_one(tables, expected, family)).collect();
    let passed = results.iter().filter(|result| result.passed).count();
    Report { passed, failed: results.len() - passed, results }
}

fn check_one(tables: &Tables, expected: &Expectation, family: Option<Family>) -> Checked {
    let (clients, servers) = (expected.from.find(tables), expected.to.find(tables));
    let with_itself = expected.from.is_exact() && expected.to.is_exact();
    let mut checked = Checked {
        from: expected.from.clone(),
        to: expected.to.clone(),
        protocol: expected.protocol,
        port: expected.port,
        expected: expected.outcome,
        passed: false,
        connections: 0,
        mismatches: 0,
        examples: Vec::new(),
        message: None,
    };
    for &client in &clients {
        for &server in servers.iter().filter(|server| with_itself || **server != client) {
            let (from, to) = (tables.pod(client), tables.pod(server));
            let Some((source, target)) = common_addresses(tables, from, to, family) else { continue };
            checked.connections += 1;
            let flow = Conversation {
                tables,
                from: End { addr: source, pod: Some(client) },
                to: End { addr: target, pod: Some(server) },
                protocol: expected.protocol,
                port: expected.port,
                names: &[],
            };
            let outcome = Outcome::of(&flow);
            if outcome == expected.outcome {
                continue;
            }
            checked.mismatches += 1;
            if checked.examples.len() < MISMATCHES_TOLD_MAX {
                checked.examples.push(Mismatch {
                    from: format!("{}/{}", from.namespace, from.name),
                    to: format!("{}/{}", to.namespace, to.name),
                    outcome,
                    reason: flow.reason(),
                });
            }
        }
    }
    checked.passed = checked.connections > 0 && checked.mismatches == 0;
    if checked.connections == 0 {
        checked.message = Some(nothing_to_check(expected, &clients, &servers, family));
    }
    checked
}

fn nothing_to_check(
    expected: &Expectation,
    clients: &[PodIndex],
    servers: &[PodIndex],
    family: Option<Family>,
) -> String {
    match (clients.is_empty(), servers.is_empty(), family) {
        (true, ..) => format!("there is no pod {}", expected.from),
        (_, true, _) => format!("there is no pod {}", expected.to),
        _ if clients == servers && clients.len() == 1 => {
            format!("{} and {} are one pod: name it in both to expect something of it", expected.from, expected.to)
        }
        (.., Some(Family::V4)) => "no two of these pods have IPv4 addresses".to_owned(),
        (.., Some(Family::V6)) => "no two of these pods have IPv6 addresses".to_owned(),
        (.., None) => "no two of these pods have addresses of one family".to_owned(),
    }
}

fn displayed<T: fmt::Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

#[cfg(test)]
mod tests;
