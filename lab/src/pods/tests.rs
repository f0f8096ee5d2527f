use super::*;
use serde_json::json;

fn pod(value: serde_json::Value) -> Pod {
    serde_json::from_value(value).expect("a pod")
}

fn running() -> serde_json::Value {
    json!({
        "metadata": {"namespace": "shop", "name": "db-0", "uid": "u-1"},
        "spec": {
            "nodeName": "node1",
            "containers": [
                {"name": "db", "image": "x", "ports": [{"containerPort": 5432}, {"containerPort": 53, "protocol": "UDP"}]},
                {"name": "metrics", "image": "x", "ports": [{"containerPort": 9090}, {"containerPort": 5432}]},
            ],
        },
        "status": {"phase": "Running", "podIPs": [{"ip": "10.244.1.2"}, {"ip": "fd00:10:244:1::2"}]},
    })
}

#[test]
fn a_pod_listens_on_the_ports_of_all_containers_once() {
    let spec = PodSpec::of(&pod(running())).unwrap();
    let ports: Vec<String> = spec.ports.iter().map(|port| format!("{}/{}", port.protocol, port.port)).collect();
    assert_eq!(ports, ["TCP/5432", "TCP/9090", "UDP/53"]);
    assert_eq!(spec.addresses.len(), 2);
}

#[test]
fn a_pod_without_a_node_or_address_or_that_has_ended_does_not_run() {
    for (path, value) in [
        ("/spec/nodeName", json!("")),
        ("/status/podIPs", json!([])),
        ("/status/phase", json!("Succeeded")),
        ("/status/phase", json!("Failed")),
    ] {
        let mut object = running();
        *object.pointer_mut(path).unwrap() = value;
        assert_eq!(PodSpec::of(&pod(object)), None, "{path}");
    }
}

#[test]
fn the_annotation_gives_the_command() {
    let mut object = running();
    object["metadata"]["annotations"] = json!({ COMMAND_ANNOTATION: "sleep 5" });
    assert_eq!(PodSpec::of(&pod(object)).unwrap().command.as_deref(), Some("sleep 5"));
}

#[test]
fn file_names_of_pods_are_short_and_differ() {
    let long = |end: &str| format!("{}{end}", "a".repeat(250));
    assert_ne!(id("ns", &long("b")), id("ns", &long("c")));
    assert!(id(&"n".repeat(63), &long("b")).len() < 250);
    assert_eq!(id("shop", "db-0"), "shop_db-0");
}

#[test]
fn the_files_are_those_of_a_kubelet() {
    let dir = std::env::temp_dir().join(format!("podplane-files-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let spec = PodSpec::of(&pod(running())).unwrap();
    files::write(&dir, &spec, "cluster.local", &["10.96.0.10".parse().unwrap()]).unwrap();
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    assert_eq!(
        read("resolv.conf"),
        "search shop.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n"
    );
    assert!(read("hosts").contains("10.244.1.2\tdb-0\nfd00:10:244:1::2\tdb-0\n"));
    assert!(read("hosts").contains("127.0.0.1\tlocalhost\n"));
    assert_eq!(read("hostname"), "db-0\n");
    std::fs::remove_dir_all(&dir).unwrap();
}
