//! What outlives the process: the folder of a node in which the flows of its ports are kept, and the names that its pods know.
//!
//! ```text
//! FOLDER/flows/host, uplink, ADDRESS   the records of a port's flows; a pod's port has the name of its first address
//!        names/ADDRESS                 what the pod knows addresses by, if its policies read that
//! ```
//! Nothing here outlives the machine: a file of another boot is begun anew. Each file also says whose port it is of, so that nobody
//! gets the flows of somebody else who had the address before.

mod flow_file;
mod name_file;

pub(crate) use flow_file::FlowFile;
use flow_file::Owner;
pub(crate) use name_file::{NameFile, ReadNames};

use crate::PortInfo;
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use switch::PortKind;

/// Folders below the state folder.
const FLOWS: &str = "flows";
const NAMES: &str = "names";

/// What the kernel calls this boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The folder.
#[derive(Debug)]
pub(crate) struct StateDir {
    flows: PathBuf,
    names: PathBuf,
    boot: u64,
}

/// The files of one port.
#[derive(Debug)]
pub(crate) struct PortFiles {
    pub(crate) flows: FlowFile,
    /// Of a pod.
    pub(crate) names: Option<NameFile>,
}

/// What a process before this one has left of a port.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) records: Vec<u8>,
    pub(crate) names: ReadNames,
}

impl PortFiles {
    /// Removes them: the port is gone.
    pub(crate) fn remove(&self) {
        self.flows.remove();
        self.names.iter().for_each(NameFile::remove);
    }
}

impl StateDir {
    /// Makes the folder, if it is not there.
    pub(crate) fn open(folder: &Path) -> io::Result<StateDir> {
        let [flows, names] = [FLOWS, NAMES].map(|name| folder.join(name));
        for folder in [&flows, &names] {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        Ok(StateDir { flows, names, boot: hash([fs::read(BOOT_ID)?.as_slice()]) })
    }

    /// The files of a port that has no flows yet.
    pub(crate) fn create(&self, port: &PortInfo, shards: usize) -> io::Result<PortFiles> {
        let owner = self.owner(port, shards);
        let names = self.name_path(port).map(|path| NameFile::create(path, &owner));
        Ok(PortFiles { flows: FlowFile::create(self.path(port), &owner)?, names })
    }

    /// The files of a port that a process before this one may have served, and what it left.
    pub(crate) fn take_over(&self, port: &PortInfo, shards: usize) -> io::Result<(PortFiles, Left)> {
        let owner = self.owner(port, shards);
        let (flows, records) = FlowFile::take_over(self.path(port), &owner)?;
        let (names, known) = self.name_path(port).map(|path| NameFile::take_over(path, &owner)).unzip();
        Ok((PortFiles { flows, names }, Left { records, names: known.unwrap_or_default() }))
    }

    /// Which shard served the port before; `None` if that is not known, or was among another number of shards.
    pub(crate) fn shard_before(&self, port: &PortInfo, shards: usize) -> Option<switch::ShardId> {
        FlowFile::shard_before(&self.path(port), &self.owner(port, shards))
    }

    /// Removes the files of all other ports.
    pub(crate) fn keep_only<'a>(&self, ports: impl Iterator<Item = &'a PortInfo>) {
        let paths = ports.flat_map(|port| self.name_path(port).into_iter().chain([self.path(port)]));
        let paths: BTreeSet<PathBuf> = paths.collect();
        let entries = [&self.flows, &self.names].into_iter().filter_map(|folder| fs::read_dir(folder).ok());
        for entry in entries.flatten().flatten().filter(|entry| !paths.contains(&entry.path())) {
            // What stays is looked at again at the next start.
            let _ = fs::remove_file(entry.path());
        }
    }

    fn name_path(&self, port: &PortInfo) -> Option<PathBuf> {
        let is_pod = matches!(port.kind, PortKind::Pod { .. });
        port.addresses.first().filter(|_| is_pod).map(|address| self.names.join(address.to_string()))
    }

    fn path(&self, port: &PortInfo) -> PathBuf {
        self.flows.join(match &port.kind {
            PortKind::Host => "host".to_owned(),
            PortKind::Uplink => "uplink".to_owned(),
            PortKind::Pod { .. } => port.addresses.first().map(ToString::to_string).unwrap_or_default(),
        })
    }

    fn owner(&self, port: &PortInfo, shards: usize) -> Owner {
        let name = match &port.kind {
            PortKind::Pod { namespace, name } => format!("{namespace}/{name}"),
            PortKind::Host | PortKind::Uplink => String::new(),
        };
        let addresses: Vec<String> = port.addresses.iter().map(ToString::to_string).collect();
        let port_hash = hash([name.as_bytes(), addresses.join(" ").as_bytes()]);
        Owner { boot: self.boot, port: port_hash, shard: port.shard.0, shards: shards as u16 }
    }
}

/// Removes the files of all ports of a node that does not run; whether there were any.
pub(crate) fn remove_all(folder: &Path) -> io::Result<bool> {
    let remove = |name| match fs::remove_dir_all(folder.join(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        other => other.map(|()| true),
    };
    Ok(remove(FLOWS)? | remove(NAMES)?)
}

/// FNV-1a over `parts`, each with its end.
fn hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let step = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let with_end = parts.into_iter().flat_map(|part| part.iter().chain(&[0xff]));
    with_end.fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests;
