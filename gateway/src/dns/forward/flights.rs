//! Questions that are being asked: each once, however many wait for it.

use super::question::Key;
use super::{FLIGHTS_MAX, Landed};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::watch;

type Table = HashMap<Box<[u8]>, watch::Receiver<Option<Landed>>>;

/// All questions in flight.
#[derive(Debug, Default)]
pub(super) struct Flights {
    table: Arc<Mutex<Table>>,
}

/// What becomes of one who asks.
pub(super) enum Boarding {
    /// Somebody asked the same before; its answer is waited for.
    Join(Flight),
    /// Nobody did: the captain has to get an answer.
    Begin(Flight, Captain),
    /// Too many questions are in flight.
    Full,
}

/// One who waits for an answer.
pub(super) struct Flight(watch::Receiver<Option<Landed>>);

/// The one that gets the answer. Dropped without one, all who wait are told.
pub(super) struct Captain {
    table: Arc<Mutex<Table>>,
    key: Box<[u8]>,
    landed: watch::Sender<Option<Landed>>,
}

impl Flights {
    /// Waits with those who ask for `key`, or is the first to.
    pub(super) fn board(&self, key: &Key) -> Boarding {
        let mut table = lock(&self.table);
        if let Some(flight) = table.get(key.as_bytes()) {
            return Boarding::Join(Flight(flight.clone()));
        }
        if table.len() >= FLIGHTS_MAX {
            return Boarding::Full;
        }
        let (landed, flight) = watch::channel(None);
        let key: Box<[u8]> = key.as_bytes().into();
        table.insert(key.clone(), flight.clone());
        Boarding::Begin(Flight(flight), Captain { table: self.table.clone(), key, landed })
    }
}

impl Flight {
    /// The answer, once it is there; `None` if there will be none.
    pub(super) async fn landed(&mut self) -> Option<Landed> {
        self.0.wait_for(Option::is_some).await.ok()?.clone()
    }
}

impl Captain {
    /// Ends the flight with an answer.
    pub(super) fn land(self, landed: Landed) {
        self.landed.send_replace(Some(landed));
    }
}

impl Drop for Captain {
    fn drop(&mut self) {
        lock(&self.table).remove(&self.key);
    }
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    // Every change is one call.
    table.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
