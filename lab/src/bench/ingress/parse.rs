//! What wrk and h2load print. Pure.

/// The figures of one measurement.
#[derive(Debug, PartialEq)]
pub(super) struct Parsed {
    /// Requests that were answered with 2xx.
    pub(super) requests: f64,
    pub(super) per_second: f64,
    pub(super) p99_ms: f64,
}

/// Those of wrk; `None` if there are none, or answers other than 2xx and 3xx.
pub(super) fn wrk(text: &str) -> Option<Parsed> {
    if text.contains("Non-2xx") {
        return None;
    }
    let word_after = |start: &str| {
        let line = text.lines().map(str::trim).find(|line| line.starts_with(start))?;
        line[start.len()..].split_whitespace().next()
    };
    let requests = text.lines().find_map(|line| line.trim().split_once(" requests in "))?.0.parse().ok()?;
    Some(Parsed {
        requests,
        per_second: word_after("Requests/sec:")?.parse().ok()?,
        p99_ms: milliseconds(word_after("99%")?)?,
    })
}

/// Those of h2load: its text, and its log with a line of begin, status and microseconds for each request.
pub(super) fn h2load(text: &str, log: &str) -> Option<Parsed> {
    let per_second = text.lines().find(|line| line.starts_with("finished in "))?;
    let per_second = per_second.split(", ").nth(1)?.strip_suffix(" req/s")?.parse().ok()?;
    let mut latencies_us: Vec<u64> = log
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            (words.next()? == "200").then_some(())?;
            words.next()?.parse().ok()
        })
        .collect();
    latencies_us.sort_unstable();
    let p99 = *latencies_us.get(latencies_us.len() * 99 / 100)?;
    Some(Parsed { requests: latencies_us.len() as f64, per_second, p99_ms: p99 as f64 / 1000.0 })
}

/// A time as wrk writes it.
fn milliseconds(text: &str) -> Option<f64> {
    let units = [("us", 0.001), ("ms", 1.0), ("s", 1000.0), ("m", 60_000.0)];
    units.iter().find_map(|(unit, factor)| Some(text.strip_suffix(unit)?.parse::<f64>().ok()? * factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_wrk_are_read() {
        let text = "Running 4s test\n  Latency Distribution\n     50%  801.00us\n     99%    2.25ms\n  \
                    286102 requests in 4.00s, 46.11MB read\nRequests/sec:  71525.69\nTransfer/sec:     11.53MB\n";
        assert_eq!(wrk(text), Some(Parsed { requests: 286_102.0, per_second: 71_525.69, p99_ms: 2.25 }));
        assert_eq!(wrk(&format!("{text}  Non-2xx or 3xx responses: 5\n")), None);
        assert_eq!(wrk("unable to connect"), None);
    }

    #[test]
    fn figures_of_h2load_are_read() {
        let text = "finished in 4.00s, 12345.50 req/s, 1.00MB/s\nrequests: 4 total\n";
        let log = "1700000000000000\t200\t100\n1700000000000001\t200\t3000\n1700000000000002\t502\t9\n";
        assert_eq!(h2load(text, log), Some(Parsed { requests: 2.0, per_second: 12_345.5, p99_ms: 3.0 }));
        assert_eq!(h2load(text, ""), None);
    }
}
