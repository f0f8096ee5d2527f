//! One rule of an HTTPRoute: which requests it takes, and what becomes of them.
//!
//! A rule in which something is not understood is *dropped*: its requests are answered with 500. They are not left to other rules,
//! which may lead to the same backend without what the dropped rule asked for. A match that is not understood takes nothing.

use super::Work;
use super::backends::{Part, PortName, Unresolved};
use super::filters::{self, Filters};
use super::grants::is_permitted;
use super::report::Subject;
use super::status::Fault;
use crate::objects::gateway_api::http_route::{BackendRef, Match, PathMatchType, Rule as Written, ValueMatchType};
use crate::objects::gateway_api::{BackendObjectReference, duration};
use crate::routes::conditions::{Conditions, Pattern, ValueMatch};
use crate::routes::paths::PathMatch;
use crate::routes::table::{BackendProtocol, Filter, Forward, Outcome, Target, Timeouts, WeightedTarget};
use http::{HeaderName, Method};
use std::sync::Arc;

/// Answer to requests for which there is no backend, or that nothing here can do right.
const ERROR_STATUS: u16 = 500;

/// Reads an HTTPRoute.
pub(super) struct Reading<'w, 'a> {
    /// The route.
    pub(super) subject: Arc<Subject>,
    pub(super) work: &'w mut Work<'a>,
    /// The first reference that leads nowhere.
    pub(super) unresolved: Option<Fault>,
}

/// A rule as it was read.
pub(super) struct ReadRule {
    /// Which requests it takes.
    pub(super) matches: Vec<ReadMatch>,
    /// Changes to them.
    pub(super) filters: Vec<Filter>,
    /// What becomes of them.
    pub(super) outcome: Outcome,
    /// How long it may take.
    pub(super) timeouts: Timeouts,
    /// Why it is dropped.
    pub(super) fault: Option<Fault>,
}

/// One of the matches of a rule.
pub(super) struct ReadMatch {
    /// Its position.
    pub(super) at: u32,
    /// As written.
    pub(super) written: String,
    /// How the path is matched.
    pub(super) path_type: &'static str,
    /// The path.
    pub(super) path: PathMatch,
    /// The rest.
    pub(super) conditions: Conditions,
}

impl Reading<'_, '_> {
    /// Reads the rule at `field`.
    pub(super) fn rule(&mut self, rule: &Written, field: &str) -> ReadRule {
        let mut fault = None;
        let mut matches = Vec::new();
        for (at, written) in (0u32..).zip(rule.matches()) {
            match read_match(written, at) {
                Ok(read) => matches.push(read),
                Err((part, found)) => {
                    let message = format!("{}: no request is taken by this match", found.message);
                    self.work.report.close(&self.subject, format!("{field}.matches[{at}].{part}"), message);
                    fault.get_or_insert(found);
                }
            }
        }
        if rule.retry.is_some() {
            let message = "not supported: requests are sent again only as the proxy decides";
            self.work.report.warn(&self.subject, format!("{field}.retry"), message);
        }
        if rule.session_persistence.is_some() {
            let message = "not supported: requests of a session go to any backend";
            self.work.report.warn(&self.subject, format!("{field}.sessionPersistence"), message);
        }
        let read = self.timeouts(rule, field).and_then(|timeouts| {
            let filters = rule.filters.as_deref().unwrap_or_default();
            Ok((timeouts, filters::read(filters, &format!("{field}.filters"), self)?))
        });
        match read {
            Ok((timeouts, Filters { changes, redirect })) => {
                let targets = self.targets(rule, field);
                let outcome = redirect.map_or_else(|| forward(targets), Outcome::Redirect);
                ReadRule { matches, filters: changes, outcome, timeouts, fault }
            }
            Err((place, found)) => {
                let why = found.message.clone();
                let message = format!("{why}: requests are answered with {ERROR_STATUS}");
                self.work.report.close(&self.subject, place, message);
                let (outcome, timeouts) = (Outcome::Status(ERROR_STATUS, why), Timeouts::default());
                ReadRule { matches, filters: Vec::new(), outcome, timeouts, fault: Some(fault.unwrap_or(found)) }
            }
        }
    }

    fn timeouts(&self, rule: &Written, field: &str) -> Result<Timeouts, (String, Fault)> {
        let Some(written) = &rule.timeouts else { return Ok(Timeouts::default()) };
        let read = |text: Option<&str>, part: &str| {
            let read = text.map(duration).transpose();
            read.map_err(|why| (format!("{field}.timeouts.{part}"), Fault::new("UnsupportedValue", why)))
        };
        Ok(Timeouts {
            request: read(written.request.as_deref(), "request")?,
            backend_request: read(written.backend_request.as_deref(), "backendRequest")?,
        })
    }

    fn targets(&mut self, rule: &Written, field: &str) -> Vec<WeightedTarget> {
        let references = rule.backend_refs.iter().flatten().enumerate();
        let targets = references.map(|(at, reference)| self.weighted(reference, &format!("{field}.backendRefs[{at}]")));
        targets.collect()
    }

    fn weighted(&mut self, reference: &BackendRef, field: &str) -> WeightedTarget {
        let target = self.target(&reference.target(), field);
        let weight = u32::try_from(reference.weight()).unwrap_or_default();
        let written = reference.filters.as_deref().unwrap_or_default();
        let read =
            filters::read(written, &format!("{field}.filters"), self).and_then(|filters| match filters.redirect {
                None => Ok(filters.changes),
                Some(_) => {
                    let message = "a single backend cannot redirect, only a rule can";
                    Err((format!("{field}.filters"), Fault::new("UnsupportedValue", message)))
                }
            });
        match read {
            Ok(filters) => WeightedTarget { weight, filters, target },
            Err((place, fault)) => {
                let message = format!("{}: requests for this backend are answered with {ERROR_STATUS}", fault.message);
                self.work.report.close(&self.subject, place, message);
                let target = Target::Unresolved { status: ERROR_STATUS, why: fault.message };
                WeightedTarget { weight, filters: Vec::new(), target }
            }
        }
    }

    /// Where a reference at `field` leads.
    pub(super) fn target(&mut self, reference: &BackendObjectReference, field: &str) -> Target {
        self.resolve(reference).unwrap_or_else(|(part, fault)| {
            let why = fault.message.clone();
            let message = format!("{why}: its share of requests is answered with {ERROR_STATUS}");
            self.work.report.warn(&self.subject, format!("{field}{part}"), message);
            self.unresolved.get_or_insert(fault);
            Target::Unresolved { status: ERROR_STATUS, why }
        })
    }

    fn resolve(&mut self, reference: &BackendObjectReference) -> Result<Target, (&'static str, Fault)> {
        if (reference.group(), reference.kind()) != ("", "Service") {
            let message = format!("a {} cannot be a backend, only a Service can", reference.kind());
            return Err((".kind", Fault::new("InvalidKind", message)));
        }
        let own = &self.subject.key.0;
        let namespace = reference.namespace.as_deref().map_or_else(|| own.clone(), Arc::from);
        let service = (namespace, reference.name.as_str().into());
        if !is_permitted(self.work.cluster, super::gateway::ROUTE_KIND, own, "Service", &service) {
            let (namespace, name) = &service;
            let message = format!("no ReferenceGrant in {namespace} lets HTTPRoutes of {own} refer to Service {name}");
            return Err((".namespace", Fault::new("RefNotPermitted", message)));
        }
        let Some(port) = reference.port else {
            return Err((".port", Fault::new("BackendNotFound", "required for a Service")));
        };
        let found = self.work.backends.find(&service, PortName::Number(port), BackendProtocol::default());
        found.map(Target::Endpoints).map_err(|Unresolved { part, why }| match part {
            Part::Service => (".name", Fault::new("BackendNotFound", why)),
            Part::Port => (".port", Fault::new("BackendNotFound", why)),
            Part::Type => (".name", Fault::new("InvalidKind", why)),
            Part::Protocol => (".port", Fault::new("UnsupportedProtocol", why)),
        })
    }
}

fn forward(targets: Vec<WeightedTarget>) -> Outcome {
    match targets.iter().map(|target| u64::from(target.weight)).sum() {
        0 if targets.is_empty() => Outcome::Status(ERROR_STATUS, "the rule has no backends".into()),
        0 => Outcome::Status(ERROR_STATUS, "all backends of the rule have weight 0".into()),
        weight_total => Outcome::Forward(Forward { targets, weight_total }),
    }
}

/// The error is at which field and what is wrong there.
fn read_match(written: &Match, at: u32) -> Result<ReadMatch, (String, Fault)> {
    let unsupported = |part: String| |message: String| (part, Fault::new("UnsupportedValue", message));
    let (kind, path) = written.path();
    let (path_type, matched) = match kind {
        PathMatchType::Exact => ("Exact", PathMatch::Exact(path.into())),
        PathMatchType::PathPrefix => ("PathPrefix", PathMatch::prefix(path)),
        PathMatchType::RegularExpression => {
            let pattern = Pattern::new(path).map_err(unsupported("path.value".into()))?;
            ("RegularExpression", PathMatch::Pattern(pattern))
        }
    };
    let method = written.method.as_deref().map(|text| {
        let method = Method::from_bytes(text.as_bytes());
        method.map_err(|_| unsupported("method".into())(format!("\"{text}\" is not a method")))
    });
    let mut headers: Vec<(HeaderName, ValueMatch)> = Vec::new();
    for (at, header) in written.headers.iter().flatten().enumerate() {
        let name = HeaderName::try_from(&header.name).map_err(|_| {
            let message = format!("\"{}\" is not the name of a header field", header.name);
            unsupported(format!("headers[{at}].name"))(message)
        })?;
        let value = value(header.kind(), &header.value).map_err(unsupported(format!("headers[{at}].value")))?;
        if !headers.iter().any(|(other, _)| *other == name) {
            headers.push((name, value));
        }
    }
    let mut query: Vec<(Box<str>, ValueMatch)> = Vec::new();
    for (at, parameter) in written.query_params.iter().flatten().enumerate() {
        let value =
            value(parameter.kind(), &parameter.value).map_err(unsupported(format!("queryParams[{at}].value")))?;
        if !query.iter().any(|(other, _)| **other == *parameter.name) {
            query.push((parameter.name.as_str().into(), value));
        }
    }
    // Their order means nothing: matches that ask for the same are to be equal.
    headers.sort_by(|(one, _), (other, _)| one.as_str().cmp(other.as_str()));
    query.sort_by(|(one, _), (other, _)| one.cmp(other));
    let conditions =
        Conditions { one_label_under: None, method: method.transpose()?, headers: headers.into(), query: query.into() };
    Ok(ReadMatch { at, written: path.to_owned(), path_type, path: matched, conditions })
}

fn value(kind: ValueMatchType, text: &str) -> Result<ValueMatch, String> {
    match kind {
        ValueMatchType::Exact => Ok(ValueMatch::Exact(text.into())),
        ValueMatchType::RegularExpression => Pattern::new(text).map(ValueMatch::Pattern),
    }
}
