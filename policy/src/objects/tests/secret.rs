//! Secrets: what is read, written back and refused.

use super::*;

/// A Secret `s` with these fields.
fn secret(fields: &str) -> String {
    format!("{{apiVersion: v1, kind: Secret, metadata: {{name: s}}, {fields}}}")
}

#[test]
fn text_of_a_secret_is_written_back_among_its_data() {
    let parsed =
        parse("f.yaml", &secret("immutable: true, data: {a: YQ==, tls.key: ''}, stringData: {a: b, c: ''}, type: x"));
    assert_eq!(parsed.problems, []);
    assert_eq!(
        serde_json::to_value(&parsed.objects[0].object).unwrap(),
        serde_json::json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "default"}, "immutable": true,
            "data": {"a": "Yg==", "c": "", "tls.key": ""}, "type": "x",
        })
    );
}

#[test]
fn what_the_api_server_refuses_of_a_secret_is_refused_by_field() {
    let key = |key: &str| secret(&format!("data: {{'{key}': ''}}"));
    let long = format!("stringData: {{a: {}, b: c}}", "x".repeat(1024 * 1024));
    let cases = [
        (secret("type: kubernetes.io/tls, data: {tls.crt: ''}"), "data[tls.key]: required for type kubernetes.io/tls"),
        (
            secret("type: kubernetes.io/tls, stringData: {tls.key: x}"),
            "data[tls.crt]: required for type kubernetes.io/tls",
        ),
        (
            key("a/b"),
            "data[a/b]: \"a/b\" is not a key: at most 253 letters, digits, '-', '_', '.', not \"..\" in front",
        ),
        (
            key("..a"),
            "data[..a]: \"..a\" is not a key: at most 253 letters, digits, '-', '_', '.', not \"..\" in front",
        ),
        (key("."), "data[.]: \".\" is not a key: at most 253 letters, digits, '-', '_', '.', not \"..\" in front"),
        (secret(&long), "data: longer than 1048576 bytes together"),
        (secret("data: {a: '*'}"), "data.a: Invalid symbol 42, offset 0."),
        (secret("data: {a: {}}"), "data.a: invalid type: an object, expected a base64-encoded string"),
    ];
    for (text, expected) in cases {
        assert_eq!(findings(&text), [expected], "{}", &text[..text.len().min(200)]);
    }
}

#[test]
fn a_secret_without_anything_is_one() {
    assert_eq!(findings(&secret("data: null")), [""; 0]);
    assert_eq!(findings(&secret("data: {.a: '', a..b: ''}, type: Opaque")), [""; 0]);
}
