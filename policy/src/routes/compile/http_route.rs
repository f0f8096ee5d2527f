//! HTTPRoutes: to which listeners they attach, and their status.
//!
//! A rule stands under each listener that takes it, by the route's own hostnames as far as they overlap the listener's; a route
//! without hostnames stands under all hosts of the listener. So of two routes the one with the longer matching hostname comes
//! first, whatever the listener's pattern is.

use super::Work;
use super::assemble::{Placed, RuleId};
use super::gateway::{OurGateway, OurListener, ROUTE_KIND};
use super::http_rule::{ReadRule, Reading};
use super::report::Subject;
use super::status::{Fault, alarm, condition, merge};
use crate::cluster::Key;
use crate::objects::gateway_api::http_route::HTTPRoute;
use crate::objects::gateway_api::{GATEWAY_GROUP, ParentReference, RouteParentStatus, RouteStatus};
use crate::routes::hosts::HostPattern;
use crate::routes::table::{Rule, RuleRef};
use std::collections::BTreeMap;
use std::sync::Arc;

const ROUTE_CONDITIONS: &[&str] = &["Accepted", "ResolvedRefs", "PartiallyInvalid"];

/// Compiles all HTTPRoutes that refer to a Gateway of ours.
pub(super) fn compile(gateways: &mut BTreeMap<Key, OurGateway<'_>>, work: &mut Work<'_>) {
    let cluster = work.cluster;
    for (key, sourced) in &cluster.http_routes {
        let route = &*sourced.object;
        let subject = Subject::new(ROUTE_KIND, key, sourced, &route.metadata);
        let attachments = attach(route, &subject, gateways, work);
        let was_ours = statuses(route).any(|status| status.controller_name == work.options.gateway_controller);
        if !attachments.is_empty() {
            Compiling::new(route, subject, work).compile(attachments, gateways, work);
        } else if was_ours {
            let parents = of_others(route, &work.options.gateway_controller);
            work.statuses.http_routes.insert(key.clone(), RouteStatus { parents });
        }
    }
}

/// What controllers say of a route.
fn statuses(route: &HTTPRoute) -> impl Iterator<Item = &RouteParentStatus> {
    route.status.iter().flat_map(|status| &status.parents)
}

/// What controllers other than `own` say of a route.
fn of_others(route: &HTTPRoute, own: &str) -> Vec<RouteParentStatus> {
    statuses(route).filter(|status| status.controller_name != own).cloned().collect()
}

/// A parent of a route that is ours: which of its listeners take the route, or why none does.
struct Attachment<'r> {
    parent: &'r ParentReference,
    gateway: Key,
    listeners: Result<Vec<usize>, Fault>,
}

/// The parents of a route that are Gateways of ours.
fn attach<'r>(
    route: &'r HTTPRoute,
    subject: &Subject,
    gateways: &BTreeMap<Key, OurGateway<'_>>,
    work: &mut Work<'_>,
) -> Vec<Attachment<'r>> {
    let mut attachments = Vec::new();
    for (at, parent) in route.spec.parent_refs.iter().flatten().enumerate() {
        if (parent.group(), parent.kind()) != (GATEWAY_GROUP, "Gateway") {
            continue;
        }
        let namespace = parent.namespace.as_deref().map_or_else(|| subject.key.0.clone(), Arc::from);
        let key = (namespace, Arc::from(parent.name.as_str()));
        let field = format!("spec.parentRefs[{at}]");
        let Some(gateway) = gateways.get(&key) else {
            if !work.cluster.gateways.contains_key(&key) {
                work.report.warn(subject, field, format!("Gateway {}/{} does not exist", key.0, key.1));
            }
            continue;
        };
        let listeners = choose(route, parent, subject, gateway, work);
        if let Err(fault) = &listeners {
            work.report.warn(subject, field, format!("not attached: {}", fault.message));
        }
        attachments.push(Attachment { parent, gateway: key, listeners });
    }
    attachments
}

/// The listeners of `gateway` that take the route, by position.
fn choose(
    route: &HTTPRoute,
    parent: &ParentReference,
    subject: &Subject,
    gateway: &OurGateway<'_>,
    work: &Work<'_>,
) -> Result<Vec<usize>, Fault> {
    let name = format!("Gateway {}/{}", gateway.subject.key.0, gateway.subject.key.1);
    let section = parent.section_name.as_deref().filter(|name| !name.is_empty());
    let is_named = |listener: &OurListener<'_>| {
        section.is_none_or(|name| name == listener.name())
            && parent.port.is_none_or(|port| port == i32::from(listener.port))
    };
    let mut chosen: Vec<usize> = (0..gateway.listeners.len()).filter(|at| is_named(&gateway.listeners[*at])).collect();
    if chosen.is_empty() {
        let section = section.map(|name| format!(" {name}")).unwrap_or_default();
        let port = parent.port.map(|port| format!(" of port {port}")).unwrap_or_default();
        return Err(Fault::new("NoMatchingParent", format!("{name} has no listener{section}{port}")));
    }
    let (namespace, own) = (&subject.key.0, &gateway.subject.key.0);
    chosen.retain(|at| gateway.listeners[*at].allows(namespace, own, work));
    if chosen.is_empty() {
        let message = format!("no listener of {name} lets HTTPRoutes of {namespace} attach");
        return Err(Fault::new("NotAllowedByListeners", message));
    }
    let hostnames = hostnames(route);
    chosen.retain(|at| hostnames.iter().any(|host| gateway.listeners[*at].hosts.intersection(host).is_some()));
    if chosen.is_empty() {
        let message = format!("no listener of {name} has a hostname that overlaps those of the route");
        return Err(Fault::new("NoMatchingListenerHostname", message));
    }
    chosen.retain(|at| gateway.listeners[*at].is_accepted());
    if chosen.is_empty() {
        return Err(Fault::new("NoMatchingParent", format!("no listener of {name} for the route is accepted")));
    }
    Ok(chosen)
}

fn hostnames(route: &HTTPRoute) -> Vec<HostPattern> {
    let listed = route.spec.hostnames.as_deref().unwrap_or_default();
    let mut hostnames: Vec<HostPattern> = listed.iter().map(|host| HostPattern::new(host)).collect();
    if hostnames.is_empty() {
        hostnames.push(HostPattern::Any);
    }
    hostnames.sort();
    hostnames.dedup();
    hostnames
}

/// A route that is attached somewhere, or would like to be.
struct Compiling<'r> {
    route: &'r HTTPRoute,
    subject: Arc<Subject>,
    rules: Vec<ReadRule>,
    unresolved: Option<Fault>,
    /// Rules in the assembly: by position of rule and match, and host.
    added: BTreeMap<(usize, u32, HostPattern), RuleId>,
}

impl<'r> Compiling<'r> {
    fn new(route: &'r HTTPRoute, subject: Arc<Subject>, work: &mut Work<'_>) -> Compiling<'r> {
        let mut reading = Reading { subject: subject.clone(), work, unresolved: None };
        let rules = route.spec.rules().iter().enumerate();
        let rules = rules.map(|(at, rule)| reading.rule(rule, &format!("spec.rules[{at}]"))).collect();
        let unresolved = reading.unresolved;
        Compiling { route, subject, rules, unresolved, added: BTreeMap::new() }
    }

    fn compile(
        mut self,
        attachments: Vec<Attachment<'_>>,
        gateways: &mut BTreeMap<Key, OurGateway<'_>>,
        work: &mut Work<'_>,
    ) {
        let mut parents = Vec::new();
        for Attachment { parent, gateway, listeners } in attachments {
            let gateway = gateways.get_mut(&gateway).expect("routes are attached to Gateways that there are");
            let fault = listeners.as_ref().err().cloned().or_else(|| self.all_dropped());
            for at in listeners.unwrap_or_default() {
                let listener = &mut gateway.listeners[at];
                if fault.is_none() {
                    listener.attached_routes += 1;
                }
                if listener.is_served() {
                    self.place(listener, work);
                }
            }
            parents.push(self.status(parent, fault.as_ref(), work));
        }
        parents.extend(of_others(self.route, &work.options.gateway_controller));
        work.statuses.http_routes.insert(self.subject.key.clone(), RouteStatus { parents });
    }

    /// Has the rules stand under a listener.
    fn place(&mut self, listener: &OurListener<'_>, work: &mut Work<'_>) {
        for host in hostnames(self.route) {
            let Some(served) = listener.hosts.intersection(&host) else { continue };
            for at in 0..self.rules.len() {
                for match_at in 0..self.rules[at].matches.len() {
                    let rule = self.add_rule(at, match_at, &served, work);
                    let read = &self.rules[at].matches[match_at];
                    work.assembly.place(Placed {
                        port: listener.port,
                        listener: listener.hosts.clone(),
                        host: host.clone(),
                        path: read.path.clone(),
                        conditions: read.conditions.clone(),
                        position: (at as u32, read.at),
                        rule,
                    });
                }
            }
        }
    }

    /// The rule for one match under a host.
    fn add_rule(&mut self, at: usize, match_at: usize, host: &HostPattern, work: &mut Work<'_>) -> RuleId {
        let rule = &self.rules[at];
        let read = &rule.matches[match_at];
        let place = (at, read.at, host.clone());
        if let Some(known) = self.added.get(&place) {
            return *known;
        }
        let source = RuleRef {
            object: self.subject.reference(),
            field: format!("spec.rules[{at}]"),
            host: host.to_string(),
            path: read.written.clone(),
            path_type: read.path_type,
        };
        let (filters, outcome) = (rule.filters.clone(), rule.outcome.clone());
        let rule = Rule { source, filters, outcome, timeouts: rule.timeouts };
        let id = work.assembly.add_rule(&self.subject, rule);
        self.added.insert(place, id);
        id
    }

    /// Why the route is not accepted if none of its rules is understood.
    fn all_dropped(&self) -> Option<Fault> {
        let is_any_whole = self.rules.iter().any(|rule| rule.fault.is_none());
        self.rules.iter().find_map(|rule| rule.fault.clone()).filter(|_| !is_any_whole)
    }

    fn status(&self, parent: &ParentReference, fault: Option<&Fault>, work: &Work<'_>) -> RouteParentStatus {
        let controller_name = work.options.gateway_controller.clone();
        let generation = self.route.metadata.generation;
        let mut conditions = vec![
            condition("Accepted", "Accepted", fault, generation),
            condition("ResolvedRefs", "ResolvedRefs", self.unresolved.as_ref(), generation),
        ];
        let dropped: Vec<String> = self
            .rules
            .iter()
            .enumerate()
            .filter_map(|(at, rule)| Some(format!("Dropped Rule {at}: {}", rule.fault.as_ref()?.message)))
            .collect();
        if fault.is_none() && !dropped.is_empty() {
            let message = Fault::new("UnsupportedValue", dropped.join("; "));
            conditions.push(alarm("PartiallyInvalid", &message, generation));
        }
        let mut before = statuses(self.route).filter(|before| before.controller_name == controller_name);
        let before = before.find(|before| before.parent_ref == *parent);
        let before = before.map(|before| before.conditions.as_slice()).unwrap_or_default();
        RouteParentStatus {
            parent_ref: parent.clone(),
            controller_name,
            conditions: merge(before, conditions, ROUTE_CONDITIONS),
        }
    }
}
