//! Single Services, as objects may be written.

use super::*;
use crate::objects::{Object, parse};

fn stands(spec: &str) -> Stands {
    let yaml = format!("{{apiVersion: v1, kind: Service, metadata: {{name: s}}, spec: {spec}}}");
    let parsed = parse("test.yaml", &yaml);
    let Some(Object::Service(service)) = parsed.objects.first().map(|sourced| &sourced.object) else {
        panic!("{:?}", parsed.problems)
    };
    service_names(service, &[]).0
}

fn external_of(name: &str) -> Option<Box<[u8]>> {
    external(&ServiceSpec { external_name: Some(name.to_owned()), ..ServiceSpec::default() })
}

#[test]
fn d01_a_service_that_has_no_address_yet_has_a_name_without_addresses() {
    assert_eq!(stands("{ports: [{port: 80}]}"), no_address());
}

#[test]
fn d02_ports_without_a_name_have_no_records() {
    let Stands::ClusterIps { v4, ports, .. } =
        stands("{clusterIP: 10.0.0.1, ports: [{port: 80, name: http}, {port: 53, protocol: UDP, name: dns}]}")
    else {
        panic!("ClusterIPs")
    };
    let ports: Vec<_> = ports.iter().map(|port| (&*port.name, port.protocol.to_string(), port.number)).collect();
    assert_eq!((v4.len(), ports), (1, vec![("dns", "UDP".into(), 53), ("http", "TCP".into(), 80)]));
    let Stands::ClusterIps { ports, .. } = stands("{clusterIP: 10.0.0.1, ports: [{port: 80}]}") else {
        panic!("ClusterIPs")
    };
    assert!(ports.is_empty());
}

#[test]
fn d07_an_external_name_leads_to_a_name_or_nowhere() {
    assert_eq!(external_of("a.example").as_deref(), Some(&b"\x01a\x07example\x00"[..]));
    assert_eq!(external_of("a.example."), external_of("a.example"));
    let long = ["a".repeat(63).as_str(); 4].join(".");
    for nothing in ["", ".", "a..b", "192.0.2.1", "2001:db8::1", &"a".repeat(64), &long] {
        assert_eq!(external_of(nothing), None, "{nothing}");
    }
}
