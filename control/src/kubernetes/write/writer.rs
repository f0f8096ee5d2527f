//! The thread that fulfils wishes: it joins what is due with the requests that do it.
//!
//! One task holds the lease, the other writes one thing after another, so a server that is slow is not given more to do. Neither holds
//! up whoever wishes: [`Writer::set`] replaces what was wished before.

use super::desk::{Desk, News};
use super::election::{Election, LeaseName, RETRY, Step};
use super::events::{EventWrite, Ledger};
use super::pod_cidrs::Ranges;
use super::send::{self, Refusal};
use super::{Target, Wanted, Wish};
use crate::kubernetes::connect::Access;
use crate::log::{Level, event};
use ipnet::IpNet;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use serde_json::Value;
use std::hash::BuildHasher;
use std::io;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};

/// Between tries to make a client: what is wrong is on this machine's disk.
const CONNECT_AGAIN: Duration = Duration::from_secs(30);

/// How long the end of a process may wait for the lease to be given back.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);

/// Who writes.
#[derive(Clone, Debug)]
pub struct WriterConfig {
    /// The way to the API server.
    pub access: Access,
    /// Whose holder leads.
    pub lease: LeaseName,
    /// Name of this process in the lease and in Events: that of its node or its pod.
    pub instance: String,
    /// Field manager of what is written.
    pub manager: &'static str,
    /// reportingController of Events.
    pub controller: &'static str,
}

/// A running writer. It gives the lease back and ends when it is dropped.
pub struct Writer {
    wanted: watch::Sender<Wanted>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread. What is wrong with the way to the server is logged, and tried again.
    pub fn start(config: WriterConfig) -> io::Result<Writer> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (wanted, wishes) = watch::channel(Wanted::default());
        let (stop, stopped) = oneshot::channel();
        let write = move || runtime.block_on(run(config, wishes, stopped));
        let thread = std::thread::Builder::new().name("writer".to_owned()).spawn(write)?;
        Ok(Writer { wanted, stop: Some(stop), thread: Some(thread) })
    }

    /// This is to be written, and nothing else.
    pub fn set(&self, wanted: Wanted) {
        self.wanted.send_if_modified(|present| {
            let differs = *present != wanted;
            *present = wanted;
            differs
        });
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // The receiver is gone only if the thread is.
        let _ = self.stop.take().map(|stop| stop.send(()));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn run(config: WriterConfig, wanted: watch::Receiver<Wanted>, mut stopped: oneshot::Receiver<()>) {
    let client = tokio::select! {
        client = connect(&config.access) => client,
        _ = &mut stopped => return,
    };
    let seed = std::hash::RandomState::new().hash_one(&config.instance);
    let mut election = Election::new(config.lease.clone(), format!("{}_{seed:016x}", config.instance));
    let (leading, leads) = watch::channel(None);
    tokio::select! {
        () = hold_lease(&client, &config, &mut election, wanted.clone(), &leading) => {}
        () = Work::new(client.clone(), &config, seed).run(wanted, leads) => {}
        _ = stopped => {}
    }
    if election.leads_until().is_some() {
        let _ = tokio::time::timeout(RELEASE_TIMEOUT, release(&client, &config, &mut election)).await;
    }
}

async fn connect(access: &Access) -> Client {
    let mut told = None;
    loop {
        match access.connect().await {
            Ok(connection) => return connection.client,
            Err(error) => {
                if told.as_ref() != Some(&error) {
                    event(Level::Error, "nothing is written to the API server", &[("reason", &error)]);
                }
                told = Some(error);
            }
        }
        tokio::time::sleep(CONNECT_AGAIN).await;
    }
}

/// Keeps the lease, or waits for it. `leading` says until when this process leads.
async fn hold_lease(
    client: &Client,
    config: &WriterConfig,
    election: &mut Election,
    mut wanted: watch::Receiver<Wanted>,
    leading: &watch::Sender<Option<Instant>>,
) {
    let mut told = None;
    loop {
        if wanted.wait_for(|wanted| wanted.is_candidate).await.is_err() {
            return;
        }
        let began = Instant::now();
        let refusal = turn(client, config, election, began).await.err().filter(|why| *why != Refusal::Conflict);
        let until = election.leads_until();
        let leads = until.is_some_and(|until| Instant::now() < until);
        if leads != leading.borrow().is_some() {
            let what = if leads { "leads" } else { "leads no longer" };
            event(Level::Info, what, &[("lease", &config.lease.path())]);
        }
        leading.send_replace(until.filter(|_| leads));
        match &refusal {
            Some(Refusal::Forbidden(why) | Refusal::Invalid(why)) if told.as_ref() != Some(why) => {
                event(Level::Warn, "the lease cannot be held", &[("lease", &config.lease.path()), ("reason", why)]);
                told = Some(why.clone());
            }
            Some(_) => {}
            None => told = None,
        }
        tokio::time::sleep(RETRY.saturating_sub(began.elapsed()).max(RETRY / 4)).await;
    }
}

/// One look at the lease, and what it takes to hold it.
async fn turn(client: &Client, config: &WriterConfig, election: &mut Election, began: Instant) -> Result<(), Refusal> {
    let read = match send::get(client, &config.lease.path()).await {
        Ok(lease) => Some(lease),
        Err(Refusal::Gone) => None,
        Err(refusal) => return Err(refusal),
    };
    let written = match election.handle_read(read.as_ref(), Instant::now(), Timestamp::now()) {
        Step::Wait => return Ok(()),
        Step::Create(lease) => send::create(client, &config.lease.collection(), config.manager, &lease).await?,
        Step::Update(lease) => send::update(client, &config.lease.path(), config.manager, &lease).await?,
    };
    election.handle_written(&written, began);
    Ok(())
}

async fn release(client: &Client, config: &WriterConfig, election: &mut Election) {
    let Ok(lease) = send::get(client, &config.lease.path()).await else { return };
    if let Some(given_back) = election.release(&lease, Timestamp::now()) {
        // It runs out by itself otherwise.
        let _ = send::update(client, &config.lease.path(), config.manager, &given_back).await;
    }
}

/// The task that writes.
struct Work {
    client: Client,
    manager: &'static str,
    desk: Desk,
    ledger: Ledger,
    /// Ranges of all Nodes, read since this process leads.
    ranges: Option<Ranges>,
}

impl Work {
    fn new(client: Client, config: &WriterConfig, seed: u64) -> Work {
        let ledger = Ledger::new(config.controller, &config.instance, seed, Instant::now());
        Work { client, manager: config.manager, desk: Desk::new(seed), ledger, ranges: None }
    }

    async fn run(mut self, mut wanted: watch::Receiver<Wanted>, mut leads: watch::Receiver<Option<Instant>>) {
        let mut led = false;
        wanted.mark_changed();
        loop {
            let until = *leads.borrow_and_update();
            let leading = until.is_some_and(|until| Instant::now() < until);
            if leading != led || wanted.has_changed().unwrap_or(true) {
                if !leading {
                    self.ranges = None;
                }
                led = leading;
                self.take(&wanted.borrow_and_update(), leading);
            }
            if self.step().await {
                continue;
            }
            let due = [self.desk.next_due(), self.ledger.next_due(), until.filter(|_| led)];
            let due = due.into_iter().flatten().min();
            let due = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = wanted.changed() => if changed.is_err() { return } else { wanted.mark_changed() },
                _ = leads.changed() => {}
                () = due => {}
            }
        }
    }

    fn take(&mut self, wanted: &Wanted, leading: bool) {
        let now = Instant::now();
        let mut wishes = wanted.own.clone();
        let mut problems: Vec<_> = wanted.own_problems.iter().collect();
        if leading {
            wishes.extend(wanted.led.clone());
            problems.extend(&wanted.led_problems);
        }
        self.desk.set(&wishes, now);
        self.ledger.set(problems, now);
    }

    /// Does what is due first; whether there was anything.
    async fn step(&mut self) -> bool {
        let now = Instant::now();
        if let Some((target, wish)) = self.desk.poll(now) {
            let result = self.fulfil(&target, &wish).await;
            let news = self.desk.handle(&target, result, Instant::now());
            tell(news);
            return true;
        }
        if self.desk.is_paused(now) {
            return false;
        }
        match self.ledger.poll(now) {
            Some(write) => {
                self.write_event(write).await;
                true
            }
            None => false,
        }
    }

    async fn fulfil(&mut self, target: &Target, wish: &Wish) -> Result<(), Refusal> {
        let present = send::get(&self.client, &target.path()).await?;
        let Some(patch) = wish.patch(&present) else { return Ok(()) };
        if let Wish::TheseCidrs(cidrs) = wish {
            self.check_ranges(target, cidrs).await?;
        }
        let path = format!("{}{}", target.path(), wish.subresource());
        send::patch(&self.client, &path, self.manager, &patch).await?;
        event(Level::Info, "written", &[("object", target), ("patch", &patch)]);
        Ok(())
    }

    /// Whether no other Node has a part of `cidrs`, by all Nodes as they were when this process began to lead and what it wrote since.
    async fn check_ranges(&mut self, target: &Target, cidrs: &[String]) -> Result<(), Refusal> {
        let ranges = match &mut self.ranges {
            Some(ranges) => ranges,
            none => none.insert(Ranges::of_list(&send::get(&self.client, "/api/v1/nodes").await?)),
        };
        let cidrs: Vec<IpNet> = cidrs.iter().filter_map(|cidr| cidr.parse().ok()).collect();
        if cidrs.iter().any(|cidr| ranges.is_taken(&target.name, cidr)) {
            return Err(Refusal::Conflict);
        }
        ranges.add(&target.name, cidrs);
        Ok(())
    }

    async fn write_event(&mut self, write: EventWrite) {
        let (id, result) = match write {
            EventWrite::Create(id) => {
                let result = match send::get_metadata(&self.client, &id.0.path()).await {
                    Ok(object) => self.create_event(&id, &object["metadata"]).await,
                    Err(refusal) => Err(refusal),
                };
                (id, result)
            }
            EventWrite::Repeat(id) => {
                let Some((path, patch)) = self.ledger.repetition(&id, Timestamp::now()) else { return };
                let result = send::patch(&self.client, &path, self.manager, &patch).await;
                if result == Err(Refusal::Gone) {
                    self.ledger.handle_forgotten(&id, Instant::now());
                    return;
                }
                (id, result)
            }
        };
        let now = Instant::now();
        tell(self.desk.handle_server(&result, now));
        match result {
            Ok(event) => self.ledger.handle_written(&id, event["metadata"]["name"].as_str().unwrap_or_default(), now),
            Err(refusal) => {
                if let Some(why) = self.ledger.handle_refused(&id, refusal, now) {
                    event(Level::Warn, "no Event can be written", &[("object", &id.0), ("reason", &why)]);
                }
            }
        }
    }

    async fn create_event(&mut self, id: &(Target, &'static str), metadata: &Value) -> Result<Value, Refusal> {
        let made = self.ledger.event(id, metadata, Timestamp::now());
        let (path, body) = made.ok_or(Refusal::Gone)?;
        send::create(&self.client, &path, self.manager, &body).await
    }
}

fn tell(news: Option<News>) {
    match news {
        Some(News::Lost(why)) => event(Level::Warn, "the API server takes no writes", &[("reason", &why)]),
        Some(News::Back) => event(Level::Info, "the API server takes writes again", &[]),
        Some(News::Refused(target, why)) => {
            event(Level::Warn, "not written", &[("object", &target), ("reason", &why)]);
        }
        None => {}
    }
}
