//! Whether there is anything to fill in, kept up to date object by object.
//!
//! Filling in costs as much as there are objects; this costs as much as changes. What is looked at is what names, routes and
//! policies are compiled from. A load balancer without an address lacks nothing: pools may be empty for good.

use super::{endpoints, node_ports, nodes, placement, services};
use k8s_openapi::api::core::v1::{Pod, Service};
use policy::objects::{Object, ObjectRef};
use std::collections::HashMap;

/// What is missing from a set of objects.
#[derive(Debug, Default)]
pub(crate) struct Lacking {
    /// Objects that are not complete in themselves, or stand for others.
    incomplete: usize,
    needs: HashMap<Need, Met>,
    /// Needs that nothing meets.
    unmet: usize,
}

/// What an object needs beside itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Need {
    Namespace(String),
    Node(String),
    /// An EndpointSlice of the Service of this namespace and name.
    Slices(String, String),
}

/// How many objects need something, and how many are it.
#[derive(Clone, Copy, Debug, Default)]
struct Met {
    needed: usize,
    there: usize,
}

impl Met {
    fn is_unmet(self) -> bool {
        self.needed > 0 && self.there == 0
    }
}

impl Lacking {
    /// Whether nothing is missing.
    pub(crate) fn is_nothing(&self) -> bool {
        self.incomplete == 0 && self.unmet == 0
    }

    /// With `object` among the objects.
    pub(crate) fn add(&mut self, object: &Object) {
        self.incomplete += usize::from(is_incomplete(object));
        needs(object).into_iter().for_each(|need| self.change(need, |met| met.needed += 1));
        gives(object).into_iter().for_each(|need| self.change(need, |met| met.there += 1));
    }

    /// Without `object`, which was one of them.
    pub(crate) fn remove(&mut self, object: &Object) {
        self.incomplete -= usize::from(is_incomplete(object));
        needs(object).into_iter().for_each(|need| self.change(need, |met| met.needed -= 1));
        gives(object).into_iter().for_each(|need| self.change(need, |met| met.there -= 1));
    }

    fn change(&mut self, need: Need, change: impl FnOnce(&mut Met)) {
        let met = self.needs.entry(need.clone()).or_default();
        self.unmet -= usize::from(met.is_unmet());
        change(met);
        self.unmet += usize::from(met.is_unmet());
        if met.needed == 0 && met.there == 0 {
            self.needs.remove(&need);
        }
    }
}

fn is_incomplete(object: &Object) -> bool {
    match object {
        Object::Deployment(_)
        | Object::ReplicaSet(_)
        | Object::StatefulSet(_)
        | Object::DaemonSet(_)
        | Object::Endpoints(_) => true,
        Object::Node(node) => nodes::addresses(node).is_empty() || nodes::pod_cidrs(node).is_empty(),
        Object::Pod(pod) => {
            !placement::has_ended(pod) && (node_of(pod).is_none() || placement::given_addresses(pod).is_empty())
        }
        Object::Service(service) => services::lacks_address(service) || node_ports::lacks_number(service),
        _ => false,
    }
}

fn needs(object: &Object) -> Vec<Need> {
    let mut needs = Vec::new();
    let ObjectRef { namespace, name, .. } = object.reference();
    match object {
        Object::Pod(pod) if !placement::has_ended(pod) => needs.extend(node_of(pod).map(Need::Node)),
        Object::Service(service) if has_selector(service) => needs.push(Need::Slices(namespace.clone(), name)),
        _ => {}
    }
    if object.kind().is_namespaced() {
        needs.push(Need::Namespace(namespace));
    }
    needs
}

fn gives(object: &Object) -> Option<Need> {
    match object {
        Object::Namespace(_) => Some(Need::Namespace(object.reference().name)),
        Object::Node(node) => Some(Need::Node(nodes::name(node).to_owned())),
        Object::EndpointSlice(slice) => {
            endpoints::service_of(slice).map(|(namespace, name)| Need::Slices(namespace, name))
        }
        _ => None,
    }
}

fn node_of(pod: &Pod) -> Option<String> {
    pod.spec.as_ref()?.node_name.clone().filter(|name| !name.is_empty())
}

fn has_selector(service: &Service) -> bool {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|selector| !selector.is_empty()) && !services::is_external_name(service)
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::objects::parse;
    use proptest::prelude::*;

    /// Documents of which any selection may be there, complete and incomplete ones.
    const DOCUMENTS: [&str; 10] = [
        "{apiVersion: v1, kind: Namespace, metadata: {name: default}}",
        "{apiVersion: v1, kind: Node, metadata: {name: n1}, spec: {podCIDR: 10.0.0.0/24}, status: {addresses: [{type: \
         InternalIP, address: 192.0.2.1}]}}",
        "{apiVersion: v1, kind: Node, metadata: {name: n2}}",
        "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {nodeName: n1, containers: []}, status: {podIP: 10.0.0.1}}",
        "{apiVersion: v1, kind: Pod, metadata: {name: b}, spec: {nodeName: n2, containers: []}, status: {phase: Failed}}",
        "{apiVersion: v1, kind: Pod, metadata: {name: c}, spec: {containers: []}}",
        "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {clusterIP: 10.96.0.1, selector: {a: b}, ports: [{port: 1}]}}",
        "{apiVersion: v1, kind: Service, metadata: {name: t}, spec: {ports: [{port: 1}]}}",
        "{apiVersion: v1, kind: Service, metadata: {name: u}, spec: {type: ExternalName, externalName: a.example}}",
        "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: s1, labels: {kubernetes.io/service-name: \
         s}}, addressType: IPv4, endpoints: [], ports: []}",
    ];

    fn lacking(selection: &[usize]) -> Lacking {
        let mut lacking = Lacking::default();
        selection.iter().for_each(|index| lacking.add(&object(*index)));
        lacking
    }

    fn object(index: usize) -> Object {
        let parsed = parse("test", DOCUMENTS[index]);
        assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
        parsed.objects.into_iter().next().expect("one object").object
    }

    #[test]
    fn what_is_missing_is_known_by_kind() {
        for (selection, is_complete) in [
            (&[] as &[usize], true),
            (&[0, 1], true),
            (&[2], false),
            (&[0, 1, 3], true),
            (&[1, 3], false),
            (&[0, 3], false),
            (&[0, 4], true),
            (&[0, 5], false),
            (&[0, 6], false),
            (&[0, 6, 9], true),
            (&[0, 7], false),
            (&[0, 8], true),
        ] {
            assert_eq!(lacking(selection).is_nothing(), is_complete, "{selection:?}");
        }
    }

    proptest! {
        #[test]
        fn objects_that_come_and_go_leave_what_is_missing_of_those_that_are_there(
            steps in proptest::collection::vec(0..DOCUMENTS.len(), 0..40)
        ) {
            let mut there: Vec<usize> = Vec::new();
            let mut followed = Lacking::default();
            for index in steps {
                if let Some(position) = there.iter().position(|other| *other == index) {
                    there.remove(position);
                    followed.remove(&object(index));
                } else {
                    there.push(index);
                    followed.add(&object(index));
                }
                let fresh = lacking(&there);
                prop_assert_eq!(followed.is_nothing(), fresh.is_nothing());
                prop_assert_eq!(followed.needs.len(), fresh.needs.len());
            }
        }
    }
}
