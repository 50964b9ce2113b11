//! From a graph to a model: check it, choose where its weights live, make its sessions.

use std::{
    ffi::CString,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use dukou_sys::FileBytes;
use dukou_types::{ErrorCode, Failure};

use crate::{
    CPU, GraphSource, OpenSpec, OrtModel, PassedOver, Residency, Runtime,
    api::{Session, SessionOptions, Status, c_path, c_text},
    chunks::{self, Stamp},
    compiled::{self, Compiled},
    external::{self, Files},
    graph::{self, Facts, clip},
    providers::{self, Usable},
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
    /// What the compiled form is keyed by.
    pub identity: String,
    /// A bare model's files, which somebody may write again while we look.
    watched: Option<Watched>,
}

pub(crate) fn open(runtime: &Runtime, spec: &OpenSpec) -> Result<OrtModel, Failure> {
    let source = read(&spec.source)?;
    let mut notes = Vec::new();
    let (mut providers, mut passed_over) =
        providers::choose(runtime, &spec.providers, spec.encrypted);
    let sessions = if spec.threads <= 1 { 1 } else { spec.instances.max(1) };

    // A model that no other provider takes runs on the CPU, and shares its weights there.
    let mut other = match providers.is_empty() {
        true => None,
        false => Some(plain(runtime, spec, &source, &mut providers, &mut passed_over)?),
    };
    let shared = match providers.is_empty() {
        true => shared(runtime, spec, &source, &mut notes),
        false => None,
    };
    let (calls, residency, compiled_now) = match shared {
        Some((compiled, first)) => {
            let mut calls = vec![Arc::new(first)];
            for _ in 1..sessions {
                let one =
                    compiled.session(runtime, spec.threads, &source.what).map_err(|status| {
                        refusal::of_opening(status, &source.facts, &source.what, runtime.version())
                    })?;
                calls.push(Arc::new(one));
            }
            (calls, Residency::Mapped, compiled.built)
        }
        None => {
            let mut calls = Vec::with_capacity(sessions);
            for _ in 0..sessions {
                let one = match other.take() {
                    Some(one) => one,
                    None => plain(runtime, spec, &source, &mut providers, &mut passed_over)?,
                };
                calls.push(Arc::new(one));
            }
            (calls, Residency::Plain, false)
        }
    };
    let signature = calls.first().map(|call| call.signature.clone()).unwrap_or_default();
    notes.dedup();
    if !providers.is_empty() && spec.share_weights {
        notes.push("weights are not shared: only the CPU reads them in place".to_owned());
    }
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
        providers: providers
            .into_iter()
            .map(|provider| provider.name)
            .chain([CPU.to_owned()])
            .collect(),
        passed_over,
        compiled_now,
    })
}

/// Reads and checks the graph and what it refers to; the runtime has seen nothing yet.
fn read(source: &GraphSource) -> Result<Source, Failure> {
    match source {
        GraphSource::File(path) => read_bare(path),
        GraphSource::Verified { digest, graph, external } => {
            let what = format!("the graph of {digest}");
            let graph = Bytes::from_owner(Shared(Arc::clone(graph)));
            let facts = graph::read(graph.clone(), &what)?;
            let files = external.clone();
            external::check_extents(&facts, &files, &what)?;
            let identity = digest.as_str().to_owned();
            Ok(Source { what, graph, files, folder: None, facts, identity, watched: None })
        }
    }
}

/// Bytes that opening a bare ONNX file takes: its weights, in it and beside it, once a session, and the
/// file itself where it is read and not mapped. One that is larger than `most` is not even looked into.
///
/// # Errors
/// What opening it would say first.
pub fn opening_bytes(path: &Path, sessions: u64, most: u64) -> Result<u64, Failure> {
    let unreadable = |error| unreadable(&format!("`{}`", path.display()), &error);
    let file = path.metadata().map_err(unreadable)?.len();
    if file > most {
        return Ok(file);
    }
    let held = if file > READ_UP_TO { 0 } else { file };
    let weights = read_bare(path)?.facts.weight_bytes as u64;
    Ok(weights.saturating_mul(sessions).saturating_add(held))
}

fn read_bare(path: &Path) -> Result<Source, Failure> {
    let what = format!("`{}`", path.display());
    let mut watched = Watched(Vec::new());
    let graph = watched
        .add(path)
        .and_then(|()| read_file(path))
        .map_err(|error| unreadable(&what, &error))?;
    let facts = graph::read(graph.clone(), &what)?;
    let (files, folder) = if facts.externals.is_empty() {
        (Files::new(), None)
    } else {
        let folder = external::folder_of(path, &what)?;
        for location in facts.locations() {
            // What is absent or outside is told by `open_files`.
            let _ = watched.add(&folder.join(location));
        }
        (external::open_files(&facts, &folder, &what)?, Some(folder))
    };
    external::check_extents(&facts, &files, &what)?;
    let identity = watched.identity();
    Ok(Source { what, graph, files, folder, facts, identity, watched: Some(watched) })
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

fn read_file(path: &Path) -> std::io::Result<Bytes> {
    let metadata = path.metadata()?;
    if metadata.is_dir() {
        return Err(std::io::ErrorKind::IsADirectory.into());
    }
    let large = metadata.len() > READ_UP_TO;
    let bytes = if large { FileBytes::map(path) } else { FileBytes::read(path) };
    Ok(Bytes::from_owner(bytes?))
}

fn unreadable(what: &str, error: &std::io::Error) -> Failure {
    let why = match error.kind() {
        std::io::ErrorKind::NotFound => "there is nothing at this path".to_owned(),
        std::io::ErrorKind::IsADirectory => "it is a folder".to_owned(),
        _ => error.to_string(),
    };
    Failure::new(
        ErrorCode::FormatsNotAModel,
        format!("{what} is not an ONNX file, the kind that the engine reads: {why}"),
    )
}

/// The files of a bare model as they looked before they were read. Hashing large ones at every start
/// would cost more than everything else that opening them does; and whatever looks the same afterwards
/// was read as it is.
struct Watched(Vec<(PathBuf, Stamp)>);

impl Watched {
    fn add(&mut self, path: &Path) -> std::io::Result<()> {
        let path = path.canonicalize()?;
        let stamp = Stamp::of(&path.metadata()?);
        self.0.push((path, stamp));
        Ok(())
    }

    fn unchanged(&self) -> bool {
        self.0
            .iter()
            .all(|(path, stamp)| path.metadata().is_ok_and(|now| Stamp::of(&now) == *stamp))
    }

    fn identity(&self) -> String {
        format!("file:{}", chunks::sha256(format!("{:?}", self.0).as_bytes()))
    }
}

/// A session with weights of its own, of the providers that take this model. One that does not is taken
/// off the list, and those behind it are tried, down to the CPU alone.
fn plain(
    runtime: &Runtime,
    spec: &OpenSpec,
    source: &Source,
    providers: &mut Vec<Usable>,
    passed_over: &mut Vec<PassedOver>,
) -> Result<Callable, Failure> {
    let session = loop {
        match attempt(runtime, spec, source, providers) {
            Ok(session) => break session,
            Err((_, status)) if providers.is_empty() => {
                let (facts, what) = (&source.facts, &source.what);
                return Err(refusal::of_opening(status, facts, what, runtime.version()));
            }
            Err((at, status)) => {
                let provider = providers.remove(at);
                // Providers say at the end what it was, behind all places that it came through.
                let mut lines = status.message.lines().rev().map(str::trim);
                let words = lines.find(|line| !line.is_empty()).unwrap_or("it does not say why");
                let reason = format!("it does not take this model: {}", clip(words));
                passed_over.push(PassedOver { provider: provider.asked, reason });
            }
        }
    };
    Callable::new(runtime, session, (Vec::new(), Vec::new()), &source.what)
}

/// Makes a session; where that fails, says which provider to do without: the one that could not be
/// appended, else the first.
fn attempt(
    runtime: &Runtime,
    spec: &OpenSpec,
    source: &Source,
    providers: &[Usable],
) -> Result<Session, (usize, Status)> {
    let first = |status| (0, status);
    let making = Making { threads: spec.threads, optimize: true, pack: true };
    let options = session::options(runtime, &making).map_err(first)?;
    for (at, provider) in providers.iter().enumerate() {
        provider.append(runtime, &options).map_err(|status| (at, status))?;
    }
    source.hand_over(&options).map_err(first)?;
    session::create(runtime, &source.graph, &options).map_err(first)
}

impl Source {
    /// Whether what was read is still what lies there: a compiled form is kept only then.
    pub fn unchanged(&self) -> bool {
        self.watched.as_ref().is_none_or(Watched::unchanged)
    }

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
    notes: &mut Vec<String>,
) -> Option<(Compiled, Callable)> {
    let folder = spec.compiled_dir.as_deref()?;
    if !spec.share_weights || source.facts.weight_bytes < SHARED_FROM_BYTES {
        return None;
    }
    match compiled::obtain(runtime, folder, source, spec.threads) {
        Ok(pair) => Some(pair),
        Err(trouble) => {
            notes.push(format!("weights are not shared: {}", clip(&trouble.words())));
            None
        }
    }
}
