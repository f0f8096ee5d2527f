//! Counts as a page for Prometheus, in OpenMetrics text. `docs/metrics.md` has the names.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use std::fmt;

/// Media type of a page.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// One number and what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// Its name, without what all names of a page begin with.
    pub name: &'static str,
    /// A sentence.
    pub help: &'static str,
    /// Its value.
    pub value: u64,
}

/// What one page tells.
#[derive(Clone, Debug, Default)]
pub(crate) struct Page {
    /// What only grows, each with what its name begins with.
    counters: Vec<(&'static str, Count)>,
    /// What is at the moment.
    gauges: Vec<(&'static str, Count)>,
}

impl Page {
    /// With counters whose names begin with `prefix`.
    pub(crate) fn with(mut self, prefix: &'static str, counters: Vec<Count>) -> Page {
        self.counters.extend(counters.into_iter().map(|count| (prefix, count)));
        self
    }

    /// With a value of the moment.
    pub(crate) fn with_gauge(mut self, prefix: &'static str, gauge: Count) -> Page {
        self.gauges.push((prefix, gauge));
        self
    }

    /// The page's text.
    pub(crate) fn text(self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        encode(&mut text, &registry).expect("a string takes all text");
        text
    }
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let described = |(prefix, count): &(&str, Count)| {
            (format!("{prefix}{}", count.name), count.help.trim().trim_end_matches('.').to_owned())
        };
        for entry in &self.counters {
            let ((name, help), counter) = (described(entry), ConstCounter::new(entry.1.value));
            counter.encode(encoder.encode_descriptor(&name, &help, None, counter.metric_type())?)?;
        }
        for entry in &self.gauges {
            let ((name, help), gauge) =
                (described(entry), ConstGauge::new(i64::try_from(entry.1.value).unwrap_or(i64::MAX)));
            gauge.encode(encoder.encode_descriptor(&name, &help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

/// The names of a page, as `docs/metrics.md` has them in the section with this title.
#[cfg(test)]
pub(crate) fn documented(title: &str) -> std::collections::BTreeSet<String> {
    let document = include_str!("../../docs/metrics.md");
    let section = document.split("\n## ").find(|section| section.starts_with(title)).expect("the section");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split(['`', '{']).next());
    rows.map(str::to_owned).collect()
}

/// The names in a page's text.
#[cfg(test)]
pub(crate) fn named(text: &str) -> std::collections::BTreeSet<String> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    types.map(|(name, kind)| if kind == "counter" { format!("{name}_total") } else { name.to_owned() }).collect()
}
