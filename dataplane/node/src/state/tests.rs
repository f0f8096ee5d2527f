use super::*;
use crate::TapKind;
use std::sync::atomic::{AtomicU32, Ordering};
use switch::{PortId, RECORD_BYTES, ShardId};
use wire::{Instant, MacAddr};

/// A folder that goes away with its value.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Folder(std::env::temp_dir().join(format!("podplane-state-{}-{number}", std::process::id())))
    }

    fn state(&self) -> StateDir {
        StateDir::open(&self.0).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn port(name: &str, shard: u16) -> PortInfo {
    PortInfo {
        id: PortId(7),
        shard: ShardId(shard),
        kind: PortKind::Pod { namespace: "test".to_owned(), name: name.to_owned() },
        netns: PathBuf::new(),
        ifname: "eth0".to_owned(),
        mac: MacAddr::default(),
        addresses: vec!["10.244.1.2".parse().unwrap(), "fd00:10:244:1::2".parse().unwrap()],
        gateways: Vec::new(),
        mtu: 1450,
        tap: TapKind::Plain,
    }
}

#[test]
fn records_come_back_at_their_positions() {
    let folder = Folder::new();
    let file = folder.state().create(&port("a", 1), 4).unwrap().flows;
    file.write(2, &[7; RECORD_BYTES]).unwrap();
    drop(file);
    let state = folder.state();
    assert_eq!(state.shard_before(&port("a", 0), 4), Some(ShardId(1)));
    assert_eq!(state.shard_before(&port("a", 0), 2), None, "shards are counted anew");
    let (file, left) = state.take_over(&port("a", 0), 4).unwrap();
    assert_eq!(left.records.len(), 3 * RECORD_BYTES);
    assert_eq!(left.records[2 * RECORD_BYTES..], [7; RECORD_BYTES]);
    drop(file);
    assert_eq!(state.shard_before(&port("a", 0), 4), Some(ShardId(0)));
}

#[test]
fn nobody_gets_the_flows_of_somebody_else() {
    let folder = Folder::new();
    let state = folder.state();
    let write = || state.create(&port("a", 0), 1).unwrap().flows.write(0, &[7; RECORD_BYTES]).unwrap();
    write();
    assert_eq!(state.take_over(&port("b", 0), 1).unwrap().1, Left::default(), "the same address, another pod");
    write();
    let other_boot = StateDir { boot: state.boot + 1, ..folder.state() };
    assert_eq!(other_boot.take_over(&port("a", 0), 1).unwrap().1, Left::default(), "another boot");
    write();
    state.create(&port("a", 0), 1).unwrap();
    assert_eq!(state.take_over(&port("a", 0), 1).unwrap().1, Left::default(), "a port that was attached anew");
}

#[test]
fn a_file_that_is_cut_short_or_none_of_ours_is_begun_anew() {
    let folder = Folder::new();
    let state = folder.state();
    for content in
        [&b""[..], b"PPFLOW01", b"something else that is longer than a header of sixty-four bytes is, to be sure"]
    {
        fs::write(folder.0.join("flows/10.244.1.2"), content).unwrap();
        let (file, left) = state.take_over(&port("a", 0), 1).unwrap();
        assert_eq!(left, Left::default());
        file.flows.write(0, &[7; RECORD_BYTES]).unwrap();
        assert_eq!(state.take_over(&port("a", 0), 1).unwrap().1.records, [7; RECORD_BYTES]);
    }
}

#[test]
fn names_come_back_and_nobody_gets_those_of_somebody_else() {
    let folder = Folder::new();
    let state = folder.state();
    let (a, b) = ("192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap());
    let names = [(Instant::from_millis(5), a, "a.example"), (Instant::from_millis(9), b, "*.b.example")];
    let write = || {
        let files = state.create(&port("a", 0), 1).unwrap();
        files.names.unwrap().write(&mut names.into_iter()).unwrap();
    };
    write();
    assert!(state.take_over(&port("a", 0), 1).unwrap().1.names.iter().eq(names));
    assert_eq!(state.take_over(&port("b", 0), 1).unwrap().1, Left::default(), "the same address, another pod");
    write();
    let path = folder.0.join("names/10.244.1.2");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{text}5 nobody a.example\nrubbish\n{}", &text[34..])).unwrap();
    assert_eq!(state.take_over(&port("a", 0), 1).unwrap().1.names.iter().count(), 4, "what cannot be read is left out");
    state.keep_only([].iter());
    assert!(!path.exists());
}

#[test]
fn files_of_ports_that_are_gone_are_removed() {
    let folder = Folder::new();
    let state = folder.state();
    state.create(&port("a", 0), 1).unwrap();
    fs::write(folder.0.join("flows/10.244.1.9"), "left over").unwrap();
    state.keep_only([port("a", 0)].iter());
    let left: Vec<_> = fs::read_dir(folder.0.join("flows")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["10.244.1.2"]);
    state.take_over(&port("a", 0), 1).unwrap().0.remove();
    assert_eq!(fs::read_dir(folder.0.join("flows")).unwrap().count(), 0);
    assert!(remove_all(&folder.0).unwrap());
    assert!(!remove_all(&folder.0).unwrap());
    assert!(!folder.0.join("flows").exists());
}
