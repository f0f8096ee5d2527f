//! The hash of the ports of a shard.

use std::hash::Hasher;

/// Hashes a port's number by one multiplication. Numbers are given by this process, so nobody can choose colliding ones.
#[derive(Default)]
pub(super) struct PortHasher(u64);

impl Hasher for PortHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        // 2^64 divided by the golden ratio: spreads consecutive numbers over the high bits that the table looks at.
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
