//! The compiled cache: a graph optimized once, its weights cut out and shared.
//!
//! Handing initializers to a graph that the runtime still optimizes can give wrong answers silently
//! (it folds what the file says, not what it was handed). So the order is: optimize offline at the full
//! level, cut *that* graph's initializers into content-addressed chunks, and from then on load with
//! all optimization off and the initializers handed over, mapped. The graph on disk keeps naming a file
//! of external data that is empty: whatever tried to read weights from it would fail, not be wrong.
//!
//! On disk: `<key>/graph.onnx`, `<key>/weights.bin` (empty), `<key>/index`, and `chunks/<sha256>`.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use dukou_sys::FileBytes;
use parking_lot::Mutex;

use crate::{
    Runtime,
    api::{Status, Value, c_path, c_text, check},
    chunks,
    cut::{WEIGHTS, cut},
    index::{self, FORMAT, GRAPH, Index, Place},
    open::Source,
    prove,
    session::{self, Callable, Making},
    signature::{dtype_of, element_type},
};

/// Tensors below this stay in the graph: shapes and the like, which the runtime reads while loading.
const CUT_FROM: &std::ffi::CStr = c"1024";

/// Why a model's weights are not shared.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Never: remembered, so that the next start does not try again.
    Unfit(String),
    /// Not this time: the disk, or the runtime.
    Now(String),
}

impl From<Status> for Trouble {
    fn from(status: Status) -> Self {
        Self::Now(status.message)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Now(format!("the compiled cache cannot be written: {error}"))
    }
}

impl Trouble {
    /// In words, behind `weights are not shared: `.
    pub fn words(self) -> String {
        match self {
            Self::Unfit(words) | Self::Now(words) => words,
        }
    }
}

/// A compiled form, ready for sessions.
pub(crate) struct Compiled {
    folder: PathBuf,
    graph: Vec<u8>,
    places: Vec<Place>,
    chunks: Vec<Arc<FileBytes>>,
    /// Whether it was made just now.
    pub built: bool,
}

/// One compilation at a time: each holds a whole model in memory.
static COMPILING: Mutex<()> = Mutex::new(());

/// What decides which kernels and layouts the optimizer chooses.
fn cpu_class() -> String {
    let mut class = std::env::consts::ARCH.to_owned();
    #[cfg(target_arch = "x86_64")]
    for (name, there) in [
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
        ("avx512vnni", std::arch::is_x86_feature_detected!("avx512vnni")),
        ("avxvnni", std::arch::is_x86_feature_detected!("avxvnni")),
        ("avx512bf16", std::arch::is_x86_feature_detected!("avx512bf16")),
    ] {
        if there {
            class.push('+');
            class.push_str(name);
        }
    }
    class
}

/// The compiled form of a source and a first session of it: from the cache, or made now. A damaged
/// cache is made again.
pub(crate) fn obtain(
    runtime: &Runtime,
    folder: &Path,
    source: &Source,
    threads: usize,
) -> Result<(Compiled, Callable), Trouble> {
    let cpu = cpu_class();
    let named = format!("{FORMAT}\n{}\n{}\n{cpu}", source.identity, runtime.version());
    let home = folder.join(chunks::sha256(named.as_bytes()));
    let chunk_folder = folder.join("chunks");
    let cached = || -> Result<Option<(Compiled, Callable)>, Trouble> {
        // Whatever is damaged counts as absent.
        let Ok(index) = Index::read(&home) else {
            return Ok(None);
        };
        if let Some(reason) = index.unusable {
            return Err(Trouble::Unfit(reason));
        }
        let Ok(compiled) = Compiled::load(&home, &chunk_folder) else {
            return Ok(None);
        };
        let Ok(first) = compiled.session(runtime, threads, &source.what) else {
            return Ok(None);
        };
        index::touch(&home);
        Ok(Some((compiled, first)))
    };
    if let Some(pair) = cached()? {
        return Ok(pair);
    }
    let _one = COMPILING.lock();
    // Somebody may have made it while we waited.
    if let Some(pair) = cached()? {
        return Ok(pair);
    }
    fs::create_dir_all(&chunk_folder)?;
    // What cannot be swept now is swept another time.
    let _ = chunks::sweep(folder).and_then(|()| chunks::sweep(&chunk_folder));
    let _ = index::sweep(folder, &chunk_folder);
    let temporary = chunks::temporary_name(folder);
    fs::create_dir(&temporary)?;
    let mut index = Index {
        format: FORMAT,
        runtime: runtime.version().to_owned(),
        cpu,
        source: source.identity.clone(),
        unusable: None,
        graph_sha256: String::new(),
        chunks: Vec::new(),
        tensors: Vec::new(),
    };
    let build =
        Build { runtime, source, threads, temporary: &temporary, chunk_folder: &chunk_folder };
    let made = build.make(&mut index).and_then(|pair| {
        if !source.unchanged() {
            return Err(Trouble::Now("the model was written while it was read".to_owned()));
        }
        publish(&temporary, &home)?;
        Ok(pair)
    });
    if let Err(Trouble::Unfit(reason)) = &made {
        let index = Index {
            unusable: Some(reason.clone()),
            chunks: Vec::new(),
            tensors: Vec::new(),
            ..index
        };
        let _ = index.write(&temporary).and_then(|()| publish(&temporary, &home));
    }
    if made.is_err() {
        let _ = fs::remove_dir_all(&temporary);
    }
    made.map(|(compiled, first)| (Compiled { folder: home, ..compiled }, first))
}

fn publish(temporary: &Path, home: &Path) -> io::Result<()> {
    if home.exists() {
        fs::remove_dir_all(home)?;
    }
    fs::rename(temporary, home)
}

impl Compiled {
    fn load(home: &Path, chunk_folder: &Path) -> io::Result<Self> {
        let index = Index::read(home)?;
        Ok(Self {
            folder: home.to_owned(),
            graph: index.graph(home)?,
            chunks: index.weights(chunk_folder)?,
            places: index.tensors,
            built: false,
        })
    }

    /// A session that reads the mapped weights in place and owns next to nothing.
    pub fn session(
        &self,
        runtime: &Runtime,
        threads: usize,
        what: &str,
    ) -> Result<Callable, Status> {
        let loaded = &runtime.0;
        let making = Making { threads, optimize: false, pack: false };
        let options = session::options(runtime, &making)?;
        let folder = c_path(&self.folder)?;
        options.config(c"session.model_external_initializers_file_folder_path", &folder)?;
        let mut values = Vec::with_capacity(self.places.len());
        for place in &self.places {
            let bytes = self
                .chunks
                .get(place.chunk)
                .and_then(|chunk| chunk.get(place.offset..place.offset + place.length))
                .ok_or_else(|| Status::ours("a tensor outside its chunk"))?;
            let dtype = dtype_of(place.data_type)
                .ok_or_else(|| Status::ours("weights of an element type that cannot be shared"))?;
            let name = c_text(&place.name)?;
            // SAFETY: the session keeps the chunks (`Callable::chunks`) and drops before them, and
            // nobody writes to a chunk. The options copy the name and do not own the value.
            unsafe {
                let value = Value::over(
                    loaded.api,
                    &loaded.memory,
                    bytes,
                    &place.dims,
                    element_type(dtype),
                )?;
                check(
                    loaded.api,
                    (loaded.api.AddInitializer)(options.as_ptr(), name.as_ptr(), value.as_ptr()),
                )?;
                values.push(value);
            }
        }
        let session = session::create(runtime, &self.graph, &options)?;
        Callable::new(runtime, session, (values, self.chunks.clone()), what)
            .map_err(|failure| Status::ours(failure.message))
    }
}

struct Build<'a> {
    runtime: &'a Runtime,
    source: &'a Source,
    threads: usize,
    temporary: &'a Path,
    chunk_folder: &'a Path,
}

impl Build<'_> {
    /// Optimizes, cuts, writes the index, and proves the result against the session that it came from.
    fn make(&self, index: &mut Index) -> Result<(Compiled, Callable), Trouble> {
        let original = self.optimize()?;
        cut(self.temporary, self.chunk_folder, index)?;
        index.write(self.temporary)?;
        let compiled = Compiled::load(self.temporary, self.chunk_folder)?;
        let first = compiled.session(self.runtime, self.threads, &self.source.what)?;
        prove::same_answers(&original, &first).map_err(Trouble::Unfit)?;
        Ok((Compiled { built: true, ..compiled }, first))
    }

    /// The runtime's own optimizer, at its full level, writing what it made.
    fn optimize(&self) -> Result<Callable, Status> {
        let making = Making { threads: self.threads, optimize: true, pack: false };
        let options = session::options(self.runtime, &making)?;
        let path = c_path(&self.temporary.join(GRAPH))?;
        let api = self.runtime.0.api;
        // SAFETY: the options are alive and the path is copied.
        check(api, unsafe { (api.SetOptimizedModelFilePath)(options.as_ptr(), path.as_ptr()) })?;
        options.config(
            c"session.optimized_model_external_initializers_file_name",
            &c_text(WEIGHTS)?,
        )?;
        options
            .config(c"session.optimized_model_external_initializers_min_size_in_bytes", CUT_FROM)?;
        self.source.hand_over(&options)?;
        let session = session::create(self.runtime, &self.source.graph, &options)?;
        Callable::new(self.runtime, session, (Vec::new(), Vec::new()), &self.source.what)
            .map_err(|failure| Status::ours(failure.message))
    }
}
