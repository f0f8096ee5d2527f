//! A source that follows a test's server, and the cluster that comes of it.

use crate::server::ApiServer;
use control::api::{Kubernetes, KubernetesResource};
use control::kubernetes::connect::Access;
use control::kubernetes::{KubernetesSource, NODE_KINDS, SourceConfig, Timing};
use policy::cluster::{Cluster, Definitions};
use policy::objects::{Kind, Problem};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Far above what anything takes.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Waits that a test can live with; silence is long enough for a slow machine.
pub(crate) fn timing() -> Timing {
    Timing {
        backoff_first: Duration::from_millis(10),
        backoff_max: Duration::from_millis(100),
        find: Duration::from_millis(100),
        cache_every: Duration::from_millis(20),
        ..Timing::default()
    }
}

pub(crate) struct Followed {
    source: KubernetesSource,
    pub(crate) definitions: Definitions,
    pub(crate) problems: Vec<Problem>,
    /// Generations so far.
    pub(crate) generations: u64,
    stop: UnixStream,
    _never: UnixStream,
    _kubeconfig: tempfile::TempDir,
}

/// What a test may want otherwise.
pub(crate) struct Wishes {
    pub(crate) kinds: &'static [Kind],
    pub(crate) timing: Timing,
    pub(crate) cache: Option<PathBuf>,
}

impl Default for Wishes {
    fn default() -> Wishes {
        Wishes { kinds: NODE_KINDS, timing: timing(), cache: None }
    }
}

/// A kubeconfig for `server` without credentials.
pub(crate) fn kubeconfig(folder: &Path, url: &str) -> PathBuf {
    let path = folder.join("kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
         clusters: [{{name: c, cluster: {{server: '{url}'}}}}]\nusers: [{{name: u, user: {{token: t}}}}]\n"
    );
    std::fs::write(&path, text).expect("a temporary folder");
    path
}

impl Followed {
    pub(crate) fn new(server: &ApiServer) -> Followed {
        Followed::with(server, Wishes::default())
    }

    pub(crate) fn with(server: &ApiServer, wishes: Wishes) -> Followed {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let access = Access { kubeconfig: Some(kubeconfig(folder.path(), &server.url())), ..Access::default() };
        let config =
            SourceConfig { timing: wishes.timing, cache: wishes.cache, ..SourceConfig::new(access, wishes.kinds) };
        let (stop, never) = UnixStream::pair().expect("a pair of sockets");
        Followed {
            source: KubernetesSource::open(config).expect("a good kubeconfig"),
            definitions: Definitions::default(),
            problems: Vec::new(),
            generations: 0,
            stop,
            _never: never,
            _kubeconfig: folder,
        }
    }

    /// Takes what has come, without waiting; whether there was anything.
    pub(crate) fn look(&mut self) -> bool {
        let Some(generation) = self.source.refresh() else { return false };
        self.generations += 1;
        assert_eq!(generation.number, self.generations);
        self.definitions.apply(generation.files);
        self.problems = generation.problems;
        true
    }

    /// Takes what comes until `done` holds.
    pub(crate) fn until(&mut self, what: &str, mut done: impl FnMut(&Followed) -> bool) {
        let began = Instant::now();
        loop {
            self.look();
            if done(self) {
                return;
            }
            let status = self.status();
            assert!(began.elapsed() < DEADLINE, "{what}: {status:#?}\n{:#?}", self.problems);
            // Not everything that a test waits for wakes the source.
            let ready = nix::poll::PollFd::new(self.stop.as_fd(), nix::poll::PollFlags::POLLIN);
            nix::poll::poll(&mut [ready], 5u8).expect("poll");
        }
    }

    /// The source's own wait, which a change ends.
    pub(crate) fn wait(&mut self) {
        self.source.wait(self.stop.as_fd()).expect("a wait");
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        self.definitions.cluster()
    }

    pub(crate) fn has_pod(&self, namespace: &str, name: &str) -> bool {
        self.cluster().pods.contains_key(&(namespace.into(), name.into()))
    }

    pub(crate) fn status(&self) -> Kubernetes {
        self.source.status()
    }

    pub(crate) fn monitor(&self) -> control::kubernetes::Monitor {
        self.source.monitor()
    }

    pub(crate) fn resource(&self, name: &str) -> KubernetesResource {
        let status = self.status();
        let found = status.resources.into_iter().find(|resource| resource.resource == name);
        found.unwrap_or_else(|| panic!("no {name}"))
    }

    /// Waits until every resource is watched or absent.
    pub(crate) fn until_synced(&mut self) {
        self.until("synced", |followed| {
            let settled = |resource: &KubernetesResource| ["watching", "absent"].contains(&&*resource.state);
            let status = followed.status();
            status.synced && followed.generations > 0 && status.resources.iter().all(settled)
        });
    }

    /// Takes what comes until the tables are those of what the server has, saved to a file and read from there.
    pub(crate) fn until_as_the_server(&mut self, server: &ApiServer) {
        let expected = tables_of_file(server);
        let began = Instant::now();
        loop {
            while self.look() {}
            let tables = self.tables();
            if tables == expected {
                return;
            }
            if began.elapsed() > DEADLINE {
                let differ = |some: &[String], others: &[String]| {
                    some.iter().filter(|line| !others.contains(line)).cloned().collect::<Vec<_>>().join("\n")
                };
                panic!("too much:\n{}\ntoo little:\n{}", differ(&tables, &expected), differ(&expected, &tables));
            }
            self.wait();
        }
    }

    /// The tables of what was taken.
    pub(crate) fn tables(&self) -> Vec<String> {
        tables(self.cluster())
    }

    /// Whether problems have `text` in them.
    pub(crate) fn tells(&self, text: &str) -> bool {
        self.problems.iter().any(|problem| problem.to_string().contains(text))
    }
}

/// The tables of a cluster as sorted lines of text, so that hash maps have one form.
pub(crate) fn tables(cluster: &Cluster) -> Vec<String> {
    let (tables, problems) = policy::compile::compile(cluster, 1);
    assert!(problems.is_empty(), "{problems:?}");
    let mut lines: Vec<String> = format!("{tables:#?}").lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

/// The tables of what the server has, saved to a file and read from there.
pub(crate) fn tables_of_file(server: &ApiServer) -> Vec<String> {
    let parsed = policy::objects::parse("saved.json", &server.saved());
    assert!(!parsed.problems.iter().any(|problem| problem.severity.is_error()), "{:?}", parsed.problems);
    let (cluster, problems) = Cluster::from_objects(parsed.objects);
    assert!(problems.is_empty(), "{problems:?}");
    tables(&cluster)
}
