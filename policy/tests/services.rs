//! Where flows to Services go, by the compiled tables and by a slow reading of the API's words, on generated clusters.

#[path = "services/generate.rs"]
mod generate;
#[path = "services/literal.rs"]
mod literal;

use generate::{World, objects, world};
use literal::{Asked, Outcome};
use policy::cluster::Cluster;
use policy::compile::{CompileOptions, compile_with};
use policy::tables::{Choice, Client, FlowHash, Tables};
use proptest::prelude::*;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use wire::{FlowKey, Protocol};

const PROTOCOLS: [(&str, Protocol); 3] = [("TCP", Protocol::TCP), ("UDP", Protocol::UDP), ("SCTP", Protocol::SCTP)];

/// An endpoint's address and port.
type Place = (IpAddr, u16);

/// Sources in and out of the generated ranges, of each family.
const SOURCES: [&str; 5] = ["192.0.2.5", "192.0.2.200", "10.9.9.9", "2001:db8::7", "fe00::1"];

fn compiled(world: &World) -> Tables {
    let (cluster, problems) = Cluster::from_objects(objects(world));
    assert_eq!(problems, []);
    let options =
        CompileOptions { external_ips: vec![generate::ALLOWED.parse().expect("a CIDR")], ..CompileOptions::default() };
    let (tables, problems) = compile_with(&cluster, &options, 1);
    assert!(problems.iter().all(|problem| !problem.severity.is_error()), "{problems:?}");
    tables
}

/// Every flow that is worth asking about.
fn asked(world: &World) -> Vec<Asked> {
    let mut dsts: BTreeSet<(IpAddr, u16)> = BTreeSet::new();
    for (index, service) in world.services.iter().enumerate() {
        let both = [true, false];
        let mut addrs: Vec<IpAddr> = both.map(|v4| generate::cluster_ip(index, v4)).to_vec();
        addrs.extend(service.balancers.iter().enumerate().map(|(at, (v4, _))| generate::balancer_ip(index, at, *v4)));
        addrs.extend(both.map(|allowed| generate::external_ip(index, allowed)));
        for port in &service.ports {
            dsts.extend(addrs.iter().map(|addr| (*addr, generate::port_number(port))));
            let nodes = (0..generate::NODES).flat_map(|node| both.map(|v4| generate::node_addr(node, v4)));
            dsts.extend(nodes.map(|addr| (addr, generate::node_port(index, port))));
        }
    }
    let mut all = Vec::new();
    for (dst, port) in dsts {
        for (protocol, _) in PROTOCOLS {
            for node in [None, Some(0), Some(1), Some(2)] {
                for from_outside in [false, true] {
                    let sources = SOURCES.iter().map(|text| text.parse::<IpAddr>().expect("an address"));
                    for src in sources.filter(|src| src.is_ipv4() == dst.is_ipv4()) {
                        all.push(Asked { src, dst, protocol, port, node, from_outside });
                    }
                }
            }
        }
    }
    all
}

fn protocol(name: &str) -> Protocol {
    PROTOCOLS.iter().find(|(known, _)| *known == name).expect("a protocol").1
}

/// What the tables say, in the literal's words.
fn looked_up(tables: &Tables, asked: &Asked) -> Outcome {
    let protocol = protocol(asked.protocol);
    let Some(frontend) = tables.find_service(asked.dst, protocol, asked.port) else { return Outcome::NoService };
    let node = asked.node.and_then(|node| tables.find_node(&format!("n{node}")));
    let client = if asked.from_outside { Client::Outside } else { Client::Inside };
    let key = FlowKey::new(protocol, asked.src, 40_000, asked.dst, asked.port);
    let choice = tables.choose(frontend, asked.dst, node, client, asked.src, &FlowHash::new(&key, 7));
    match tables.admit(frontend, asked.dst, node, client, asked.src) {
        Ok(candidates) => {
            let all: BTreeSet<(IpAddr, u16)> = candidates.iter().map(|backend| (backend.addr, backend.port)).collect();
            assert_eq!(all.len(), candidates.len());
            let Choice::Backend(chosen) = choice else { panic!("{choice:?} of {all:?}") };
            assert!(all.contains(&(chosen.addr, chosen.port)));
            for place in &all {
                assert!(
                    tables.may_stay(frontend, asked.dst, node, client, asked.src, *place),
                    "what is chosen may stay"
                );
            }
            for host in 1..9 {
                let addr = generate::endpoint_addr(host, asked.dst.is_ipv4());
                let found = candidates.find(addr).map(|backend| (backend.addr, backend.port));
                assert_eq!(found, all.iter().copied().find(|(candidate, _)| *candidate == addr));
            }
            Outcome::Backends(all)
        }
        Err(refusal) => {
            assert_eq!(choice, refusal);
            match refusal {
                Choice::NoEndpoint => Outcome::Refused,
                Choice::NoLocalEndpoint => Outcome::Dropped,
                Choice::SourceNotAllowed => Outcome::Forbidden,
                Choice::Backend(_) => panic!("a backend is no refusal"),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn compiled_services_lead_where_the_api_text_says(world in world()) {
        let tables = compiled(&world);
        for asked in asked(&world) {
            prop_assert_eq!(looked_up(&tables, &asked), literal::judge(&world, &asked), "{:?}", asked);
        }
    }

    /// A flow may stay on what its port lists, UDP on what serves.
    #[test]
    fn a_flow_may_stay_where_an_endpoint_is_listed(world in world()) {
        let tables = compiled(&world);
        for (index, service) in world.services.iter().enumerate() {
            for port in &service.ports {
                for is_ipv4 in service.families.iter().copied() {
                    let vip = generate::cluster_ip(index, is_ipv4);
                    let frontend = tables.find_service(vip, protocol(port.protocol), generate::port_number(port));
                    let frontend = frontend.expect("every Service has its ClusterIP");
                    let listed = literal::endpoints(&world, index, port, is_ipv4);
                    for host in 1..9 {
                        for number in [8080, 8081, 8082] {
                            let addr = generate::endpoint_addr(host, is_ipv4);
                            let expected = listed.get(&(addr, number))
                                .is_some_and(|endpoint| port.protocol != "UDP" || literal::is_serving(endpoint));
                            prop_assert_eq!(tables.is_backend(frontend.service, addr, number), expected);
                        }
                    }
                }
            }
        }
    }

    /// Nodes for which the candidates are the same choose the same one for a flow from outside, unless the set is theirs alone.
    #[test]
    fn nodes_with_the_same_candidates_choose_alike_for_the_outside(world in world(), src_port in any::<u16>()) {
        let tables = compiled(&world);
        let mut chosen: HashMap<(IpAddr, u16, BTreeSet<Place>), Place> = HashMap::new();
        for asked in asked(&world).iter().filter(|asked| asked.from_outside && asked.node.is_some()) {
            let Outcome::Backends(all) = looked_up(&tables, asked) else { continue };
            let protocol = protocol(asked.protocol);
            let frontend = tables.find_service(asked.dst, protocol, asked.port).expect("a Service");
            let node = asked.node.and_then(|node| tables.find_node(&format!("n{node}")));
            let key = FlowKey::new(protocol, "192.0.2.5".parse().expect("an address"), src_port, asked.dst, asked.port);
            let src = asked.src;
            let hash = FlowHash::new(&key, asked.node.map_or(0, |node| node as u64));
            let choice = tables.choose(frontend, asked.dst, node, Client::Outside, src, &hash);
            let Choice::Backend(backend) = choice else { panic!("{choice:?}") };
            let entry = tables.service_entry(frontend.service);
            let hinted = world.slices.iter().any(|slice| slice.endpoints.iter().any(|e| !e.for_nodes.is_empty()));
            if entry.external_policy == policy::tables::TrafficPolicy::Cluster && !hinted {
                let first = *chosen.entry((asked.dst, asked.port, all)).or_insert((backend.addr, backend.port));
                prop_assert_eq!(first, (backend.addr, backend.port));
            }
        }
    }
}

/// The comparison means something only if the generated clusters bring about every outcome, and sets of every kind.
#[test]
fn the_generated_clusters_bring_about_every_outcome() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut seen = HashMap::<&str, u32>::new();
    for _ in 0..60 {
        let world = world().new_tree(&mut runner).expect("a cluster").current();
        for asked in asked(&world) {
            let stranger = Asked { node: None, ..asked };
            let name = match literal::judge(&world, &asked) {
                Outcome::NoService => "no service",
                Outcome::Backends(all) => match literal::judge(&world, &stranger) {
                    Outcome::Backends(whole) if whole == all => "all",
                    Outcome::Backends(_) => "hinted",
                    _ => "local",
                },
                Outcome::Refused => "refused",
                Outcome::Dropped => "dropped",
                Outcome::Forbidden => "forbidden",
            };
            *seen.entry(name).or_default() += 1;
        }
    }
    assert_eq!(seen.len(), 7, "{seen:?}");
    assert!(seen.values().all(|count| *count > 200), "{seen:?}");
}
