//! The hidden subcommands of the `podplane` binary: what a lab starts inside of namespaces is this binary again, which
//! needs no unsafe code between fork and exec and no second file to install.

use crate::bench;
use crate::cluster::Snapshot;
use crate::error::{LabError, Result};
use crate::namespaces::{anchor, enter};
use crate::nodes::Ending;
use crate::pods::sandbox;
use crate::settings::Settings;
use crate::underlay::hub;
use crate::{converge, matrix, nodes, probe, status, traffic, world};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, Write};
use std::path::Path;

/// Runs `podplane lab internal ARGS...`; gives the exit code.
pub fn run(args: &[String]) -> Result<i32> {
    let [subcommand, rest @ ..] = args else {
        return Err(LabError::BadInput("lab internal: no subcommand".into()));
    };
    match (subcommand.as_str(), rest) {
        ("anchor", rest) => anchor::run(rest),
        ("init", rest) => anchor::run_init(rest),
        ("bench", rest) => bench::peer::run(rest),
        ("enter", rest) => enter::run(rest),
        ("exec", rest) => enter::run_exec(rest),
        ("hub", [run_dir]) => hub::run(Path::new(run_dir)),
        ("node", rest) => nodes::run(rest),
        ("pod", rest) => sandbox::run_supervisor(rest),
        ("pod-main", rest) => sandbox::run_main(rest),
        ("converge", [run_dir]) => run_converge(Path::new(run_dir), None),
        ("converge", [run_dir, digest]) => run_converge(Path::new(run_dir), Some(digest)),
        ("restart", [run_dir, node, ending]) => {
            let ending = if ending == "kill" { Ending::Killed } else { Ending::Terminated };
            answer(&converge::restart(Path::new(run_dir), node, ending)?.as_millis())
        }
        ("inspect", [run_dir]) => {
            let run_dir = Path::new(run_dir);
            answer(&status::inspect(run_dir, &Snapshot::read(run_dir, &Settings::read(run_dir)?)?)?)
        }
        ("probe", [request]) => answer(&probe::run(&read(request.as_bytes())?)?),
        ("traffic", [request]) => traffic::run(&read(request.as_bytes())?),
        ("world", rest) => world::run(rest),
        ("matrix", []) => {
            let mut input = Vec::new();
            io::Read::read_to_end(&mut io::stdin(), &mut input).map_err(|e| LabError::io("standard input", e))?;
            answer(&matrix::run(&read::<Vec<matrix::Attempt>>(&input)?)?)
        }
        _ => Err(LabError::BadInput(format!("lab internal: {subcommand:?}: not a subcommand, or wrong arguments"))),
    }
}

/// Steps go to standard error as they are done, the reason of a failure to standard output: the caller makes it its own.
fn run_converge(run_dir: &Path, digest: Option<&str>) -> Result<i32> {
    let say = |text: &str| {
        let _ = writeln!(io::stderr(), "{text}");
    };
    match converge::converge(run_dir, digest, &say) {
        Ok(()) => Ok(0),
        Err(error) => {
            let _ = writeln!(io::stdout(), "{error}");
            Ok(1)
        }
    }
}

fn read<T: DeserializeOwned>(json: &[u8]) -> Result<T> {
    serde_json::from_slice(json).map_err(|e| LabError::BadInput(format!("lab internal: {e}")))
}

fn answer(value: &impl Serialize) -> Result<i32> {
    let mut json = serde_json::to_vec(value).expect("an answer is plain data");
    json.push(b'\n');
    io::stdout().write_all(&json).map_err(|e| LabError::io("standard output", e))?;
    Ok(0)
}
