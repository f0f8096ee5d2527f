//! `podplane check` on Secrets with certificates and the objects that refer to them.

mod support;

use support::ingress::{CLASS, Certificate, ingress, secret};
use support::{Folder, podplane_with_input, text};

/// The exit code of `check -f -` on `manifests`, and what it prints.
fn check(manifests: &str) -> (Option<i32>, String) {
    let output = podplane_with_input(&["check", "-f", "-"], manifests);
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn a_certificate_with_its_key_is_accepted() {
    let folder = Folder::new();
    let (code, told) = check(&Certificate::new(&folder, "shop.example").secret("shop"));
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("1 objects in 1 files: 0 refused, 0 with a closed rule, 0 warnings"), "{told}");
}

#[test]
fn a_key_of_another_certificate_is_refused_by_name_where_it_is_and_where_it_is_used() {
    let folder = Folder::new();
    let (one, other) = (Certificate::new(&folder, "a.example"), Certificate::new(&folder, "b.example"));
    let manifests =
        [CLASS, &secret("shop", &one.chain, &other.key), &ingress("web", "a.example", "web", Some("shop"))].concat();
    let (code, told) = check(&manifests);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("Secret default/shop: data[tls.key]: does not match the certificate"), "{told}");
    assert!(told.contains("Ingress default/web: spec.tls[0].secretName: "), "{told}");
}

#[test]
fn a_secret_without_a_key_is_refused_by_name() {
    let folder = Folder::new();
    let pair = Certificate::new(&folder, "a.example");
    let (code, told) = check(&secret("shop", &pair.chain, "nothing"));
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("Secret default/shop: data[tls.key]: holds no private key"), "{told}");
    for (data, words) in [("{}", "required for type kubernetes.io/tls"), ("{tls.crt: '', tls.key: ''}", "is empty")] {
        let lacking = "{apiVersion: v1, kind: Secret, metadata: {name: shop}, type: kubernetes.io/tls, data: DATA}";
        let (code, told) = check(&lacking.replace("DATA", data));
        assert_eq!(code, Some(1), "{told}");
        for entry in ["data[tls.crt]", "data[tls.key]"] {
            assert!(told.contains(&format!("Secret default/shop: {entry}: {words}")), "{told}");
        }
    }
}

#[test]
fn secrets_of_other_types_hold_what_they_like() {
    let opaque = "{apiVersion: v1, kind: Secret, metadata: {name: x}, stringData: {tls.crt: none, tls.key: none}}";
    let (code, told) = check(opaque);
    assert_eq!(code, Some(0), "{told}");
}
