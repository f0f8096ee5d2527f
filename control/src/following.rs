//! The sources of commands that run by themselves, with one face: manifests that a person wrote, or the API server of a
//! cluster; compiled as they come.
//!
//! In: where the objects are. Out: an [`Update`] for every change, with the objects beside it in [`Following::cluster`].

use crate::kubernetes::KubernetesSource;
use crate::manifests::{Manifests, Update};
use crate::source::Wake;
use policy::cluster::{Cluster, Definitions, Delta};
use policy::compile::{CompileOptions, Compiler};
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// A source and what came of it.
pub enum Following {
    /// Files and folders; what they lack is filled in.
    Manifests(Box<Manifests>),
    /// An API server; its controllers have filled in everything.
    Kubernetes(Box<FollowedServer>),
}

/// An API server and what came of it.
pub struct FollowedServer {
    source: KubernetesSource,
    definitions: Definitions,
    compiler: Compiler,
    /// Looks that gave something; the first one says that nothing is there so far.
    epoch: u64,
}

impl From<Manifests> for Following {
    fn from(manifests: Manifests) -> Following {
        Following::Manifests(Box::new(manifests))
    }
}

impl From<KubernetesSource> for Following {
    fn from(source: KubernetesSource) -> Following {
        let compiler = Compiler::new(CompileOptions::default());
        Following::Kubernetes(Box::new(FollowedServer {
            source,
            definitions: Definitions::default(),
            compiler,
            epoch: 0,
        }))
    }
}

impl Following {
    /// What is in force, as objects.
    pub fn cluster(&self) -> &Cluster {
        match self {
            Following::Manifests(manifests) => manifests.cluster(),
            Following::Kubernetes(server) => server.definitions.cluster(),
        }
    }

    /// Looks at what may have changed; an update if something is other than at the last look. The first look always gives
    /// one, without tables if nothing was read so far.
    pub fn refresh(&mut self) -> Option<Update> {
        match self {
            Following::Manifests(manifests) => manifests.refresh(),
            Following::Kubernetes(server) => server.refresh(),
        }
    }

    /// Waits until something may have changed and has settled, or until `stop` is readable.
    pub fn wait(&mut self, stop: BorrowedFd<'_>) -> io::Result<Wake> {
        match self {
            Following::Manifests(manifests) => manifests.wait(stop),
            Following::Kubernetes(server) => server.source.wait(stop),
        }
    }
}

impl FollowedServer {
    fn refresh(&mut self) -> Option<Update> {
        let Some(generation) = self.source.refresh() else {
            let is_first = self.epoch == 0;
            self.epoch = self.epoch.max(1);
            return is_first.then(|| Update { tables: None, delta: Delta::default(), problems: Vec::new() });
        };
        self.epoch += 1;
        let delta = self.definitions.apply(generation.files);
        let (tables, contradictions) = self.compiler.compile(self.definitions.cluster(), &delta, self.epoch);
        let mut problems = generation.problems;
        problems.extend(self.definitions.problems());
        problems.extend(contradictions);
        Some(Update { tables: Some(Arc::new(tables)), delta, problems })
    }
}
