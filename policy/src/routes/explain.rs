//! Why a request is to what it is to, in words: the rule that takes it, the rules that would have, and what is missing if none does.
//!
//! It asks the same tables in the same order as [`Routes::find`] and differs only in going on after the first rule.

use super::hosts::HostMap;
use super::lookup::Listener;
use super::table::{Found, PortRoutes, Request, Routes, Rule, RuleRef};

/// Names that one sentence lists; the others are counted.
const NAMES_MAX: usize = 8;

/// What a request is to, and why.
#[derive(Debug)]
pub struct Explanation<'a> {
    /// What [`Routes::find`] says.
    pub found: Found<'a>,
    /// The same as a sentence.
    pub why: String,
    /// Rules for the request's host and path that do not take it, in the order in which they are asked.
    pub passed: Vec<Passed<'a>>,
}

/// A rule that does not take a request, though its host and path match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed<'a> {
    /// The rule.
    pub rule: &'a RuleRef,
    /// Why it does not.
    pub why: String,
}

impl Routes {
    /// What `request` is to, and why.
    pub fn explain<'a>(&'a self, request: &Request<'_>) -> Explanation<'a> {
        let found = self.find(request);
        let host = request.host.strip_suffix('.').unwrap_or(request.host);
        let request = &Request { host, ..*request };
        let Some(port) = self.port(request.port) else {
            let why = format!("nothing listens on port {}", request.port);
            return Explanation { found, why, passed: Vec::new() };
        };
        let passed = self.passed(port, request, &found);
        let why = match found {
            Found::Rule { rule, .. } => taken(&rule.source),
            Found::Misdirected => format!(
                "the connection was opened for {}, and {host} belongs to another listener or certificate",
                request.sni.unwrap_or_default()
            ),
            Found::Nothing => self.missing(port, request, &passed),
        };
        Explanation { found, why, passed }
    }

    fn passed<'a>(&'a self, port: &'a PortRoutes, request: &Request<'_>, found: &Found<'_>) -> Vec<Passed<'a>> {
        let winner = match found {
            Found::Rule { rule, .. } => Some(*rule),
            Found::Nothing | Found::Misdirected => None,
        };
        let mut passed = Vec::new();
        let tables = port.asked(request.host).flat_map(|listener| listener.hosts.matching(request.host));
        for (candidate, _) in tables.flat_map(|paths| paths.matching(request.path)) {
            let rule = &self.rules[candidate.rule as usize];
            let why = match (candidate.conditions.failed(request), winner) {
                (Some(failed), _) => failed.to_string(),
                (None, Some(winner)) if !std::ptr::eq(winner, rule) => comes_after(winner, rule),
                (None, _) => continue,
            };
            passed.push(Passed { rule: &rule.source, why });
        }
        passed
    }

    /// Why nothing takes a request.
    fn missing(&self, port: &PortRoutes, request: &Request<'_>, passed: &[Passed<'_>]) -> String {
        let Request { host, path, .. } = request;
        if !passed.is_empty() {
            return format!("rules for {host}{path} ask for more than the request has");
        }
        let tables = port.asked(host).flat_map(|listener| listener.hosts.matching(host));
        let rules = tables.flat_map(|paths| paths.rules()).map(|rule| &self.rules[rule as usize].source);
        let mut paths: Vec<String> = rules.map(|rule| format!("{} ({})", rule.path, rule.path_type)).collect();
        if !paths.is_empty() {
            paths.sort();
            paths.dedup();
            return format!("no path of {host} takes {path}: there are {}", listed(&paths));
        }
        match hosts(&port.listeners).as_slice() {
            [] => format!("port {} has no rules", port.port),
            hosts => format!("no rule is for host {host}: there are {}", listed(hosts)),
        }
    }
}

/// Hosts that have rules.
fn hosts(listeners: &HostMap<Listener>) -> Vec<String> {
    let listeners = listeners.iter().flat_map(|(listener, tables)| {
        let own = tables.hosts.iter().filter_map(move |(host, _)| host.intersection(&listener));
        own.map(|host| host.to_string())
    });
    let mut hosts: Vec<String> = listeners.collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

fn listed(names: &[String]) -> String {
    let shown = names[..names.len().min(NAMES_MAX)].join(", ");
    match names.len().saturating_sub(NAMES_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn taken(rule: &RuleRef) -> String {
    let RuleRef { object, field, host, path, path_type } = rule;
    match *path_type {
        "" => format!("{object} ({field}) takes what no rule takes"),
        path_type => format!("{object} ({field}) takes {host}{path} ({path_type})"),
    }
}

fn comes_after(winner: &Rule, rule: &Rule) -> String {
    let (winner, own) = (&winner.source, &rule.source);
    let name = format!("{} ({})", winner.object, winner.field);
    if winner.host != own.host {
        format!("host {} of {name} is more specific", winner.host)
    } else if (winner.path_type, &winner.path) != (own.path_type, &own.path) {
        format!("path {} ({}) of {name} comes first", winner.path, winner.path_type)
    } else {
        format!("{name} comes first")
    }
}
