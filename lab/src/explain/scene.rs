//! The cluster that a question is about: its objects, what they compile to, and switches to ask.

use super::assume;
use super::{Candidate, Side};
use crate::census::{Census, Key};
use ipnet::IpNet;
use k8s_openapi::api::discovery::v1::Endpoint;
use policy::cluster::Cluster;
use policy::compile::{CompileOptions, compile_with};
use policy::explain::judge;
use policy::objects::{Object, Problem, Sourced};
use policy::tables::{Backend, Direction, EndpointState, Frontend, NodeIndex, Owner, PodIndex, Question, Tables};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use switch::explain::{Fabric, Options};
use wire::Protocol;

pub(super) struct Scene {
    pub(super) census: Census,
    pub(super) tables: Arc<Tables>,
    pub(super) fabric: Fabric,
    /// The ranges that Services get their cluster addresses from.
    pub(super) service_cidrs: Vec<IpNet>,
    /// Pods that no object describes.
    assumed: BTreeSet<Key>,
}

impl Scene {
    /// The cluster of `objects` and `assumed` pods.
    pub(super) fn new(
        objects: &[Sourced<Object>],
        assumed: Vec<Sourced<Object>>,
        compile: &CompileOptions,
        options: &Options,
    ) -> (Scene, Vec<Problem>) {
        let names =
            assumed.iter().map(|sourced| sourced.object.reference()).map(|object| (object.namespace, object.name));
        let names = names.collect();
        let (cluster, mut problems) = Cluster::from_objects(objects.iter().cloned().chain(assumed));
        let (tables, refused) = compile_with(&cluster, compile, 1);
        problems.extend(refused);
        let tables = Arc::new(tables);
        let census = Census::of(objects.iter().map(|sourced| &sourced.object));
        let fabric = Fabric::new(tables.clone(), options.clone());
        (Scene { census, tables, fabric, service_cidrs: options.service_cidrs.clone(), assumed: names }, problems)
    }

    /// The name of a pod for people; an address where no object describes it.
    pub(super) fn pod_name(&self, pod: PodIndex) -> String {
        self.described(pod).unwrap_or_else(|| {
            let addresses = &self.tables.pod(pod).addresses;
            addresses.first().map_or_else(|| "an unknown pod".to_owned(), |address| format!("the pod at {address}"))
        })
    }

    /// NAMESPACE/NAME of a pod that an object describes.
    fn described(&self, pod: PodIndex) -> Option<String> {
        let entry = self.tables.pod(pod);
        let key = (entry.namespace.to_string(), entry.name.to_string());
        (!self.assumed.contains(&key)).then(|| format!("{}/{}", key.0, key.1))
    }

    pub(super) fn node_name(&self, node: NodeIndex) -> String {
        self.tables.node(node).name.to_string()
    }

    /// Who has an address, for people.
    pub(super) fn owner_name(&self, address: IpAddr) -> String {
        match self.tables.owner(address) {
            Some(Owner::Pod(pod)) => self.pod_name(pod),
            Some(Owner::Node(node)) => self.node_name(node),
            None => address.to_string(),
        }
    }

    /// The pod that has an address for itself.
    pub(super) fn pod_at(&self, address: IpAddr) -> Option<PodIndex> {
        match self.tables.owner(address) {
            Some(Owner::Pod(pod)) => Some(pod),
            _ => None,
        }
    }

    /// A backend as the answer shows it to who enters on `node`.
    pub(super) fn candidate(&self, frontend: Frontend, backend: &Backend, node: Option<NodeIndex>) -> Candidate {
        let owner = self.tables.owner(backend.addr);
        let pod = match owner {
            Some(Owner::Pod(pod)) => self.described(pod),
            _ => None,
        };
        let lives = backend.node().or(match owner {
            Some(Owner::Pod(pod)) => self.tables.pod(pod).node,
            Some(Owner::Node(node)) => Some(node),
            None => None,
        });
        Candidate {
            pod: pod.or_else(|| self.target_of(frontend, backend.addr)),
            ip: backend.addr,
            port: backend.port,
            node: lives.map(|node| self.node_name(node)),
            ready: backend.state == EndpointState::Ready,
            local: lives.is_some() && lives == node,
        }
    }

    /// An endpoint of a Service to whom the proxy on `node` connects. Those that it may use are ready, or terminating where none is.
    pub(super) fn candidate_at(
        &self,
        at: SocketAddr,
        (namespace, service): (&str, &str),
        node: Option<NodeIndex>,
    ) -> Candidate {
        let owner = self.tables.owner(at.ip());
        let (pod, lives) = match owner {
            Some(Owner::Pod(pod)) => (self.described(pod), self.tables.pod(pod).node),
            Some(Owner::Node(node)) => (None, Some(node)),
            None => (None, None),
        };
        let endpoint = self.endpoint_of(namespace, service, at.ip());
        let is_ready = endpoint.and_then(|endpoint| endpoint.conditions.as_ref()?.ready).unwrap_or(true);
        Candidate {
            pod: pod.or_else(|| target_name(endpoint?, namespace)),
            ip: at.ip(),
            port: at.port(),
            node: lives.map(|node| self.node_name(node)),
            ready: is_ready,
            local: lives.is_some() && lives == node,
        }
    }

    /// What an EndpointSlice of a Service says of an address.
    fn endpoint_of(&self, namespace: &str, service: &str, address: IpAddr) -> Option<&Endpoint> {
        let slices = self.census.slices.get(&(namespace.to_owned(), service.to_owned()));
        let mut endpoints = slices.into_iter().flatten().flat_map(|slice| slice.endpoints.iter().flatten());
        let text = address.to_string();
        endpoints.find(|endpoint| endpoint.addresses.contains(&text) && endpoint.target_ref.is_some())
    }

    /// The pod that an EndpointSlice names for an address, as one on the host network has none of its own.
    fn target_of(&self, frontend: Frontend, address: IpAddr) -> Option<String> {
        let service = self.tables.service_entry(frontend.service);
        target_name(self.endpoint_of(&service.namespace, &service.name, address)?, &service.namespace)
    }

    /// What the policies of `pod` say about a flow with `peer` on the receiver's port. No DNS name is known where nothing runs.
    pub(super) fn judge(&self, direction: Direction, pod: PodIndex, flow: (IpAddr, Protocol, u16)) -> Side {
        let (peer, protocol, port) = flow;
        let question = Question { direction, subject: pod, peer, protocol, port, names: &[] };
        Side::of(judge(&self.tables, &question), direction, &self.pod_name(pod))
    }

    /// Which policies apply to `pod`, where there is no flow to judge.
    pub(super) fn unjudged(&self, direction: Direction, pod: PodIndex) -> Side {
        let selecting = self.tables.selecting(direction, pod);
        let enforced = selecting.iter().map(|index| self.tables.policy(*index)).filter(|policy| !policy.dry_run);
        let isolated = !self.tables.isolating(direction, pod).is_empty();
        Side { isolated, policies: enforced.map(ToString::to_string).collect(), ..Side::open() }
    }
}

/// The pod that an endpoint of a Service of `namespace` names.
fn target_name(endpoint: &Endpoint, namespace: &str) -> Option<String> {
    let target = endpoint.target_ref.as_ref()?;
    let namespace = target.namespace.as_deref().unwrap_or(namespace);
    (target.kind.as_deref() == Some("Pod"))
        .then(|| format!("{namespace}/{}", target.name.as_deref().unwrap_or_default()))
}

/// The pods that are taken for granted with the objects, if `assume`.
pub(super) fn assumed(objects: &[Sourced<Object>], assume: bool) -> Vec<Sourced<Object>> {
    if assume {
        assume::behind_endpoints(&Census::of(objects.iter().map(|sourced| &sourced.object)))
    } else {
        Vec::new()
    }
}
