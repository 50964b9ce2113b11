//! What a model is opened from, and how.

use std::{path::PathBuf, sync::Arc};

use dukou_sys::FileBytes;
use dukou_types::Digest;

use crate::Provider;

/// Where a graph and its weights come from.
#[derive(Clone, Debug)]
pub enum GraphSource {
    /// A bare ONNX file; external data is looked for in its folder and nowhere else.
    File(PathBuf),
    /// Bytes that somebody has verified already (a packaged version).
    Verified {
        /// The version's digest: names the compiled form.
        digest: Digest,
        /// The ONNX graph.
        graph: Arc<FileBytes>,
        /// External data by the `location` that the graph uses.
        external: Vec<(String, Arc<FileBytes>)>,
    },
}

/// How a model is opened. Every value is resolved: there are no defaults here.
#[derive(Clone, Debug)]
pub struct OpenSpec {
    /// The graph.
    pub source: GraphSource,
    /// Runs that can go on at once. One session serves all where `threads` is 1.
    pub instances: usize,
    /// Threads inside one run (the caller's is one of them); there is no inter-op pool and no spinning.
    pub threads: usize,
    /// Execution providers in order of preference; the CPU ends every list by itself. What is not here, or
    /// does not take this model, is passed over, which [`crate::OrtModel::passed_over`] tells.
    pub providers: Vec<Provider>,
    /// The graph is encrypted where it lies: no provider may write what it makes of it.
    pub encrypted: bool,
    /// Map weights once a process from the compiled cache, where they are 1 MiB or more.
    pub share_weights: bool,
    /// The compiled cache's folder; without one nothing is shared.
    pub compiled_dir: Option<PathBuf>,
}
