//! Names and numbers that Kubernetes makes up: hash suffixes of generated names, uids. Here they follow from their owner, so
//! that the same manifests give the same names on every machine.

/// Characters of generated names: no vowels and nothing that reads like one, so that no words appear (the set of
/// Kubernetes' `SafeEncodeString`).
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Length of a pod-template-hash; ten characters hold the 32 bits that Kubernetes has there.
const TEMPLATE_HASH_LEN: usize = 10;

/// Length of the suffix of a generated name.
const SUFFIX_LEN: usize = 5;

/// The value of label `pod-template-hash` for a template.
pub(super) fn template_hash(template: &str) -> String {
    encode(hash(&[template]), TEMPLATE_HASH_LEN)
}

/// The suffix of the generated name that belongs to `parts`.
pub(crate) fn suffix(parts: &[&str]) -> String {
    encode(hash(parts), SUFFIX_LEN)
}

/// A uid for `parts` in the form of a UUID.
pub(super) fn uid(parts: &[&str]) -> String {
    let h = hash(parts);
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

/// FNV-1a with 128 bits: unlike the standard library's hasher its values never change, and names must not.
fn hash(parts: &[&str]) -> u128 {
    const OFFSET_BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0100_0000_0000_0000_0000_013b;
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0xff]));
    bytes.fold(OFFSET_BASIS, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv_1a_with_its_published_values() {
        // "a" followed by our separator 0xff is not in the tables, so the step is checked from the known value of "a".
        let a: u128 = 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964;
        let prime: u128 = 0x0100_0000_0000_0000_0000_013b;
        assert_eq!(hash(&["a"]), (a ^ 0xff).wrapping_mul(prime));
    }

    #[test]
    fn names_have_the_shape_of_kubernetes_names() {
        assert_eq!(template_hash("x").len(), 10);
        assert_eq!(suffix(&["x"]).len(), 5);
        assert!(suffix(&["x"]).bytes().all(|b| ALPHABET.contains(&b)));
        let uid = uid(&["Pod", "default", "web"]);
        assert_eq!(uid.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(suffix(&["ab", "c"]), suffix(&["a", "bc"]));
    }
}
