//! What compiling costs. Not a benchmark, a bound that only an algorithm of the wrong order misses.

use crate::harness::cluster;
use policy::routes::{self, RouteOptions};
use std::fmt::Write;
use std::time::{Duration, Instant};

#[test]
fn a_thousand_ingresses_among_five_thousand_services_compile_at_once() {
    let mut yaml = String::new();
    for number in 0..5_000 {
        yaml.push_str(&crate::harness::service("default", &format!("s{number}")));
    }
    for number in 0..1_000 {
        let paths = (0..4).map(|path| {
            let service = number * 4 + path;
            format!("{{path: /p{path}, pathType: Prefix, backend: {{service: {{name: s{service}, port: {{number: 8080}}}}}}}}")
        });
        let paths = paths.collect::<Vec<_>>().join(", ");
        writeln!(
            yaml,
            "---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: i{number}, namespace: default}}
spec: {{rules: [{{host: h{number}.example.com, http: {{paths: [{paths}]}}}}]}}"
        )
        .expect("a String takes all writes");
    }
    let cluster = cluster(&yaml);
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let begin = Instant::now();
        let compiled = routes::compile(&cluster, &RouteOptions::default());
        best = best.min(begin.elapsed());
        crate::harness::check_compiled(&compiled, &[("http://h999.example.com/p3/x", "s3999:8080")]);
    }
    assert!(best < Duration::from_secs(3), "{best:?} unoptimized");
}
