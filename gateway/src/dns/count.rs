//! Counts that threads share.

use std::sync::atomic::{AtomicU64, Ordering};

/// A struct of counts, and the same as plain numbers.
macro_rules! counts {
    ($(#[$meta:meta])* pub struct $plain:ident, $shared:ident; $($name:ident, $doc:literal;)*) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $plain {
            $(#[doc = $doc] pub $name: u64,)*
        }

        #[derive(Debug, Default)]
        pub(super) struct $shared {
            $(pub(super) $name: $crate::dns::count::Count,)*
        }

        impl $shared {
            pub(super) fn read(&self) -> $plain {
                $plain { $($name: self.$name.read(),)* }
            }
        }
    };
}

pub(super) use counts;

/// One count.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
