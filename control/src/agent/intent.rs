//! The node's copy of the cluster: definitions of objects, kept up to date file by file, and what was compiled from them.

use k8s_openapi::api::core::v1::Service;
use policy::cluster::{Attachment, Cluster, Definitions, Delta, FileChange, Key, Pod};
use policy::compile::{CompileOptions, Compiler};
use policy::objects::{Problem, Source, Sourced};
use policy::tables::Tables;
use std::sync::Arc;

/// Objects and compiler. A change costs what depends on it, so the two have to see every change, in order.
pub(super) struct Intent {
    definitions: Definitions,
    compiler: Compiler,
}

impl Intent {
    /// No objects yet.
    pub(super) fn new(options: CompileOptions) -> Intent {
        Intent { definitions: Definitions::default(), compiler: Compiler::new(options) }
    }

    /// Takes changed files over: the tables with them, and what is wrong with the objects together.
    pub(super) fn take(&mut self, files: Vec<FileChange>, epoch: u64) -> (Tables, Vec<Problem>) {
        let delta = self.definitions.apply(files);
        self.compile(&delta, epoch)
    }

    /// Takes over what is attached to this node, before there are tables.
    pub(super) fn prepare(&mut self, attached: Vec<(Key, Option<Attachment>)>) {
        self.definitions.attach(attached);
    }

    /// Takes over what is attached to this node otherwise than before.
    pub(super) fn attach(&mut self, attached: Vec<(Key, Option<Attachment>)>, epoch: u64) -> (Tables, Vec<Problem>) {
        let delta = self.definitions.attach(attached);
        self.compile(&delta, epoch)
    }

    fn compile(&mut self, delta: &Delta, epoch: u64) -> (Tables, Vec<Problem>) {
        let (tables, contradictions) = self.compiler.compile(self.definitions.cluster(), delta, epoch);
        let mut problems = self.definitions.problems();
        problems.extend(contradictions);
        (tables, problems)
    }

    /// The objects as they are.
    pub(super) fn cluster(&self) -> &Cluster {
        self.definitions.cluster()
    }

    /// The Service of this namespace and name, and where it was read.
    pub(super) fn find_service(&self, name: &Key) -> Option<Sourced<Arc<Service>>> {
        self.definitions.cluster().services.get(name).cloned()
    }

    /// Where the pod of this namespace and name was read.
    pub(super) fn source_of_pod(&self, name: &Key) -> Option<Source> {
        self.definitions.cluster().pods.get(name).map(|pod| pod.source.clone())
    }

    /// The pod of this namespace and name as its object says, whatever this node knows beside that.
    pub(super) fn find_pod(&self, name: &Key) -> Option<Arc<Pod>> {
        self.definitions.as_written(name)
    }
}
