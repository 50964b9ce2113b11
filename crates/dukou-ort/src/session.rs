//! A session ready to be called: names prepared once, and whatever its weights lie in kept alive.

use std::{
    ffi::{CStr, CString, c_char},
    ptr,
    sync::Arc,
};

use dukou_sys::FileBytes;
use dukou_types::{Failure, Signature};
use ort::sys;
use smallvec::SmallVec;

use crate::{
    Runtime,
    api::{Session, SessionOptions, Status, Value, c_text, check},
    signature,
};

/// How a session is made.
pub(crate) struct Making {
    pub threads: usize,
    pub optimize: bool,
    pub pack: bool,
}

/// Fresh options for a session. No inter-op pool, no spinning: a thread that waits gives its core back.
///
/// The CPU arena and memory patterns are off. An arena keeps the largest run that ever was for as long
/// as the session lives, and patterns keep one plan per input shape; both grow with what clients send.
/// Without them a run of the digits model is no slower (`examples/run_cost.rs`).
pub(crate) fn options(runtime: &Runtime, making: &Making) -> Result<SessionOptions, Status> {
    use sys::GraphOptimizationLevel as Level;
    let api = runtime.0.api;
    let options = SessionOptions::new(api)?;
    let raw = options.as_ptr();
    let level = if making.optimize { Level::ORT_ENABLE_ALL } else { Level::ORT_DISABLE_ALL };
    let threads = i32::try_from(making.threads.max(1)).unwrap_or(1);
    // SAFETY: `raw` is alive and ours; all arguments are plain numbers. 3 is `ERROR`.
    unsafe {
        check(api, (api.SetIntraOpNumThreads)(raw, threads))?;
        check(api, (api.SetInterOpNumThreads)(raw, 1))?;
        check(api, (api.SetSessionGraphOptimizationLevel)(raw, level))?;
        check(api, (api.SetSessionLogSeverityLevel)(raw, 3))?;
        check(api, (api.DisableCpuMemArena)(raw))?;
        check(api, (api.DisableMemPattern)(raw))?;
    }
    options.config(c"session.intra_op.allow_spinning", c"0")?;
    options.config(c"session.inter_op.allow_spinning", c"0")?;
    if !making.pack {
        options.config(c"session.disable_prepacking", c"1")?;
    }
    Ok(options)
}

/// Makes a session of a graph in memory.
pub(crate) fn create(
    runtime: &Runtime,
    graph: &[u8],
    options: &SessionOptions,
) -> Result<Session, Status> {
    let api = runtime.0.api;
    let mut raw = ptr::null_mut();
    // SAFETY: the graph is only read, and only during the call; `raw` is written with a new object.
    check(api, unsafe {
        (api.CreateSessionFromArray)(
            runtime.0.env.0,
            graph.as_ptr().cast(),
            graph.len(),
            options.as_ptr(),
            &raw mut raw,
        )
    })?;
    Session::take(api, raw).ok_or_else(|| Status::ours("no session and no reason"))
}

/// A session with its signature. Fields drop in this order: the session before what it reads from.
pub(crate) struct Callable {
    session: Session,
    /// Initializers that were handed over: views of `chunks`.
    _initializers: Vec<Value>,
    /// Mapped weights, shared with other sessions.
    chunks: Vec<Arc<FileBytes>>,
    pub runtime: Runtime,
    pub signature: Signature,
    input_names: Vec<CString>,
    output_names: Vec<CString>,
}

impl Callable {
    pub fn new(
        runtime: &Runtime,
        session: Session,
        weights: (Vec<Value>, Vec<Arc<FileBytes>>),
        what: &str,
    ) -> Result<Self, Failure> {
        let signature = signature::read(runtime.0.api, &session, what)?;
        let names = |specs: &[dukou_types::TensorSpec]| -> Result<Vec<CString>, Failure> {
            specs.iter().map(|spec| c_text(&spec.name)).collect::<Result<_, _>>().map_err(
                |status| {
                    Failure::new(
                        dukou_types::ErrorCode::FormatsCorrupt,
                        format!("{what} has a name that no program can use: {}", status.message),
                    )
                },
            )
        };
        let (input_names, output_names) = (names(&signature.inputs)?, names(&signature.outputs)?);
        let (initializers, chunks) = weights;
        Ok(Self {
            session,
            _initializers: initializers,
            chunks,
            runtime: runtime.clone(),
            signature,
            input_names,
            output_names,
        })
    }

    /// The mapped weights that this session reads.
    pub fn chunks(&self) -> &[Arc<FileBytes>] {
        &self.chunks
    }

    /// Runs it on the calling thread. `inputs` in the signature's order; `outputs` are positions in
    /// the signature, and values come back in their order.
    pub fn call(
        &self,
        inputs: &[Value],
        outputs: &[usize],
    ) -> Result<SmallVec<[Value; 4]>, Status> {
        let api = self.runtime.0.api;
        if inputs.len() != self.input_names.len() {
            return Err(Status::ours("another number of inputs than the signature has"));
        }
        let input_names: SmallVec<[*const c_char; 8]> =
            self.input_names.iter().map(|name| name.as_ptr()).collect();
        let values: SmallVec<[*const sys::OrtValue; 8]> =
            inputs.iter().map(|value| value.as_ptr().cast_const()).collect();
        let output_names: SmallVec<[*const c_char; 8]> = outputs
            .iter()
            .map(|&output| self.output_names.get(output).map(CString::as_c_str))
            .collect::<Option<SmallVec<[&CStr; 8]>>>()
            .ok_or_else(|| Status::ours("an output that the signature lacks"))?
            .iter()
            .map(|name| name.as_ptr())
            .collect();
        let mut answers: SmallVec<[*mut sys::OrtValue; 8]> =
            SmallVec::from_elem(ptr::null_mut(), outputs.len());
        // SAFETY: every array is as long as said; names and inputs live through the call; the runtime
        // writes the outputs, which are ours then. A session may be run by many threads at once.
        let status = unsafe {
            (api.Run)(
                self.session.as_ptr(),
                self.runtime.0.quiet.as_ptr(),
                input_names.as_ptr(),
                values.as_ptr(),
                values.len(),
                output_names.as_ptr(),
                output_names.len(),
                answers.as_mut_ptr(),
            )
        };
        let answers: SmallVec<[Option<Value>; 4]> =
            answers.into_iter().map(|raw| Value::take(api, raw)).collect();
        check(api, status)?;
        answers
            .into_iter()
            .collect::<Option<_>>()
            .ok_or_else(|| Status::ours("the runtime gave no value for an output"))
    }
}
