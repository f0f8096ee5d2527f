//! The thread of one worker: a runtime of its own with the worker's sockets, connections and backends.

use super::Shared;
use super::accept::{Door, accept};
use crate::http::Worker;
use std::collections::HashMap;
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};

/// How often a worker that drains looks whether its connections have ended.
const DRAIN_LOOK: Duration = Duration::from_millis(10);

/// What a worker is told.
pub(super) enum Command {
    /// Accept connections to `port` on this socket.
    Listen { port: u16, listener: TcpListener },
    /// Accept no more connections to the port. Those that there are go on.
    Close { port: u16 },
    /// Accept no more connections at all, end those that there are, and then the thread: all when `grace` is over.
    Drain { grace: Duration },
}

/// A worker's thread.
pub(super) struct Thread {
    commands: mpsc::UnboundedSender<Command>,
    handle: JoinHandle<usize>,
}

impl Thread {
    /// Starts the thread `number`. It ends when it is told to drain, or dropped.
    pub(super) fn start(number: usize, shared: Arc<Shared>) -> io::Result<Thread> {
        let (commands, received) = mpsc::unbounded_channel();
        let (started, has_started) = std::sync::mpsc::sync_channel(1);
        // A local runtime stays on the thread that it was built on.
        let run = move || match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
            Ok(runtime) => {
                let _ = started.send(Ok(()));
                runtime.block_on(follow(shared, received))
            }
            Err(error) => {
                let _ = started.send(Err(error));
                0
            }
        };
        let handle = std::thread::Builder::new().name(format!("http-{number}")).spawn(run)?;
        has_started.recv().map_err(io::Error::other)??;
        Ok(Thread { commands, handle })
    }

    /// Tells it what to do. A thread that has ended has nothing to do.
    pub(super) fn tell(&self, command: Command) {
        let _ = self.commands.send(command);
    }

    pub(super) fn is_over(&self) -> bool {
        self.handle.is_finished()
    }

    /// Waits for its end. The number of connections that were cut.
    pub(super) fn wait(self) -> usize {
        drop(self.commands);
        self.handle.join().unwrap_or(0)
    }
}

async fn follow(shared: Arc<Shared>, mut commands: mpsc::UnboundedReceiver<Command>) -> usize {
    let worker = Worker::start(&shared.proxy);
    let door = Rc::new(Door { shared, worker, open: Arc::new(AtomicUsize::new(0)) });
    let mut loops = HashMap::new();
    let grace = loop {
        match commands.recv().await {
            Some(Command::Listen { port, listener }) => {
                // It is bound and does not block, so it can only fail for want of a descriptor of the poller.
                if let Ok(listener) = tokio::net::TcpListener::from_std(listener) {
                    let (close, closed) = oneshot::channel();
                    let task = tokio::task::spawn_local(accept(door.clone(), port, listener, closed));
                    loops.insert(port, (close, task));
                }
            }
            Some(Command::Close { port }) => drop(loops.remove(&port)),
            Some(Command::Drain { grace }) => break grace,
            None => break Duration::ZERO,
        }
    };
    let deadline = Instant::now() + grace;
    for (close, task) in std::mem::take(&mut loops).into_values() {
        drop(close);
        // It ends by itself; a panic in it would have been told.
        let _ = task.await;
    }
    door.worker.drain();
    loop {
        let open = door.open.load(Ordering::Relaxed);
        if open == 0 || Instant::now() >= deadline {
            return open;
        }
        sleep(DRAIN_LOOK).await;
    }
}
