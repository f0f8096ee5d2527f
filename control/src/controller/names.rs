//! Names and numbers that Kubernetes makes up: hash suffixes of generated names, uids. Here they follow from their owner, so
//! that the same manifests give the same names on every machine.

use crate::hash::fnv1a;

/// Characters of generated names: no vowels and nothing that reads like one, so that no words appear (the set of
/// Kubernetes' `SafeEncodeString`).
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Length of a pod-template-hash; ten characters hold the 32 bits that Kubernetes has there.
const TEMPLATE_HASH_LEN: usize = 10;

/// Length of the suffix of a generated name.
const SUFFIX_LEN: usize = 5;

/// The value of label `pod-template-hash` for a template.
pub(super) fn template_hash(template: &str) -> String {
    encode(fnv1a(&[template]), TEMPLATE_HASH_LEN)
}

/// The suffix of the generated name that belongs to `parts`.
pub(crate) fn suffix(parts: &[&str]) -> String {
    encode(fnv1a(parts), SUFFIX_LEN)
}

/// A uid for `parts` in the form of a UUID.
pub(super) fn uid(parts: &[&str]) -> String {
    let h = fnv1a(parts);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        h >> 96,
        h >> 80 & 0xffff,
        h >> 64 & 0xffff,
        h >> 48 & 0xffff,
        h & 0xffff_ffff_ffff
    )
}

fn encode(mut hash: u128, len: usize) -> String {
    // FNV mixes upwards: the high half depends on every byte.
    hash >>= 64;
    (0..len)
        .map(|_| {
            let digit = (hash % ALPHABET.len() as u128) as usize;
            hash /= ALPHABET.len() as u128;
            char::from(ALPHABET[digit])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_shape_of_kubernetes_names() {
        assert_eq!(template_hash("x").len(), 10);
        assert_eq!(suffix(&["x"]).len(), 5);
        assert!(suffix(&["x"]).bytes().all(|b| ALPHABET.contains(&b)));
        let uid = uid(&["Pod", "default", "web"]);
        assert_eq!(uid.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
    }
}
