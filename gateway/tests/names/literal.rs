//! A slow reading of the specification: all records that must exist are written down, section by section, and a question is answered
//! by looking through them. It shares nothing with the compiler or the responder.

use gateway::dns::PodRecords;
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Owner, type and data, in lower case and without final dots; an SRV record without priority and weight.
pub(crate) type Record = (String, String, String);

const ZONE: &str = "cluster.local";

/// More aliases than this are a circle.
const ALIASES_MAX: usize = 8;

/// What becomes of a question; with the aliases that were followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Records(Vec<Record>),
    NoData(Vec<Record>),
    NoName(Vec<Record>),
    /// The last alias leads out of the cluster.
    Chase(Vec<Record>, String),
    Fails,
    Forward,
}

impl Outcome {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Outcome::Records(_) => "records",
            Outcome::NoData(_) => "no data",
            Outcome::NoName(_) => "no name",
            Outcome::Chase(..) => "chase",
            Outcome::Fails => "fails",
            Outcome::Forward => "forward",
        }
    }
}

pub(crate) struct Literal {
    records: BTreeSet<Record>,
    /// Names that exist though nothing is at or below them.
    places: BTreeSet<String>,
    /// Namespace and address of each pod; `None` if pods have no names.
    pods: Option<Vec<(String, IpAddr)>>,
    takes_any_address: bool,
    namespaces: BTreeSet<String>,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// "A unique, system-assigned identifier": the address with dashes.
fn dashes(address: &str) -> String {
    address.replace(['.', ':'], "-")
}

fn reverse(address: &str) -> String {
    match address.parse().expect("an address") {
        IpAddr::V4(addr) => {
            let [a, b, c, d] = addr.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(addr) => {
            let nibbles = addr.octets().into_iter().rev().flat_map(|byte| [byte & 15, byte >> 4]);
            nibbles.map(|nibble| format!("{nibble:x}.")).collect::<String>() + "ip6.arpa"
        }
    }
}

fn of_family(address: &str) -> &'static str {
    if address.contains(':') { "AAAA" } else { "A" }
}

/// An endpoint of a Service that is ready, with the ports of its slice.
struct Endpoint {
    address: String,
    hostname: String,
    ports: Value,
}

impl Literal {
    pub(crate) fn new(objects: &[Value], mode: PodRecords) -> Literal {
        let of_kind = |kind: &'static str| objects.iter().filter(move |object| object["kind"] == kind);
        let mut literal = Literal {
            records: BTreeSet::new(),
            places: [ZONE.to_owned(), format!("svc.{ZONE}"), format!("pod.{ZONE}"), format!("dns.{ZONE}")].into(),
            pods: (mode != PodRecords::Disabled).then(Vec::new),
            takes_any_address: mode == PodRecords::Insecure,
            namespaces: BTreeSet::new(),
        };
        // 2.2
        literal.add(&format!("dns-version.{ZONE}"), "TXT", "\"1.1.0\"");
        for namespace in of_kind("Namespace") {
            literal.namespaces.insert(text(&namespace["metadata"]["name"]));
        }
        for pod in of_kind("Pod") {
            let namespace = text(&pod["metadata"]["namespace"]);
            let address = text(&pod["status"]["podIP"]).parse().expect("an address");
            // What has ended has no address any more.
            if pod["status"]["phase"] != "Failed" {
                literal.pods.iter_mut().for_each(|pods| pods.push((namespace.clone(), address)));
            }
            literal.namespaces.insert(namespace);
        }
        for service in of_kind("Service") {
            literal.namespaces.insert(text(&service["metadata"]["namespace"]));
            let metadata = &service["metadata"];
            let own = of_kind("EndpointSlice").filter(|slice| {
                slice["metadata"]["namespace"] == metadata["namespace"]
                    && slice["metadata"]["labels"]["kubernetes.io/service-name"] == metadata["name"]
            });
            literal.add_service(service, own);
        }
        for namespace in &literal.namespaces {
            literal.places.insert(format!("{namespace}.svc.{ZONE}"));
            if mode != PodRecords::Disabled {
                literal.places.insert(format!("{namespace}.pod.{ZONE}"));
            }
        }
        literal
    }

    fn add(&mut self, owner: &str, rtype: &str, data: &str) {
        self.records.insert((owner.to_owned(), rtype.to_owned(), data.to_owned()));
    }

    fn add_service<'a>(&mut self, service: &Value, slices: impl Iterator<Item = &'a Value>) {
        let spec = &service["spec"];
        let name =
            format!("{}.{}.svc.{ZONE}", text(&service["metadata"]["name"]), text(&service["metadata"]["namespace"]));
        if spec["type"] == "ExternalName" {
            // 2.5. An address is no name that an alias could lead to; the Service is there all the same.
            let target = text(&spec["externalName"]);
            match target.parse::<IpAddr>() {
                Ok(_) => drop(self.places.insert(name)),
                Err(_) => self.add(&name, "CNAME", target.trim_end_matches('.')),
            }
            return;
        }
        // 2.1, ready
        let all_ready = spec["publishNotReadyAddresses"] == true;
        let ready = slices.flat_map(|slice| list(&slice["endpoints"]).map(move |endpoint| (slice, endpoint)));
        let ready = ready.filter(|(_, endpoint)| all_ready || endpoint["conditions"]["ready"] != false);
        let ready = ready.map(|(slice, endpoint)| {
            let address = text(&endpoint["addresses"][0]);
            // 2.1, hostname
            let hostname = endpoint["hostname"].as_str().map_or_else(|| dashes(&address), str::to_owned);
            Endpoint { address, hostname, ports: slice["ports"].clone() }
        });
        let ready: Vec<Endpoint> = ready.collect();
        let is_headless = spec["clusterIP"] == "None";
        if !is_headless {
            self.add_cluster_ips(&name, spec);
        }
        for Endpoint { address, hostname, ports } in &ready {
            // 2.4.1; the names of a Service with ClusterIPs are an extension (section 3) that CoreDNS has too.
            self.add(&format!("{hostname}.{name}"), of_family(address), address);
            // 2.4.3
            self.add(&reverse(address), "PTR", &format!("{hostname}.{name}"));
            if !is_headless {
                continue;
            }
            self.add(&name, of_family(address), address);
            for port in list(ports).filter(|port| port["name"] != "") {
                // 2.4.2
                self.add_srv(&name, port, &format!("{hostname}.{name}"));
            }
        }
    }

    fn add_cluster_ips(&mut self, name: &str, spec: &Value) {
        let listed: Vec<String> = list(&spec["clusterIPs"]).map(text).collect();
        let addresses = if listed.is_empty() { vec![text(&spec["clusterIP"])] } else { listed };
        for address in addresses {
            // 2.3.1
            self.add(name, of_family(&address), &address);
            // 2.3.3
            self.add(&reverse(&address), "PTR", name);
        }
        for port in list(&spec["ports"]).filter(|port| port["name"].is_string()) {
            // 2.3.2
            self.add_srv(name, port, name);
        }
    }

    /// The records of all named ports are those of the Service's name too: an extension that CoreDNS has as well.
    fn add_srv(&mut self, name: &str, port: &Value, target: &str) {
        let protocol = text(&port["protocol"]).to_lowercase();
        let data = format!("{} {target}", port["port"]);
        self.add(&format!("_{}._{protocol}.{name}", text(&port["name"])), "SRV", &data);
        self.add(name, "SRV", &data);
    }

    /// Whether there is such a record.
    pub(crate) fn has(&self, record: &Record) -> bool {
        self.records.contains(record)
    }

    pub(crate) fn answer(&self, name: &str, rtype: &str) -> Outcome {
        let mut name = name.to_owned();
        let mut told = Vec::new();
        if name.ends_with(".arpa") {
            if !self.exists(&name) || self.records.iter().all(|(owner, ..)| *owner != name) {
                return Outcome::Forward;
            }
            return self.records_of(&name, rtype, told);
        }
        for _ in 0..=ALIASES_MAX {
            let alias = self.records.iter().find(|(owner, kind, _)| *owner == name && kind == "CNAME");
            let Some(alias) = alias.filter(|_| rtype != "CNAME") else { return self.records_of(&name, rtype, told) };
            told.push(alias.clone());
            name = alias.2.clone();
            if !name.ends_with(&format!(".{ZONE}")) {
                told.sort();
                return Outcome::Chase(told, name);
            }
        }
        Outcome::Fails
    }

    fn records_of(&self, name: &str, rtype: &str, mut told: Vec<Record>) -> Outcome {
        let own = self.records.iter().filter(|(owner, kind, _)| *owner == name && *kind == rtype);
        let mut records: Vec<Record> = own.cloned().collect();
        records.extend(self.pod(name).filter(|_| self.pod(name).is_some_and(|(_, kind, _)| kind == rtype)));
        let is_answered = !records.is_empty();
        told.append(&mut records);
        told.sort();
        match (is_answered, self.exists(name)) {
            (true, _) => Outcome::Records(told),
            (false, true) => Outcome::NoData(told),
            (false, false) => Outcome::NoName(told),
        }
    }

    /// Whether something is at the name or below it.
    fn exists(&self, name: &str) -> bool {
        let below = format!(".{name}");
        self.places.contains(name)
            || self.records.iter().any(|(owner, ..)| owner == name || owner.ends_with(&below))
            || self.pod(name).is_some()
    }

    /// The record of a pod's address (CoreDNS).
    fn pod(&self, name: &str) -> Option<Record> {
        let pods = self.pods.as_ref()?;
        let (label, namespace) = name.strip_suffix(&format!(".pod.{ZONE}"))?.split_once('.')?;
        let address: IpAddr = label.replace('-', ".").parse().or_else(|_| label.replace('-', ":").parse()).ok()?;
        let is_there = self.namespaces.contains(namespace)
            && (self.takes_any_address || pods.iter().any(|pod| *pod == (namespace.to_owned(), address)));
        is_there.then(|| (name.to_owned(), of_family(&address.to_string()).to_owned(), address.to_string()))
    }
}
