use super::*;
use proptest::prelude::*;
use std::collections::HashSet;
use std::path::PathBuf;
use tempfile::TempDir;

const BOOT: &str = "boot-1";

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A moment near the present: times of files on disk are the machine's.
fn after(seconds: u64) -> SystemTime {
    SystemTime::now() + Duration::from_secs(seconds)
}

fn name(id: &str) -> SandboxName {
    SandboxName::new(id, "eth0")
}

/// A folder with a state folder and files that stand for network namespaces.
struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new() -> Bench {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("netns")).unwrap();
        Bench { folder }
    }

    fn state_dir(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn netns(&self, id: &str) -> PathBuf {
        let path = self.folder.path().join("netns").join(id);
        if !path.exists() {
            fs::write(&path, "").unwrap();
        }
        path
    }

    fn open(&self, boot: &str, ranges: &[IpNet]) -> (Sandboxes, Vec<String>) {
        let (sandboxes, problems) =
            Sandboxes::open(Some(&self.state_dir()), boot, QUARANTINE, SystemTime::now()).unwrap();
        sandboxes.set_ranges(ranges);
        (sandboxes, problems)
    }

    fn record(&self, id: &str, addresses: &[IpAddr]) -> Record {
        let netns = self.netns(id);
        Record {
            version: RECORD_VERSION,
            container_id: id.to_owned(),
            ifname: "eth0".to_owned(),
            netns_inode: inode(&netns).unwrap(),
            netns,
            pod: PodName { namespace: "default".to_owned(), name: id.to_owned(), uid: Some("u-1".to_owned()) },
            addresses: addresses.to_vec(),
            leased: true,
            mac: "0a:00:00:00:00:01".parse().unwrap(),
            implicit: None,
            port_mappings: vec![PortMapping {
                host_port: 8080,
                container_port: 80,
                protocol: "tcp".to_owned(),
                host_ip: None,
            }],
            bandwidth: Some(Bandwidth { ingress_rate: 1_000_000, ..Bandwidth::default() }),
            network: Some("podplane".to_owned()),
            boot_id: BOOT.to_owned(),
            attached_unix_ms: 1_000,
        }
    }

    fn attach(&self, sandboxes: &Sandboxes, id: &str) -> Result<IpAddr, LeaseError> {
        let addresses = sandboxes.lease(&name(id), &[], SystemTime::now(), |_| false)?;
        sandboxes.keep(self.record(id, &addresses)).unwrap();
        Ok(addresses[0])
    }
}

#[test]
fn a_record_is_what_was_written_after_a_restart() {
    let bench = Bench::new();
    let ranges = [net("10.0.0.0/24")];
    let (sandboxes, problems) = bench.open(BOOT, &ranges);
    assert_eq!(problems, [""; 0]);
    bench.attach(&sandboxes, "a").unwrap();
    let (again, problems) = bench.open(BOOT, &ranges);
    assert_eq!(problems, [""; 0]);
    assert_eq!(again.all(), sandboxes.all());
    assert_eq!(again.find(&name("a")).unwrap().addresses, [addr("10.0.0.2")]);
    assert_eq!(again.lease(&name("b"), &[], after(0), |_| false).unwrap(), [addr("10.0.0.3")]);
}

#[test]
fn b11_a_full_range_is_full_again_after_a_crash_and_free_after_a_reboot() {
    let bench = Bench::new();
    let ranges = [net("10.0.0.0/28")];
    let fill = |sandboxes: &Sandboxes, round: u32| {
        (0..13).map(|pod| bench.attach(sandboxes, &format!("r{round}p{pod}")).unwrap()).collect::<HashSet<_>>()
    };
    // Every store is dropped as by a crash: nothing is said to it.
    let (sandboxes, _) = bench.open(BOOT, &ranges);
    assert_eq!(fill(&sandboxes, 1).len(), 13);
    let exhausted = bench.attach(&sandboxes, "one-more").unwrap_err();
    assert_eq!(exhausted, LeaseError::Exhausted(vec![net("10.0.0.0/28")]));
    assert_eq!(sandboxes.refuse(after(0), |_| false), Some(exhausted.clone()));
    let (sandboxes, _) = bench.open(BOOT, &ranges);
    assert_eq!(bench.attach(&sandboxes, "one-more").unwrap_err(), exhausted);
    // The sandboxes end while nobody looks.
    (0..13).for_each(|pod| fs::remove_file(bench.netns(&format!("r1p{pod}"))).unwrap());
    let (sandboxes, problems) = bench.open(BOOT, &ranges);
    assert_eq!(problems.len(), 13);
    assert_eq!(problems[0], "interface eth0 of container r1p0 was dropped: its network namespace is gone");
    assert_eq!(fill(&sandboxes, 2).len(), 13);
    let (sandboxes, problems) = bench.open("boot-2", &ranges);
    assert!(problems[0].ends_with("it is of an earlier boot"), "{problems:?}");
    assert_eq!(fill(&sandboxes, 3).len(), 13);
}

#[test]
fn p16_a_released_address_rests_over_a_restart_and_is_taken_early_only_when_nothing_else_is_free() {
    let bench = Bench::new();
    let ranges = [net("10.0.0.0/29")];
    let (sandboxes, _) = bench.open(BOOT, &ranges);
    for id in ["a", "b", "c"] {
        bench.attach(&sandboxes, id).unwrap();
    }
    // .2 rests longer than .3.
    let past = SystemTime::now() - Duration::from_secs(5);
    sandboxes.release(&name("a"), past);
    sandboxes.release(&name("b"), SystemTime::now());
    assert_eq!(bench.attach(&sandboxes, "d").unwrap(), addr("10.0.0.5"));
    let (sandboxes, _) = bench.open(BOOT, &ranges);
    assert_eq!(bench.attach(&sandboxes, "e").unwrap(), addr("10.0.0.6"), "the notes are on disk");
    assert_eq!(sandboxes.refuse(SystemTime::now(), |_| false), None);
    let early: Vec<IpAddr> = ["f", "g"].iter().map(|id| bench.attach(&sandboxes, id).unwrap()).collect();
    assert_eq!(early, [addr("10.0.0.2"), addr("10.0.0.3")]);
    assert!(bench.attach(&sandboxes, "h").is_err());
}

#[test]
fn an_address_that_has_rested_is_like_any_other() {
    let bench = Bench::new();
    let (sandboxes, _) = bench.open(BOOT, &[net("10.0.0.0/29")]);
    bench.attach(&sandboxes, "a").unwrap();
    sandboxes.release(&name("a"), SystemTime::now());
    let lease = |id: &str, seconds| sandboxes.lease(&name(id), &[], after(seconds), |_| false).unwrap()[0];
    let walked: Vec<IpAddr> = ["b", "c", "d", "e"].iter().map(|id| lease(id, 0)).collect();
    assert_eq!(walked, ["10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"].map(addr));
    sandboxes.give_back(&name("d"));
    assert_eq!(lease("f", 61), addr("10.0.0.2"), "the walk goes on where it was");
    assert_eq!(fs::read_dir(bench.state_dir().join("resting")).unwrap().count(), 0);
}

#[test]
fn p19_a_pod_gets_one_address_of_each_family_of_the_first_range_that_has_one() {
    let bench = Bench::new();
    let ranges = [net("10.0.0.0/30"), net("fd00::/64"), net("10.0.9.0/30")];
    let (sandboxes, _) = bench.open(BOOT, &ranges);
    let lease = |id: &str| sandboxes.lease(&name(id), &[], after(0), |_| false);
    assert_eq!(lease("a").unwrap(), [addr("10.0.0.2"), addr("fd00::2")]);
    assert_eq!(lease("b").unwrap(), [addr("10.0.9.2"), addr("fd00::3")]);
    assert_eq!(lease("c").unwrap_err(), LeaseError::Exhausted(vec![net("10.0.0.0/30"), net("10.0.9.0/30")]));
    // What failed took nothing of the other family.
    sandboxes.give_back(&name("a"));
    assert_eq!(lease("c").unwrap(), [addr("10.0.0.2"), addr("fd00::4")]);
}

#[test]
fn p17_an_address_by_request_is_given_if_it_is_free_and_a_pods() {
    let bench = Bench::new();
    let (sandboxes, _) = bench.open(BOOT, &[net("10.0.0.0/24"), net("fd00::/64")]);
    let lease = |id: &str, wanted: &[&str]| {
        let wanted: Vec<IpAddr> = wanted.iter().map(|text| addr(text)).collect();
        sandboxes.lease(&name(id), &wanted, after(0), |address| address == addr("10.0.0.99"))
    };
    assert_eq!(lease("a", &["fd00::77"]).unwrap(), [addr("10.0.0.2"), addr("fd00::77")]);
    assert_eq!(lease("b", &["10.0.0.2"]).unwrap_err(), LeaseError::Taken(addr("10.0.0.2"), Some(name("a"))));
    assert_eq!(lease("b", &["10.0.0.99"]).unwrap_err(), LeaseError::Taken(addr("10.0.0.99"), None));
    assert_eq!(lease("b", &["10.0.0.7", "10.0.0.8"]).unwrap_err(), LeaseError::OnePerFamily(addr("10.0.0.8")));
    for reserved in ["10.0.0.0", "10.0.0.1", "10.0.0.255", "10.0.1.2", "fd00::1"] {
        let refused = lease("b", &[reserved]).unwrap_err().to_string();
        assert!(refused.starts_with(&format!("the requested address {reserved} is not one of a pod")), "{refused}");
    }
    assert_eq!(lease("b", &["10.0.0.200"]).unwrap()[0], addr("10.0.0.200"));
    sandboxes.give_back(&name("b"));
    assert_eq!(lease("c", &[]).unwrap()[0], addr("10.0.0.201"), "the walk goes on behind it");
}

#[test]
fn a_broken_file_is_set_aside_by_name_and_the_rest_is_read() {
    let bench = Bench::new();
    let ranges = [net("10.0.0.0/24")];
    let (sandboxes, _) = bench.open(BOOT, &ranges);
    bench.attach(&sandboxes, "a").unwrap();
    bench.attach(&sandboxes, "later").unwrap();
    let records = bench.state_dir().join("sandboxes");
    fs::write(records.join("b@eth0.json"), "{\"version\": 1, ").unwrap();
    fs::copy(records.join("a@eth0.json"), records.join("other@eth0.json")).unwrap();
    fs::write(records.join(".77-1"), "half").unwrap();
    let later = fs::read_to_string(records.join("later@eth0.json")).unwrap();
    fs::write(records.join("later@eth0.json"), later.replace("\"version\": 1", "\"version\": 2")).unwrap();
    let (sandboxes, mut problems) = bench.open(BOOT, &ranges);
    assert_eq!(sandboxes.all().len(), 1);
    problems.sort();
    let [broken, later, other] = &problems[..] else { panic!("{problems:?}") };
    assert!(broken.contains("b@eth0.json is no record of a sandbox (EOF"), "{broken}");
    assert!(broken.contains("it was renamed to ") && broken.contains("b@eth0.json.broken;"), "{broken}");
    assert!(later.contains("its version is 2, and this podplane reads version 1"), "{later}");
    assert!(other.contains("it is about interface eth0 of container a"), "{other}");
    let mut left: Vec<String> = fs::read_dir(&records)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with(".broken"))
        .collect();
    left.sort();
    assert_eq!(left, ["a@eth0.json"]);
    assert_eq!(bench.open(BOOT, &ranges).1, [""; 0], "it is told once");
}

#[test]
fn no_name_leaves_the_folder() {
    for (id, ifname, file) in [
        ("../../etc/passwd", "eth0", "%2E.%2F..%2Fetc%2Fpasswd@eth0.json"),
        ("", "", "@.json"),
        (".hidden", "a@b", "%2Ehidden@a%40b.json"),
        ("a@b", "c", "a%40b@c.json"),
        ("ü", "e\0", "%C3%BC@e%00.json"),
    ] {
        assert_eq!(SandboxName::new(id, ifname).file(), file);
    }
}

#[test]
fn p07_what_was_given_back_leaves_nothing_and_a_record_that_cannot_be_written_neither() {
    let bench = Bench::new();
    let (sandboxes, _) = bench.open(BOOT, &[net("10.0.0.0/29")]);
    let records = bench.state_dir().join("sandboxes");
    let address = bench.attach(&sandboxes, "a").unwrap();
    sandboxes.give_back(&name("a"));
    assert_eq!(fs::read_dir(&records).unwrap().count(), 0);
    sandboxes.claim(&name("b"), &[address]).expect("it is free and does not rest");
    fs::remove_dir(&records).unwrap();
    sandboxes.keep(bench.record("b", &[address])).unwrap_err();
    sandboxes.claim(&name("c"), &[address]).expect("it is free again");
    assert_eq!(sandboxes.all(), []);
}

#[test]
fn p09_ending_an_unknown_sandbox_changes_nothing() {
    let bench = Bench::new();
    let (sandboxes, _) = bench.open(BOOT, &[net("10.0.0.0/29")]);
    bench.attach(&sandboxes, "a").unwrap();
    assert!(sandboxes.release(&name("b"), SystemTime::now()).0.is_none());
    assert!(sandboxes.release(&SandboxName::new("a", "eth1"), SystemTime::now()).0.is_none());
    assert_eq!(sandboxes.all().len(), 1);
    assert!(sandboxes.release(&name("a"), SystemTime::now()).0.is_some());
    assert_eq!(sandboxes.all(), []);
}

#[test]
fn without_a_folder_records_live_as_long_as_the_process() {
    let (sandboxes, problems) = Sandboxes::open(None, BOOT, QUARANTINE, SystemTime::now()).unwrap();
    assert_eq!(problems, [""; 0]);
    sandboxes.set_ranges(&[net("10.0.0.0/24")]);
    let bench = Bench::new();
    let address = bench.attach(&sandboxes, "a").unwrap();
    let (record, failed) = sandboxes.release(&name("a"), SystemTime::now());
    assert_eq!((record.unwrap().addresses, failed.is_none()), (vec![address], true));
    assert_eq!(bench.attach(&sandboxes, "b").unwrap(), addr("10.0.0.3"));
}

#[test]
fn a_range_without_room_for_a_pod_gives_nothing() {
    for tiny in ["10.0.0.0/32", "10.0.0.0/31", "fd00::/128", "fd00::/127"] {
        let (sandboxes, _) = Sandboxes::open(None, BOOT, QUARANTINE, SystemTime::now()).unwrap();
        sandboxes.set_ranges(&[net(tiny)]);
        assert!(sandboxes.lease(&name("a"), &[], after(0), |_| false).is_err(), "{tiny}");
    }
}

proptest! {
    // Each step waits for the disk.
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// However sandboxes come, go and fail, and whenever the process crashes: no address has two holders, and all are pods'.
    #[test]
    fn p14_no_address_is_held_twice(steps in prop::collection::vec((0u8..5, 0u8..20), 1..60)) {
        let bench = Bench::new();
        let ranges = [net("10.0.0.0/28"), net("fd00::/124")];
        let (mut sandboxes, _) = bench.open(BOOT, &ranges);
        for (what, id) in steps {
            let id = format!("c{id}");
            match what {
                0 | 1 if sandboxes.find(&name(&id)).is_none() => drop(bench.attach(&sandboxes, &id)),
                2 => drop(sandboxes.release(&name(&id), SystemTime::now())),
                3 => sandboxes = bench.open(BOOT, &ranges).0,
                _ => {
                    let probe = name("probe");
                    let _ = sandboxes.lease(&probe, &[], SystemTime::now(), |_| false);
                    sandboxes.give_back(&probe);
                }
            }
            let held: Vec<IpAddr> = sandboxes.all().into_iter().flat_map(|record| record.addresses).collect();
            prop_assert_eq!(held.iter().collect::<HashSet<_>>().len(), held.len());
            prop_assert!(held.iter().all(|address| ranges.iter().any(|range| range.contains(address))));
        }
    }
}
