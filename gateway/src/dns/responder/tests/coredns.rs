//! The tables of CoreDNS's kubernetes plugin (handler_test.go, reverse_test.go, handler_pod_*_test.go, handler_case_test.go,
//! kubernetes_apex_test.go) as facts: what is asked, and what is answered.
//!
//! Where podplane differs on purpose: weights of SRV records are shares among the records that are sent (the specification leaves
//! them open), NXDOMAIN and NODATA in the zone's SOA have the tables' number.

use super::*;

const CLUSTER: &str = "
{apiVersion: v1, kind: Namespace, metadata: {name: testns}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: podns}}
---
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system}
spec: {clusterIP: 10.0.0.10, ports: [{name: dns, protocol: UDP, port: 53}]}
---
apiVersion: v1
kind: Service
metadata: {name: svc1, namespace: testns}
spec: {clusterIP: 10.0.0.1, ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: svc1-slice1, namespace: testns, labels: {kubernetes.io/service-name: svc1}}
addressType: IPv4
ports: [{name: http, port: 80}]
endpoints: [{addresses: [172.0.0.1], hostname: ep1a}]
---
apiVersion: v1
kind: Service
metadata: {name: svcempty, namespace: testns}
spec: {clusterIP: 10.0.0.7, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: svc6, namespace: testns}
spec: {clusterIP: '1234:abcd::1', ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: svc-dual-stack, namespace: testns}
spec: {clusterIP: 10.0.0.3, clusterIPs: [10.0.0.3, '10::3'], ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: hdls1, namespace: testns}
spec: {clusterIP: None}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: hdls1-slice1, namespace: testns, labels: {kubernetes.io/service-name: hdls1}}
addressType: IPv4
ports: [{name: http, port: 80}]
endpoints:
- {addresses: [172.0.0.2]}
- {addresses: [172.0.0.3]}
- {addresses: [172.0.0.4], hostname: dup-name}
- {addresses: [172.0.0.5], hostname: dup-name}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: hdls1-slice2, namespace: testns, labels: {kubernetes.io/service-name: hdls1}}
addressType: IPv6
ports: [{name: http, port: 80}]
endpoints: [{addresses: ['5678:abcd::1']}, {addresses: ['5678:abcd::2']}]
---
apiVersion: v1
kind: Service
metadata: {name: hdlsprtls, namespace: testns}
spec: {clusterIP: None}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: hdlsprtls-slice1, namespace: testns, labels: {kubernetes.io/service-name: hdlsprtls}}
addressType: IPv4
endpoints: [{addresses: [172.0.0.20]}]
---
apiVersion: v1
kind: Service
metadata: {name: external, namespace: testns}
spec: {type: ExternalName, externalName: ext.interwebs.test, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: external-to-service, namespace: testns}
spec: {type: ExternalName, externalName: svc1.testns.svc.cluster.local.}
---
apiVersion: v1
kind: Pod
metadata: {name: foo, namespace: podns}
spec: {containers: []}
status: {podIP: 10.240.0.1}
";

const SOA: &str = "cluster.local. 5 SOA ns.dns.cluster.local. hostmaster.cluster.local. 7 7200 1800 86400 5";

fn said(rcode: Rcode, answers: &[&str], authorities: &[&str], additional: &[&str]) -> Said {
    let owned = |texts: &[&str]| sorted(texts.iter().map(|text| (*text).to_owned()).collect());
    Said { rcode, answers: owned(answers), authorities: owned(authorities), additional: owned(additional) }
}

fn check(responder: &mut Responder, name: &str, qtype: Rtype, wanted: Said) {
    let tables = tables(CLUSTER);
    let Said { rcode, answers, authorities, additional } = ask(responder, &tables, name, qtype);
    let found = Said { rcode, answers: sorted(answers), authorities, additional: sorted(additional) };
    assert_eq!(found, wanted, "{name} {qtype}");
}

/// Names that answer.
#[test]
fn d01_d02_d06_d07_services_and_their_endpoints_have_the_records_that_coredns_gives_them() {
    let cases: &[(&str, Rtype, &[&str], &[&str])] = &[
        ("svc1.testns.svc.cluster.local.", Rtype::A, &["svc1.testns.svc.cluster.local. 5 A 10.0.0.1"], &[]),
        ("svcempty.testns.svc.cluster.local.", Rtype::A, &["svcempty.testns.svc.cluster.local. 5 A 10.0.0.7"], &[]),
        (
            "svc1.testns.svc.cluster.local.",
            Rtype::SRV,
            &["svc1.testns.svc.cluster.local. 5 SRV 0 100 80 svc1.testns.svc.cluster.local."],
            &["svc1.testns.svc.cluster.local. 5 A 10.0.0.1"],
        ),
        (
            "svc6.testns.svc.cluster.local.",
            Rtype::SRV,
            &["svc6.testns.svc.cluster.local. 5 SRV 0 100 80 svc6.testns.svc.cluster.local."],
            &["svc6.testns.svc.cluster.local. 5 AAAA 1234:abcd::1"],
        ),
        (
            "_http._tcp.svc1.testns.svc.cluster.local.",
            Rtype::SRV,
            &["_http._tcp.svc1.testns.svc.cluster.local. 5 SRV 0 100 80 svc1.testns.svc.cluster.local."],
            &["svc1.testns.svc.cluster.local. 5 A 10.0.0.1"],
        ),
        (
            "_http._tcp.svcempty.testns.svc.cluster.local.",
            Rtype::SRV,
            &["_http._tcp.svcempty.testns.svc.cluster.local. 5 SRV 0 100 80 svcempty.testns.svc.cluster.local."],
            &["svcempty.testns.svc.cluster.local. 5 A 10.0.0.7"],
        ),
        (
            "hdls1.testns.svc.cluster.local.",
            Rtype::A,
            &[
                "hdls1.testns.svc.cluster.local. 5 A 172.0.0.2",
                "hdls1.testns.svc.cluster.local. 5 A 172.0.0.3",
                "hdls1.testns.svc.cluster.local. 5 A 172.0.0.4",
                "hdls1.testns.svc.cluster.local. 5 A 172.0.0.5",
            ],
            &[],
        ),
        ("hdlsprtls.testns.svc.cluster.local.", Rtype::A, &["hdlsprtls.testns.svc.cluster.local. 5 A 172.0.0.20"], &[]),
        ("svc6.testns.svc.cluster.local.", Rtype::AAAA, &["svc6.testns.svc.cluster.local. 5 AAAA 1234:abcd::1"], &[]),
        (
            "_http._tcp.svc6.testns.svc.cluster.local.",
            Rtype::SRV,
            &["_http._tcp.svc6.testns.svc.cluster.local. 5 SRV 0 100 80 svc6.testns.svc.cluster.local."],
            &["svc6.testns.svc.cluster.local. 5 AAAA 1234:abcd::1"],
        ),
        (
            "hdls1.testns.svc.cluster.local.",
            Rtype::AAAA,
            &[
                "hdls1.testns.svc.cluster.local. 5 AAAA 5678:abcd::1",
                "hdls1.testns.svc.cluster.local. 5 AAAA 5678:abcd::2",
            ],
            &[],
        ),
        (
            "svc-dual-stack.testns.svc.cluster.local.",
            Rtype::A,
            &["svc-dual-stack.testns.svc.cluster.local. 5 A 10.0.0.3"],
            &[],
        ),
        (
            "svc-dual-stack.testns.svc.cluster.local.",
            Rtype::AAAA,
            &["svc-dual-stack.testns.svc.cluster.local. 5 AAAA 10::3"],
            &[],
        ),
        (
            "svc-dual-stack.testns.svc.cluster.local.",
            Rtype::SRV,
            &["svc-dual-stack.testns.svc.cluster.local. 5 SRV 0 100 80 svc-dual-stack.testns.svc.cluster.local."],
            &[
                "svc-dual-stack.testns.svc.cluster.local. 5 A 10.0.0.3",
                "svc-dual-stack.testns.svc.cluster.local. 5 AAAA 10::3",
            ],
        ),
        (
            "_http._tcp.hdls1.testns.svc.cluster.local.",
            Rtype::SRV,
            &[
                "_http._tcp.hdls1.testns.svc.cluster.local. 5 SRV 0 20 80 172-0-0-2.hdls1.testns.svc.cluster.local.",
                "_http._tcp.hdls1.testns.svc.cluster.local. 5 SRV 0 20 80 172-0-0-3.hdls1.testns.svc.cluster.local.",
                "_http._tcp.hdls1.testns.svc.cluster.local. 5 SRV 0 20 80 5678-abcd--1.hdls1.testns.svc.cluster.local.",
                "_http._tcp.hdls1.testns.svc.cluster.local. 5 SRV 0 20 80 5678-abcd--2.hdls1.testns.svc.cluster.local.",
                "_http._tcp.hdls1.testns.svc.cluster.local. 5 SRV 0 20 80 dup-name.hdls1.testns.svc.cluster.local.",
            ],
            &[
                "172-0-0-2.hdls1.testns.svc.cluster.local. 5 A 172.0.0.2",
                "172-0-0-3.hdls1.testns.svc.cluster.local. 5 A 172.0.0.3",
                "5678-abcd--1.hdls1.testns.svc.cluster.local. 5 AAAA 5678:abcd::1",
                "5678-abcd--2.hdls1.testns.svc.cluster.local. 5 AAAA 5678:abcd::2",
                "dup-name.hdls1.testns.svc.cluster.local. 5 A 172.0.0.4",
                "dup-name.hdls1.testns.svc.cluster.local. 5 A 172.0.0.5",
            ],
        ),
        (
            "5678-abcd--2.hdls1.testns.svc.cluster.local.",
            Rtype::AAAA,
            &["5678-abcd--2.hdls1.testns.svc.cluster.local. 5 AAAA 5678:abcd::2"],
            &[],
        ),
        (
            "172-0-0-20.hdlsprtls.testns.svc.cluster.local.",
            Rtype::A,
            &["172-0-0-20.hdlsprtls.testns.svc.cluster.local. 5 A 172.0.0.20"],
            &[],
        ),
        (
            "172-0-0-2.hdls1.testns.svc.cluster.local.",
            Rtype::A,
            &["172-0-0-2.hdls1.testns.svc.cluster.local. 5 A 172.0.0.2"],
            &[],
        ),
        (
            "dup-name.hdls1.testns.svc.cluster.local.",
            Rtype::A,
            &[
                "dup-name.hdls1.testns.svc.cluster.local. 5 A 172.0.0.4",
                "dup-name.hdls1.testns.svc.cluster.local. 5 A 172.0.0.5",
            ],
            &[],
        ),
        (
            "external.testns.svc.cluster.local.",
            Rtype::CNAME,
            &["external.testns.svc.cluster.local. 5 CNAME ext.interwebs.test."],
            &[],
        ),
        (
            "external-to-service.testns.svc.cluster.local.",
            Rtype::A,
            &[
                "external-to-service.testns.svc.cluster.local. 5 CNAME svc1.testns.svc.cluster.local.",
                "svc1.testns.svc.cluster.local. 5 A 10.0.0.1",
            ],
            &[],
        ),
        ("dns-version.cluster.local.", Rtype::TXT, &["dns-version.cluster.local. 28800 TXT \"1.1.0\""], &[]),
        ("cluster.local.", Rtype::SOA, &[SOA], &[]),
        (
            "cluster.local.",
            Rtype::NS,
            &["cluster.local. 5 NS ns.dns.cluster.local."],
            &["ns.dns.cluster.local. 5 A 10.0.0.10"],
        ),
        ("ns.dns.cluster.local.", Rtype::A, &["ns.dns.cluster.local. 5 A 10.0.0.10"], &[]),
    ];
    let mut responder = responder(PodRecords::Disabled);
    for (name, qtype, answers, additional) in cases {
        check(&mut responder, name, *qtype, said(Rcode::NOERROR, answers, &[], additional));
    }
}

#[test]
fn d11_a_name_that_exists_has_no_data_of_other_types_and_one_that_does_not_is_denied() {
    let mut responder = responder(PodRecords::Disabled);
    for (name, qtype) in [
        ("svc1.testns.svc.cluster.local.", Rtype::AAAA),
        ("svc1.testns.svc.cluster.local.", Rtype::TXT),
        ("svc1.testns.svc.cluster.local.", Rtype::SOA),
        ("svc1.testns.svc.cluster.local.", Rtype::PTR),
        ("svc.cluster.local.", Rtype::A),
        ("pod.cluster.local.", Rtype::A),
        ("testns.svc.cluster.local.", Rtype::A),
        ("svc.cluster.local.", Rtype::NS),
        ("testns.svc.cluster.local.", Rtype::NS),
        ("cluster.local.", Rtype::HINFO),
        ("cluster.local.", Rtype::A),
        ("cluster.local.", Rtype::AAAA),
        ("cluster.local.", Rtype::SRV),
        ("_tcp.svc1.testns.svc.cluster.local.", Rtype::SRV),
        ("_http._tcp.svc1.testns.svc.cluster.local.", Rtype::A),
        ("dns-version.cluster.local.", Rtype::A),
        ("dns.cluster.local.", Rtype::A),
    ] {
        check(&mut responder, name, qtype, said(Rcode::NOERROR, &[], &[SOA], &[]));
    }
    for (name, qtype) in [
        ("svc0.testns.svc.cluster.local.", Rtype::AAAA),
        ("svc0.testns.svc.cluster.local.", Rtype::A),
        ("svc0.svc-nons.svc.cluster.local.", Rtype::A),
        ("svc0.svc-nons.svc.cluster.local.", Rtype::TXT),
        ("bogusendpoint.hdls1.testns.svc.cluster.local.", Rtype::A),
        ("bogusendpoint.svc0.testns.svc.cluster.local.", Rtype::A),
        ("foo.cluster.local.", Rtype::NS),
        ("foo.svc.cluster.local.", Rtype::NS),
        ("endpoint.external.testns.svc.cluster.local.", Rtype::CNAME),
        ("subdomain.subdomain.external.testns.svc.cluster.local.", Rtype::CNAME),
        ("example.org.cluster.local.", Rtype::PTR),
        ("100.0.0.10.cluster.local.", Rtype::PTR),
        ("_udp.svc1.testns.svc.cluster.local.", Rtype::SRV),
        ("_http._udp.svc1.testns.svc.cluster.local.", Rtype::SRV),
        ("http.tcp.svc1.testns.svc.cluster.local.", Rtype::SRV),
        ("*.testns.svc.cluster.local.", Rtype::A),
    ] {
        check(&mut responder, name, qtype, said(Rcode::NXDOMAIN, &[], &[SOA], &[]));
    }
}

#[test]
fn d10_pods_have_names_as_the_mode_says() {
    let one = ["10-240-0-1.podns.pod.cluster.local. 5 A 10.240.0.1"];
    let any = ["172-0-0-2.podns.pod.cluster.local. 5 A 172.0.0.2"];
    let denied = || said(Rcode::NXDOMAIN, &[], &[SOA], &[]);
    let no_data = || said(Rcode::NOERROR, &[], &[SOA], &[]);
    let found = |answers: &[&str]| said(Rcode::NOERROR, answers, &[], &[]);
    let mut disabled = responder(PodRecords::Disabled);
    check(&mut disabled, "10-240-0-1.podns.pod.cluster.local.", Rtype::A, denied());
    check(&mut disabled, "172-0-0-2.podns.pod.cluster.local.", Rtype::A, denied());
    let mut insecure = responder(PodRecords::Insecure);
    check(&mut insecure, "10-240-0-1.podns.pod.cluster.local.", Rtype::A, found(&one));
    check(&mut insecure, "10-240-0-1.podns.pod.cluster.local.", Rtype::AAAA, no_data());
    check(&mut insecure, "172-0-0-2.podns.pod.cluster.local.", Rtype::A, found(&any));
    for qtype in [Rtype::A, Rtype::AAAA, Rtype::HINFO] {
        check(&mut insecure, "blah.podns.pod.cluster.local.", qtype, denied());
    }
    check(&mut insecure, "blah.pod-nons.pod.cluster.local.", Rtype::A, denied());
    check(&mut insecure, "podns.pod.cluster.local.", Rtype::A, no_data());
    let mut verified = responder(PodRecords::Verified);
    check(&mut verified, "10-240-0-1.podns.pod.cluster.local.", Rtype::A, found(&one));
    check(&mut verified, "10-240-0-1.testns.pod.cluster.local.", Rtype::A, denied());
    check(&mut verified, "podns.pod.cluster.local.", Rtype::A, no_data());
    check(&mut verified, "pod-nons.pod.cluster.local.", Rtype::A, denied());
    check(&mut verified, "172-0-0-2.podns.pod.cluster.local.", Rtype::A, denied());
}

#[test]
fn d09_names_come_back_in_the_case_in_which_they_were_asked_for() {
    let mut responder = responder(PodRecords::Disabled);
    let soa = "ClUsTeR.lOcAl. 5 SOA ns.dns.ClUsTeR.lOcAl. hostmaster.ClUsTeR.lOcAl. 7 7200 1800 86400 5";
    let denied = said(Rcode::NXDOMAIN, &[], &[soa], &[]);
    check(&mut responder, "not-a-service.testns.svc.ClUsTeR.lOcAl.", Rtype::A, denied);
    let found = said(Rcode::NOERROR, &["SvC1.TeStNs.SvC.cLuStEr.LoCaL. 5 A 10.0.0.1"], &[], &[]);
    check(&mut responder, "SvC1.TeStNs.SvC.cLuStEr.LoCaL.", Rtype::A, found);
    let tables = tables(CLUSTER);
    let Said { answers, additional, .. } =
        ask(&mut responder, &tables, "_HtTp._TcP.sVc1.TeStNs.SvC.cLuStEr.LoCaL.", Rtype::SRV);
    // The target is compressed against nothing; its zone still is the client's.
    assert_eq!(answers, ["_HtTp._TcP.sVc1.TeStNs.SvC.cLuStEr.LoCaL. 5 SRV 0 100 80 svc1.testns.svc.cLuStEr.LoCaL."]);
    // What stands in the question already is pointed to, in the case that it has there.
    assert_eq!(additional, ["sVc1.TeStNs.SvC.cLuStEr.LoCaL. 5 A 10.0.0.1"]);
    let soa = "Cluster.local. 5 SOA ns.dns.Cluster.local. hostmaster.Cluster.local. 7 7200 1800 86400 5";
    check(&mut responder, "Cluster.local.", Rtype::SOA, said(Rcode::NOERROR, &[soa], &[], &[]));
}

const REVERSE: &str = "
apiVersion: v1
kind: Service
metadata: {name: svc1, namespace: testns}
spec: {clusterIP: 192.168.1.100, ports: [{name: http, port: 80}]}
---
{apiVersion: v1, kind: Service, metadata: {name: svc2, namespace: testns}, spec: {clusterIP: None}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: svc1-slice1, namespace: testns, labels: {kubernetes.io/service-name: svc1}}
addressType: IPv4
ports: [{name: http, port: 80}]
endpoints: [{addresses: [10.0.0.100], hostname: ep1a}, {addresses: [10.0.0.99], hostname: double-ep}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: svc1-slice2, namespace: testns, labels: {kubernetes.io/service-name: svc1}}
addressType: IPv6
ports: [{name: http, port: 80}]
endpoints:
- {addresses: ['1234:abcd::1'], hostname: ep1b}
- {addresses: ['fd00:77:30::a'], hostname: ip6svc1ex}
- {addresses: ['fd00:77:30::2:9ba6'], hostname: ip6svc1in}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: svc1-ccccc, namespace: testns, labels: {kubernetes.io/service-name: svc1}}
addressType: IPv4
ports: [{name: http, port: 80}]
endpoints: [{addresses: [10.0.0.100], hostname: ep1a}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: svc2-slice1, namespace: testns, labels: {kubernetes.io/service-name: svc2}}
addressType: IPv4
ports: [{name: http, port: 80}]
endpoints: [{addresses: [10.0.0.99], hostname: double-ep}, {addresses: [10.0.0.98]}]
";

#[test]
fn d03_an_address_leads_back_to_its_service_or_to_each_endpoint_that_has_it() {
    let tables = tables(REVERSE);
    let mut responder = responder(PodRecords::Disabled);
    for (name, targets) in [
        ("100.0.0.10.in-addr.arpa.", &["ep1a.svc1.testns.svc.cluster.local."][..]),
        ("100.1.168.192.in-addr.arpa.", &["svc1.testns.svc.cluster.local."]),
        (
            "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.c.b.a.4.3.2.1.ip6.arpa.",
            &["ep1b.svc1.testns.svc.cluster.local."],
        ),
        (
            "A.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.3.0.0.7.7.0.0.0.0.D.f.ip6.ARPA.",
            &["ip6svc1ex.svc1.testns.svc.cluster.local."],
        ),
        (
            "6.a.b.9.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.3.0.0.7.7.0.0.0.0.d.f.ip6.arpa.",
            &["ip6svc1in.svc1.testns.svc.cluster.local."],
        ),
        (
            "99.0.0.10.in-addr.arpa.",
            &["double-ep.svc1.testns.svc.cluster.local.", "double-ep.svc2.testns.svc.cluster.local."],
        ),
        ("98.0.0.10.in-addr.arpa.", &["10-0-0-98.svc2.testns.svc.cluster.local."]),
    ] {
        let answers: Vec<String> = targets.iter().map(|target| format!("{name} 5 PTR {target}")).collect();
        assert_eq!(ask(&mut responder, &tables, name, Rtype::PTR).answers, answers);
    }
    let no_data = ask(&mut responder, &tables, "100.0.0.10.in-addr.arpa.", Rtype::A);
    let soa = "in-addr.arpa. 5 SOA ns.dns.in-addr.arpa. hostmaster.in-addr.arpa. 7 7200 1800 86400 5";
    assert_eq!(no_data, said(Rcode::NOERROR, &[], &[soa], &[]));
}

#[test]
fn reverse_names_of_nobody_here_are_asked_elsewhere() {
    let tables = tables(REVERSE);
    let mut responder = responder(PodRecords::Disabled);
    for name in [
        "101.0.0.10.in-addr.arpa.",
        "0.10.in-addr.arpa.",
        "in-addr.arpa.",
        "svc1.testns.svc.0.10.in-addr.arpa.",
        "0100.0.0.10.in-addr.arpa.",
        "1.100.0.0.10.in-addr.arpa.",
        "0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.c.b.a.4.3.2.1.ip6.arpa.",
        "x.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.c.b.a.4.3.2.1.ip6.arpa.",
        "example.com.",
        "notcluster.local.",
        "local.",
        ".",
    ] {
        let mut answer = vec![1, 2, 3];
        let response = responder.respond(Some(&tables), Transport::Udp, &query(name, Rtype::PTR), &mut answer);
        assert_eq!((response, answer.len()), (Response::Forward, 0), "{name}");
    }
}

#[test]
fn d15_before_the_first_sync_nothing_is_said_of_the_clusters_names() {
    let mut responder = responder(PodRecords::Disabled);
    for name in ["svc0.testns.svc.cluster.local.", "cluster.local.", "100.0.0.10.in-addr.arpa."] {
        let mut answer = Vec::new();
        assert_eq!(responder.respond(None, Transport::Udp, &query(name, Rtype::A), &mut answer), Response::Answer);
        assert_eq!(read(&answer), said(Rcode::SERVFAIL, &[], &[], &[]), "{name}");
    }
    let mut answer = Vec::new();
    let response = responder.respond(None, Transport::Udp, &query("example.com.", Rtype::A), &mut answer);
    assert_eq!(response, Response::Forward);
}
