use super::*;
use policy::cluster::Cluster;
use policy::compile::compile;
use policy::objects::parse;

const CLUSTER: &str = "
apiVersion: v1
kind: Node
metadata: {name: node1}
spec: {podCIDRs: [10.244.1.0/24]}
status: {addresses: [{type: InternalIP, address: 172.30.0.11}]}
---
apiVersion: v1
kind: Node
metadata: {name: node2}
spec: {podCIDRs: [10.244.2.0/24]}
status: {addresses: [{type: InternalIP, address: 172.30.0.12}]}
---
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: shop}
spec: {nodeName: node1}
status: {podIPs: [{ip: 10.244.1.2}]}
---
apiVersion: v1
kind: Pod
metadata: {name: unplaced, namespace: shop}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.80, ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
addressType: IPv4
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
ports: [{port: 8080}]
endpoints:
";

/// The cluster with `backends` pods behind the Service, all on node2.
fn fabric(backends: u8) -> Fabric {
    let mut text = CLUSTER.to_owned();
    let addresses = (0..backends).map(|n| format!("10.244.2.{}", n + 2));
    text.extend(addresses.clone().map(|address| format!("- {{addresses: [{address}], nodeName: node2}}\n")));
    for (n, address) in addresses.enumerate() {
        text.push_str(&format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: b{n}, namespace: shop}}\nspec: {{nodeName: node2}}\nstatus: {{podIPs: \
             [{{ip: {address}}}]}}\n"
        ));
    }
    let parsed = parse("test.yaml", &text);
    assert_eq!(parsed.problems, vec![]);
    let (cluster, _) = Cluster::from_objects(parsed.objects);
    Fabric::new(Arc::new(compile(&cluster, 1).0), Options::default())
}

fn probe(fabric: &Fabric, dst: &str) -> Probe {
    let pod = fabric.policy.find_pod("shop", "a").unwrap();
    let src = "10.244.1.2:40000".parse().unwrap();
    Probe { entry: Entry::Pod(pod), protocol: Protocol::TCP, src, dst: dst.parse().unwrap() }
}

#[test]
fn a_source_port_is_found_for_every_backend_and_leads_there() {
    let fabric = fabric(200);
    let probe = probe(&fabric, "10.96.0.80:80");
    let frontend = fabric.policy.find_service(probe.dst.ip(), Protocol::TCP, 80).unwrap();
    let candidates = fabric.policy.candidates(frontend, probe.dst.ip(), fabric.node_of(probe.entry), Client::Inside);
    assert_eq!(candidates.len(), 200);
    for backend in candidates.iter() {
        let port = fabric.source_port_to(&probe, frontend, (backend.addr, backend.port)).expect("a source port");
        let walk = fabric.walk(&Probe { src: SocketAddr::new(probe.src.ip(), port), ..probe }).expect("a walk");
        let seen = walk.last_seen();
        assert_eq!((seen.dst(), seen.dst_port, seen.src_port), (backend.addr, 8080, port));
        assert!(matches!(walk.end, End::Pod(pod) if fabric.policy.pod(pod).addresses == [backend.addr]));
        assert_eq!(walk.hops.len(), 2, "client's node and backend's node");
    }
    assert_eq!(fabric.source_port_to(&probe, frontend, ("10.244.2.2".parse().unwrap(), 1)), None);
}

#[test]
fn walks_do_not_see_each_other() {
    let fabric = fabric(1);
    let probe = probe(&fabric, "10.96.0.81:80");
    let first = fabric.walk(&probe).unwrap();
    // A port has the right to fifty errors at once; every walk has it anew.
    for _ in 0..200 {
        assert_eq!(fabric.walk(&probe).unwrap(), first);
    }
}

#[test]
fn what_has_no_port_cannot_be_walked() {
    let fabric = fabric(0);
    let unplaced = fabric.policy.find_pod("shop", "unplaced").unwrap();
    assert_eq!(fabric.walk(&Probe { entry: Entry::Pod(unplaced), ..probe(&fabric, "10.244.1.2:80") }), None);
}
