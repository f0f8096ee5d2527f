//! Ingress and Gateway API word for word: the API reference of Ingress, the comments of the v1 types of
//! `gateway.networking.k8s.io`, and podplane's decisions where those leave room. It reads the JSON that was handed in. Every request is
//! held against every rule of every object; those that take it are sorted by the precedence that the APIs give, and the first one
//! has it.

use crate::generate::PATTERNS_OF_PATHS;
use serde_json::{Value, json};
use std::cmp::Reverse;

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) port: u16,
    pub(crate) sni: Option<&'a str>,
    pub(crate) host: &'a str,
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
    pub(crate) method: &'a str,
    pub(crate) headers: Vec<(&'static str, &'static str)>,
}

/// What becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Rule { object: String, field: String, matched_prefix_bytes: usize },
    Nothing,
    Misdirected,
}

/// Two kinds of objects with the same name and age: the kind decides.
type Age<'a> = (bool, &'a str, &'a str, &'a str, &'a str);

/// A rule that takes the request, with what decides between several.
struct Taking<'a> {
    /// A default backend takes what no rule takes.
    is_default: bool,
    listener: Specificity,
    host: Specificity,
    path: PathRank,
    has_method: bool,
    headers: usize,
    query: usize,
    age: Age<'a>,
    position: (usize, usize),
    answer: Answer,
}

/// How specific a host pattern is: a name before a wildcard before nothing; the longer one first.
type Specificity = (u8, usize);

/// Exact paths first, then expressions by length and text, then prefixes by length.
type PathRank = (u8, Reverse<usize>, String);

/// The objects.
pub(crate) struct Literal<'a> {
    objects: &'a [Value],
    has_default_certificate: bool,
}

/// To whom a host belongs, and the Secret of its certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner<'a> {
    Listener(&'a str, &'a str),
    Certificate(&'a str, &'a str),
}

impl<'a> Literal<'a> {
    pub(crate) fn new(objects: &'a [Value], has_default_certificate: bool) -> Literal<'a> {
        Literal { objects, has_default_certificate }
    }

    fn of_kind(&self, kind: &str) -> impl Iterator<Item = &'a Value> {
        let kind = kind.to_owned();
        self.objects.iter().filter(move |object| object["kind"] == kind)
    }

    /// "inbound request hostnames MUST match from the most specific to least specific Hostname values to choose the correct Listener"
    fn listeners(&self, port: u16) -> impl Iterator<Item = &'a Value> {
        let listeners = self.of_kind("Gateway").flat_map(|gateway| items(&gateway["spec"]["listeners"]));
        listeners.filter(move |listener| listener["port"] == port)
    }

    /// What becomes of a request.
    pub(crate) fn judge(&self, asked: &Asked<'_>) -> Answer {
        let mut taking = self.taking_of_ingresses(asked);
        taking.extend(self.taking_of_routes(asked));
        // "requests SHOULD match at most one Listener": nothing that is for less specific hosts than the Gateway listener's.
        let own = self.listeners(asked.port).map(|listener| text(&listener["hostname"]));
        let own = own.filter(|pattern| matches_host(pattern, asked.host)).map(specificity).max();
        taking.retain(|taking| own.is_none_or(|own| taking.listener >= own));
        taking.sort_by(|one, other| one.precedence().cmp(&other.precedence()));
        let found = taking.into_iter().next().map(|taking| taking.answer);
        if let Some(sni) = asked.sni.filter(|sni| asked.port == 443 && *sni != asked.host) {
            let (opened, belongs) = (self.owner(sni), self.owner(asked.host));
            if opened != belongs && (belongs.is_some() || found.is_some()) {
                return Answer::Misdirected;
            }
        }
        found.unwrap_or(Answer::Nothing)
    }

    /// The Secret whose certificate a connection for `host` is shown.
    pub(crate) fn secret(&self, host: &str) -> Option<&'a str> {
        match self.owner(host)? {
            Owner::Certificate(_, secret) => Some(secret),
            Owner::Listener(pattern, _) => {
                let listener = self.listeners(443).find(|listener| text(&listener["hostname"]) == pattern);
                Some(text(&listener.expect("it is there")["tls"]["certificateRefs"][0]["name"]))
            }
        }
    }

    /// The most specific pattern with a certificate: a listener's before an Ingress' of the same pattern, the oldest Ingress' first.
    fn owner(&self, host: &str) -> Option<Owner<'a>> {
        let listeners = self.listeners(443).map(|listener| {
            let pattern = text(&listener["hostname"]);
            (Reverse(specificity(pattern)), 0, None, pattern, Owner::Listener(pattern, ""))
        });
        let listeners = listeners.filter(|(.., pattern, _)| matches_host(pattern, host));
        let tls =
            self.of_kind("Ingress").flat_map(|ingress| items(&ingress["spec"]["tls"]).map(move |tls| (ingress, tls)));
        let certificates = tls.flat_map(|(ingress, tls)| {
            let owner = Owner::Certificate(text(&ingress["metadata"]["namespace"]), text(&tls["secretName"]));
            items(&tls["hosts"]).map(move |pattern| {
                let pattern = text(pattern);
                (Reverse(specificity(pattern)), 1, Some(age(ingress)), pattern, owner)
            })
        });
        let certificates = certificates.filter(|(.., pattern, _)| matches_one_label(pattern, host));
        let first =
            listeners.chain(certificates).min_by(|one, other| (one.0, one.1, one.2).cmp(&(other.0, other.1, other.2)));
        let default = self.has_default_certificate.then_some(Owner::Certificate("default", "s1"));
        first.map(|(.., owner)| owner).or(default)
    }

    fn taking_of_ingresses(&self, asked: &Asked<'_>) -> Vec<Taking<'a>> {
        let mut taking = Vec::new();
        if asked.port != 80 && asked.port != 443 {
            return taking;
        }
        for ingress in self.of_kind("Ingress") {
            for (at, rule) in items(&ingress["spec"]["rules"]).enumerate() {
                let host = text(&rule["host"]);
                if !matches_one_label(host, asked.host) {
                    continue;
                }
                for (path_at, path) in items(&rule["http"]["paths"]).enumerate() {
                    let kind = if path["pathType"] == "Exact" { "Exact" } else { "PathPrefix" };
                    let Some((rank, matched)) = match_path(kind, text(&path["path"]), asked.path) else { continue };
                    taking.push(Taking {
                        path: rank,
                        position: (at, path_at),
                        ..Taking::plain(ingress, host, format!("spec.rules[{at}].http.paths[{path_at}]"), matched)
                    });
                }
            }
            if ingress["spec"]["defaultBackend"].is_null() {
                continue;
            }
            // "the backend that should handle requests that don't match any rule": for its own hosts first, then for all.
            let rules = items(&ingress["spec"]["rules"]).map(|rule| text(&rule["host"])).chain([""]);
            for host in rules.filter(|pattern| matches_host(pattern, asked.host)) {
                let default = Taking::plain(ingress, host, "spec.defaultBackend".into(), 0);
                taking.push(Taking { is_default: true, ..default });
            }
        }
        taking
    }

    fn taking_of_routes(&self, asked: &Asked<'_>) -> Vec<Taking<'a>> {
        let mut taking = Vec::new();
        for route in self.of_kind("HTTPRoute") {
            for listener in self.attached_to(route, asked.port) {
                let pattern = text(&listener["hostname"]);
                let mut hostnames: Vec<&str> = items(&route["spec"]["hostnames"]).map(text).collect();
                if hostnames.is_empty() {
                    hostnames.push("");
                }
                for host in hostnames {
                    // A host that both match is one that they share.
                    if !matches_host(pattern, asked.host) || !matches_host(host, asked.host) {
                        continue;
                    }
                    for (at, rule) in items(&route["spec"]["rules"]).enumerate() {
                        let everything = json!({});
                        let written = items(&rule["matches"]);
                        let matches: Vec<&Value> = written.collect();
                        let matches = if matches.is_empty() { vec![&everything] } else { matches };
                        for (match_at, written) in matches.into_iter().enumerate() {
                            let Some(found) = take(written, asked) else { continue };
                            let (path, matched, (has_method, headers, query)) = found;
                            let plain = Taking::plain(route, host, format!("spec.rules[{at}]"), matched);
                            let listener = specificity(pattern);
                            let position = (at, match_at);
                            taking.push(Taking { listener, path, has_method, headers, query, position, ..plain });
                        }
                    }
                }
            }
        }
        taking
    }

    /// Listeners of a port that the route refers to.
    fn attached_to(&self, route: &'a Value, port: u16) -> Vec<&'a Value> {
        let mut attached = Vec::new();
        for parent in items(&route["spec"]["parentRefs"]) {
            if !parent["port"].is_null() && parent["port"] != port {
                continue;
            }
            let gateway = self.of_kind("Gateway").find(|gateway| gateway["metadata"]["name"] == parent["name"]);
            let listeners = gateway.into_iter().flat_map(|gateway| items(&gateway["spec"]["listeners"]));
            attached.extend(listeners.filter(|listener| listener["port"] == port));
        }
        attached
    }
}

impl<'a> Taking<'a> {
    /// A rule of `object` that asks for nothing but a host.
    fn plain(object: &'a Value, host: &str, field: String, matched_prefix_bytes: usize) -> Taking<'a> {
        let metadata = &object["metadata"];
        let name = format!("{} {}/{}", text(&object["kind"]), text(&metadata["namespace"]), text(&metadata["name"]));
        Taking {
            is_default: false,
            listener: specificity(host),
            host: specificity(host),
            path: (3, Reverse(0), String::new()),
            has_method: false,
            headers: 0,
            query: 0,
            age: age(object),
            position: (0, 0),
            answer: Answer::Rule { object: name, field, matched_prefix_bytes },
        }
    }

    fn precedence(&self) -> impl Ord + '_ {
        let hosts = (self.is_default, Reverse(self.listener), Reverse(self.host));
        let asked = (Reverse(self.has_method), Reverse(self.headers), Reverse(self.query));
        (hosts, &self.path, asked, self.age, self.position)
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// "The oldest Route based on creation timestamp. The Route appearing first in alphabetical order by {namespace}/{name}."
fn age(object: &Value) -> Age<'_> {
    let metadata = &object["metadata"];
    let created = &metadata["creationTimestamp"];
    (created.is_null(), text(created), text(&metadata["namespace"]), text(&metadata["name"]), text(&object["kind"]))
}

/// "Characters in a matching non-wildcard hostname. Characters in a matching hostname."
fn specificity(pattern: &str) -> Specificity {
    let kind = if pattern.is_empty() {
        0
    } else if pattern.starts_with("*.") {
        1
    } else {
        2
    };
    (kind, pattern.len())
}

/// "`*.example.com` would match both `test.example.com`, and `foo.test.example.com`, but not `example.com`"
fn matches_host(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
        None => pattern.is_empty() || pattern == host,
    }
}

/// Ingress: "the wildcard only covers a single DNS label".
fn matches_one_label(pattern: &str, host: &str) -> bool {
    let labels = |name: &str| name.split('.').count();
    matches_host(pattern, host) && (!pattern.starts_with("*.") || labels(pattern) == labels(host))
}

/// Whether a path matches, its rank, and the bytes that a prefix took.
fn match_path(kind: &str, wanted: &str, path: &str) -> Option<(PathRank, usize)> {
    match kind {
        "Exact" => (wanted == path).then(|| ((0, Reverse(0), String::new()), 0)),
        "RegularExpression" => {
            let is_match = match PATTERNS_OF_PATHS.iter().position(|known| *known == wanted) {
                Some(0) => path.starts_with("/a/"),
                Some(1) => path.starts_with('/') && path.chars().all(|letter| "ab/".contains(letter)),
                Some(_) => path == "/a/b" || path == "/ab",
                None => panic!("{wanted} is not known"),
            };
            is_match.then(|| ((1, Reverse(wanted.len()), wanted.to_owned()), 0))
        }
        _ => {
            // "split by the / separator ... element by element"; a final slash is ignored.
            let wanted = wanted.strip_suffix('/').unwrap_or(wanted);
            let elements: Vec<&str> = wanted.split('/').collect();
            let asked: Vec<&str> = path.split('/').collect();
            asked.starts_with(&elements).then(|| ((2, Reverse(wanted.len()), String::new()), wanted.len()))
        }
    }
}

/// Whether a match takes the request: the rank of its path, bytes of the prefix, and what else it asks for.
fn take(written: &Value, asked: &Asked<'_>) -> Option<(PathRank, usize, (bool, usize, usize))> {
    let path = &written["path"];
    let (kind, wanted) = if path.is_null() { ("PathPrefix", "/") } else { (text(&path["type"]), text(&path["value"])) };
    let (rank, matched) = match_path(kind, wanted, asked.path)?;
    let method = &written["method"];
    if !method.is_null() && method != asked.method {
        return None;
    }
    let headers = firsts(&written["headers"]);
    let has_header = |(name, value): &(&str, &str)| asked.headers.contains(&(*name, *value));
    let query = firsts(&written["queryParams"]);
    let pairs: Vec<(&str, &str)> =
        asked.query.iter().flat_map(|query| query.split('&')).filter_map(|pair| pair.split_once('=')).collect();
    let has_parameter = |(name, value): &(&str, &str)| {
        pairs.iter().find(|(other, _)| other == name).is_some_and(|(_, first)| first == value)
    };
    let holds = headers.iter().all(has_header) && query.iter().all(has_parameter);
    holds.then(|| (rank, matched, (!method.is_null(), headers.len(), query.len())))
}

/// "If multiple entries specify equivalent names, only the first entry with an equivalent name MUST be considered for a match."
fn firsts(list: &Value) -> Vec<(&str, &str)> {
    let mut firsts: Vec<(&str, &str)> = Vec::new();
    for entry in items(list) {
        if !firsts.iter().any(|(name, _)| *name == text(&entry["name"])) {
            firsts.push((text(&entry["name"]), text(&entry["value"])));
        }
    }
    firsts
}
