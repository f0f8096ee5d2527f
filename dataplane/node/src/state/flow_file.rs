//! The file that keeps the records of one port's flows.
//!
//! A header says whose they are; behind it each position of the port's flow table has its record, or zeroes. A record is written in
//! place with one call and reads as nothing or broken if that was cut short, so the file needs neither a log nor an order of
//! writes. It lives as long as the page cache: whatever ends the process, what was written is there.
//!
//! ```text
//! 0 magic, 8 bytes   8 boot   16 port   24 shard, 2 bytes   26 shards, 2 bytes   28 zeroes to 64   64 records
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use switch::{RECORD_BYTES, ShardId};

/// Which form header and records have. Another form gets another number.
const MAGIC: [u8; 8] = *b"PPFLOW01";

const HEADER_BYTES: usize = 64;

/// Whose the flows of a file are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    /// Of the boot.
    pub(crate) boot: u64,
    /// Of the port.
    pub(crate) port: u64,
    /// The shard that serves the port.
    pub(crate) shard: u16,
    /// Of so many.
    pub(crate) shards: u16,
}

/// An open file. Dropping it leaves it where it is.
#[derive(Debug)]
pub(crate) struct FlowFile {
    file: File,
    path: PathBuf,
}

impl FlowFile {
    /// A file without records in place of whatever is at `path`.
    pub(crate) fn create(path: PathBuf, owner: &Owner) -> io::Result<FlowFile> {
        let file = open(&path)?;
        let flows = FlowFile { file, path };
        flows.begin(owner)?;
        Ok(flows)
    }

    /// The file at `path` and its records, by position; none if they are somebody else's.
    pub(crate) fn take_over(path: PathBuf, owner: &Owner) -> io::Result<(FlowFile, Vec<u8>)> {
        let file = open(&path)?;
        let mut bytes = Vec::new();
        (&file).read_to_end(&mut bytes)?;
        let flows = FlowFile { file, path };
        if !owner.has(&bytes) {
            flows.begin(owner)?;
            return Ok((flows, Vec::new()));
        }
        // The shard may be another one.
        flows.file.write_all_at(&owner.header(), 0)?;
        Ok((flows, bytes.split_off(HEADER_BYTES)))
    }

    /// Which shard is in the file at `path`, if it is of `owner` and as many shards.
    pub(crate) fn shard_before(path: &Path, owner: &Owner) -> Option<ShardId> {
        let mut header = [0; HEADER_BYTES];
        File::open(path).and_then(|mut file| file.read_exact(&mut header)).ok()?;
        let [shard, shards] = [24, 26].map(|at| u16::from_le_bytes([header[at], header[at + 1]]));
        (owner.has(&header) && shards == owner.shards && shard < shards).then_some(ShardId(shard))
    }

    /// Writes records from `position` on.
    pub(crate) fn write(&self, position: u32, records: &[u8]) -> io::Result<()> {
        let at = HEADER_BYTES as u64 + u64::from(position) * RECORD_BYTES as u64;
        self.file.write_all_at(records, at)
    }

    /// Removes it: the port is gone.
    pub(crate) fn remove(&self) {
        // One that stays is of a port that is not there at the next start.
        let _ = fs::remove_file(&self.path);
    }

    fn begin(&self, owner: &Owner) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.write_all_at(&owner.header(), 0)
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

impl Owner {
    fn header(&self) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(&MAGIC);
        header[8..16].copy_from_slice(&self.boot.to_le_bytes());
        header[16..24].copy_from_slice(&self.port.to_le_bytes());
        header[24..26].copy_from_slice(&self.shard.to_le_bytes());
        header[26..28].copy_from_slice(&self.shards.to_le_bytes());
        header
    }

    /// Boot and port as text.
    pub(crate) fn line(&self) -> String {
        format!("{:016x} {:016x}", self.boot, self.port)
    }

    /// Whether a file that begins with `bytes` is of this boot and port.
    fn has(&self, bytes: &[u8]) -> bool {
        bytes.len() >= HEADER_BYTES && bytes[..24] == self.header()[..24]
    }
}
