//! From a cluster's objects to [`Routes`].
//!
//! In: one generation of objects and the proxy's options. Out: routes, what is wrong with the objects by file and field, and
//! the status that each object should have. The same in, the same out. Nothing an object says keeps another one from being
//! served: what leads nowhere is answered with an error status, and told.
//!
//! Each kind is read by itself: an Ingress' paths in [`ingress`], Gateways in [`gateway`], HTTPRoutes in [`http_route`]. They
//! say under which port, listener, host and path a rule is to stand ([`assemble::Placed`]); [`assemble`] orders all of them, so that
//! what comes first does not depend on the kind that was read first.

mod assemble;
mod backends;
mod certificates;
mod class;
mod filters;
mod gateway;
mod gateway_status;
mod grants;
mod http_route;
mod http_rule;
mod ingress;
mod report;
mod status;

pub use ingress::{BACKEND_PROTOCOL_ANNOTATION, SSL_REDIRECT_ANNOTATION};

use super::table::{Certificate, RouteOptions, Routes};
use crate::cluster::{Cluster, Key};
use crate::objects::Problem;
use crate::objects::gateway_api::{GatewayClassStatus, GatewayStatus, RouteStatus};
use assemble::Assembly;
use backends::Backends;
use certificates::Certificates;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use report::Report;
use std::collections::{BTreeMap, BTreeSet};

/// Says of a certificate and its key what is wrong with them.
pub type CertificateCheck<'a> = &'a dyn Fn(&Certificate) -> Result<(), String>;

/// Routes, and what there is to say about the objects that they come from.
#[derive(Debug, Default)]
pub struct Compiled {
    /// What the proxy looks up.
    pub routes: Routes,
    /// What is wrong, in order of the objects.
    pub problems: Vec<Problem>,
    /// What the objects' status should say.
    pub statuses: Statuses,
}

/// What the status of objects should say; of objects that others serve nothing is said.
#[derive(Debug, Default)]
pub struct Statuses {
    /// The Ingresses that are served: status.loadBalancer has the proxy's addresses.
    pub ingresses: BTreeSet<Key>,
    /// GatewayClasses of our controller; the first half of the key is empty.
    pub gateway_classes: BTreeMap<Key, GatewayClassStatus>,
    /// Gateways of those classes. Their addresses are those that the object's status has: where the proxy is reached is for the caller
    /// to write there.
    pub gateways: BTreeMap<Key, GatewayStatus>,
    /// HTTPRoutes that refer to those Gateways, or whose status says that they did. What other controllers say of them is kept.
    pub http_routes: BTreeMap<Key, RouteStatus>,
}

impl Statuses {
    /// Notes that conditions which say something else than the objects' status came to say it at `now`.
    pub fn stamp(&mut self, now: Timestamp) {
        let classes = self.gateway_classes.values_mut().flat_map(|status| status.conditions.iter_mut().flatten());
        let mut all: Vec<&mut Condition> = classes.collect();
        for gateway in self.gateways.values_mut() {
            all.extend(gateway.conditions.iter_mut().flatten());
            all.extend(gateway.listeners.iter_mut().flatten().flat_map(|listener| &mut listener.conditions));
        }
        let routes = self.http_routes.values_mut().flat_map(|status| &mut status.parents);
        all.extend(routes.flat_map(|parent| &mut parent.conditions));
        status::stamp(all, now);
    }
}

/// Compiles `cluster` for a proxy with `options`. Certificates are taken to be in order if they look like PEM.
pub fn compile(cluster: &Cluster, options: &RouteOptions) -> Compiled {
    compile_checked(cluster, options, &certificates::looks_like_pem)
}

/// Compiles `cluster` for a proxy with `options`. A certificate that `check` finds something wrong with is not used, and its reason
/// is told with the field that refers to it.
pub fn compile_checked(cluster: &Cluster, options: &RouteOptions, check: CertificateCheck<'_>) -> Compiled {
    let mut work = Work {
        cluster,
        options,
        backends: Backends::new(cluster, options.node_name.as_deref()),
        certificates: Certificates::new(cluster, check),
        assembly: Assembly::new(options),
        report: Report::default(),
        statuses: Statuses::default(),
    };
    work.default_certificate();
    ingress::compile(&mut work);
    gateway_status::of_classes(&mut work);
    let mut gateways = gateway::compile(&mut work);
    http_route::compile(&mut gateways, &mut work);
    gateway_status::of_gateways(&gateways, &mut work);
    drop(gateways);
    let Work { certificates, assembly, mut report, statuses, .. } = work;
    let routes = assembly.finish(certificates.into_list(), &mut report);
    Compiled { routes, problems: report.into_problems(), statuses }
}

/// What compiling one kind after the other works with.
struct Work<'a> {
    cluster: &'a Cluster,
    options: &'a RouteOptions,
    backends: Backends<'a>,
    certificates: Certificates<'a>,
    assembly: Assembly,
    report: Report,
    statuses: Statuses,
}

impl Work<'_> {
    fn default_certificate(&mut self) {
        let Some((namespace, name)) = &self.options.default_certificate else { return };
        match self.certificates.find(&(namespace.as_str().into(), name.as_str().into())) {
            Ok(certificate) => self.assembly.default_certificate = Some(certificate),
            Err(why) => self.report.add_unplaced(format!("the default certificate is not used: {why}")),
        }
    }
}
