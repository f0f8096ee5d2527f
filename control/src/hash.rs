//! A hash whose values never change, for names, uids and digests that are compared between processes and releases. The
//! standard library's hasher promises no such thing. Not for anything that an attacker gains by colliding.

/// FNV-1a with 128 bits over `parts`, each followed by a byte that no UTF-8 text holds.
pub(crate) fn fnv1a(parts: &[&str]) -> u128 {
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
        // The published value of "a", and one more step for the separator.
        let a: u128 = 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964;
        let prime: u128 = 0x0100_0000_0000_0000_0000_013b;
        assert_eq!(fnv1a(&["a"]), (a ^ 0xff).wrapping_mul(prime));
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(fnv1a(&["ab", "c"]), fnv1a(&["a", "bc"]));
    }
}
