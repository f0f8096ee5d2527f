//! The Ingress proxy in the bench: `podplane ingress`, nginx and HAProxy in front of the same backend, on the same routes.
//!
//! Everything runs in a network namespace of its own. Each proxy has one thread and a processor to itself, which the clients and
//! the backend (nginx, which answers out of its configuration) do not use if there are two. The systems are measured in turn, round after
//! round. Beside requests per second stands what they cost: requests per second of the proxy's own processor time, which says
//! more on a machine that is busy with other things.
//!
//! | workload | what runs |
//! |---|---|
//! | http1 | wrk, 64 connections that are kept |
//! | tls | wrk, a new TLS 1.3 connection for each request |
//! | http2 | h2load, 16 TLS connections of 10 streams |

mod parse;
mod setup;

use super::report::median;
use super::{Cpus, Options, pinned};
use crate::error::{LabError, Result};
use serde::Serialize;
use setup::Setup;
use std::fmt::Write;
use std::fs;
use std::process::Stdio;

/// Processor time is counted in hundredths of a second, on every architecture of Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Front {
    /// `podplane ingress`.
    Podplane,
    /// nginx of the distribution.
    Nginx,
    /// HAProxy of the distribution.
    Haproxy,
}

impl Front {
    /// All, in the order of a round.
    pub const ALL: [Front; 3] = [Front::Podplane, Front::Nginx, Front::Haproxy];

    fn title(self) -> &'static str {
        match self {
            Front::Podplane => "podplane",
            Front::Nginx => "nginx",
            Front::Haproxy => "haproxy",
        }
    }

    /// Ports of HTTP and HTTPS.
    fn ports(self) -> (u16, u16) {
        match self {
            Front::Podplane => (8081, 8441),
            Front::Nginx => (8082, 8442),
            Front::Haproxy => (8083, 8443),
        }
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Load {
    /// HTTP/1.1 on kept connections.
    Http1,
    /// A TLS connection for each request.
    Tls,
    /// HTTP/2 over TLS.
    Http2,
}

impl Load {
    /// All, in order.
    pub const ALL: [Load; 3] = [Load::Http1, Load::Tls, Load::Http2];

    fn title(self) -> &'static str {
        match self {
            Load::Http1 => "HTTP/1.1, kept connections",
            Load::Tls => "TLS, a connection for each request",
            Load::Http2 => "HTTP/2",
        }
    }
}

/// The figures of one proxy under one load.
#[derive(Clone, Debug, Serialize)]
pub struct FrontSeries {
    /// Who.
    pub front: Front,
    /// Under what.
    pub load: Load,
    /// Requests per second, round by round.
    pub per_second: Vec<f64>,
    /// Requests per second of processor time.
    pub per_cpu_second: Vec<f64>,
    /// The 99th percentile of the latency, in milliseconds.
    pub p99_ms: Vec<f64>,
}

/// The rounds of one figure.
type Column = fn(&FrontSeries) -> &[f64];

/// What was found about the proxy.
#[derive(Clone, Debug, Serialize)]
pub struct IngressReport {
    /// The figures.
    pub series: Vec<FrontSeries>,
}

impl IngressReport {
    fn find(&self, front: Front, load: Load) -> Option<&FrontSeries> {
        self.series.iter().find(|series| (series.front, series.load) == (front, load))
    }

    fn series(&mut self, front: Front, load: Load) -> &mut FrontSeries {
        let known = self.series.iter().position(|series| (series.front, series.load) == (front, load));
        let at = known.unwrap_or_else(|| {
            let [per_second, per_cpu_second, p99_ms] = [const { Vec::new() }; 3];
            self.series.push(FrontSeries { front, load, per_second, per_cpu_second, p99_ms });
            self.series.len() - 1
        });
        &mut self.series[at]
    }

    /// The table for people.
    pub(super) fn table(&self) -> String {
        let mut text = String::from("\nrequests through the Ingress proxy, one thread\n");
        let _ = write!(text, "{:<46}", "");
        for front in Front::ALL {
            let _ = write!(text, "{:>12}", front.title());
        }
        let _ = writeln!(text, "{:>10}{:>10}", "/ nginx", "/ haproxy");
        for load in Load::ALL {
            let _ = writeln!(text, "  {}", load.title());
            let rows: [(&str, usize, Column); 3] = [
                ("requests/s", 0, |series| &series.per_second),
                ("requests/s of processor time", 0, |series| &series.per_cpu_second),
                ("p99, ms", 2, |series| &series.p99_ms),
            ];
            for (title, digits, figures) in rows {
                let value = |front| self.find(front, load).map_or(0.0, |series| median(figures(series)));
                let _ = write!(text, "    {title:<42}");
                for front in Front::ALL {
                    let _ = write!(text, "{:>12.digits$}", value(front));
                }
                let ratio = |front| value(Front::Podplane) / value(front);
                let _ = writeln!(text, "{:>10.2}{:>10.2}", ratio(Front::Nginx), ratio(Front::Haproxy));
            }
        }
        text
    }
}

/// Measures.
pub(super) fn run(cpus: Cpus, options: Options, progress: &mut dyn FnMut(&str)) -> Result<IngressReport> {
    progress("starting podplane ingress, nginx and HAProxy");
    let setup = Setup::start(cpus)?;
    let mut report = IngressReport { series: Vec::new() };
    for round in 1..=options.rounds {
        for load in Load::ALL {
            progress(&format!("round {round} of {}: {}", options.rounds, load.title()));
            for front in Front::ALL {
                let figures = measure(&setup, front, load, cpus, options.seconds)?;
                let series = report.series(front, load);
                series.per_second.push(figures.per_second);
                series.per_cpu_second.push(figures.per_cpu_second);
                series.p99_ms.push(figures.p99_ms);
            }
        }
    }
    Ok(report)
}

struct Figures {
    per_second: f64,
    per_cpu_second: f64,
    p99_ms: f64,
}

fn measure(setup: &Setup, front: Front, load: Load, cpus: Cpus, seconds: u32) -> Result<Figures> {
    let (http, https) = front.ports();
    let latencies = setup.path("latencies");
    let (http, https) = (format!("http://shop.example:{http}/"), format!("https://shop.example:{https}/"));
    let duration = format!("-D{seconds}");
    let (length, log) = (format!("-d{seconds}s"), format!("--log-file={}", latencies.display()));
    let words: Vec<&str> = match load {
        Load::Http1 => vec!["wrk", "-t1", "-c64", &length, "--latency", &http],
        Load::Tls => vec!["wrk", "-t1", "-c16", &length, "--latency", "--header", "Connection: close", &https],
        Load::Http2 => {
            let _ = fs::remove_file(&latencies);
            vec!["h2load", "-t1", "-c16", "-m10", &duration, &log, &https]
        }
    };
    let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
    let before = setup.processor_ticks(front)?;
    let output = setup
        .command(&pinned(cpus.client, &words))
        .stdin(Stdio::null())
        .output()
        .map_err(|e| LabError::io(format_args!("cannot start {}", words[0]), e))?;
    let spent = (setup.processor_ticks(front)? - before) / TICKS_PER_SECOND;
    let text = String::from_utf8_lossy(&output.stdout);
    let parsed = match load {
        Load::Http1 | Load::Tls => parse::wrk(&text),
        Load::Http2 => parse::h2load(&text, &fs::read_to_string(&latencies).unwrap_or_default()),
    };
    let failed = || {
        let what = format!("{} under {}", front.title(), load.title());
        LabError::Failed(format!("{what} gave no figures: {text}{}", String::from_utf8_lossy(&output.stderr)))
    };
    let parse::Parsed { requests, per_second, p99_ms } = parsed.ok_or_else(failed)?;
    Ok(Figures { per_second, per_cpu_second: requests / spent.max(1.0 / TICKS_PER_SECOND), p99_ms })
}
