//! Services whose endpoints change under their clients, in the cluster and outside, against a reference model: for each seed random
//! Services, random link faults, random conversations and changes in the middle of them.
//!
//! - No packet reaches a pod that is not an endpoint which the model lets it go to at that moment: a new flow goes to what is
//!   eligible, an old one may stay where it may.
//! - Once the changes end, every conversation comes to what the model says.
//! - A client that comes back to a Service with session affinity finds its backend.
//! - The world's address is what a pod sees of it.
//! - Every frame has one fate.

mod judge;
mod model;
mod world;

use crate::{check_report, faults, seeds};
use judge::Judge;
use lab::probe::Outcome;
use lab::sim::{LinkConfig, Place, Random, Sim, SimConfig, Task, TaskId};
use model::{Asked, Entry, Model};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;
use world::{NODE_PORT_BASE, SERVICE_PORT, World};

const SEEDS: u64 = 16;
const ROUNDS: usize = 3;
const CHANGES_PER_ROUND: usize = 20;
const CALM_TASKS: usize = 10;
const PATIENCE: Duration = Duration::from_secs(300);
/// What is to get no answer is watched for this long.
const SILENCE: Duration = Duration::from_secs(3);

struct Conversation {
    task: TaskId,
    from: Place,
    what: String,
    expected: crate::Expected,
}

struct Run {
    sim: Sim,
    judge: Rc<RefCell<Judge>>,
    world: World,
    random: Random,
    /// Where each Service was last reached.
    known: BTreeMap<String, Vec<IpAddr>>,
    steps: String,
}

impl Run {
    fn new(seed: u64) -> Run {
        let mut random = Random::new(seed).fork(3);
        let link = LinkConfig { mtu: 9_000, ..faults(&mut random) };
        let shards = 1 + random.below(3) as u16;
        let config = SimConfig { seed, shards, link, world: true, offload: random.chance(700), ..SimConfig::default() };
        // To the node of the backend and, where a client outside used another node, no further; the turns of the nodes and the
        // hand-overs between shards.
        let flight_max = link.flight_max() + Duration::from_millis(1);
        let judge = Rc::new(RefCell::new(Judge::new(flight_max)));
        let mut sim = Sim::new(config.clone());
        let observer = judge.clone();
        sim.observe(Box::new(move |delivery| observer.borrow_mut().check(delivery)));
        let observer = judge.clone();
        sim.observe_sent(Box::new(move |sending| observer.borrow_mut().sent(sending)));
        let world = World::new(random.fork(1));
        let mut run = Run { sim, judge, world, random, known: BTreeMap::new(), steps: format!("{config:#?}\n") };
        run.apply();
        run
    }

    /// Puts the world's objects in force, in the simulation and in the model at the same moment.
    fn apply(&mut self) {
        let problems = self.sim.apply(&self.world.manifest());
        assert!(problems.is_empty(), "the manifests are good: {problems:#?}\n{}", self.world.manifest());
        let objects: Vec<Value> =
            self.sim.objects().iter().map(|o| serde_json::to_value(&o.object).expect("objects serialize")).collect();
        let model = Model::new(&objects);
        self.known.extend(model.services.iter().map(|s| (s.name.clone(), s.addresses.clone())));
        self.judge.borrow_mut().change(self.sim.now(), model);
    }

    fn change(&mut self) {
        let change = self.world.change();
        self.note(&change);
        self.apply();
    }

    fn note(&mut self, step: &str) {
        writeln!(self.steps, "{:>9} us  {step}", self.sim.now().as_nanos() / 1_000).expect("a String takes it");
    }

    /// Starts a random conversation with a Service.
    fn start(&mut self) -> Conversation {
        let outside = self.random.chance(300);
        let from = match outside {
            true => Place::World,
            false => self.random.pick(&self.sim.pods()).clone(),
        };
        let (ipv4, is_tcp) = (self.random.chance(500), self.random.chance(500));
        let services: Vec<String> = self.known.keys().cloned().collect();
        let service = self.random.pick(&services).clone();
        let judge = self.judge.clone();
        let judge = judge.borrow();
        let model = judge.current();
        let at_node = outside || self.random.chance(300);
        let node = format!("node{}", 1 + self.random.below(2));
        let (addresses, port) = match at_node {
            true => {
                let index: u16 = service.trim_start_matches("svc").parse().expect("a number");
                (model.node_addresses(&node), NODE_PORT_BASE + index)
            }
            false => (self.known[&service].as_slice(), SERVICE_PORT),
        };
        let addr = *addresses.iter().find(|addr| addr.is_ipv4() == ipv4).expect("both families");
        let entered_at = match &from {
            Place::World => node,
            pod => model.pod_at(self.sim.addresses(pod)[0]).expect("it runs").1.clone(),
        };
        let (entry, asked) = (Entry { node: entered_at, outside }, Asked { is_tcp, to: SocketAddr::new(addr, port) });
        let expected = expect(model, &entry, &asked);
        let to = asked.to;
        let task = match is_tcp {
            true if self.random.chance(500) => Task::Transfer { to, bytes: self.random.below(100_000) },
            true => Task::Connect { to },
            false => Task::Datagram { to, payload_bytes: 40 },
        };
        let silent = matches!(expected, crate::Expected::Outcome(Outcome::Timeout) | crate::Expected::Any);
        let what = format!("{from} {task:?}, expected {expected:?}");
        let task = self.sim.start(&from, task, if silent { SILENCE } else { PATIENCE });
        self.note(&what);
        Conversation { task, from, what, expected }
    }

    /// Conversations while endpoints change: whatever they come to, nothing forbidden may be delivered.
    fn changing_round(&mut self) -> Result<(), String> {
        let mut started = Vec::new();
        for _ in 0..CHANGES_PER_ROUND {
            for _ in 0..1 + self.random.below(3) {
                started.push(self.start());
            }
            // Now within a round trip, now long enough for a SYN or datagram to come again.
            let pause = *self.random.pick(&[200, 2_000, 20_000, 700_000]);
            let pause = Duration::from_micros(self.random.below(pause));
            self.sim.run_for(pause);
            self.change();
        }
        self.sim.run_for(Duration::from_secs(3));
        started.iter().try_for_each(|conversation| self.check(conversation, false))
    }

    /// Conversations under tables that stay: each must come to what the model says.
    fn calm_round(&mut self) -> Result<(), String> {
        let started: Vec<_> = (0..CALM_TASKS).map(|_| self.start()).collect();
        for conversation in &started {
            self.sim.finish(conversation.task);
        }
        started.iter().try_for_each(|conversation| self.check(conversation, true))
    }

    fn check(&self, conversation: &Conversation, calm: bool) -> Result<(), String> {
        let Conversation { task, from, what, expected } = conversation;
        let report = self.sim.report(*task);
        let expected = if calm { expected } else { &crate::Expected::Any };
        check_report(report, expected).map_err(|why| format!("{what}: {why}: {report:?}"))?;
        match report.client {
            Some(seen) if *from == Place::World && !self.sim.addresses(from).contains(&seen.ip()) => {
                Err(format!("{what}: the pod saw {seen}"))
            }
            _ => Ok(()),
        }
    }

    fn rounds(&mut self) -> Result<(), String> {
        for round in 0..ROUNDS {
            self.note(&format!("round {round}"));
            let outcome = self.changing_round().and_then(|()| self.calm_round());
            match self.sim.violations() {
                [] => outcome.and_then(|()| self.sim.check_balance())?,
                violations => return Err(violations[..violations.len().min(3)].join("\n")),
            }
        }
        Ok(())
    }
}

/// What a new flow must come to.
fn expect(model: &Model, entry: &Entry, asked: &Asked) -> crate::Expected {
    let known = model.find(entry, asked).is_some();
    match (model.eligible(entry, asked).is_empty(), model.is_usable(entry, asked)) {
        (false, _) => crate::Expected::Outcome(Outcome::Connected),
        (true, true) => crate::Expected::Outcome(Outcome::Timeout),
        (true, false) if known => crate::Expected::Outcome(Outcome::Refused),
        // Nobody's address or port.
        (true, false) => crate::Expected::Any,
    }
}

#[test]
fn no_packet_reaches_a_pod_that_is_no_eligible_backend_at_that_moment() {
    let (mut opened, mut continued, mut sticky, mut from_outside) = (0, 0, 0, 0);
    for seed in seeds(SEEDS) {
        let mut run = Run::new(seed);
        if let Err(why) = run.rounds() {
            let manifest = run.world.manifest();
            panic!("seed {seed}: {why}\n\nsteps:\n{}\n{}\n{manifest}\n\nseed {seed}: {why}", run.steps, run.sim);
        }
        let judge = run.judge.borrow();
        (opened, continued) = (opened + judge.opened, continued + judge.continued);
        (sticky, from_outside) = (sticky + judge.sticky, from_outside + judge.from_outside);
    }
    println!(
        "{opened} packets opened flows, {continued} went on with them, {from_outside} came from outside; {sticky} flows were to come back"
    );
    // A single seed may have hardly any endpoint.
    assert!(opened > 20 && continued > 50, "hardly anything was delivered: {opened}, {continued}");
}
