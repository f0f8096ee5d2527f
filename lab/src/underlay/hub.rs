//! The underlay where the kernel refuses bridges or veth pairs: an Ethernet switch in a process, over plain TAPs.
//!
//! How it works: `lab internal hub RUN_DIR` listens on `RUN_DIR/hub.sock`. A line with a network namespace's file joins
//! that namespace: the hub opens a TAP named [`super::INTERFACE`] in it and gives it a thread, which reads frames, learns
//! where their sources are, and writes them to the port of their destination, or to all others. A port whose namespace is
//! gone ends with it. A mirror TAP named [`super::BRIDGE`] in the lab's own namespace gets a copy of everything, so that
//! captures of the underlay look the same as with a bridge.

use super::netlink::Netlink;
use super::{BRIDGE, INTERFACE};
use crate::error::{LabError, Result};
use crate::namespaces::{detach, internal_command, netns};
use crate::wait;
use node::PlainTap;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::Duration;

/// How long the process may take to listen.
const START_DEADLINE: Duration = Duration::from_secs(10);

/// Longest frame: the underlay's MTU, the Ethernet header and a VLAN tag.
const FRAME_LEN_MAX: usize = super::MTU as usize + 18;

/// Addresses remembered; a node has one or two. With more, all are learned again.
const ADDRESSES_MAX: usize = 1024;

fn socket(run_dir: &Path) -> PathBuf {
    run_dir.join("hub.sock")
}

/// Whether the lab's underlay is a hub.
pub(super) fn is_used(run_dir: &Path) -> bool {
    socket(run_dir).exists()
}

/// Starts the hub's process.
pub(super) fn start(run_dir: &Path) -> Result<()> {
    let log = run_dir.join("hub.log");
    let file = File::create(&log).map_err(|e| LabError::io(log.display(), e))?;
    let mut command = internal_command("hub")?;
    command.arg(run_dir);
    detach(&mut command, file)?;
    let mut child = command.spawn().map_err(|e| LabError::io("the underlay's hub", e))?;
    wait::until(START_DEADLINE, || is_used(run_dir) || !matches!(child.try_wait(), Ok(None)));
    if is_used(run_dir) {
        return Ok(());
    }
    let reason = std::fs::read_to_string(&log).unwrap_or_default();
    Err(LabError::Failed(format!("the underlay's hub did not start: {}", reason.trim())))
}

/// Asks the hub to join the network namespace at `netns`.
pub(super) fn join(run_dir: &Path, netns: &Path) -> io::Result<()> {
    let mut stream = UnixStream::connect(socket(run_dir))?;
    writeln!(stream, "{}", netns.display())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    match answer.trim() {
        "ok" => Ok(()),
        reason => Err(io::Error::other(reason.to_owned())),
    }
}

/// The hub's process, behind `lab internal hub RUN_DIR`.
pub(crate) fn run(run_dir: &Path) -> Result<i32> {
    let failed = |e: io::Error| LabError::io("hub", e);
    let mirror = open_tap(BRIDGE).map_err(failed)?;
    let hub = Arc::new(Hub { mirror, ports: RwLock::default(), addresses: RwLock::default() });
    let path = socket(run_dir);
    let draft = run_dir.join("hub.sock.tmp");
    let listener = UnixListener::bind(&draft).map_err(failed)?;
    // Under its name the socket is there only when it listens.
    std::fs::rename(&draft, &path).map_err(failed)?;
    for stream in listener.incoming() {
        let mut stream = stream.map_err(failed)?;
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).map_err(failed)?;
        let answer = match hub.add(Path::new(line.trim_end())) {
            Ok(()) => "ok".to_owned(),
            Err(error) => error.to_string(),
        };
        // Who asked may be gone.
        let _ = writeln!(stream, "{answer}");
    }
    Ok(0)
}

/// Opens a TAP in the network namespace of this thread and sets it up.
fn open_tap(name: &str) -> io::Result<PlainTap> {
    let tap = PlainTap::open(name)?;
    let mut netlink = Netlink::open()?;
    netlink.set_mtu(name, super::MTU)?;
    netlink.set_up(name)?;
    Ok(tap)
}

type MacAddress = [u8; 6];

struct Hub {
    mirror: PlainTap,
    ports: RwLock<Vec<Arc<PlainTap>>>,
    /// Where an address was last seen.
    addresses: RwLock<HashMap<MacAddress, Arc<PlainTap>>>,
}

impl Hub {
    fn add(self: &Arc<Hub>, netns: &Path) -> Result<()> {
        let port = Arc::new(netns::within(netns, || open_tap(INTERFACE))?);
        self.ports.write().expect("no thread panics here").push(port.clone());
        let hub = self.clone();
        std::thread::Builder::new()
            .name("hub".into())
            .spawn(move || {
                hub.carry(&port);
                hub.ports.write().expect("no thread panics here").retain(|other| !Arc::ptr_eq(other, &port));
                hub.addresses.write().expect("no thread panics here").retain(|_, other| !Arc::ptr_eq(other, &port));
            })
            .map_err(|e| LabError::io("hub", e))?;
        Ok(())
    }

    /// Carries frames from `port` until its namespace is gone.
    fn carry(&self, port: &Arc<PlainTap>) {
        let mut frame = [0; FRAME_LEN_MAX];
        loop {
            let len = match port.receive(&mut frame) {
                Ok(len) => len,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            let frame = &frame[..len];
            let Some((to, from)) = ends(frame) else { continue };
            self.learn(from, port);
            // A write fails when the other side is down or its queue is full: that frame is lost, as on a wire.
            let _ = self.mirror.send(frame);
            let known = self.addresses.read().expect("no thread panics here").get(&to).cloned();
            match known {
                Some(other) if Arc::ptr_eq(&other, port) => {}
                Some(other) => drop(other.send(frame)),
                None => {
                    let ports = self.ports.read().expect("no thread panics here");
                    ports.iter().filter(|other| !Arc::ptr_eq(other, port)).for_each(|other| drop(other.send(frame)));
                }
            }
        }
    }

    fn learn(&self, address: MacAddress, port: &Arc<PlainTap>) {
        let known = self.addresses.read().expect("no thread panics here").get(&address).cloned();
        // A group address is nobody's source.
        if address[0] & 1 == 1 || known.is_some_and(|other| Arc::ptr_eq(&other, port)) {
            return;
        }
        let mut addresses = self.addresses.write().expect("no thread panics here");
        if addresses.len() >= ADDRESSES_MAX {
            addresses.clear();
        }
        addresses.insert(address, port.clone());
    }
}

/// Destination and source of an Ethernet frame.
fn ends(frame: &[u8]) -> Option<(MacAddress, MacAddress)> {
    Some((frame.get(..6)?.try_into().ok()?, frame.get(6..12)?.try_into().ok()?))
}
