//! Tables after changes in any order against compiling everything at once, and what a change costs, counted.

mod policies;

use super::*;
use crate::cluster::{Definition, Definitions, FileChange};
use crate::objects::parse;
use crate::tables::{Direction, Owner, Question};
use proptest::prelude::*;
use std::net::IpAddr;
use wire::Protocol;

mod following;

fn change(file: &str, yaml: &str) -> FileChange {
    let parsed = parse(file, yaml);
    FileChange { file: file.into(), objects: parsed.objects.iter().map(Definition::new).collect() }
}

fn options() -> CompileOptions {
    let cluster_dns = ["10.96.0.53", "fd00:10:96::35"].map(|addr| addr.parse().expect("an address")).into();
    let external_ips = vec!["10.96.1.0/24".parse().expect("a CIDR")];
    CompileOptions { external_ips, cluster_dns, ..CompileOptions::default() }
}

/// Compiles what is in `definitions` once more from the start.
fn at_once(definitions: &Definitions, epoch: u64) -> (Tables, Vec<Problem>) {
    Compiler::new(options()).compile(definitions.cluster(), &Delta::default(), epoch)
}

/// Everything that tables say, in an order.
fn content(tables: &Tables) -> Vec<String> {
    let mut lines = vec![format!("epoch {}", tables.epoch)];
    lines.extend(tables.nodes.iter().map(|node| format!("{node:?}")));
    lines.push(format!("{:?}", tables.zones));
    lines.extend(tables.pods().map(|(index, pod)| format!("{pod:?} {:?}", tables.node_of_pod(index))));
    lines.extend(tables.services.iter().map(|service| format!("{service:?}")));
    lines.extend(tables.service_ports.iter().map(|port| format!("{port:?}")));
    lines.extend(tables.policies.iter().map(|policy| format!("{policy:?}")));
    let owner = |(addr, owner): (&IpAddr, &Owner)| match owner {
        Owner::Pod(pod) => format!("{addr} {} {}", tables.pod(*pod).namespace, tables.pod(*pod).name),
        Owner::Node(node) => format!("{addr} {node:?}"),
    };
    let mut maps: Vec<String> = tables.owners.iter().map(owner).collect();
    maps.extend(tables.virtual_ports.iter().map(|entry| format!("{entry:?}")));
    maps.extend(tables.virtual_addresses.iter().map(|entry| format!("{entry:?}")));
    maps.extend(tables.node_ports.iter().map(|entry| format!("{entry:?}")));
    maps.extend(tables.node_port_addresses.iter().map(|entry| format!("{entry:?}")));
    maps.sort();
    lines.extend(maps);
    lines.extend(tables.host_ports.iter().map(|port| format!("{port:?}")));
    lines.extend(tables.namespaces.iter().map(|namespace| format!("{namespace:?}")));
    lines.extend(tables.names.content());
    // Which numbers they have does not matter.
    let mut alike = BTreeMap::new();
    for (pod, _) in tables.pods() {
        let next = alike.len();
        let alike = *alike.entry(tables.alike(pod)).or_insert(next);
        let selecting = [Direction::FromPod, Direction::ToPod].map(|direction| tables.selecting(direction, pod));
        lines.push(format!("{alike} {selecting:?}"));
    }
    for (pod, _) in tables.pods() {
        for peer in (0..16u8).map(|last| IpAddr::from([10, 244, 1, last])) {
            for direction in [Direction::FromPod, Direction::ToPod] {
                let ask = |port| Question { direction, subject: pod, peer, protocol: Protocol::TCP, port, names: &[] };
                let verdicts = [80, 81].map(|port| (tables.check(&ask(port)), tables.trace(&ask(port), true)));
                lines.push(format!("{direction:?} {peer} {verdicts:?}"));
            }
        }
    }
    lines
}

/// One object: which of few it is, and three small numbers that decide what it says.
type Seed = (u8, u8, [u8; 3]);

fn document((kind, number, [a, b, c]): &Seed) -> String {
    let pick = |of: &[&'static str], by: u8| of[usize::from(by) % of.len()];
    match kind {
        0 => format!(
            "
apiVersion: v1
kind: Node
metadata: {{name: node{number}, labels: {{topology.kubernetes.io/zone: zone{}}}}}
spec: {{podCIDR: 10.244.{}.0/24}}
status: {{addresses: [{{type: InternalIP, address: 172.30.0.{}}}], conditions: [{{type: Ready, status: '{}', lastHeartbeatTime: null}}]}}
---",
            a % 2,
            b % 4,
            10 + c % 4,
            pick(&["True", "False"], b / 4)
        ),
        1 => format!(
            "
apiVersion: v1
kind: Pod
metadata: {{name: pod{number}, namespace: {}, labels: {{app: '{}'}}}}
spec: {{nodeName: node{}, containers: [{{name: c, image: i, ports: [{{name: http, containerPort: {}, hostPort: {}}}]}}]}}
status: {{podIP: 10.244.1.{}, phase: {}}}
---",
            pick(&["default", "other"], number / 3),
            a % 3,
            b % 4,
            80 + c % 2,
            pick(&["0", "80", "30001"], c / 6),
            c % 8,
            pick(&["Running", "Running", "Running", "Failed"], a / 4)
        ),
        2 | 3 => format!(
            "
apiVersion: v1
kind: Service
metadata: {{name: service{number}}}
spec: {{type: {}, clusterIP: 10.96.0.{}, externalIPs: [10.96.{}.1], ports: [{{name: http, port: {}, nodePort: {}}}, {{name: dns, port: 53, \
             protocol: UDP}}]}}
status: {{loadBalancer: {{ingress: [{{ip: 10.96.2.{}}}]}}}}
---",
            pick(&["ClusterIP", "NodePort", "LoadBalancer"], *a),
            if *b == 15 { 1 } else { *number },
            1 + c % 2,
            80 + c % 2,
            30000 + u16::from(b % 4),
            c % 3
        ),
        4 | 5 => format!(
            "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: slice{number}, labels: {{kubernetes.io/service-name: service{}}}}}
addressType: IPv4
ports: [{{name: http, port: 8080}}, {{name: dns, port: 53, protocol: UDP}}]
endpoints: [{{addresses: [10.244.1.{}], nodeName: node{}, hostname: host{}, hints: {{forZones: [{{name: zone{}}}]}}}}, {{addresses: [10.244.1.9], conditions: \
             {{ready: false, serving: true, terminating: {}}}}}]
---",
            a % 4,
            b % 8,
            c % 4,
            a % 3,
            c % 2,
            pick(&["true", "false"], *c)
        ),
        6 => format!(
            "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: policy{number}, namespace: {}, annotations: {{podplane.io/dry-run: '{}', podplane.io/established: {}}}}}
spec: {{podSelector: {{matchLabels: {{app: '{}'}}}}, ingress: [{{from: [{{namespaceSelector: {{matchLabels: {{team: '{}'}}}}}}, {{podSelector: \
             {{matchLabels: {{app: '{}'}}}}}}], ports: [{{port: http}}]}}]}}
---",
            pick(&["default", "other"], number / 3),
            *a > 12,
            pick(&["cut", "keep"], b / 8),
            a % 3,
            b % 2,
            c % 3
        ),
        7 => format!(
            "
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {{name: policy{number}}}
spec:
  tier: {}
  priority: {}
  subject: {{namespaces: {{matchLabels: {{team: '{}'}}}}}}
  ingress: [{{action: {}, from: [{{pods: {{namespaceSelector: {{}}, podSelector: {{matchLabels: {{app: '{}'}}}}}}}}]}}]
  egress: [{{action: {}, to: [{{namespaces: {{matchLabels: {{team: '{}'}}}}}}]}}]
---",
            pick(&["Admin", "Baseline"], *a),
            b % 3,
            c % 2,
            pick(&["Accept", "Deny", "Pass"], *a),
            b % 3,
            pick(&["Accept", "Deny", "Pass"], *b),
            a % 2,
        ),
        9 => format!(
            "
apiVersion: v1
kind: Service
metadata: {{name: service{number}}}
spec: {{{}, publishNotReadyAddresses: {}, ports: [{{name: http, port: 80}}]}}
---",
            pick(&["clusterIP: None", "type: ExternalName, externalName: example.com", "clusterIP: 10.244.1.2"], *a),
            b % 2 == 0
        ),
        _ => format!(
            "\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {}, labels: {{team: '{}'}}}}\n---",
            pick(&["default", "other"], *number),
            a % 2
        ),
    }
}

fn seed() -> impl Strategy<Value = Seed> {
    (0..10u8, 0..5u8, [0..16u8, 0..16u8, 0..16u8])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn b21_any_order_of_changes_ends_in_the_tables_of_compiling_everything_at_once(
        start in prop::collection::vec(seed(), 0..24),
        rounds in prop::collection::vec(prop::collection::vec((0..6u8, prop::collection::vec(seed(), 0..4)), 1..3), 1..12),
    ) {
        let mut definitions = Definitions::default();
        let mut compiler = Compiler::new(options());
        let yaml = |seeds: &[Seed]| seeds.iter().map(document).collect::<String>();
        let first = definitions.apply([change("start.yaml", &yaml(&start))]);
        compiler.compile(definitions.cluster(), &first, 1);
        for (epoch, round) in (2u64..).zip(rounds) {
            let changes = round.iter().map(|(file, seeds)| change(&format!("{file}.yaml"), &yaml(seeds)));
            let delta = definitions.apply(changes);
            let (tables, problems) = compiler.compile(definitions.cluster(), &delta, epoch);
            let (wanted, wanted_problems) = at_once(&definitions, epoch);
            prop_assert_eq!(content(&tables), content(&wanted), "after {:?}", delta);
            prop_assert_eq!(problems, wanted_problems);
        }
    }
}

/// Two nodes, and Services with two endpoints each and a policy for one pod, file by file.
fn cluster(services: u32) -> Vec<FileChange> {
    let mut files: Vec<FileChange> = [(0, 0, [0, 1, 0]), (0, 1, [1, 2, 1]), (1, 0, [0, 0, 2]), (6, 0, [0, 0, 0])]
        .iter()
        .map(|seed| change(&format!("{seed:?}"), &document(seed)))
        .collect();
    for number in 0..services {
        files.push(change(&format!("service{number}.yaml"), &service(number, 80)));
        files.push(change(&format!("slice{number}.yaml"), &slice(number, 1)));
    }
    files
}

fn service(number: u32, port: u16) -> String {
    let (high, low) = (number / 256, number % 256);
    format!(
        "\napiVersion: v1\nkind: Service\nmetadata: {{name: service{number}}}\nspec: {{clusterIP: 10.97.{high}.{low}, ports: [{{port: {port}}}]}}\n---"
    )
}

fn slice(number: u32, last: u8) -> String {
    format!(
        "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: slice{number}, labels: {{kubernetes.io/service-name: service{number}}}}}
addressType: IPv4
ports: [{{port: 8080}}]
endpoints: [{{addresses: [10.244.1.{last}], nodeName: node0}}, {{addresses: [10.244.2.9], nodeName: node1}}]
---"
    )
}

#[test]
fn s25_a_change_of_an_endpoint_compiles_one_service_and_shares_everything_else() {
    let mut definitions = Definitions::default();
    let mut compiler = Compiler::default();
    let first = definitions.apply(cluster(300));
    let (before, _) = compiler.compile(definitions.cluster(), &first, 1);
    let everything = Work { nodes: true, pods: 1, services: 300, assembled: true, policies: true, ..Work::default() };
    assert_eq!(compiler.work(), everything);

    let delta = definitions.apply([change("slice7.yaml", &slice(7, 77))]);
    let (after, _) = compiler.compile(definitions.cluster(), &delta, 2);
    assert_eq!(compiler.work(), Work { services: 1, ..Work::default() });
    assert!(after.shares_frontends(&before) && Arc::ptr_eq(&after.pods, &before.pods));
    assert!(Arc::ptr_eq(&after.rules, &before.rules));
    assert_eq!(after.names.unshared(&before.names), 3, "its Service, and where an address was and is");
    let other = before.service_ports.iter().zip(after.service_ports.iter()).filter(|(a, b)| !Arc::ptr_eq(a, b));
    let other: Vec<_> = other.map(|(_, port)| port).collect();
    assert_eq!(other.len(), 1);
    assert!(other[0].backends().any(|backend| backend.addr.to_string() == "10.244.1.77"));

    let delta = definitions.apply([change("slice7.yaml", &slice(7, 77))]);
    compiler.compile(definitions.cluster(), &delta, 3);
    assert_eq!(compiler.work(), Work::default(), "the same again is no work");
}

#[test]
fn s25_each_kind_of_change_costs_its_own_section() {
    let mut definitions = Definitions::default();
    let mut compiler = Compiler::default();
    let first = definitions.apply(cluster(10));
    compiler.compile(definitions.cluster(), &first, 1);
    let mut work = |change: FileChange| {
        let delta = definitions.apply([change]);
        compiler.compile(definitions.cluster(), &delta, 2);
        compiler.work()
    };
    let assembled = Work { services: 1, assembled: true, ..Work::default() };
    assert_eq!(work(change("service3.yaml", &service(3, 81))), assembled);
    assert_eq!(work(change("service3.yaml", "")), Work { services: 0, ..assembled });
    assert_eq!(work(change("policy.yaml", &document(&(6, 1, [1, 0, 0])))), Work { policies: true, ..Work::default() });
    assert_eq!(
        work(change("namespace.yaml", &document(&(8, 0, [1, 0, 0])))),
        Work { identities: 1, ..Work::default() }
    );
    let pods = Work { pods: 1, ..Work::default() };
    let pod = document(&(1, 1, [0, 0, 3]));
    assert_eq!(work(change("pod.yaml", &pod)), pods);
    let restarted = pod.replace("status: {", "status: {hostIP: 172.30.0.10, containerStatuses: [], ");
    assert_eq!(work(change("pod.yaml", &restarted)), Work::default(), "that is nothing to the network");
    let ready = document(&(0, 1, [1, 6, 1]));
    assert_eq!(
        work(change("(0, 1, [1, 2, 1])", &ready)),
        Work { nodes: true, ..Work::default() },
        "not ready any more"
    );
    let zone = document(&(0, 1, [0, 6, 1]));
    assert_eq!(work(change("(0, 1, [1, 2, 1])", &zone)).services, 9, "what zones are called decides about hints");
}

/// Pod `name` with an address and a label.
fn pod(name: &str, last: u8, app: &str) -> FileChange {
    let yaml = format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{app: {app}}}}}, spec: {{nodeName: node0, containers: \
         []}}, status: {{podIP: 10.244.1.{last}}}}}"
    );
    change(&format!("{name}.yaml"), &yaml)
}

#[test]
fn s25_a_pods_labels_cost_one_entry_and_a_pod_that_goes_leaves_the_others_alone() {
    let mut definitions = Definitions::default();
    let mut compiler = Compiler::default();
    let pods = (10..100u8).map(|number| pod(&format!("pod{number}"), number, "web"));
    let first = definitions.apply(cluster(20).into_iter().chain(pods));
    let (before, _) = compiler.compile(definitions.cluster(), &first, 1);
    let mut next = |change: FileChange, epoch| {
        let delta = definitions.apply([change]);
        let (tables, problems) = compiler.compile(definitions.cluster(), &delta, epoch);
        assert_eq!(problems, []);
        (tables, compiler.work())
    };
    let others = |before: &Tables, after: &Tables| {
        after.pods.iter().filter(|pod| !before.pods.iter().any(|known| Arc::ptr_eq(known, pod))).count()
    };
    let of_one = Work { pods: 1, ..Work::default() };

    let (labelled, work) = next(pod("pod77", 77, "db"), 2);
    assert_eq!((work, others(&before, &labelled)), (Work { identities: 1, rule_sets: 0, ..of_one }, 1));
    assert!(labelled.shares_frontends(&before) && Arc::ptr_eq(&labelled.pods_by_name, &before.pods_by_name));
    assert!(Arc::ptr_eq(&labelled.pod_nodes, &before.pod_nodes));

    let (without, work) = next(FileChange { file: "pod77.yaml".into(), objects: Vec::new() }, 3);
    assert_eq!((work, others(&labelled, &without)), (of_one, 0));
    assert_eq!((without.pod_count(), without.owner(IpAddr::from([10, 244, 1, 77]))), (before.pod_count() - 1, None));
    assert!(Arc::ptr_eq(&without.virtual_ports, &before.virtual_ports));

    let (again, work) = next(pod("pod77", 77, "db"), 4);
    assert_eq!((work, others(&without, &again)), (of_one, 1));
    assert_eq!(again.owner(IpAddr::from([10, 244, 1, 77])), again.find_pod("default", "pod77").map(Owner::Pod));
}

#[test]
fn addresses_that_go_round_among_pods_in_one_change_end_with_their_last_owners() {
    let mut definitions = Definitions::default();
    let mut compiler = Compiler::new(options());
    let first = definitions.apply([pod("a", 1, "x"), pod("b", 2, "x"), pod("c", 3, "x"), pod("d", 4, "x")]);
    compiler.compile(definitions.cluster(), &first, 1);
    // The number of a is taken over by d, which loses its own address and gets that of a.
    let gone = FileChange { file: "a.yaml".into(), objects: Vec::new() };
    let delta = definitions.apply([gone, pod("b", 4, "x"), pod("c", 2, "x"), pod("d", 1, "x"), pod("e", 3, "x")]);
    let (tables, problems) = compiler.compile(definitions.cluster(), &delta, 2);
    let (wanted, _) = at_once(&definitions, 2);
    assert_eq!((content(&tables), problems), (content(&wanted), Vec::new()));
    let owners = [1, 2, 3, 4].map(|last| match tables.owner(IpAddr::from([10, 244, 1, last])) {
        Some(Owner::Pod(pod)) => tables.pod(pod).name.to_string(),
        other => format!("{other:?}"),
    });
    assert_eq!(owners, ["d", "c", "e", "b"]);
}

#[test]
fn a_pod_with_the_address_of_a_service_has_the_services_put_together_again() {
    let mut definitions = Definitions::default();
    let mut compiler = Compiler::new(options());
    let service = "
apiVersion: v1
kind: Service
metadata: {name: outside}
spec: {type: LoadBalancer, clusterIP: 10.96.0.1, ports: [{port: 80}]}
status: {loadBalancer: {ingress: [{ip: 10.244.1.7}]}}";
    let first = definitions.apply([change("service.yaml", service), pod("a", 1, "x")]);
    compiler.compile(definitions.cluster(), &first, 1);
    for (last, problem_count) in [(7, 1), (8, 0)] {
        let delta = definitions.apply([pod("a", last, "x")]);
        let (tables, problems) = compiler.compile(definitions.cluster(), &delta, 2);
        assert!(compiler.work().assembled);
        assert_eq!((content(&tables), &problems), (content(&at_once(&definitions, 2).0), &at_once(&definitions, 2).1));
        assert_eq!(problems.len(), problem_count, "{problems:?}");
    }
    let delta = definitions.apply([pod("a", 9, "x")]);
    compiler.compile(definitions.cluster(), &delta, 3);
    assert!(!compiler.work().assembled);
}

#[test]
fn p04_a_pod_costs_putting_services_together_only_if_it_asks_for_another_port_of_its_node() {
    let mut definitions = Definitions::default();
    let mut compiler = Compiler::new(options());
    let first = definitions.apply(cluster(2).into_iter().chain([pod("a", 77, "x")]));
    compiler.compile(definitions.cluster(), &first, 1);
    let mut next = |ports: &str, app: &str, epoch| {
        let yaml = format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: a, labels: {{app: {app}}}}}, spec: {{nodeName: node0, containers: \
             [{{name: c, ports: [{ports}]}}]}}, status: {{podIP: 10.244.1.77}}}}"
        );
        let delta = definitions.apply([change("a.yaml", &yaml)]);
        let (tables, problems) = compiler.compile(definitions.cluster(), &delta, epoch);
        let (wanted, told) = at_once(&definitions, epoch);
        assert_eq!((content(&tables), problems), (content(&wanted), told));
        (tables.host_ports.len(), compiler.work().assembled)
    };
    let asks = "{containerPort: 1, hostPort: 80}";
    assert_eq!(next(asks, "x", 2), (1, true));
    assert_eq!(next(asks, "web", 3), (1, false));
    assert_eq!(next("{containerPort: 1, hostPort: 81}", "web", 4), (1, true));
    assert_eq!(next("", "web", 5), (0, true));
    assert_eq!(next("", "db", 6), (0, false));
}
