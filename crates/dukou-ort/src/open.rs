//! From a graph to a model: check it, choose where its weights live, make its sessions.

use std::{
    ffi::CString,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use dukou_sys::FileBytes;
use dukou_types::{ErrorCode, Failure};
use ring::digest;

use crate::{
    GraphSource, OpenSpec, OrtModel, Residency, Runtime,
    api::{SessionOptions, Status, c_path, c_text},
    chunks::{self, Stamp},
    compiled::{self, Compiled},
    external::{self, Files},
    graph::{self, Facts, clip},
    refusal,
    session::{self, Callable, Making},
};

/// Below this much weight a session of its own costs less than the files of a shared one.
const SHARED_FROM_BYTES: usize = 1 << 20;

/// A graph that was read and found whole, with the files that it refers to.
pub(crate) struct Source {
    /// Its name in sentences.
    pub what: String,
    pub graph: Bytes,
    pub files: Files,
    /// Where the files lie, for a bare model.
    folder: Option<PathBuf>,
    pub facts: Facts,
    /// What the compiled form is keyed by; `None` where it is too small for that, or changing under our eyes.
    pub identity: Option<String>,
}

pub(crate) fn open(runtime: &Runtime, spec: &OpenSpec) -> Result<OrtModel, Failure> {
    let source = read(&spec.source)?;
    let mut notes = Vec::new();
    let providers = choose_providers(runtime, &spec.providers, &mut notes);
    let sessions = if spec.threads <= 1 {
        1
    } else {
        spec.instances.max(1)
    };

    let shared = shared(runtime, spec, &source, &providers, &mut notes);
    let (calls, residency, compiled_now) = match shared {
        Some((compiled, first)) => {
            let mut calls = vec![Arc::new(first)];
            for _ in 1..sessions {
                let one = compiled
                    .session(runtime, spec.threads, &source.what)
                    .map_err(|status| {
                        refusal::of_opening(status, &source.facts, &source.what, runtime.version())
                    })?;
                calls.push(Arc::new(one));
            }
            (calls, Residency::Mapped, compiled.built)
        }
        None => {
            let mut calls = Vec::with_capacity(sessions);
            for _ in 0..sessions {
                calls.push(Arc::new(plain(
                    runtime, spec, &source, &providers, &mut notes,
                )?));
            }
            (calls, Residency::Plain, false)
        }
    };
    let signature = calls
        .first()
        .map(|call| call.signature.clone())
        .unwrap_or_default();
    notes.dedup();
    if compiled_now {
        // The whole model was in memory while it was optimized.
        dukou_sys::give_memory_back();
    }
    Ok(OrtModel {
        runtime: runtime.clone(),
        signature,
        instances: spec.instances.max(1),
        sessions: calls,
        residency,
        notes,
        compiled_now,
    })
}

/// Reads and checks the graph and what it refers to; the runtime has seen nothing yet.
fn read(source: &GraphSource) -> Result<Source, Failure> {
    let (what, graph, given, identity) = match source {
        GraphSource::File(path) => {
            let what = format!("`{}`", path.display());
            let graph = read_file(path, &what)?;
            (what, graph, None, None)
        }
        GraphSource::Verified {
            digest,
            graph,
            external,
        } => {
            let what = format!("the graph of {digest}");
            let identity = digest.as_str().to_owned();
            (
                what,
                Bytes::from_owner(Shared(Arc::clone(graph))),
                Some(external.clone()),
                Some(identity),
            )
        }
    };
    let facts = graph::read(graph.clone(), &what)?;
    let (files, folder) = match (given, source) {
        (Some(files), _) => (files, None),
        (None, GraphSource::File(path)) if !facts.externals.is_empty() => {
            let folder = external::folder_of(path, &what)?;
            (external::open_files(&facts, &folder, &what)?, Some(folder))
        }
        (None, _) => (Files::new(), None),
    };
    external::check_extents(&facts, &files, &what)?;
    let identity = match source {
        GraphSource::File(path) if facts.weight_bytes >= SHARED_FROM_BYTES => {
            identity_of(path, &graph, folder.as_deref(), &files)
        }
        _ => identity,
    };
    Ok(Source {
        what,
        graph,
        files,
        folder,
        facts,
        identity,
    })
}

/// Gives `Bytes` a shared owner.
struct Shared(Arc<FileBytes>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Files up to this size are read, because somebody may write them again while we look; larger ones
/// are mapped for the time of the opening.
const READ_UP_TO: u64 = 64 << 20;

fn read_file(path: &Path, what: &str) -> Result<Bytes, Failure> {
    let read = || {
        let metadata = std::fs::metadata(path)?;
        if metadata.is_dir() {
            return Err(std::io::ErrorKind::IsADirectory.into());
        }
        let bytes = if metadata.len() > READ_UP_TO {
            FileBytes::map(path)
        } else {
            FileBytes::read(path)
        };
        Ok(Bytes::from_owner(bytes?))
    };
    read().map_err(|error: std::io::Error| {
        let why = match error.kind() {
            std::io::ErrorKind::NotFound => "there is nothing at this path".to_owned(),
            std::io::ErrorKind::IsADirectory => "it is a folder".to_owned(),
            _ => error.to_string(),
        };
        Failure::new(
            ErrorCode::FormatsNotAModel,
            format!("{what} is not an ONNX file, the kind that the engine reads: {why}"),
        )
    })
}

/// Files above this size are known by how they look on disk: hashing one at every start would cost more
/// than everything else that opening it does.
const HASHED_UP_TO: usize = 1 << 20;

/// A bare model is what its bytes are, or for large files where they lie and when they were last
/// touched.
fn identity_of(path: &Path, graph: &[u8], folder: Option<&Path>, files: &Files) -> Option<String> {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut add = |path: &Path, bytes: &[u8]| {
        let part = if bytes.len() > HASHED_UP_TO {
            let path = path.canonicalize().ok()?;
            let stamp = Stamp::of(&path.metadata().ok()?);
            format!("{} {stamp:?}", path.display())
        } else {
            chunks::sha256(bytes)
        };
        context.update(digest::digest(&digest::SHA256, part.as_bytes()).as_ref());
        Some(())
    };
    add(path, graph)?;
    for (location, bytes) in files {
        add(path, location.as_bytes())?;
        add(&folder?.join(location), bytes)?;
    }
    Some(format!("file:{}", chunks::hex(context.finish().as_ref())))
}

/// Providers to append, of those asked for; the CPU is always there and ends the list. Whatever is
/// passed over is told.
fn choose_providers(runtime: &Runtime, asked: &[String], notes: &mut Vec<String>) -> Vec<CString> {
    let mut chosen = Vec::new();
    for name in asked {
        let short = name.strip_suffix("ExecutionProvider").unwrap_or(name);
        if short.eq_ignore_ascii_case("cpu") {
            break;
        }
        let there = runtime.providers().iter().find_map(|known| {
            let stem = known.strip_suffix("ExecutionProvider").unwrap_or(known);
            stem.eq_ignore_ascii_case(short).then_some(stem)
        });
        match there.map(c_text) {
            Some(Ok(stem)) => chosen.push(stem),
            _ => notes.push(format!(
                "execution provider `{}` is not in this ONNX Runtime (it has {}): passed over",
                clip(name),
                runtime.providers().join(", ")
            )),
        }
    }
    chosen
}

/// A session with weights of its own.
fn plain(
    runtime: &Runtime,
    spec: &OpenSpec,
    source: &Source,
    providers: &[CString],
    notes: &mut Vec<String>,
) -> Result<Callable, Failure> {
    let attempt = |providers: &[CString]| {
        let making = Making {
            threads: spec.threads,
            providers,
            optimize: true,
            pack: true,
        };
        let options = session::options(runtime, &making)?;
        source.hand_over(&options)?;
        session::create(runtime, &source.graph, &options)
    };
    let session = match attempt(providers) {
        Err(status) if !providers.is_empty() => {
            notes.push(format!(
                "execution providers {providers:?} do not take this model ({}): it runs on the CPU",
                clip(&status.message)
            ));
            attempt(&[])
        }
        outcome => outcome,
    }
    .map_err(|status| {
        refusal::of_opening(status, &source.facts, &source.what, runtime.version())
    })?;
    Callable::new(runtime, session, (Vec::new(), Vec::new()), &source.what)
}

impl Source {
    /// Tells the options where external data are: as memory, by location. The runtime takes only those
    /// of the outermost graph that way; those of a branch it reads itself, from the folder in which
    /// they were found.
    pub fn hand_over(&self, options: &SessionOptions) -> Result<(), Status> {
        if self.files.is_empty() {
            return Ok(());
        }
        if let Some(folder) = &self.folder {
            options.config(
                c"session.model_external_initializers_file_folder_path",
                &c_path(folder)?,
            )?;
        }
        let files: Vec<(CString, &[u8])> = self
            .files
            .iter()
            .map(|(location, bytes)| Ok((c_text(location)?, &bytes[..])))
            .collect::<Result<_, Status>>()?;
        options.external_files(&files)
    }
}

/// The first session over shared weights, or `None` where this model's stay its own. Whatever goes
/// wrong here costs memory, never an answer: the model is opened plain, and a note says why.
fn shared(
    runtime: &Runtime,
    spec: &OpenSpec,
    source: &Source,
    providers: &[CString],
    notes: &mut Vec<String>,
) -> Option<(Compiled, Callable)> {
    let folder = spec.compiled_dir.as_deref()?;
    let identity = source.identity.as_deref()?;
    if !spec.share_weights || source.facts.weight_bytes < SHARED_FROM_BYTES {
        return None;
    }
    if !providers.is_empty() {
        notes.push("weights are not shared: only the CPU reads them in place".to_owned());
        return None;
    }
    match compiled::obtain(runtime, folder, source, identity, spec.threads) {
        Ok(pair) => Some(pair),
        Err(trouble) => {
            notes.push(format!(
                "weights are not shared: {}",
                clip(&trouble.words())
            ));
            None
        }
    }
}
