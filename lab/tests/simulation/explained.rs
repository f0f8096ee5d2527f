//! What `explain` and `policy matrix` say equals what a packet then experiences (W05, W06): for each seed a random cluster and
//! random questions about it; each is asked first, then the packet is sent, and outcome, backend, source address, drop reason
//! and the end that denied must be what was said.
//!
//! A question that fails is asked again in ever smaller clusters, so that what is printed is small.

mod compare;
mod experience;
mod world;

use compare::{compare, explain};
use experience::experience;
use lab::sim::{Random, Sim, SimConfig};
use policy::objects::Severity;
use serde_json::Value;
use std::collections::BTreeMap;
use world::{Question, Targets};

const SEEDS: u64 = 48;
const QUESTIONS: usize = 24;

/// A cluster of these objects, without faults.
fn cluster(objects: &[Value], seed: u64, shards: u16) -> Sim {
    let mut sim = Sim::new(SimConfig { seed, shards, world: true, ..SimConfig::default() });
    let problems = sim.apply(&manifest(objects));
    let refused = problems.iter().find(|problem| problem.severity > Severity::Warning);
    assert!(refused.is_none(), "the manifests are good: {}\n{}", refused.expect("one"), manifest(objects));
    sim
}

fn manifest(objects: &[Value]) -> String {
    let documents: Vec<String> = objects.iter().map(Value::to_string).collect();
    documents.join("\n---\n")
}

/// The objects in force, as the controller filled them in.
fn completed(sim: &Sim) -> Vec<Value> {
    sim.objects().iter().map(|o| serde_json::to_value(&o.object).expect("objects serialize")).collect()
}

/// Asks and sends; gives what of it came about.
fn ask(sim: &mut Sim, question: &Question) -> Result<String, String> {
    let said = explain(sim, question)?;
    let experienced = experience(sim, question);
    let about = || format!("{question:?}\nsaid: {said:#?}\nexperienced: {experienced:#?}");
    compare(sim, question, &said, &experienced).map_err(|why| format!("{why}\n{}\n{sim}", about()))
}

/// The smallest cluster that is found in which the question still fails.
fn shrink(mut objects: Vec<Value>, question: &Question, (seed, shards): (u64, u16)) -> (Vec<Value>, String) {
    let fails = |objects: &[Value]| {
        let attempt = || {
            let mut sim = cluster(objects, seed, shards);
            let is_there = sim.places().any(|place| place.to_string() == question.from);
            if is_there { ask(&mut sim, question).err() } else { None }
        };
        std::panic::catch_unwind(attempt).ok().flatten()
    };
    let mut why = fails(&objects).unwrap_or_default();
    let mut at = objects.len();
    while at > 0 {
        at -= 1;
        let removed = objects.remove(at);
        match fails(&objects) {
            Some(still) => why = still,
            None => objects.insert(at, removed),
        }
    }
    (objects, why)
}

#[test]
fn w06_what_is_said_is_what_a_packet_experiences() {
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    for seed in crate::seeds(SEEDS) {
        let mut random = Random::new(seed).fork(4);
        let shards = 1 + random.below(3) as u16;
        let mut sim = cluster(&world::objects(&mut random), seed, shards);
        let objects = completed(&sim);
        let targets = Targets::of(&objects);
        for _ in 0..QUESTIONS {
            let question = targets.question(&mut random);
            match ask(&mut sim, &question) {
                Ok(kind) => *seen.entry(kind).or_default() += 1,
                Err(why) => {
                    let (small, still) = shrink(objects, &question, (seed, shards));
                    panic!(
                        "seed {seed}: {still}\n\n{}\n\nin the whole cluster: {why}\n\nseed {seed}",
                        manifest(&small)
                    );
                }
            }
        }
        sim.check_balance().unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
    println!("{seen:#?}");
    if crate::seeds(SEEDS) == (0..SEEDS) {
        for wanted in ["delivered", "denied", "rejected", "dropped", "external"] {
            let count: u32 = seen.iter().filter(|(kind, _)| kind.starts_with(wanted)).map(|(_, count)| count).sum();
            assert!(count >= 5, "{wanted} came about {count} times: {seen:#?}");
        }
    }
}
