//! The examples of the Kubernetes DNS specification 1.1.0, section by section: the question and the answer are its own, but for the
//! times that answers may be kept and the priorities and weights of SRV records, which it leaves open.

use super::*;

const SERVICES: &str = "
{apiVersion: v1, kind: Service, metadata: {name: kubernetes}, spec: {clusterIP: 10.3.0.1, clusterIPs: [10.3.0.1, '2001:db8::1'], ports: [{name: https, \
                        port: 443}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: unnamed}, spec: {clusterIP: 10.3.0.2, ports: [{port: 443}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: foo}, spec: {type: ExternalName, externalName: www.example.com}}
---
{apiVersion: v1, kind: Service, metadata: {name: empty}, spec: {clusterIP: None, ports: [{name: https, port: 443}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: unready}, spec: {clusterIP: None}}
---
{apiVersion: v1, kind: Service, metadata: {name: published}, spec: {clusterIP: None, publishNotReadyAddresses: true}}
---
{apiVersion: v1, kind: Service, metadata: {name: tolerant, annotations: {service.alpha.kubernetes.io/tolerate-unready-endpoints: 'true'}}, spec: {clusterIP: \
                        None}}
---
{apiVersion: v1, kind: Service, metadata: {name: ipv4-only}, spec: {clusterIP: 10.3.0.3, ports: [{port: 80}]}}
";

const HEADLESS: &str = "
{apiVersion: v1, kind: Service, metadata: {name: headless}, spec: {clusterIP: None, ports: [{name: https, port: 443}, {name: metrics, port: 9090}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: headless-4, labels: {kubernetes.io/service-name: headless}}
addressType: IPv4
ports: [{name: https, port: 443}, {name: metrics, port: 9090}, {port: 1}]
endpoints: [{addresses: [10.3.0.1]}, {addresses: [10.3.0.2]}, {addresses: [10.3.0.3]}, {addresses: [10.3.0.100], hostname: my-pet}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: headless-6, labels: {kubernetes.io/service-name: headless}}
addressType: IPv6
ports: [{name: https, port: 443}, {name: metrics, port: 9090}]
endpoints: [{addresses: ['2001:db8::2']}, {addresses: ['2001:db8::1'], hostname: my-pet}]
";

fn slice(service: &str, endpoints: &str) -> String {
    format!(
        "
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {service}-1, labels: {{kubernetes.io/service-name: {service}}}}}
addressType: IPv4
ports: [{{name: https, port: 443}}]
endpoints: [{endpoints}]
"
    )
}

/// The answers, in order; an empty list of a name that exists is NODATA.
fn answers(tables: &Tables, name: &str, qtype: Rtype) -> Result<Vec<String>, Rcode> {
    let said = ask(&mut responder(PodRecords::Disabled), tables, name, qtype);
    if said.rcode == Rcode::NOERROR { Ok(sorted(said.answers)) } else { Err(said.rcode) }
}

#[test]
fn d08_section_2_2_the_schema_version() {
    let found = answers(&tables(SERVICES), "dns-version.cluster.local.", Rtype::TXT);
    assert_eq!(found, Ok(vec!["dns-version.cluster.local. 28800 TXT \"1.1.0\"".to_owned()]));
}

#[test]
fn d01_section_2_3_1_addresses_of_a_service() {
    let tables = tables(SERVICES);
    let name = "kubernetes.default.svc.cluster.local.";
    assert_eq!(answers(&tables, name, Rtype::A), Ok(vec![format!("{name} 5 A 10.3.0.1")]));
    assert_eq!(answers(&tables, name, Rtype::AAAA), Ok(vec![format!("{name} 5 AAAA 2001:db8::1")]));
    let name = "ipv4-only.default.svc.cluster.local.";
    assert_eq!(answers(&tables, name, Rtype::AAAA), Ok(Vec::new()), "D11");
}

#[test]
fn d02_section_2_3_2_named_ports_of_a_service() {
    let tables = tables(SERVICES);
    let name = "_https._tcp.kubernetes.default.svc.cluster.local.";
    let wanted = format!("{name} 5 SRV 0 100 443 kubernetes.default.svc.cluster.local.");
    assert_eq!(answers(&tables, name, Rtype::SRV), Ok(vec![wanted]));
    assert_eq!(answers(&tables, "unnamed.default.svc.cluster.local.", Rtype::SRV), Ok(Vec::new()));
    assert_eq!(answers(&tables, "_._tcp.unnamed.default.svc.cluster.local.", Rtype::SRV), Err(Rcode::NXDOMAIN));
}

#[test]
fn d03_section_2_3_3_whose_an_address_is() {
    let tables = tables(SERVICES);
    let name = "1.0.3.10.in-addr.arpa.";
    let wanted = format!("{name} 5 PTR kubernetes.default.svc.cluster.local.");
    assert_eq!(answers(&tables, name, Rtype::PTR), Ok(vec![wanted]));
    let name = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.";
    let wanted = format!("{name} 5 PTR kubernetes.default.svc.cluster.local.");
    assert_eq!(answers(&tables, name, Rtype::PTR), Ok(vec![wanted]));
}

#[test]
fn d04_section_2_4_1_addresses_of_a_headless_service() {
    let tables = tables(HEADLESS);
    let name = "headless.default.svc.cluster.local.";
    let wanted = ["10.3.0.1", "10.3.0.100", "10.3.0.2", "10.3.0.3"].map(|addr| format!("{name} 5 A {addr}"));
    assert_eq!(answers(&tables, name, Rtype::A), Ok(wanted.to_vec()));
    let wanted = ["2001:db8::1", "2001:db8::2"].map(|addr| format!("{name} 5 AAAA {addr}"));
    assert_eq!(answers(&tables, name, Rtype::AAAA), Ok(wanted.to_vec()));
}

#[test]
fn d05_section_2_4_1_hostnames_of_endpoints() {
    let tables = tables(HEADLESS);
    let name = "my-pet.headless.default.svc.cluster.local.";
    assert_eq!(answers(&tables, name, Rtype::A), Ok(vec![format!("{name} 5 A 10.3.0.100")]));
    assert_eq!(answers(&tables, name, Rtype::AAAA), Ok(vec![format!("{name} 5 AAAA 2001:db8::1")]));
    let name = "10-3-0-1.headless.default.svc.cluster.local.";
    assert_eq!(answers(&tables, name, Rtype::A), Ok(vec![format!("{name} 5 A 10.3.0.1")]));
    assert_eq!(answers(&tables, name, Rtype::AAAA), Ok(Vec::new()), "D11");
    let named = "10-3-0-100.headless.default.svc.cluster.local.";
    assert_eq!(answers(&tables, named, Rtype::A), Err(Rcode::NXDOMAIN), "it has a hostname");
}

#[test]
fn d04_a_headless_service_without_ready_endpoints_does_not_exist() {
    let yaml = SERVICES.to_owned() + &slice("unready", "{addresses: [10.3.0.9], conditions: {ready: false}}");
    let tables = tables(&yaml);
    for qtype in [Rtype::A, Rtype::AAAA, Rtype::SRV, Rtype::TXT] {
        assert_eq!(answers(&tables, "empty.default.svc.cluster.local.", qtype), Err(Rcode::NXDOMAIN));
        assert_eq!(answers(&tables, "unready.default.svc.cluster.local.", qtype), Err(Rcode::NXDOMAIN));
        assert_eq!(answers(&tables, "10-3-0-9.unready.default.svc.cluster.local.", qtype), Err(Rcode::NXDOMAIN));
    }
}

#[test]
fn d04_addresses_that_are_not_ready_are_there_where_the_service_publishes_them() {
    let unready = "{addresses: [10.3.0.9], hostname: pet, conditions: {ready: false}}";
    let tables = tables(&(SERVICES.to_owned() + &slice("published", unready) + &slice("tolerant", unready)));
    for service in ["published", "tolerant"] {
        for name in
            [format!("{service}.default.svc.cluster.local."), format!("pet.{service}.default.svc.cluster.local.")]
        {
            assert_eq!(answers(&tables, &name, Rtype::A), Ok(vec![format!("{name} 5 A 10.3.0.9")]));
        }
        let name = format!("_https._tcp.{service}.default.svc.cluster.local.");
        let wanted = format!("{name} 5 SRV 0 100 443 pet.{service}.default.svc.cluster.local.");
        assert_eq!(answers(&tables, &name, Rtype::SRV), Ok(vec![wanted]));
    }
    let name = "9.0.3.10.in-addr.arpa.";
    let wanted = ["published", "tolerant"].map(|of| format!("{name} 5 PTR pet.{of}.default.svc.cluster.local."));
    assert_eq!(answers(&tables, name, Rtype::PTR), Ok(wanted.to_vec()));
}

#[test]
fn d06_section_2_4_2_every_host_with_every_named_port() {
    let tables = tables(HEADLESS);
    let hosts = ["10-3-0-1", "10-3-0-2", "10-3-0-3", "2001-db8--2", "my-pet"];
    let records = |name: &str, weight: u16, port: u16| {
        hosts.map(|host| format!("{name} 5 SRV 0 {weight} {port} {host}.headless.default.svc.cluster.local."))
    };
    let name = "_https._tcp.headless.default.svc.cluster.local.";
    assert_eq!(answers(&tables, name, Rtype::SRV), Ok(records(name, 20, 443).to_vec()));
    let name = "headless.default.svc.cluster.local.";
    let all = [records(name, 10, 443), records(name, 10, 9090)].concat();
    assert_eq!(answers(&tables, name, Rtype::SRV), Ok(sorted(all)), "5 hosts and 2 named ports");
}

#[test]
fn d03_section_2_4_3_whose_an_endpoints_address_is() {
    let tables = tables(HEADLESS);
    let name = "100.0.3.10.in-addr.arpa.";
    let wanted = format!("{name} 5 PTR my-pet.headless.default.svc.cluster.local.");
    assert_eq!(answers(&tables, name, Rtype::PTR), Ok(vec![wanted]));
    let name = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.";
    let wanted = format!("{name} 5 PTR my-pet.headless.default.svc.cluster.local.");
    assert_eq!(answers(&tables, name, Rtype::PTR), Ok(vec![wanted]));
}

#[test]
fn d07_section_2_5_an_external_name_is_an_alias_whose_target_an_upstream_knows() {
    let tables = tables(SERVICES);
    let mut responder = responder(PodRecords::Disabled);
    let query = query("foo.default.svc.cluster.local.", Rtype::A);
    let mut answer = Vec::new();
    let response = responder.respond(Some(&tables), Transport::Udp, &query, &mut answer);
    assert_eq!(response, Response::Chase(Name::from_str("www.example.com.").expect("a name")));
    let alias = "foo.default.svc.cluster.local. 5 CNAME www.example.com.";
    assert_eq!(read(&answer).answers, [alias]);

    let mut upstream = MessageBuilder::new_vec().question();
    upstream.header_mut().set_qr(true);
    upstream.push((Name::<Vec<u8>>::from_str("www.example.com").expect("a name"), Rtype::A)).expect("room");
    let mut upstream = upstream.answer();
    let owner = Name::<Vec<u8>>::from_str("www.example.com").expect("a name");
    upstream.push((owner, 28715, domain::rdata::A::from_octets(192, 0, 2, 53))).expect("room");
    responder.complete(Transport::Udp, &query, &mut answer, Some(&upstream.finish()));
    let said = read(&answer);
    assert_eq!(
        (said.rcode, said.answers),
        (Rcode::NOERROR, vec![alias.into(), "www.example.com. 28715 A 192.0.2.53".into()])
    );

    responder.respond(Some(&tables), Transport::Udp, &query, &mut answer);
    responder.complete(Transport::Udp, &query, &mut answer, None);
    assert_eq!((read(&answer).rcode, read(&answer).answers.len()), (Rcode::SERVFAIL, 0));
}

#[test]
fn d07_aliases_inside_the_zone_are_followed_and_a_circle_of_them_fails() {
    let alias = |name: &str, target: &str| {
        format!(
            "---\n{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{type: ExternalName, externalName: {target}}}}}\n"
        )
    };
    let zone = "default.svc.cluster.local";
    let yaml = SERVICES.to_owned()
        + &alias("one", &format!("two.{zone}"))
        + &alias("two", &format!("kubernetes.{zone}."))
        + &alias("round", &format!("about.{zone}"))
        + &alias("about", &format!("round.{zone}"))
        + &alias("nowhere", &format!("gone.{zone}"))
        + &alias("address", "192.0.2.1");
    let tables = tables(&yaml);
    let name = format!("one.{zone}.");
    let wanted = [
        format!("{name} 5 CNAME two.{zone}."),
        format!("two.{zone}. 5 CNAME kubernetes.{zone}."),
        format!("kubernetes.{zone}. 5 A 10.3.0.1"),
    ];
    let mut responder = responder(PodRecords::Disabled);
    assert_eq!(ask(&mut responder, &tables, &name, Rtype::A).answers, wanted);
    assert_eq!(ask(&mut responder, &tables, &name, Rtype::CNAME).answers, wanted[..1]);
    let said = ask(&mut responder, &tables, &name, Rtype::TXT);
    assert_eq!((said.rcode, said.answers, said.authorities.len()), (Rcode::NOERROR, wanted[..2].to_vec(), 1));
    assert_eq!(ask(&mut responder, &tables, &format!("round.{zone}."), Rtype::A).rcode, Rcode::SERVFAIL);
    let said = ask(&mut responder, &tables, &format!("nowhere.{zone}."), Rtype::A);
    assert_eq!((said.rcode, said.answers.len(), said.authorities.len()), (Rcode::NXDOMAIN, 1, 1), "RFC 6604");
    let said = ask(&mut responder, &tables, &format!("address.{zone}."), Rtype::A);
    assert_eq!((said.rcode, said.answers.len()), (Rcode::NOERROR, 0), "an alias does not lead to an address");
}

#[test]
fn another_zone_is_as_good() {
    let config = DnsConfig::of_zone("Example.Internal.").expect("a zone");
    let mut responder = Responder::new(config, 0);
    let tables = tables(SERVICES);
    let name = "kubernetes.default.svc.example.internal.";
    assert_eq!(ask(&mut responder, &tables, name, Rtype::A).answers, [format!("{name} 5 A 10.3.0.1")]);
    let mut answer = Vec::new();
    let query = query("kubernetes.default.svc.cluster.local.", Rtype::A);
    assert_eq!(responder.respond(Some(&tables), Transport::Udp, &query, &mut answer), Response::Forward);
    for wrong in ["", ".", "a..b", &"a.".repeat(100)] {
        assert!(DnsConfig::of_zone(wrong).is_err(), "{wrong:?}");
    }
}
