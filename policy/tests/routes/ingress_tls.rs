//! Certificates of Ingresses, redirects to HTTPS, and requests on connections that were opened for other hosts.

use crate::harness::{certificate, certificate_of, check_compiled, cluster, compiled, services, told};
use policy::routes::{self, RouteOptions};

fn ingress(name: &str, metadata: &str, hosts: &[&str], tls: &str) -> String {
    let backend = "{service: {name: web, port: {number: 8080}}}";
    let rules = hosts.iter().map(|host| {
        let host = if host.is_empty() { String::new() } else { format!("host: '{host}', ") };
        format!("{{{host}http: {{paths: [{{path: /, pathType: Prefix, backend: {backend}}}]}}}}")
    });
    let rules = rules.collect::<Vec<_>>().join(", ");
    format!(
        "---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {name}, namespace: default{metadata}}}
spec: {{rules: [{rules}], tls: [{tls}]}}
"
    )
}

#[test]
fn certificates_are_found_by_name_then_by_a_wildcard_of_one_label() {
    let tls = "{hosts: [a.example.com], secretName: own}, {hosts: ['*.example.com'], secretName: wild}";
    let yaml = ingress("web", "", &["a.example.com", "*.example.com"], tls);
    let secrets = certificate("default", "own") + &certificate("default", "wild");
    let compiled = compiled(&(yaml + &secrets + &services(&["web"])));
    let found = |sni: &str| certificate_of(&compiled.routes, Some(sni));
    assert_eq!(found("a.example.com").as_deref(), Some("own"));
    assert_eq!(found("b.example.com").as_deref(), Some("wild"));
    assert_eq!(found("b.a.example.com"), None);
    assert_eq!(found("example.com"), None);
    assert_eq!(certificate_of(&compiled.routes, None), None);
    assert_eq!(told(&compiled), Vec::<String>::new());
}

#[test]
fn tls_without_hosts_is_for_the_hosts_of_the_rules_and_for_all_if_those_have_none() {
    let secrets = certificate("default", "s1") + &services(&["web"]);
    let named = compiled(&(ingress("web", "", &["a.com", "b.com"], "{secretName: s1}") + &secrets));
    assert_eq!(certificate_of(&named.routes, Some("b.com")).as_deref(), Some("s1"));
    assert_eq!(certificate_of(&named.routes, Some("c.com")), None);
    let unnamed = compiled(&(ingress("web", "", &[""], "{secretName: s1}") + &secrets));
    assert_eq!(certificate_of(&unnamed.routes, Some("c.com")).as_deref(), Some("s1"));
    assert_eq!(certificate_of(&unnamed.routes, None).as_deref(), Some("s1"));
}

#[test]
fn the_default_certificate_is_for_hosts_that_have_none() {
    let yaml = ingress("web", "", &["a.com", "b.com"], "{hosts: [a.com], secretName: s1}, {hosts: [b.com]}")
        + &ingress("every", "", &[""], "{secretName: s1}")
        + &certificate("default", "s1")
        + &certificate("infra", "default")
        + &services(&["web"]);
    let options =
        RouteOptions { default_certificate: Some(("infra".into(), "default".into())), ..RouteOptions::default() };
    let with = routes::compile(&cluster(&yaml), &options);
    let found = |sni: Option<&str>| certificate_of(&with.routes, sni);
    assert_eq!(found(Some("a.com")).as_deref(), Some("s1"));
    assert_eq!(found(Some("b.com")).as_deref(), Some("default"));
    assert_eq!(found(Some("c.com")).as_deref(), Some("default"));
    assert_eq!(found(None).as_deref(), Some("default"));
    assert_eq!(
        told(&with),
        [
            "Ingress default/every: spec.tls[0].secretName: hosts that are not named have the proxy's default certificate, not this one"
        ]
    );
    let without = routes::compile(&cluster(&yaml), &RouteOptions::default());
    assert_eq!(
        told(&without),
        ["Ingress default/web: spec.tls[1]: no secretName, and the proxy has no default certificate"]
    );
    let absent = RouteOptions { default_certificate: Some(("infra".into(), "absent".into())), ..options };
    let absent = routes::compile(&cluster(&yaml), &absent);
    assert_eq!(
        absent.problems[0].to_string(),
        "command line: the default certificate is not used: Secret infra/absent does not exist"
    );
}

#[test]
fn a_secret_that_is_no_certificate_is_told_by_field_and_its_hosts_have_none() {
    let secret = |fields: &str| {
        format!("---\napiVersion: v1\nkind: Secret\nmetadata: {{name: s1, namespace: default}}\n{fields}\n")
    };
    let (chain, key) = ("tls.crt: '-----BEGIN CERTIFICATE-----'", "tls.key: '-----BEGIN EC PRIVATE KEY-----'");
    let cases = [
        (String::new(), "Secret default/s1 does not exist"),
        (
            secret(&format!("type: Opaque\nstringData: {{{chain}, {key}}}")),
            "Secret default/s1 is of type Opaque, not kubernetes.io/tls",
        ),
        (secret(&format!("stringData: {{{chain}}}")), "Secret default/s1 has no tls.key"),
        (
            secret(&format!("type: kubernetes.io/tls\nstringData: {{{chain}, tls.key: x}}")),
            "Secret default/s1: tls.key has no PEM private key",
        ),
        (
            secret(&format!("type: kubernetes.io/tls\nstringData: {{tls.crt: x, {key}}}")),
            "Secret default/s1: tls.crt has no PEM certificate",
        ),
    ];
    for (secret, expected) in cases {
        let yaml = ingress("web", "", &["a.com", "b.com"], "{hosts: [a.com, b.com], secretName: s1}");
        let compiled = compiled(&(yaml + &secret + &services(&["web"])));
        assert_eq!(certificate_of(&compiled.routes, Some("a.com")), None);
        let expected =
            format!("Ingress default/web: spec.tls[0].secretName: {expected}: a.com, b.com has no certificate");
        assert_eq!(told(&compiled), [expected]);
        check_compiled(&compiled, &[("http://a.com/", "web:8080")]);
    }
}

#[test]
fn a_certificate_that_the_caller_finds_wrong_is_told_with_its_reason() {
    let yaml = ingress("web", "", &["a.com"], "{hosts: [a.com], secretName: s1}")
        + &certificate("default", "s1")
        + &services(&["web"]);
    let compiled = routes::compile_checked(&cluster(&yaml), &RouteOptions::default(), &|certificate| {
        Err(format!("the key of {} is another one", certificate.secret.name))
    });
    assert_eq!(
        told(&compiled),
        [
            "Ingress default/web: spec.tls[0].secretName: Secret default/s1: the key of s1 is another one: a.com has no certificate"
        ]
    );
}

#[test]
fn of_two_certificates_for_a_host_that_of_the_oldest_ingress_is_shown() {
    let new = ", creationTimestamp: '2024-02-01T00:00:00Z'";
    let old = ", creationTimestamp: '2024-01-01T00:00:00Z'";
    let yaml = ingress("a", new, &["a.com"], "{hosts: [a.com], secretName: s1}")
        + &ingress("b", old, &["b.com"], "{hosts: [a.com, b.com], secretName: s2}")
        + &certificate("default", "s1")
        + &certificate("default", "s2")
        + &services(&["web"]);
    let compiled = compiled(&yaml);
    assert_eq!(certificate_of(&compiled.routes, Some("a.com")).as_deref(), Some("s2"));
    assert_eq!(
        told(&compiled),
        [
            "Ingress default/a: spec.tls[0].secretName: a.com has the certificate of Secret default/s2 from Ingress default/b, because it is older"
        ]
    );
}

#[test]
fn http_is_served_unless_a_redirect_is_asked_for_where_there_is_a_certificate() {
    let yaml = |annotation: &str| {
        let metadata = format!(", annotations: {{{annotation}}}");
        ingress("web", &metadata, &["a.com", "b.com"], "{hosts: [a.com], secretName: s1}")
            + &certificate("default", "s1")
            + &services(&["web"])
    };
    let served = [("http://a.com/x", "web:8080"), ("https://a.com/x", "web:8080")];
    check_compiled(&compiled(&yaml("")), &served);
    check_compiled(&compiled(&yaml("nginx.ingress.kubernetes.io/force-ssl-redirect: 'true'")), &served);
    check_compiled(&compiled(&yaml("podplane.io/ssl-redirect: 'false'")), &served);
    let redirected = compiled(&yaml("podplane.io/ssl-redirect: 'true'"));
    check_compiled(
        &redirected,
        &[("http://a.com/x", "308 https://-/-"), ("https://a.com/x", "web:8080"), ("http://b.com/x", "web:8080")],
    );
    let options = RouteOptions { https_port: 8443, ..RouteOptions::default() };
    let elsewhere = routes::compile(&cluster(&yaml("podplane.io/ssl-redirect: 'true'")), &options);
    check_compiled(&elsewhere, &[("http://a.com/x", "308 https://-:8443/-"), ("https://a.com:8443/x", "web:8080")]);
    let uncertified = ingress("web", ", annotations: {podplane.io/ssl-redirect: 'true'}", &["a.com"], "");
    let uncertified = compiled(&(uncertified + &services(&["web"])));
    check_compiled(&uncertified, &served[..1]);
    assert_eq!(
        told(&uncertified),
        [
            "Ingress default/web: metadata.annotations[podplane.io/ssl-redirect]: no host of this Ingress has a certificate: nothing is redirected"
        ]
    );
}

#[test]
fn a_request_for_a_host_with_another_certificate_is_misdirected() {
    let tls = "{hosts: [a.com], secretName: s1}, {hosts: [b.com, c.com], secretName: s2}";
    let yaml = ingress("web", "", &["a.com", "b.com", "c.com", "d.com"], tls)
        + &certificate("default", "s1")
        + &certificate("default", "s2")
        + &services(&["web"]);
    check_compiled(
        &compiled(&yaml),
        &[
            ("https://a.com/ sni=a.com", "web:8080"),
            ("https://b.com/ sni=a.com", "421"),
            ("https://c.com/ sni=b.com", "web:8080"),
            ("https://d.com/ sni=a.com", "421"),
            ("https://e.com/ sni=a.com", "404"),
            ("https://b.com/ sni=", "web:8080"),
            ("https://b.com/ sni=b.com.", "web:8080"),
        ],
    );
}
