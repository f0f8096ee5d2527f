//! The tables in force, for threads that look at them with every query.

use policy::tables::Tables;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// What is in force.
#[derive(Debug, Default)]
pub(super) struct Current {
    tables: Mutex<Option<Arc<Tables>>>,
    /// Counts the changes.
    changes: AtomicU64,
}

/// One thread's hold on what is in force.
#[derive(Debug, Default)]
pub(super) struct View {
    tables: Option<Arc<Tables>>,
    changes: u64,
}

impl Current {
    /// Puts `tables` in force.
    pub(super) fn set(&self, tables: Option<Arc<Tables>>) {
        let before = {
            let mut current = self.tables.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            self.changes.fetch_add(1, Ordering::Release);
            std::mem::replace(&mut *current, tables)
        };
        // Large tables take a while to be freed; nobody waits for it here.
        drop(before);
    }
}

impl View {
    /// What is in force.
    pub(super) fn get(&mut self, current: &Current) -> Option<&Tables> {
        let changes = current.changes.load(Ordering::Acquire);
        if changes != self.changes {
            // Whoever changed them between these two lines makes the next query look again.
            self.changes = changes;
            self.tables = current.tables.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
        }
        self.tables.as_deref()
    }
}
