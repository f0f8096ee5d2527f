use super::outside::compiled;
use crate::compile::CompileOptions;
use crate::objects::parse;
use wire::Protocol;

fn service(name: &str, spec: &str) -> String {
    format!("{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{{spec}}}}}\n---\n")
}

/// What reading a Service with `spec` says about it, without the file's and the object's name.
fn refusals(spec: &str) -> Vec<String> {
    let parsed = parse("test.yaml", &service("web", spec));
    assert!(parsed.objects.is_empty());
    let texts = parsed.problems.iter().map(|problem| format!("{}: {}", problem.field, problem.message));
    texts.collect()
}

#[test]
fn a_service_that_the_api_server_would_refuse_is_refused_by_field() {
    let cases = [
        ("ports: [{name: a, port: 80}, {name: a, port: 81}]", "spec.ports[1].name: duplicate \"a\""),
        ("ports: [{port: 80}, {name: a, port: 81}]", "spec.ports[0].name: required with several ports"),
        ("ports: [{name: a, port: 80}, {name: b, port: 80}]", "spec.ports[1]: duplicate TCP port 80"),
        (
            "ports: [{port: 80, protocol: ICMP}]",
            "spec.ports[0].protocol: \"ICMP\" is not supported, use TCP, UDP or SCTP",
        ),
        ("ports: [{port: 80, nodePort: 30080}]", "spec.ports[0].nodePort: only for types NodePort and LoadBalancer"),
        (
            "type: NodePort, ports: [{name: a, port: 80, nodePort: 30080}, {name: b, port: 81, nodePort: 30080}]",
            "spec.ports[1].nodePort: duplicate TCP nodePort 30080",
        ),
        (
            "type: NodePort, ports: [{port: 80, nodePort: 70000}]",
            "spec.ports[0].nodePort: 70000 is not between 1 and 65535",
        ),
        (
            "type: NodePort, clusterIP: None, ports: [{port: 80}]",
            "spec.clusterIP: \"None\" is not allowed for types NodePort and LoadBalancer",
        ),
        ("ports: [{port: 80}], externalIPs: [10.0.0.1, here]", "spec.externalIPs[1]: \"here\" is not an IP address"),
        ("ports: [{port: 80}], externalIPs: [127.0.0.1]", "spec.externalIPs[0]: 127.0.0.1 is a loopback address"),
        (
            "ports: [{port: 80}], externalTrafficPolicy: Node",
            "spec.externalTrafficPolicy: \"Node\" is not supported, use Cluster, Local",
        ),
        (
            "ports: [{port: 80}], sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 86401}}",
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds: 86401 is not between 1 and 86400",
        ),
        (
            "ports: [{port: 80}], loadBalancerSourceRanges: [10.0.0.0/8]",
            "spec.loadBalancerSourceRanges: only for type LoadBalancer",
        ),
        (
            "type: LoadBalancer, ports: [{port: 80}], loadBalancerSourceRanges: [10.0.0.0/8, 10.0.0.0/33]",
            "spec.loadBalancerSourceRanges[1]: \"10.0.0.0/33\" is not a CIDR such as 10.0.0.0/8",
        ),
        (
            "type: LoadBalancer, ports: [{port: 80}], healthCheckNodePort: 32000",
            "spec.healthCheckNodePort: only for type LoadBalancer with externalTrafficPolicy Local",
        ),
        (
            "ports: [{port: 80}], trafficDistribution: Nearby",
            "spec.trafficDistribution: \"Nearby\" is not supported, use PreferClose, PreferSameZone, PreferSameNode",
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(refusals(spec), [expected], "{spec}");
    }
}

#[test]
fn a_node_port_that_two_services_claim_stays_with_the_first_and_the_rest_of_the_second_works() {
    let yaml = service("a", "type: NodePort, clusterIP: 10.96.0.5, ports: [{port: 80, nodePort: 30080}]")
        + &service(
            "b",
            "type: NodePort, clusterIP: 10.96.0.6, ports: [{name: p, port: 80, nodePort: 30080}, {name: q, port: 81, nodePort: \
             30081}, {name: r, port: 80, protocol: UDP, nodePort: 30080}]",
        );
    let (tables, problems) = compiled(&yaml, &CompileOptions::default());
    assert_eq!(
        problems,
        [
            "test.yaml: Service default/b: spec.ports[0].nodePort: TCP 30080 is already the nodePort of Service default/a: choose \
             another, or leave it out to have one assigned"
        ]
    );
    let node = "172.30.0.11".parse().unwrap();
    let name = |protocol, port| {
        let frontend = tables.find_service(node, protocol, port)?;
        Some(tables.service_entry(frontend.service).name.to_string())
    };
    assert_eq!(name(Protocol::TCP, 30080).as_deref(), Some("a"));
    assert_eq!(name(Protocol::TCP, 30081).as_deref(), Some("b"));
    assert_eq!(name(Protocol::UDP, 30080).as_deref(), Some("b"));
    assert!(tables.find_service("10.96.0.6".parse().unwrap(), Protocol::TCP, 80).is_some());
}

#[test]
fn the_older_service_keeps_a_node_port_whatever_its_name() {
    let spec = |ip| format!("type: NodePort, clusterIP: {ip}, ports: [{{port: 80, nodePort: 30080}}]");
    let young =
        service("a", &spec("10.96.0.5")).replace("{name: a}", "{name: a, creationTimestamp: '2026-11-02T00:00:00Z'}");
    let old =
        service("b", &spec("10.96.0.6")).replace("{name: b}", "{name: b, creationTimestamp: '2026-11-01T00:00:00Z'}");
    let (_, problems) = compiled(&(young + &old + &service("aa", &spec("10.96.0.7"))), &CompileOptions::default());
    let refused: Vec<bool> = ["default/aa", "default/a", "default/b"]
        .map(|name| problems.iter().any(|problem| problem.contains(&format!("Service {name}: spec"))))
        .to_vec();
    assert_eq!(refused, [true, true, false], "{problems:?}");
}

#[test]
fn an_address_that_two_services_claim_goes_by_kind_first_and_port_by_port() {
    let balancer = "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {type: LoadBalancer, clusterIP: 10.96.0.5, ports: \
                    [{name: p, port: 80}, {name: q, port: 81}]}, status: {loadBalancer: {ingress: [{ip: 10.96.0.6}, {ip: 203.0.113.1}]}}}
---
";
    let yaml = balancer.to_owned()
        + &service("b", "clusterIP: 10.96.0.6, ports: [{port: 80}]")
        + &service(
            "c",
            "clusterIP: 10.96.0.7, externalIPs: [203.0.113.1], ports: [{name: p, port: 81}, {name: q, port: 82}]",
        );
    let options = CompileOptions { external_ips: vec!["203.0.113.0/24".parse().unwrap()], ..Default::default() };
    let (tables, problems) = compiled(&yaml, &options);
    assert_eq!(
        problems,
        [
            "test.yaml: Service default/a: status.loadBalancer.ingress: TCP port 80 of 10.96.0.6 is not served: it is the ClusterIP of \
             Service default/b",
            "test.yaml: Service default/c: spec.externalIPs: TCP port 81 of 203.0.113.1 is not served: it is the LoadBalancer of \
             Service default/a"
        ]
    );
    let name = |addr: &str, port| {
        let frontend = tables.find_service(addr.parse().unwrap(), Protocol::TCP, port)?;
        Some(format!("{} {}", tables.service_entry(frontend.service).name, frontend.kind))
    };
    assert_eq!(name("10.96.0.6", 80).as_deref(), Some("b ClusterIP"));
    assert_eq!(name("203.0.113.1", 80).as_deref(), Some("a LoadBalancer"));
    assert_eq!(name("203.0.113.1", 82).as_deref(), Some("c ExternalIP"));
}

#[test]
fn nobody_takes_over_a_pods_address_or_hides_a_node_port_unseen() {
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {nodeName: node1, containers: []}, status: {podIPs: [{ip: \
               10.244.1.2}]}}\n---\n";
    let yaml = pod.to_owned()
        + &service("a", "type: NodePort, clusterIP: 10.96.0.5, ports: [{port: 80, nodePort: 30080}]")
        + &service("b", "clusterIP: 10.96.0.6, externalIPs: [10.244.1.2, 172.30.0.11], ports: [{port: 30080}]");
    let everything = CompileOptions { external_ips: vec!["0.0.0.0/0".parse().unwrap()], ..Default::default() };
    let (tables, problems) = compiled(&yaml, &everything);
    assert_eq!(
        problems,
        [
            "test.yaml: Service default/b: spec.externalIPs: 10.244.1.2 is already the address of Pod default/p",
            "test.yaml: Service default/a: spec.ports[0].nodePort: TCP 30080 of 172.30.0.11 is not served: it is the ExternalIP of \
             Service default/b"
        ]
    );
    assert!(!tables.is_virtual("10.244.1.2".parse().unwrap()));
    assert_eq!(tables.find_service("10.244.1.2".parse().unwrap(), Protocol::TCP, 30080), None);
}

#[test]
fn a_health_check_port_that_is_taken_is_named() {
    let spec = |ip: &str, node_port| {
        format!(
            "type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 32000, clusterIP: {ip}, ports: [{{port: 80, \
             nodePort: {node_port}}}]"
        )
    };
    let (_, problems) = compiled(
        &(service("a", &spec("10.96.0.5", 30001)) + &service("b", &spec("10.96.0.6", 30002))),
        &CompileOptions::default(),
    );
    assert_eq!(problems.len(), 1);
    assert!(problems[0].contains(
        "Service default/b: spec.healthCheckNodePort: 32000 is already the healthCheckNodePort of Service default/a"
    ));
    let (_, problems) = compiled(&service("a", &spec("10.96.0.5", 32000)), &CompileOptions::default());
    assert!(problems[0].contains("32000 is already the nodePort of Service default/a"), "{problems:?}");
}

#[test]
fn s29_a_retry_that_cannot_be_read_is_named_and_left_out() {
    let annotated = |text: &str| {
        let yaml = service("web", "clusterIP: 10.96.0.5, ports: [{port: 80}]");
        let name = format!("{{name: web, annotations: {{podplane.io/connect-retry-ms: '{text}'}}}}");
        let (tables, problems) = compiled(&yaml.replace("{name: web}", &name), &CompileOptions::default());
        (tables.services[0].entry.connect_retry.map(|wait| wait.as_millis()), problems)
    };
    assert_eq!(annotated("250"), (Some(250), vec![]));
    let (retry, problems) = annotated("soon");
    assert_eq!(retry, None);
    assert_eq!(
        problems,
        [
            "test.yaml: Service default/web: metadata.annotations[podplane.io/connect-retry-ms]: \"soon\" is not between 1 and 1000 \
             milliseconds: connects are not retried"
        ]
    );
}

#[test]
fn a_bad_port_that_came_without_validation_takes_down_no_other_port() {
    let mut parsed =
        parse("test.yaml", &service("web", "clusterIP: 10.96.0.5, ports: [{name: a, port: 80}, {name: b, port: 81}]"));
    let crate::objects::Object::Service(service) = &mut parsed.objects[0].object else { panic!("a Service") };
    let service = std::sync::Arc::make_mut(service);
    service.spec.as_mut().unwrap().ports.as_mut().unwrap()[0].port = 80_000;
    let (cluster, _) = crate::cluster::Cluster::from_objects(parsed.objects);
    let (tables, problems) = crate::compile::compile(&cluster, 1);
    assert_eq!(problems[0].field, "spec.ports[0].port");
    assert!(tables.find_service("10.96.0.5".parse().unwrap(), Protocol::TCP, 81).is_some());
}
