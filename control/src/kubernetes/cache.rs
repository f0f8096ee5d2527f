//! The objects on disk, so that a node that starts while the API server is down still knows its cluster.
//!
//! The file is a log of lines: a header, then objects as they are used and names of objects that are gone, the last line of a
//! name counts. It begins as `NAME.new` and gets its name by renaming when every object was written once (the line
//! `complete`), so a file of that name is never half a cluster. After that, lines are added; one write every few seconds. When
//! more of the file is outdated than not, what is left of it is copied to a new one, which takes its place in the same way.
//!
//! A line that cannot be read ends the file: what stands before it is the cluster as it was a moment earlier, what comes after
//! might contradict it. Secrets are never written.

use super::store::{Line, Name};
use policy::objects::Kind;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Of the format; a file of another version is not read.
const VERSION: u64 = 1;

/// A file is copied when it has this many bytes more than twice what is in use: small files are not worth it.
const OUTDATED_BYTES_MAX: u64 = 1 << 20;

/// Bytes of a cache that is read: at a kilobyte for each object, as many as there may be.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// What a cache holds.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    /// Objects with their kinds, in no order.
    pub(super) objects: Vec<(Kind, Value)>,
    /// Time since it was written last.
    pub(super) age: Duration,
    /// Why the end of the file was not read, if it was not.
    pub(super) cut: Option<String>,
}

/// Reads the cache at `path` of what `server` had. Nothing if there is no file; an error says why it cannot be used.
pub(super) fn load(path: &Path, server: &str) -> Result<Option<Loaded>, String> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let modified = file.metadata().and_then(|metadata| metadata.modified()).map_err(|error| error.to_string())?;
    let age = SystemTime::now().duration_since(modified).unwrap_or_default();
    let mut lines = BufReader::new(file.take(FILE_BYTES_MAX)).split(b'\n');
    let mut next = || lines.next()?.ok().and_then(|line| serde_json::from_slice::<Value>(&line).ok());
    let header = next().ok_or("its first line cannot be read")?;
    if header["version"] != VERSION {
        return Err(format!("it has version {}, this is version {VERSION}", header["version"]));
    }
    if header["server"] != server {
        return Err(format!("it is of {}, this is {server}", header["server"]));
    }
    let mut objects: HashMap<(Kind, String), Value> = HashMap::new();
    let (mut is_complete, mut count, mut cut) = (false, 1u64, None);
    while let Some(mut line) = next() {
        count += 1;
        if line["complete"] == true {
            is_complete = true;
            continue;
        }
        let is_deleted = line.get("deleted").is_some();
        let name =
            line.get("deleted").or(line.get("put")).and_then(Value::as_str).and_then(|name| name.split_once(' '));
        let name = name.and_then(|(kind, key)| Some((Kind::find(kind)?, key.to_owned())));
        let Some(name) = name else {
            cut = Some(format!("line {count} makes no sense"));
            break;
        };
        match is_deleted {
            true => drop(objects.remove(&name)),
            false => drop(objects.insert(name, line["object"].take())),
        }
    }
    if !is_complete {
        return Err("it was not written to its end".to_owned());
    }
    if cut.is_none() && lines.next().is_some() {
        cut = Some(format!("line {} cannot be read", count + 1));
    }
    let objects = objects.into_iter().map(|((kind, _), object)| (kind, object)).collect();
    Ok(Some(Loaded { objects, age, cut }))
}

/// A cache that is written.
pub(super) struct Cache {
    path: PathBuf,
    server: String,
    file: File,
    /// Bytes of whole lines in the file.
    bytes: u64,
    /// Where the last line of each object is, and how long it is.
    places: HashMap<Name, (u64, u32)>,
    /// Sum of these.
    used_bytes: u64,
    /// Whether the file has its name.
    is_complete: bool,
}

impl Cache {
    /// Begins a file that will replace the one at `path`.
    pub(super) fn begin(path: &Path, server: &str) -> io::Result<Cache> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut cache = Cache {
            path: path.to_owned(),
            server: server.to_owned(),
            file: create(&beside(path))?,
            bytes: 0,
            places: HashMap::new(),
            used_bytes: 0,
            is_complete: false,
        };
        cache.add(&cache.header())?;
        Ok(cache)
    }

    fn header(&self) -> String {
        let header =
            json!({"podplane": "objects of a Kubernetes API server", "version": VERSION, "server": self.server});
        format!("{header}\n")
    }

    /// Adds lines; what was not written is given back with the reason.
    pub(super) fn write(&mut self, lines: Vec<Line>) -> Result<(), (Vec<Line>, io::Error)> {
        let lines: Vec<Line> = lines.into_iter().filter(|((kind, _), _)| *kind != Kind::Secret).collect();
        let mut text = String::new();
        let mut places = Vec::with_capacity(lines.len());
        for ((kind, key), object) in &lines {
            let start = text.len();
            let name = Value::from(format!("{kind} {key}"));
            match object {
                Some(object) => text.push_str(&format!("{{\"put\":{name},\"object\":{object}}}\n")),
                None => text.push_str(&format!("{{\"deleted\":{name}}}\n")),
            }
            places.push((start as u64, (text.len() - start) as u32));
        }
        let first = self.bytes;
        if let Err(error) = self.add(&text) {
            return Err((lines, error));
        }
        for (((kind, key), object), (start, bytes)) in lines.into_iter().zip(places) {
            let name = (kind, key);
            let before = match object {
                Some(_) => {
                    self.used_bytes += u64::from(bytes);
                    self.places.insert(name, (first + start, bytes))
                }
                None => self.places.remove(&name),
            };
            self.used_bytes -= before.map_or(0, |(_, bytes)| u64::from(bytes));
        }
        Ok(())
    }

    /// Adds whole lines, or nothing.
    fn add(&mut self, text: &str) -> io::Result<()> {
        let written = self.file.write_all(text.as_bytes());
        if let Err(error) = written {
            // A part of a line would hide all that comes after it.
            self.file.set_len(self.bytes)?;
            self.file.seek(SeekFrom::Start(self.bytes))?;
            return Err(error);
        }
        self.bytes += text.len() as u64;
        Ok(())
    }

    /// Gives the file its name: all objects were written. Later it has no more to do than to keep the file short.
    pub(super) fn complete(&mut self) -> io::Result<()> {
        if !self.is_complete {
            self.add("{\"complete\":true}\n")?;
            self.take_place()?;
        } else if self.bytes > 2 * self.used_bytes + OUTDATED_BYTES_MAX {
            self.shorten()?;
        }
        Ok(())
    }

    fn take_place(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        fs::rename(beside(&self.path), &self.path)?;
        self.is_complete = true;
        Ok(())
    }

    /// Copies what is in use to a new file.
    fn shorten(&mut self) -> io::Result<()> {
        let mut copy = Cache::begin(&self.path, &self.server)?;
        let mut places: Vec<_> = self.places.iter().map(|(name, place)| (*place, name.clone())).collect();
        places.sort_unstable_by_key(|((start, _), _)| *start);
        let mut from = BufReader::new(File::open(&self.path)?);
        let mut at = 0u64;
        let mut line = Vec::new();
        for ((start, bytes), name) in places {
            from.seek_relative((start - at) as i64)?;
            line.resize(bytes as usize, 0);
            from.read_exact(&mut line)?;
            at = start + u64::from(bytes);
            let text = std::str::from_utf8(&line).map_err(io::Error::other)?;
            copy.places.insert(name, (copy.bytes, bytes));
            copy.used_bytes += u64::from(bytes);
            copy.add(text)?;
        }
        copy.complete()?;
        *self = copy;
        Ok(())
    }
}

/// Objects are no secrets, but nobody else's business either.
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const SERVER: &str = "https://192.0.2.1:6443";

    fn line(key: &str, object: Option<Value>) -> Line {
        ((Kind::Pod, key.into()), object.map(|object| object.to_string()))
    }

    fn read(path: &Path) -> Result<BTreeMap<String, Value>, String> {
        let loaded = load(path, SERVER)?.ok_or("no file")?;
        assert!(loaded.age < Duration::from_secs(3600));
        Ok(loaded.objects.into_iter().map(|(kind, object)| (format!("{kind} {}", object["n"]), object)).collect())
    }

    struct Bench {
        _folder: tempfile::TempDir,
        path: PathBuf,
        cache: Cache,
    }

    fn bench() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/objects");
        let cache = Cache::begin(&path, SERVER).unwrap();
        Bench { _folder: folder, path, cache }
    }

    #[test]
    fn a_cache_is_there_when_all_was_written_once_and_follows_from_then_on() {
        let mut bench = bench();
        bench.cache.write(vec![line("a/x", Some(json!({"n": 1}))), line("a/y", Some(json!({"n": 2})))]).unwrap();
        assert!(load(&bench.path, SERVER).unwrap().is_none(), "half a cluster has no name");
        bench.cache.complete().unwrap();
        assert_eq!(read(&bench.path).unwrap().len(), 2);
        bench.cache.write(vec![line("a/x", None), line("a/y", Some(json!({"n": 3})))]).unwrap();
        assert_eq!(read(&bench.path).unwrap().into_keys().collect::<Vec<_>>(), ["Pod 3"]);
        assert!(load(&bench.path, "https://192.0.2.2").unwrap_err().contains("this is https://192.0.2.2"));
    }

    #[test]
    fn secrets_are_never_written() {
        let mut bench = bench();
        bench.cache.write(vec![((Kind::Secret, "a/key".into()), Some(json!({"n": "secret"}).to_string()))]).unwrap();
        bench.cache.complete().unwrap();
        assert!(!fs::read_to_string(&bench.path).unwrap().contains("secret"));
    }

    #[test]
    fn a_file_that_was_cut_anywhere_holds_what_stands_before_the_cut_or_is_refused() {
        let mut bench = bench();
        bench.cache.write(vec![line("a/x", Some(json!({"n": 1})))]).unwrap();
        bench.cache.complete().unwrap();
        let base = fs::metadata(&bench.path).unwrap().len() as usize;
        bench.cache.write(vec![line("a/y", Some(json!({"n": 2})))]).unwrap();
        let whole = fs::read(&bench.path).unwrap();
        for length in 0..whole.len() {
            fs::write(&bench.path, &whole[..length]).unwrap();
            match read(&bench.path) {
                // The line feed at the end is no part of what must be there.
                Ok(objects) => assert!(length + 1 >= base && objects.contains_key("Pod 1"), "{length}"),
                Err(_) => assert!(length < base, "{length}"),
            }
        }
        let mut spoiled = whole.clone();
        spoiled.extend_from_slice(b"{\"put\":7}\n{\"deleted\":\"Pod a/x\"}\n");
        fs::write(&bench.path, spoiled).unwrap();
        assert_eq!(read(&bench.path).unwrap().len(), 2, "nothing after a broken line counts");
        assert!(load(&bench.path, SERVER).unwrap().unwrap().cut.unwrap().contains("makes no sense"));
    }

    #[test]
    fn a_file_stays_short_however_often_objects_change() {
        let mut bench = bench();
        let padding = "x".repeat(10_000);
        bench.cache.write(vec![line("a/still", Some(json!({"n": "still"})))]).unwrap();
        for change in 0..1000 {
            bench.cache.write(vec![line("a/x", Some(json!({"n": change, "p": padding})))]).unwrap();
            bench.cache.complete().unwrap();
        }
        assert!(fs::metadata(&bench.path).unwrap().len() < 2 * OUTDATED_BYTES_MAX);
        assert_eq!(read(&bench.path).unwrap().into_keys().collect::<Vec<_>>(), ["Pod \"still\"", "Pod 999"]);
    }
}
