//! Counts, alone and shared between threads.

use std::sync::atomic::{AtomicU64, Ordering};

/// A struct of plain numbers that only grow.
macro_rules! plain_counts {
    ($(#[$meta:meta])* pub struct $plain:ident; $($name:ident, $doc:literal;)*) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $plain {
            $(#[doc = $doc] pub $name: u64,)*
        }

        impl $plain {
            /// Each with its name and what it says, in order.
            pub fn list(&self) -> Vec<$crate::metrics::Count> {
                vec![$($crate::metrics::Count { name: stringify!($name), help: $doc, value: self.$name },)*]
            }

            /// Adds those of another one.
            pub fn add(&mut self, other: &$plain) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

/// The same, and a struct of counts that threads share.
macro_rules! counts {
    ($(#[$meta:meta])* pub struct $plain:ident, $shared:ident; $($name:ident, $doc:literal;)*) => {
        $crate::dns::count::plain_counts! { $(#[$meta])* pub struct $plain; $($name, $doc;)* }

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

pub(super) use {counts, plain_counts};

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
