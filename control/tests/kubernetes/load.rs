//! A large cluster: 10,000 pods on 1,000 nodes, and 100 changes a second.

use crate::followed::Followed;
use crate::server::ApiServer;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const NODES: u32 = 1_000;
const PODS: u32 = 10_000;

/// A pod with what a real one is full of.
fn pod(number: u32, changes: u32) -> Value {
    let filler = "x".repeat(3000);
    json!({
        "apiVersion": "v1",
        "metadata": {
            "namespace": format!("ns-{}", number % 50), "name": format!("pod-{number}"), "uid": format!("uid-{number}"),
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"app": format!("app-{}", number % 500), "changes": changes.to_string()},
            "managedFields": [{"manager": "kubelet", "fieldsV1": {"f": filler}}],
        },
        "spec": {
            "nodeName": format!("node-{}", number % NODES),
            "containers": [{"name": "c", "image": "registry.example/app:1", "env": [{"name": "A", "value": "b"}], "ports": [{"containerPort": 8080}]}],
            "volumes": [{"name": "token"}],
        },
        "status": {
            "phase": "Running",
            "podIPs": [{"ip": format!("10.{}.{}.{}", 128 + (number % NODES) / 256, (number % NODES) % 256, 2 + number / NODES)}],
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        },
    })
}

fn node(number: u32) -> Value {
    let images: Vec<Value> =
        (0..20).map(|image| json!({"names": [format!("registry.example/image-{image}")]})).collect();
    json!({
        "apiVersion": "v1",
        "metadata": {"name": format!("node-{number}"), "labels": {"topology.kubernetes.io/zone": format!("z{}", number % 3)}},
        "spec": {"podCIDRs": [format!("10.{}.{}.0/24", 128 + number / 256, number % 256)]},
        "status": {
            "addresses": [{"type": "InternalIP", "address": format!("172.16.{}.{}", number / 256, number % 256)}],
            "conditions": [{"type": "Ready", "status": "True"}],
            "images": images,
        },
    })
}

#[test]
fn ten_thousand_pods_are_followed_and_a_hundred_changes_a_second_do_not_pile_up() {
    let server = ApiServer::empty();
    (0..NODES).for_each(|number| server.put("nodes", node(number)));
    (0..PODS).for_each(|number| server.put("pods", pod(number, 0)));
    server.compact("nodes");
    server.compact("pods");
    let mut followed = Followed::new(&server);
    followed.until_synced();
    assert_eq!((followed.cluster().pods.len(), followed.cluster().nodes.len()), (PODS as usize, NODES as usize));
    assert_eq!(followed.problems, []);
    assert_eq!(server.count(&["/pods?limit=500"]), 20, "in pages");
    let began = Instant::now();
    let mut pending_max = 0;
    for change in 0..300u32 {
        server.put("pods", pod(change % 1000, change + 1));
        // A hundred a second, while the changes are taken.
        while began.elapsed() < Duration::from_millis(10) * change {
            followed.wait();
            followed.look();
        }
        pending_max = pending_max.max(followed.status().pending);
    }
    followed.until("the last change", |followed| {
        let last = followed.cluster().pods.get(&("ns-49".into(), "pod-299".into()));
        last.is_some_and(|pod| format!("{:?}", pod.object.labels).contains("300")) && followed.status().pending == 0
    });
    assert!(pending_max < 300, "{pending_max} changes waited at once");
    assert_eq!(followed.resource("pods").lists, 1);
}
