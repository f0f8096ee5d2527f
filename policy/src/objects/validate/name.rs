//! The forms of names: RFC 1123 labels and subdomains, qualified label keys, label values, port names (RFC 6335).

const LABEL_MAX: usize = 63;
const SUBDOMAIN_MAX: usize = 253;
const PORT_NAME_MAX: usize = 15;
const KEY_FORM: &str = "[dns-prefix/]name, at most 63 letters, digits, '-', '_', '.'";

fn is_label(value: &str) -> bool {
    let bytes = value.as_bytes();
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    bytes.iter().all(|byte| alphanumeric(byte) || *byte == b'-')
        && bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
}

/// RFC 1123 label: the name of a namespace, a Service, a Service's port.
pub(super) fn label(value: &str) -> Result<(), String> {
    if value.len() > LABEL_MAX {
        return Err(format!("\"{value}\" is longer than {LABEL_MAX} characters"));
    }
    if is_label(value) {
        return Ok(());
    }
    Err(format!(
        "\"{value}\" is not a DNS label: lower-case letters, digits and '-', first and last a letter or a digit"
    ))
}

/// RFC 1123 subdomain: the name of most objects.
pub(super) fn subdomain(value: &str) -> Result<(), String> {
    if value.len() > SUBDOMAIN_MAX {
        return Err(format!("longer than {SUBDOMAIN_MAX} characters"));
    }
    if value.split('.').all(is_label) {
        return Ok(());
    }
    Err(format!(
        "\"{value}\" is not a DNS name: lower-case letters, digits, '-' and '.', each part begins and ends with a letter or a digit"
    ))
}

fn is_qualified_part(value: &str) -> bool {
    let bytes = value.as_bytes();
    bytes.len() <= LABEL_MAX
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
}

/// Key of a label: `[prefix/]name`.
pub(super) fn label_key(value: &str) -> Result<(), String> {
    let (prefix, name) = value.split_once('/').map_or((None, value), |(prefix, name)| (Some(prefix), name));
    if prefix.is_none_or(|prefix| subdomain(prefix).is_ok()) && is_qualified_part(name) {
        return Ok(());
    }
    Err(format!("\"{value}\" is not a label key: {KEY_FORM}"))
}

/// Key of an annotation: a label's key, also with upper-case letters in its prefix.
pub(super) fn annotation_key(value: &str) -> Result<(), String> {
    label_key(&value.to_ascii_lowercase()).map_err(|_| format!("\"{value}\" is not an annotation key: {KEY_FORM}"))
}

/// Value of a label; may be empty.
pub(super) fn label_value(value: &str) -> Result<(), String> {
    if value.is_empty() || is_qualified_part(value) {
        return Ok(());
    }
    Err(format!("\"{value}\" is not a label value: at most {LABEL_MAX} letters, digits, '-', '_', '.'"))
}

/// Name of a container's port, and of a target port: RFC 6335 service name.
pub(super) fn port_name(value: &str) -> Result<(), String> {
    let letters = value.bytes().any(|byte| byte.is_ascii_lowercase());
    if is_label(value) && letters && value.len() <= PORT_NAME_MAX && !value.contains("--") {
        return Ok(());
    }
    Err(format!(
        "\"{value}\" is not a port name: at most {PORT_NAME_MAX} lower-case letters, digits and single '-', with at least one letter"
    ))
}

/// A DNS name of at least two labels, or `*.` and such a name: the pattern of the API's DomainName, whose `A-z` for the first
/// character of a label takes in `[`, `\\`, `]`, `^`, `_` and the backquote.
pub(super) fn domain_pattern(value: &str) -> Result<(), String> {
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        let is_first = |byte: &u8| byte.is_ascii_digit() || (b'A'..=b'z').contains(byte);
        bytes.first().is_some_and(is_first)
            && bytes[1..].iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && (bytes.len() == 1 || bytes[bytes.len() - 1].is_ascii_alphanumeric())
    };
    let name = value.strip_prefix("*.").unwrap_or(value);
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.contains('.') && name.split('.').all(is_label) {
        return Ok(());
    }
    Err(format!("\"{value}\" is not a DNS name of two or more labels, such as example.com or *.example.com"))
}

/// A host, or `*.` and a name for what is below it; an IP address is none.
pub(super) fn host_pattern(value: &str) -> Result<(), String> {
    if is_address(value) {
        return Err(format!("\"{value}\" is an IP address, use a DNS name"));
    }
    match value.strip_prefix("*.") {
        _ if value.len() > SUBDOMAIN_MAX => Err(format!("longer than {SUBDOMAIN_MAX} characters")),
        Some(name) if name.split('.').all(is_label) => Ok(()),
        None if value.split('.').all(is_label) => Ok(()),
        _ if value.contains('*') => {
            Err(format!("\"{value}\" is not a host: '*' stands alone as the first part, such as *.example.com"))
        }
        _ => subdomain(value),
    }
}

/// Whether a host is an address; as in the API server, parts of an IPv4 address may begin with zeros.
pub(super) fn is_address(value: &str) -> bool {
    let is_octet = |part: &str| {
        let digits = part.trim_start_matches('0');
        !part.is_empty() && (digits.is_empty() || digits.parse::<u8>().is_ok() && !digits.starts_with('+'))
    };
    (value.split('.').count() == 4 && value.split('.').all(is_octet)) || value.parse::<std::net::Ipv6Addr>().is_ok()
}

/// Name of an implementation: a DNS name, `/` and characters of a path.
pub(super) fn domain_prefixed_path(value: &str) -> Result<(), String> {
    let is_character = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte);
    match value.split_once('/') {
        Some((domain, path))
            if !path.is_empty() && domain.split('.').all(is_label) && path.bytes().all(is_character) =>
        {
            Ok(())
        }
        _ => Err(format!("\"{value}\" is not a DNS name, '/' and a path, such as example.com/controller")),
    }
}

/// What can stand in the path of an URL of the API.
pub(super) fn path_segment(value: &str) -> Result<(), String> {
    if matches!(value, "." | "..") || value.contains(['/', '%']) {
        return Err(format!("\"{value}\" is neither a kind nor a name: '/', '%', \".\" and \"..\" are not allowed"));
    }
    Ok(())
}

/// Key of an entry of a Secret.
pub(super) fn entry_key(value: &str) -> Result<(), String> {
    let is_character = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if (1..=SUBDOMAIN_MAX).contains(&value.len())
        && value.bytes().all(is_character)
        && value != "."
        && !value.starts_with("..")
    {
        return Ok(());
    }
    Err(format!(
        "\"{value}\" is not a key: at most {SUBDOMAIN_MAX} letters, digits, '-', '_', '.', not \"..\" in front"
    ))
}
