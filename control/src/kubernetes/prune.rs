//! What of an object is used: the rest is dropped as soon as it was read.
//!
//! An object from the API is mostly bookkeeping (managedFields alone is often half of it) and things that have nothing to do
//! with the network. Of pods, nodes, endpoints and Secrets, which are many, large or secret, only listed fields stay: a
//! server that is younger than this program may add fields to them, and nobody wants to hear of each of ten thousand pods
//! that one is unknown. Of all others the whole spec stays, because a policy with a field that is not understood must be
//! closed, and whoever wrote a Service wants to know what is not served.

use policy::objects::Kind;
use serde_json::{Map, Value};

/// Fields that stay; of a list, in each of its entries.
enum Keep {
    All,
    Only(&'static [(&'static str, Keep)]),
}

use Keep::{All, Only};

/// Of metadata; generations and ids are for whoever answers the object.
const METADATA: &[&str] =
    &["name", "namespace", "uid", "generation", "labels", "annotations", "creationTimestamp", "deletionTimestamp"];

/// Annotations of nodes and pods begin with this, or are others'.
const OWN_PREFIX: &str = "podplane.io/";

/// What `kubectl apply` writes down: all of the object once more.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

const CONTAINERS: Keep = Only(&[("name", All), ("ports", All), ("restartPolicy", All)]);

const POD: Keep = Only(&[
    (
        "spec",
        Only(&[("nodeName", All), ("hostNetwork", All), ("containers", CONTAINERS), ("initContainers", CONTAINERS)]),
    ),
    ("status", Only(&[("phase", All), ("podIP", All), ("podIPs", Only(&[("ip", All)]))])),
]);

const NODE: Keep = Only(&[
    ("spec", Only(&[("podCIDR", All), ("podCIDRs", All), ("taints", Only(&[("key", All), ("effect", All)]))])),
    ("status", Only(&[("addresses", All), ("conditions", Only(&[("type", All), ("status", All)]))])),
]);

const ENDPOINT_SLICE: Keep = Only(&[
    ("addressType", All),
    ("ports", All),
    (
        "endpoints",
        Only(&[
            ("addresses", All),
            ("conditions", All),
            ("hints", All),
            ("hostname", All),
            ("nodeName", All),
            ("zone", All),
        ]),
    ),
]);

const SECRET: Keep = Only(&[("type", All), ("data", Only(&[("tls.crt", All), ("tls.key", All)]))]);

/// Drops what nothing is made of. What has the wrong shape stays as it is: to say so is the reader's part.
pub(super) fn prune(kind: Kind, object: &mut Map<String, Value>) {
    let keep = match kind {
        Kind::Pod => &POD,
        Kind::Node => &NODE,
        Kind::EndpointSlice => &ENDPOINT_SLICE,
        Kind::Secret => &SECRET,
        Kind::Namespace => &Only(&[]),
        _ => &All,
    };
    if let Only(fields) = keep {
        let always = ["apiVersion", "kind", "metadata"];
        object.retain(|field, value| always.contains(&field.as_str()) || retain(fields, field, value));
    }
    if let Some(Value::Array(conditions)) = object.get_mut("status").and_then(|status| status.get_mut("conditions"))
        && kind == Kind::Node
    {
        conditions.retain(|condition| condition["type"] == "Ready");
    }
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        metadata.retain(|field, _| METADATA.contains(&field.as_str()));
        if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
            let own_only = matches!(kind, Kind::Pod | Kind::Node);
            annotations.retain(|name, _| if own_only { name.starts_with(OWN_PREFIX) } else { name != LAST_APPLIED });
            if annotations.is_empty() {
                metadata.remove("annotations");
            }
        }
    }
}

fn retain(fields: &[(&str, Keep)], field: &str, value: &mut Value) -> bool {
    let Some((_, keep)) = fields.iter().find(|(name, _)| *name == field) else { return false };
    shorten(keep, value);
    true
}

fn shorten(keep: &Keep, value: &mut Value) {
    match (keep, value) {
        (Only(fields), Value::Object(object)) => object.retain(|field, value| retain(fields, field, value)),
        (Only(_), Value::Array(entries)) => entries.iter_mut().for_each(|entry| shorten(keep, entry)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pruned(kind: Kind, object: Value) -> Value {
        let Value::Object(mut object) = object else { panic!("an object") };
        prune(kind, &mut object);
        Value::Object(object)
    }

    #[test]
    fn of_a_pod_stays_what_the_network_needs() {
        let pod = json!({
            "kind": "Pod", "apiVersion": "v1",
            "metadata": {
                "name": "web", "namespace": "shop", "labels": {"app": "web"}, "resourceVersion": "7", "managedFields": [{}],
                "annotations": {"x": "y"},
            },
            "spec": {
                "nodeName": "n1", "volumes": [{}], "future": 1,
                "containers": [{"name": "c", "image": "i", "env": [{}], "ports": [{"containerPort": 80}]}],
            },
            "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}], "conditions": [{}], "hostIP": "192.0.2.1"},
        });
        let expected = json!({
            "kind": "Pod", "apiVersion": "v1",
            "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"}},
            "spec": {"nodeName": "n1", "containers": [{"name": "c", "ports": [{"containerPort": 80}]}]},
            "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}]},
        });
        assert_eq!(pruned(Kind::Pod, pod), expected);
    }

    #[test]
    fn of_a_secret_stays_the_certificate_and_of_a_node_whether_it_is_ready() {
        let secret =
            json!({"kind": "Secret", "type": "kubernetes.io/tls", "data": {"tls.crt": "Yw==", "password": "eA=="}});
        let expected = json!({"kind": "Secret", "type": "kubernetes.io/tls", "data": {"tls.crt": "Yw=="}});
        assert_eq!(pruned(Kind::Secret, secret), expected);
        let node = json!({
            "metadata": {"name": "n1", "annotations": {"podplane.io/vtep-mac": "x", "other": "y"}},
            "status": {
                "images": [{"names": ["a"]}],
                "conditions": [{"type": "DiskPressure", "status": "False"}, {"type": "Ready", "status": "True", "lastHeartbeatTime": "t"}],
            },
        });
        let expected = json!({
            "metadata": {"name": "n1", "annotations": {"podplane.io/vtep-mac": "x"}},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        });
        assert_eq!(pruned(Kind::Node, node), expected);
    }

    #[test]
    fn policies_keep_all_of_their_spec_so_that_what_is_unknown_can_close_them() {
        let policy = json!({"metadata": {"name": "p", "managedFields": []}, "spec": {"future": true}});
        assert_eq!(pruned(Kind::NetworkPolicy, policy), json!({"metadata": {"name": "p"}, "spec": {"future": true}}));
    }

    #[test]
    fn wrong_shapes_stay_for_whoever_refuses_them() {
        let pod = json!({"metadata": 5, "spec": [7], "status": {"podIPs": "no list"}});
        assert_eq!(pruned(Kind::Pod, pod.clone()), pod);
    }
}
