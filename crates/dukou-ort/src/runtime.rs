//! The library itself: loaded once, one environment, its log on ours.

use std::{
    ffi::{CStr, CString, c_char, c_void},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    ptr,
    sync::Arc,
};

use dukou_types::{ErrorCode, Failure};
use ort::sys;
use parking_lot::Mutex;

use crate::{
    OpenSpec, OrtModel,
    api::{Api, MemoryInfo, RunOptions, Status, check},
    open,
    pool::Pool,
    providers::Plugins,
};

/// Why the library cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LoadError {
    /// Neither a path nor `ORT_DYLIB_PATH` was given.
    #[error("no path of ONNX Runtime's library was given and ORT_DYLIB_PATH is not set")]
    NotNamed,
    /// The loader refused the file, or it is not ONNX Runtime, or it is too old.
    #[error("cannot load ONNX Runtime from `{}`: {reason}", path.display())]
    Unloadable {
        /// The file.
        path: PathBuf,
        /// What dlopen said.
        reason: String,
    },
    /// The library is loaded, and cannot begin.
    #[error("ONNX Runtime at `{}` does not start: {reason}", path.display())]
    NoStart {
        /// The file.
        path: PathBuf,
        /// What it said.
        reason: String,
    },
    /// A process holds one library; another one was asked for.
    #[error("ONNX Runtime is loaded already from `{}`, not from `{}`", loaded.display(), asked.display())]
    Another {
        /// The file that is loaded.
        loaded: PathBuf,
        /// The file that was asked for.
        asked: PathBuf,
    },
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        Self::new(ErrorCode::EngineRuntimeMissing, error.to_string())
    }
}

/// ONNX Runtime, loaded. Cheap to clone; one a process.
#[derive(Clone)]
pub struct Runtime(pub(crate) Arc<Loaded>);

pub(crate) struct Loaded {
    pub api: Api,
    pub env: Env,
    /// For tensors over memory of ours.
    pub memory: MemoryInfo,
    /// For every run.
    pub quiet: RunOptions,
    pub pool: Pool,
    /// Libraries that bring execution providers of their own.
    pub plugins: Plugins,
    version: String,
    providers: Vec<String>,
    path: PathBuf,
}

/// The environment: one a process, never released (sessions may outlive whoever made it).
pub(crate) struct Env(pub *mut sys::OrtEnv);

// SAFETY: the environment is thread-safe by the runtime's documentation, and lives for ever.
unsafe impl Send for Env {}
// SAFETY: as above.
unsafe impl Sync for Env {}

static LOADED: Mutex<Option<Runtime>> = Mutex::new(None);

impl Runtime {
    /// Loads the library at `path`, or at `ORT_DYLIB_PATH` where `path` is `None`. A second call gives
    /// the library that is loaded already.
    pub fn load(path: Option<&Path>) -> Result<Self, LoadError> {
        let named = match path {
            Some(path) => path.to_path_buf(),
            None => std::env::var_os("ORT_DYLIB_PATH")
                .filter(|text| !text.is_empty())
                .map(PathBuf::from)
                .ok_or(LoadError::NotNamed)?,
        };
        // A bare name is left to the loader's own search; a path is made absolute, because `ort`
        // would look beside the executable for a relative one.
        let path = named.canonicalize().unwrap_or(named);
        let mut loaded = LOADED.lock();
        if let Some(runtime) = &*loaded {
            return if runtime.0.path == path {
                Ok(runtime.clone())
            } else {
                Err(LoadError::Another { loaded: runtime.0.path.clone(), asked: path })
            };
        }
        if let Err(error) = ort::init_from(&path) {
            return Err(LoadError::Unloadable { reason: reason(&error), path });
        }
        let runtime = start(ort::api(), &path)
            .map_err(|status| LoadError::NoStart { path, reason: status.message })?;
        *loaded = Some(runtime.clone());
        Ok(runtime)
    }

    /// The library's version, such as `1.32.0`.
    pub fn version(&self) -> &str {
        &self.0.version
    }

    /// Execution providers that the library has, in its own order.
    pub fn providers(&self) -> &[String] {
        &self.0.providers
    }

    /// The file that was loaded.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Opens a model on the calling thread (whose niceness its threads inherit). May take seconds.
    ///
    /// Fails with `formats.not-a-model`, `formats.corrupt`, `formats.unsupported-operator`,
    /// `formats.external-data-outside`, `formats.external-data-missing`, `engine.out-of-memory`.
    pub fn open(&self, spec: OpenSpec) -> Result<OrtModel, Failure> {
        open::open(self, &spec)
    }
}

/// What the loader said, in one line. (The `Display` of `ort`'s error repeats the path.)
fn reason(error: &ort::LoadDynamicError) -> String {
    use ort::LoadDynamicError as Error;
    match error {
        Error::Dlopen { error, .. } => {
            std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
        }
        Error::MissingApi { .. } => "it is a library, but not ONNX Runtime".to_owned(),
        Error::InvalidVersionString => "it does not say its version".to_owned(),
        Error::BadVersion { version_str, .. } => {
            format!("version {version_str} is too old, 1.{} or later is needed", ort::MINOR_VERSION)
        }
    }
}

fn start(api: Api, path: &Path) -> Result<Runtime, Status> {
    let mut env = ptr::null_mut();
    // SAFETY: the logger is a plain function that lives for ever and takes no parameter; `env` is
    // where the function writes the new object.
    check(api, unsafe {
        (api.CreateEnvWithCustomLogger)(
            log,
            ptr::null_mut(),
            sys::OrtLoggingLevel::ORT_LOGGING_LEVEL_ERROR,
            c"dukou".as_ptr(),
            &raw mut env,
        )
    })?;
    // SAFETY: the environment was just made. Telemetry exists on Windows only; we refuse it anyway.
    check(api, unsafe { (api.DisableTelemetryEvents)(env) })?;
    let memory = MemoryInfo::cpu(api, sys::OrtAllocatorType::OrtDeviceAllocator)?;
    Ok(Runtime(Arc::new(Loaded {
        api,
        env: Env(env),
        memory,
        quiet: RunOptions::quiet(api)?,
        pool: Pool::new(),
        plugins: Plugins::default(),
        version: version(path).unwrap_or_else(|| "unknown".to_owned()),
        providers: providers(api)?,
        path: path.to_path_buf(),
    })))
}

/// The library's own version. `ort` checks it and keeps it to itself, so the symbol is asked once more.
fn version(path: &Path) -> Option<String> {
    let file = CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: the library is loaded already and never unloaded; `RTLD_NOLOAD` only finds it again.
    // The symbol's type is the C API's own, and the text is a constant of the library.
    unsafe {
        let library = libc::dlopen(file.as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD);
        if library.is_null() {
            return None;
        }
        let symbol = libc::dlsym(library, c"OrtGetApiBase".as_ptr());
        if symbol.is_null() {
            return None;
        }
        let base_of: unsafe extern "C" fn() -> *const sys::OrtApiBase = std::mem::transmute(symbol);
        let base = base_of().as_ref()?;
        Some(CStr::from_ptr((base.GetVersionString)()).to_string_lossy().into_owned())
    }
}

fn providers(api: Api) -> Result<Vec<String>, Status> {
    let (mut names, mut count) = (ptr::null_mut::<*mut c_char>(), 0);
    // SAFETY: the function writes an array of `count` texts, which is ours until it is released.
    unsafe {
        check(api, (api.GetAvailableProviders)(&raw mut names, &raw mut count))?;
        let list = (0..usize::try_from(count).unwrap_or(0))
            .map(|index| CStr::from_ptr(*names.add(index)).to_string_lossy().into_owned())
            .collect();
        check(api, (api.ReleaseAvailableProviders)(names, count))?;
        Ok(list)
    }
}

/// The runtime's own lines go where ours go: stderr.
unsafe extern "system" fn log(
    _parameter: *mut c_void,
    _severity: sys::OrtLoggingLevel,
    _category: *const c_char,
    _logger: *const c_char,
    _place: *const c_char,
    message: *const c_char,
) {
    if message.is_null() {
        return;
    }
    // SAFETY: the runtime gives a text that ends with NUL and lives during the call.
    let message = unsafe { CStr::from_ptr(message) }.to_string_lossy();
    eprintln!("onnxruntime: {}", message.trim_end());
}
