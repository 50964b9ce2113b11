//! A model ready to run: what the batcher holds.

use std::sync::Arc;

use dukou_exec::{Batch, Execute, Sink};
use dukou_types::{Buffer, Data, Signature};

use crate::{PassedOver, Runtime, run, session::Callable};

/// Where a model's weights are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residency {
    /// In the session's own memory: small models, and whatever cannot be shared.
    Plain,
    /// Mapped once a process and shared by every session that has the same chunk.
    Mapped,
    /// Mapped, and packed by the runtime besides: faster in larger batches, private memory.
    Packed,
}

impl Residency {
    /// As the local API writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Mapped => "mapped",
            Self::Packed => "packed",
        }
    }
}

/// A model that ONNX Runtime runs. `signature().batchable` is false until whoever has proved that a
/// row's answer does not depend on its neighbours says so with [`OrtModel::set_batchable`].
pub struct OrtModel {
    pub(crate) runtime: Runtime,
    pub(crate) signature: Signature,
    pub(crate) instances: usize,
    /// One for all instances, or one each (see [`crate::OpenSpec::threads`]).
    pub(crate) sessions: Vec<Arc<Callable>>,
    pub(crate) residency: Residency,
    pub(crate) notes: Vec<String>,
    pub(crate) providers: Vec<String>,
    pub(crate) passed_over: Vec<PassedOver>,
    pub(crate) compiled_now: bool,
}

impl OrtModel {
    /// Where the weights are.
    pub fn residency(&self) -> Residency {
        self.residency
    }

    /// The execution providers that its sessions have, in order; the last is the CPU, which runs whatever
    /// those before it do not take.
    pub fn providers(&self) -> &[String] {
        &self.providers
    }

    /// Providers that were asked for and do not run it, with why.
    pub fn passed_over(&self) -> &[PassedOver] {
        &self.passed_over
    }

    /// What its user should be told once: weights not shared and why.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Whether opening it had to optimize the graph and cut its weights (false: the cache had them).
    pub fn compiled_now(&self) -> bool {
        self.compiled_now
    }

    /// Bytes of mapped weights that it reads, wherever else they are read too.
    pub fn mapped_bytes(&self) -> usize {
        self.mapped_chunks().map(<[u8]>::len).sum()
    }

    /// The mapped weights that it reads. A chunk that two models share is the same memory.
    pub fn mapped_chunks(&self) -> impl Iterator<Item = &[u8]> {
        self.sessions
            .first()
            .into_iter()
            .flat_map(|session| session.chunks())
            .map(|chunk| &chunk[..])
    }

    /// Says whether requests may ride together. Ignored where the signature has no free rows.
    pub fn set_batchable(&mut self, batchable: bool) {
        self.signature.batchable = batchable && self.signature.has_free_rows();
    }
}

impl Drop for OrtModel {
    /// Unloading gives the memory back: the C library keeps freed pages until it is asked. That takes
    /// milliseconds; a model is dropped where it is retired, never on a request's way.
    fn drop(&mut self) {
        self.sessions.clear();
        dukou_sys::give_memory_back();
    }
}

impl Execute for OrtModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn instances(&self) -> usize {
        self.instances
    }

    fn lease(&self, _input: usize, bytes: usize) -> Buffer {
        self.runtime.0.pool.lease(bytes)
    }

    fn give_back(&self, buffer: Buffer) {
        self.runtime.0.pool.give_back(buffer);
    }

    fn run(&self, instance: usize, batch: Batch, sink: &mut dyn Sink) {
        let Some(session) = self.sessions.get(instance % self.sessions.len().max(1)) else {
            return;
        };
        let Batch { requests } = batch;
        let failed = run::run(session, self.signature.batchable, &requests, sink);
        for (slot, request) in requests.into_iter().enumerate() {
            if failed.contains(&slot) {
                sink.hand_back(slot, request);
                continue;
            }
            for tensor in request.inputs {
                if let Data::Owned(buffer) = tensor.data {
                    self.runtime.0.pool.give_back(buffer);
                }
            }
        }
    }
}
