use super::*;
use crate::http::tls::testing::{Key, openssl, self_signed};

/// 2030-01-01, within the days of every certificate of these tests that is not about its days.
fn now() -> SystemTime {
    at(1_893_456_000)
}

fn at(second: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(second)
}

fn check(chain: &str, key: &str) -> Result<CheckedCertificate, CertificateError> {
    check_certificate(chain.as_bytes(), key.as_bytes(), now())
}

fn error(chain: &str, key: &str) -> String {
    let error = check(chain, key).expect_err("it cannot be used");
    format!("{}: {error}", error.field())
}

#[test]
fn keys_of_every_form_and_kind_are_read() {
    for kind in [Key::Rsa, Key::EcP256, Key::EcP384, Key::Ed25519] {
        let pair = self_signed("shop.example", kind);
        assert_eq!(check(&pair.chain, &pair.key).expect("PKCS#8").warning, None, "{kind:?}");
        if kind != Key::Ed25519 {
            let traditional = openssl(&["pkey", "-traditional"], &pair.key);
            assert!(traditional.contains("BEGIN RSA") || traditional.contains("BEGIN EC"), "{traditional}");
            check(&pair.chain, &traditional).expect("PKCS#1 or SEC1");
        }
    }
}

/// `openssl ecparam -genkey` writes the parameters before the key.
#[test]
fn other_sections_beside_the_key_are_passed_over() {
    let pair = self_signed("shop.example", Key::EcP256);
    let parameters = openssl(&["ecparam", "-name", "prime256v1"], "");
    check(&pair.chain, &(parameters + &pair.key)).expect("parameters before the key");
    check(&(pair.key.clone() + &pair.chain), &(pair.chain.clone() + &pair.key)).expect("both in one file");
}

#[test]
fn what_is_missing_is_named() {
    let pair = self_signed("shop.example", Key::EcP256);
    let no_certificate = "data[tls.crt]: holds no certificate (-----BEGIN CERTIFICATE-----)";
    let no_key = "data[tls.key]: holds no private key (-----BEGIN PRIVATE KEY-----)";
    assert_eq!(error("", &pair.key), no_certificate);
    assert_eq!(error("hello", &pair.key), no_certificate);
    assert_eq!(error(&pair.key, &pair.key), no_certificate);
    assert_eq!(error(&pair.chain, ""), no_key);
    assert_eq!(error(&pair.chain, &pair.chain), no_key);
}

#[test]
fn what_is_not_pem_is_named_and_not_quoted() {
    let pair = self_signed("shop.example", Key::EcP256);
    let broken = pair.key.replacen('M', "*", 1);
    assert_eq!(error(&pair.chain, &broken), "data[tls.key]: is not PEM: a section is not base64");
    let half = &pair.chain[..pair.chain.len() / 2];
    assert_eq!(error(half, &pair.key), "data[tls.crt]: is not PEM: a section has no END line");
}

#[test]
fn a_chain_has_a_maximum() {
    let pair = self_signed("shop.example", Key::EcP256);
    check(&pair.chain.repeat(CHAIN_MAX), &pair.key).expect("as many as are sent");
    let many = pair.chain.repeat(CHAIN_MAX + 1);
    assert_eq!(error(&many, &pair.key), "data[tls.crt]: has 17 certificates, more than the 16 that are sent");
}

#[test]
fn a_certificate_that_is_none_is_named() {
    let pair = self_signed("shop.example", Key::EcP256);
    let other = pair.key.replace("PRIVATE KEY", "CERTIFICATE");
    let told = error(&other, &pair.key);
    assert!(told.starts_with("data[tls.crt]: its first certificate cannot be used: "), "{told}");
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let (one, other) = (self_signed("a.example", Key::EcP256), self_signed("a.example", Key::EcP256));
    let rsa = self_signed("a.example", Key::Rsa);
    assert_eq!(error(&one.chain, &other.key), "data[tls.key]: does not match the certificate");
    assert_eq!(error(&one.chain, &rsa.key), "data[tls.key]: does not match the certificate");
}

#[test]
fn an_encrypted_key_is_named_as_such() {
    let pair = self_signed("shop.example", Key::EcP256);
    let pkcs8 = openssl(&["pkcs8", "-topk8", "-v2", "aes256", "-passout", "pass:secret"], &pair.key);
    let traditional = openssl(&["ec", "-aes256", "-passout", "pass:secret"], &pair.key);
    for encrypted in [pkcs8, traditional] {
        assert!(encrypted.contains("ENCRYPTED"), "{encrypted}");
        assert_eq!(error(&pair.chain, &encrypted), "data[tls.key]: is encrypted: store it without a passphrase");
    }
}

#[test]
fn a_broken_key_is_named() {
    let pair = self_signed("shop.example", Key::EcP256);
    let broken = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    assert!(error(&pair.chain, broken).starts_with("data[tls.key]: is broken or of a kind that is not supported"));
}

#[test]
fn a_certificate_out_of_date_is_served_with_a_warning() {
    let pair = self_signed("shop.example", Key::EcP256);
    let at = |second| {
        check_certificate(pair.chain.as_bytes(), pair.key.as_bytes(), at(second)).expect("it is served").warning
    };
    let expired = at(32_503_680_000).expect("the year 3000 is too late").to_string();
    assert!(expired.starts_with("has expired at 21") && expired.ends_with("; it is served all the same"), "{expired}");
    let early = at(1_000_000_000).expect("the year 2001 is too early").to_string();
    assert!(early.starts_with("is not valid before 20"), "{early}");
}

proptest::proptest! {
    #[test]
    fn any_text_is_certificate_or_error(
        label in "(CERTIFICATE|PRIVATE KEY|EC PRIVATE KEY|RSA PRIVATE KEY)", body in "[A-Za-z0-9+/=\n]{0,200}", more in ".{0,40}",
    ) {
        let text = format!("{more}\n-----BEGIN {label}-----\n{body}\n-----END {label}-----\n{more}");
        proptest::prop_assert!(check(&text, &text).is_err());
    }
}
