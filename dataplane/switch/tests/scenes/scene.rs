//! A small cluster from a few lines of text: switches joined in memory, pods by name, frames in words.
//!
//! ```text
//! pod client on node1
//! pod server on node2
//! host-port server tcp 8080 at 80         hostPort 80 of its node; `at 172.30.0.12:80` has a hostIP too
//! service web tcp 80 to 8080: server
//! service shop tcp 80 to 8080 node-port=30080 external=Local affinity=60 also=81:8081: server, other/draining
//! ingress server: client tcp/8080        policy that selects server; sources with ports
//! egress client:                         policy that selects client and allows nothing
//! dry-run egress client                  that policy judges and decides nothing, until `enforce egress client`
//! keep egress client                     that policy leaves established flows alone
//! ```
//! The name server 10.244.2.11 is trusted. `masquerade-all` gives whatever goes to a Service a source of the node. Options of a Service: `node-port=N`, `lb=N` (addresses 172.30.0.N and fd00:172:30::N, called `NAME-lb`), `external-ip=IP`,
//! `external=Local`, `internal=Local`, `affinity=SECONDS`, `sources=CIDR,CIDR`, `retry=MS`, `also=PORT:TARGET` (a second port). A
//! backend may be `NAME/draining` or `NAME/unready`.
//!
//! Pod `n` (from 1) of a node has 10.244.NODE.(10+n) and fd00:10:244:NODE::(10+n); Service `n` has 10.96.0.n and
//! fd00:10:96::n; node `n` has 172.30.0.(10+n) and fd00:172:30::(10+n).
//! `uplinks 50000-50999` gives both nodes a way outside with these source ports; `announce web-lb on node1` and
//! `unclaimed tcp 30080 on node1` say what the shell does there. Outside are `world` on the underlay, `outside`, `elsewhere`, and `flat`,
//! which is reached without translation. They send to the node that they name, else to node1's uplink; `world@node2` sends to
//! node2's whatever it says, and `node2@node1` is node2's own kernel on the underlay. A backend of a Service may be `node1`,
//! `node2` (a pod of the host network) or `outside`.
//! Every node answers the cluster DNS at 10.96.0.53 and fd00:10:96::53, called `cluster-dns`: a packet that it is asked becomes
//! `asked: PACKET`, and [`Scene::answer`] answers the last one.
//! In packets, a name stands for its IPv4 address, or its IPv6 address if the protocol ends in `6`.

mod changes;
mod traffic;

pub(crate) use traffic::ports;

use crate::objects;
use overlay::vxlan::Vni;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;
use switch::{Attached, PortConfig, PortId, PortKind, Query, ShardId, SourcePool, Switch, SwitchConfig, Tables};
use wire::{Instant, MacAddr, Protocol};

pub(crate) const TUNNEL_MTU: u16 = 1450;
pub(crate) const FLOWS_MAX: u32 = 1_000;
pub(crate) const UPLINK_FLOWS_MAX: u32 = 70_000;
const HOST_PORT: PortId = PortId(1);
pub(crate) const UPLINK_PORT: PortId = PortId(2);
/// Where every node answers the cluster DNS.
pub(crate) const CLUSTER_DNS: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(10, 96, 0, 53), Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0x53));
/// Of whatever sends outside.
const OUTSIDE_MAC: MacAddr = MacAddr([2, 0xee, 0, 0, 0, 1]);

pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) node: usize,
    pub(crate) v4: Ipv4Addr,
    pub(crate) v6: Ipv6Addr,
    pub(crate) mac: MacAddr,
    pub(crate) port: PortId,
    pub(crate) shard: u16,
    pub(crate) attached: bool,
    /// More labels, as YAML of a flow mapping: `team: a, tier: b`.
    pub(crate) labels: String,
    /// Its ports, as YAML of a flow sequence.
    pub(crate) ports: Vec<String>,
    /// It has been told to end.
    pub(crate) terminating: bool,
}

pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) protocol: String,
    pub(crate) port: u16,
    pub(crate) target_port: u16,
    /// `key=value` words.
    pub(crate) options: Vec<String>,
    pub(crate) backends: Vec<String>,
}

impl Service {
    /// The value of an option.
    pub(crate) fn option(&self, key: &str) -> Option<&str> {
        self.options.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }

    /// The address of its load balancer.
    fn load_balancer(&self, v6: bool) -> Option<IpAddr> {
        let number: u16 = self.option("lb")?.parse().expect("a number");
        Some(if v6 {
            Ipv6Addr::new(0xfd00, 0x172, 0x30, 0, 0, 0, 0, hexadecimal(number)).into()
        } else {
            Ipv4Addr::new(172, 30, 0, number as u8).into()
        })
    }
}

/// The number whose hexadecimal digits are the decimal digits of `number`.
fn hexadecimal(number: u16) -> u16 {
    u16::from_str_radix(&number.to_string(), 16).expect("digits")
}

/// What policies are told beside their rules, by `DIRECTION POD`.
pub(crate) struct Modes<'a> {
    pub(crate) dry_run: &'a [String],
    pub(crate) keep: &'a [String],
}

pub(crate) struct Node {
    pub(crate) shards: Vec<Switch>,
}

pub(crate) struct Scene {
    pub(crate) nodes: Vec<Node>,
    pub(crate) now: Instant,
    shards: u16,
    pods: Vec<Pod>,
    services: Vec<Service>,
    rules: Vec<String>,
    /// Which of the rules are in dry run, and which keep established flows.
    dry_run: Vec<String>,
    keep: Vec<String>,
    /// Ports of node1 that belong to no pod of the scene.
    strangers: Vec<PortConfig>,
    /// Labels of the namespace, as those of a pod.
    namespace_labels: String,
    /// More objects, as YAML documents.
    manifests: String,
    epoch: u64,
    tables: Option<Arc<policy::tables::Tables>>,
    ports_made: u32,
    /// Whether there are uplinks, and what is announced there and unclaimed, by node.
    uplinks: bool,
    announced: Vec<(usize, String)>,
    unclaimed: Vec<(usize, Protocol, u16)>,
    released: Vec<String>,
    /// The last query, and the node and shard that were asked.
    query: Option<(usize, u16, Query)>,
}

pub(crate) fn node_v4(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(172, 30, 0, 10 + node as u8)
}

pub(crate) fn node_v6(node: usize) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x172, 0x30, 0, 0, 0, 0, 0x10 + node as u16)
}

fn gateway_v4(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, node as u8, 1)
}

fn gateway_v6(node: usize) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x10, 0x244, node as u16, 0, 0, 0, 1)
}

fn vtep_mac(node: usize) -> MacAddr {
    overlay::peers::derive_vtep_mac(&format!("node{node}"))
}

pub(crate) fn uplink_mac(node: usize) -> MacAddr {
    MacAddr::local(0x00fe_0000 + node as u64)
}

fn node_number(name: &str) -> usize {
    name.trim_start_matches("node").parse().expect("a node")
}

fn host_mac(node: usize) -> MacAddr {
    MacAddr::local(0x00ff_0000 + node as u64)
}

impl Scene {
    /// Two nodes with one shard each.
    pub(crate) fn new(text: &str) -> Scene {
        Scene::with_shards(1, text)
    }

    /// Two nodes with `shards` shards each; pods take turns, the host port is on the first.
    pub(crate) fn with_shards(shards: u16, text: &str) -> Scene {
        let mut scene = Scene {
            nodes: Vec::new(),
            now: Instant::from_millis(1_000_000),
            shards,
            pods: Vec::new(),
            services: Vec::new(),
            rules: Vec::new(),
            dry_run: Vec::new(),
            keep: Vec::new(),
            strangers: Vec::new(),
            namespace_labels: String::new(),
            manifests: String::new(),
            epoch: 0,
            tables: None,
            ports_made: 100,
            uplinks: false,
            announced: Vec::new(),
            unclaimed: Vec::new(),
            released: Vec::new(),
            query: None,
        };
        for node in 1..=2 {
            let config = |shard| SwitchConfig {
                node_name: format!("node{node}"),
                shard: ShardId(shard),
                shards,
                vni: Vni::new(1).unwrap(),
                vxlan_port: 4789,
                vtep_mac: vtep_mac(node),
                gateways: vec![gateway_v4(node).into(), gateway_v6(node).into()],
                tunnel_mtu: TUNNEL_MTU,
                seed: 7 + node as u64,
                flows_per_port_max: FLOWS_MAX,
                uplink_flows_max: UPLINK_FLOWS_MAX,
                service_cidrs: vec!["10.96.0.0/16".parse().unwrap(), "fd00:10:96::/112".parse().unwrap()],
                non_masquerade: vec!["198.51.100.0/24".parse().unwrap(), "2001:db8:100::/48".parse().unwrap()],
                masquerade_all: text.contains("masquerade-all"),
                trusted_dns: vec!["10.244.2.11/32".parse().unwrap()],
            };
            let mut shards: Vec<Switch> = (0..shards).map(|shard| Switch::new(config(shard))).collect();
            shards[0].add_port(PortConfig {
                id: HOST_PORT,
                kind: PortKind::Host,
                mac: host_mac(node),
                addresses: vec![
                    node_v4(node).into(),
                    node_v6(node).into(),
                    gateway_v4(node).into(),
                    gateway_v6(node).into(),
                ],
                mtu: TUNNEL_MTU,
            });
            scene.nodes.push(Node { shards });
        }
        scene.read(text);
        scene.compile();
        scene
    }

    /// Adds lines, and replaces the services and rules of the same names.
    pub(crate) fn change(&mut self, text: &str) {
        self.read(text);
        self.compile();
    }

    /// Removes the service or the rules (`ingress server`) or the pod called `name`.
    pub(crate) fn remove(&mut self, name: &str) {
        self.services.retain(|s| s.name != name);
        self.rules.retain(|r| !r.starts_with(&format!("{name}:")));
        if let Some(at) = self.pods.iter().position(|p| p.name == name) {
            let pod = self.pods.remove(at);
            self.nodes[pod.node - 1].shards[usize::from(pod.shard)].remove_port(pod.port);
        }
        self.compile();
    }

    /// Has these objects beside those of the lines from now on, instead of the last ones.
    pub(crate) fn manifests(&mut self, yaml: &str) {
        self.manifests = format!("---\n{yaml}");
        self.compile();
    }

    /// Lets time pass.
    pub(crate) fn wait(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
    }

    /// Lets a shorter time pass.
    pub(crate) fn wait_ms(&mut self, milliseconds: u64) {
        self.now = self.now + Duration::from_millis(milliseconds);
    }

    fn read(&mut self, text: &str) {
        for line in text.lines().map(str::trim).filter(|l| !l.is_empty()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["masquerade-all"] => {}
                ["pod", name, "on", node] => self.read_pod(name, node),
                ["host-port", name, protocol, target, "at", at] => self.read_host_port(name, protocol, target, at),
                ["service", name, protocol, port, "to", target_port, ..] => {
                    // An option may have colons of its own; the one before the backends has a space or nothing behind it.
                    let (head, backends) =
                        line.split_once(": ").or_else(|| Some((line.strip_suffix(':')?, ""))).expect("backends");
                    let options = head.split_whitespace().skip(6).map(str::to_owned).collect();
                    let service = Service {
                        options,
                        name: name.to_owned(),
                        protocol: protocol.to_uppercase(),
                        port: port.parse().expect("a port"),
                        target_port: target_port.trim_end_matches(':').parse().expect("a target port"),
                        backends: backends.split(',').map(|b| b.trim().to_owned()).filter(|b| !b.is_empty()).collect(),
                    };
                    match self.services.iter().position(|s| s.name == name) {
                        Some(at) => self.services[at] = service,
                        None => self.services.push(service),
                    }
                }
                ["ingress" | "egress", ..] => {
                    let (head, _) = line.split_once(':').expect("peers behind a colon");
                    self.rules.retain(|r| !r.starts_with(&format!("{head}:")));
                    self.rules.push(line.to_owned());
                }
                ["dry-run", direction, name] => self.dry_run.push(format!("{direction} {name}")),
                ["enforce", direction, name] => self.dry_run.retain(|rule| *rule != format!("{direction} {name}")),
                ["keep", direction, name] => self.keep.push(format!("{direction} {name}")),
                ["uplinks", range] => self.read_uplinks(range),
                ["announce", name, "on", node] => self.announced.push((node_number(node), name.to_owned())),
                ["unclaimed", protocol, port, "on", node] => {
                    let protocol = if protocol == "tcp" { Protocol::TCP } else { Protocol::UDP };
                    self.unclaimed.push((node_number(node), protocol, port.parse().expect("a port")));
                }
                _ => panic!("no such line: {line}"),
            }
        }
    }

    fn read_uplinks(&mut self, range: &str) {
        self.uplinks = true;
        for (node, of) in (1..).zip(&mut self.nodes) {
            of.shards[0].add_port(PortConfig {
                id: UPLINK_PORT,
                kind: PortKind::Uplink,
                mac: uplink_mac(node),
                addresses: vec![node_v4(node).into(), node_v6(node).into()],
                mtu: 1500,
            });
        }
        self.compile();
        let (first, last) = range.split_once('-').expect("FIRST-LAST");
        let range = first.parse().expect("a port")..=last.parse().expect("a port");
        for protocol in [Protocol::TCP, Protocol::UDP, Protocol::SCTP] {
            for is_ipv4 in [true, false] {
                self.grant(SourcePool { protocol, is_ipv4 }, range.clone());
            }
        }
    }

    /// Grants source ports on both nodes.
    pub(crate) fn grant(&mut self, pool: SourcePool, range: RangeInclusive<u16>) {
        self.nodes.iter_mut().for_each(|node| node.shards[0].grant_source_ports(pool, range.clone()));
    }

    fn read_pod(&mut self, name: &str, node: &str) {
        let node = node_number(node);
        self.ports_made += 1;
        let number = self.pods.iter().filter(|p| p.node == node).count() as u16 + 1;
        let port = PortId(self.ports_made);
        let pod = Pod {
            name: name.to_owned(),
            node,
            v4: Ipv4Addr::new(10, 244, node as u8, 10 + number as u8),
            v6: Ipv6Addr::new(0xfd00, 0x10, 0x244, node as u16, 0, 0, 0, 10 + number),
            mac: MacAddr::local(u64::from(port.0) * 256 + node as u64),
            port,
            attached: true,
            labels: String::new(),
            ports: Vec::new(),
            terminating: false,
            shard: number % self.shards,
        };
        self.nodes[node - 1].shards[usize::from(pod.shard)].add_port(PortConfig {
            id: pod.port,
            kind: PortKind::Pod { namespace: "default".to_owned(), name: name.to_owned() },
            mac: pod.mac,
            addresses: vec![pod.v4.into(), pod.v6.into()],
            mtu: TUNNEL_MTU,
        });
        self.pods.push(pod);
    }

    fn compile(&mut self) {
        self.epoch += 1;
        let modes = Modes { dry_run: &self.dry_run, keep: &self.keep };
        let mut yaml = objects::yaml(&self.pods, &self.services, &self.rules, &modes);
        yaml.push_str(&objects::namespace(&self.namespace_labels));
        yaml.push_str(&self.manifests);
        let policy = Arc::new(objects::compile(&yaml, self.epoch));
        self.tables = Some(policy.clone());
        for node in 1..=2 {
            let strangers = self.strangers.iter().filter(|_| node == 1);
            let strangers = strangers.flat_map(|port| port.addresses.iter().map(|addr| (*addr, (ShardId(0), port.id))));
            let local: HashMap<IpAddr, (ShardId, PortId)> = self
                .pods
                .iter()
                .filter(|p| p.node == node && p.attached)
                .flat_map(|p| {
                    let at = (ShardId(p.shard), p.port);
                    [(IpAddr::V4(p.v4), at), (IpAddr::V6(p.v6), at)]
                })
                .chain(strangers)
                .collect();
            let host = Some((ShardId(0), HOST_PORT));
            let attached = Attached {
                pods: Arc::new(local),
                host,
                uplink: self.uplinks.then_some((ShardId(0), UPLINK_PORT)),
                announced: Arc::new(self.announced_on(node)),
                unclaimed: Arc::new(
                    self.unclaimed
                        .iter()
                        .filter(|(at, ..)| *at == node)
                        .map(|(_, protocol, port)| (*protocol, *port))
                        .collect(),
                ),
            };
            let tables = Arc::new(Tables::new(&format!("node{node}"), policy.clone(), attached));
            for shard in &mut self.nodes[node - 1].shards {
                shard.set_tables(tables.clone());
            }
        }
    }

    fn announced_on(&self, node: usize) -> HashSet<IpAddr> {
        let names = self.announced.iter().filter(|(at, _)| *at == node);
        names.flat_map(|(_, name)| [self.address(name, false), self.address(name, true)]).collect()
    }

    /// The address that `name` stands for.
    pub(crate) fn address(&self, name: &str, v6: bool) -> IpAddr {
        let pick = |v4: Ipv4Addr, addr6: Ipv6Addr| if v6 { IpAddr::V6(addr6) } else { IpAddr::V4(v4) };
        if let Some(pod) = self.pods.iter().find(|p| p.name == name) {
            return pick(pod.v4, pod.v6);
        }
        if let Some(number) = self.services.iter().position(|s| s.name == name) {
            let number = number as u16 + 1;
            return pick(Ipv4Addr::new(10, 96, 0, number as u8), Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, number));
        }
        if let Some(addr) = self.services.iter().find_map(|s| {
            let is_it = name.strip_suffix("-lb") == Some(&s.name);
            s.load_balancer(v6).filter(|_| is_it)
        }) {
            return addr;
        }
        match name.split('@').next().unwrap_or(name) {
            "node1" => pick(node_v4(1), node_v6(1)),
            "node2" => pick(node_v4(2), node_v6(2)),
            "gateway1" => pick(gateway_v4(1), gateway_v6(1)),
            "gateway2" => pick(gateway_v4(2), gateway_v6(2)),
            "nobody1" => pick(Ipv4Addr::new(10, 244, 1, 200), Ipv6Addr::new(0xfd00, 0x10, 0x244, 1, 0, 0, 0, 200)),
            "outside" => pick(Ipv4Addr::new(203, 0, 113, 1), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
            "elsewhere" => pick(Ipv4Addr::new(203, 0, 113, 2), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2)),
            "flat" => pick(Ipv4Addr::new(198, 51, 100, 9), Ipv6Addr::new(0x2001, 0xdb8, 0x100, 0, 0, 0, 0, 9)),
            "cluster-dns" => pick(CLUSTER_DNS.0, CLUSTER_DNS.1),
            "world" => pick(Ipv4Addr::new(172, 30, 0, 100), Ipv6Addr::new(0xfd00, 0x172, 0x30, 0, 0, 0, 0, 0x64)),
            _ => name.parse().unwrap_or_else(|_| panic!("nobody is called {name}")),
        }
    }

    /// Who has an address, by the names of the scene.
    pub(crate) fn name(&self, addr: IpAddr) -> String {
        let nodes = ["node1", "node2", "gateway1", "gateway2", "nobody1"];
        let others = ["outside", "elsewhere", "flat", "world", "cluster-dns"];
        let names: Vec<String> = nodes.into_iter().chain(others).map(str::to_owned).collect();
        let balanced = self.services.iter().filter(|s| s.option("lb").is_some());
        let balancers: Vec<String> = balanced.map(|s| format!("{}-lb", s.name)).collect();
        let services = self.services.iter().map(|s| &s.name).chain(&balancers);
        let names = self.pods.iter().map(|p| &p.name).chain(services).chain(&names);
        let mut names = names.filter(|name| self.address(name, addr.is_ipv6()) == addr);
        names.next().cloned().unwrap_or_else(|| addr.to_string())
    }

    /// The pod at a port, by its name.
    pub(crate) fn pod_at(&self, port: PortId) -> &str {
        self.pods.iter().find(|pod| pod.port == port).map_or("node", |pod| &pod.name)
    }

    /// The tables in force.
    pub(crate) fn tables(&self) -> &policy::tables::Tables {
        self.tables.as_ref().expect("a scene is compiled")
    }

    /// Where frames of `sender` enter: node, shard, port, its MAC.
    pub(crate) fn entry(&self, sender: &str) -> (usize, u16, PortId, MacAddr) {
        match sender {
            "node1" | "gateway1" => (1, 0, HOST_PORT, host_mac(1)),
            "node2" | "gateway2" => (2, 0, HOST_PORT, host_mac(2)),
            "world" | "outside" | "elsewhere" | "flat" => (1, 0, UPLINK_PORT, OUTSIDE_MAC),
            _ if sender.contains('@') => {
                let (_, node) = sender.split_once('@').expect("a node");
                (node_number(node), 0, UPLINK_PORT, OUTSIDE_MAC)
            }
            _ => {
                let pod = self.pods.iter().find(|p| p.name == sender).expect("a pod or a node sends");
                (pod.node, pod.shard, pod.port, pod.mac)
            }
        }
    }
}
