//! The C API, held by handles that release themselves. Nothing here decides anything.

use std::{
    ffi::{CStr, CString, c_char, c_void},
    os::unix::ffi::OsStrExt,
    path::Path,
    ptr::{self, NonNull},
};

use ort::sys;

/// The table of functions. It lives as long as the process: the library is never unloaded.
pub(crate) type Api = &'static sys::OrtApi;

/// What the runtime said when it refused something.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    /// `OrtErrorCode` as a number: a newer library may have codes that we do not know.
    pub code: i32,
    /// Its words.
    pub message: String,
}

impl Status {
    pub const NO_SUCH_FILE: i32 = 3;
    pub const INVALID_PROTOBUF: i32 = 7;
    pub const NOT_IMPLEMENTED: i32 = 9;
    pub const EP_FAIL: i32 = 11;

    /// For what went wrong on our side of the interface.
    pub fn ours(message: impl Into<String>) -> Self {
        Self { code: -1, message: message.into() }
    }
}

/// Turns a status into a result, and releases it.
pub(crate) fn check(api: Api, status: sys::OrtStatusPtr) -> Result<(), Status> {
    if status.0.is_null() {
        return Ok(());
    }
    // SAFETY: the function reads an int from the status; reading it as `i32` instead of the enum is
    // what keeps a code that this build does not know from being undefined behaviour.
    let code_of: unsafe extern "system" fn(*const sys::OrtStatus) -> i32 =
        unsafe { std::mem::transmute(api.GetErrorCode as *const ()) };
    // SAFETY: the status is not null and ours to release; the message lives until then.
    unsafe {
        let code = code_of(status.0);
        let message =
            CStr::from_ptr((api.GetErrorMessage)(status.0)).to_string_lossy().into_owned();
        (api.ReleaseStatus)(status.0);
        Err(Status { code, message })
    }
}

/// Text for the C side. A NUL in it is refused.
pub(crate) fn c_text(text: &str) -> Result<CString, Status> {
    CString::new(text).map_err(|_| Status::ours(format!("`{}` holds a NUL", text.escape_default())))
}

/// A path for the C side.
pub(crate) fn c_path(path: &Path) -> Result<CString, Status> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Status::ours(format!("the path `{}` holds a NUL", path.display())))
}

macro_rules! handle {
    ($(#[$doc:meta])* $name:ident, $raw:ident, $release:ident) => {
        $(#[$doc])*
        pub(crate) struct $name {
            api: Api,
            raw: NonNull<sys::$raw>,
        }

        impl $name {
            /// Takes what the runtime made; `None` where it made nothing.
            pub fn take(api: Api, raw: *mut sys::$raw) -> Option<Self> {
                NonNull::new(raw).map(|raw| Self { api, raw })
            }

            pub fn as_ptr(&self) -> *mut sys::$raw {
                self.raw.as_ptr()
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: the handle was made by this API, is ours and is released once.
                unsafe { (self.api.$release)(self.raw.as_ptr()) }
            }
        }

        // SAFETY: the runtime's objects have no thread affinity, and what is shared between threads
        // here is only read or run, which its documentation allows.
        unsafe impl Send for $name {}
        // SAFETY: as above.
        unsafe impl Sync for $name {}
    };
}

handle!(/// Options of a session about to be made.
    SessionOptions, OrtSessionOptions, ReleaseSessionOptions);
handle!(/// A session: a loaded graph. `Run` may be called from many threads.
    Session, OrtSession, ReleaseSession);
handle!(/// A value: here always a tensor.
    Value, OrtValue, ReleaseValue);
handle!(/// Where memory is: here always the CPU's.
    MemoryInfo, OrtMemoryInfo, ReleaseMemoryInfo);
handle!(/// Options of a run.
    RunOptions, OrtRunOptions, ReleaseRunOptions);
handle!(/// Shape and element type of a tensor.
    ShapeInfo, OrtTensorTypeAndShapeInfo, ReleaseTensorTypeAndShapeInfo);
handle!(/// Type of an input or output.
    TypeInfo, OrtTypeInfo, ReleaseTypeInfo);

fn made<T>(handle: Option<T>) -> Result<T, Status> {
    handle.ok_or_else(|| Status::ours("ONNX Runtime gave no object and no reason"))
}

impl SessionOptions {
    /// Fresh options.
    pub fn new(api: Api) -> Result<Self, Status> {
        let mut raw = ptr::null_mut();
        // SAFETY: `raw` is where the function writes the new object.
        check(api, unsafe { (api.CreateSessionOptions)(&raw mut raw) })?;
        made(Self::take(api, raw))
    }

    /// Sets one of the runtime's named settings.
    pub fn config(&self, key: &CStr, value: &CStr) -> Result<(), Status> {
        // SAFETY: both texts are copied by the callee.
        check(self.api, unsafe {
            (self.api.AddSessionConfigEntry)(self.as_ptr(), key.as_ptr(), value.as_ptr())
        })
    }

    /// Hands files of external data over as memory, by the `location` that the graph uses. The session
    /// copies what it needs while it is made.
    pub fn external_files(&self, files: &[(CString, &[u8])]) -> Result<(), Status> {
        let names: Vec<*const c_char> = files.iter().map(|(name, _)| name.as_ptr()).collect();
        let buffers: Vec<*mut c_char> =
            files.iter().map(|(_, bytes)| bytes.as_ptr().cast_mut().cast()).collect();
        let lengths: Vec<usize> = files.iter().map(|(_, bytes)| bytes.len()).collect();
        // SAFETY: three arrays of equal length; names are copied; buffers are read (never written)
        // while the session is made, and `Runtime` keeps them until then.
        check(self.api, unsafe {
            (self.api.AddExternalInitializersFromMemory)(
                self.as_ptr(),
                names.as_ptr(),
                buffers.as_ptr(),
                lengths.as_ptr(),
                files.len(),
            )
        })
    }
}

impl MemoryInfo {
    /// The CPU's memory, as an allocator of this kind gives it.
    pub fn cpu(api: Api, kind: sys::OrtAllocatorType) -> Result<Self, Status> {
        let mut raw = ptr::null_mut();
        // SAFETY: `raw` is where the function writes the new object.
        check(api, unsafe {
            (api.CreateCpuMemoryInfo)(kind, sys::OrtMemType::OrtMemTypeDefault, &raw mut raw)
        })?;
        made(Self::take(api, raw))
    }
}

impl RunOptions {
    /// Options whose failures are not logged by the runtime: they come back as a status anyway, and a
    /// client must not be able to fill the log.
    pub fn quiet(api: Api) -> Result<Self, Status> {
        let mut raw = ptr::null_mut();
        // SAFETY: `raw` is where the function writes the new object.
        check(api, unsafe { (api.CreateRunOptions)(&raw mut raw) })?;
        let options = made(Self::take(api, raw))?;
        // SAFETY: the object was just made; 4 is `FATAL`.
        check(api, unsafe { (api.RunOptionsSetRunLogSeverityLevel)(options.as_ptr(), 4) })?;
        Ok(options)
    }
}

impl Value {
    /// A tensor over memory of ours, which the caller keeps alive and unmoved while the value lives.
    ///
    /// # Safety
    /// `bytes` must outlive the value and every session that was given it, and must not be written
    /// while the runtime reads. The runtime itself does not write to inputs and initializers.
    pub unsafe fn over(
        api: Api,
        memory: &MemoryInfo,
        bytes: &[u8],
        shape: &[i64],
        element: sys::ONNXTensorElementDataType,
    ) -> Result<Self, Status> {
        let mut raw = ptr::null_mut();
        // SAFETY: pointer and length are those of `bytes`; the runtime checks the length against
        // the shape and the element type.
        check(api, unsafe {
            (api.CreateTensorWithDataAsOrtValue)(
                memory.as_ptr(),
                bytes.as_ptr().cast_mut().cast::<c_void>(),
                bytes.len(),
                shape.as_ptr(),
                shape.len(),
                element,
                &raw mut raw,
            )
        })?;
        made(Self::take(api, raw))
    }

    /// A tensor of strings, each copied; bytes of any value are kept.
    pub fn strings<'a>(
        api: Api,
        shape: &[i64],
        strings: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Self, Status> {
        let mut allocator = ptr::null_mut();
        let mut raw = ptr::null_mut();
        // SAFETY: the default allocator is a singleton of the library; `raw` is written with the value.
        check(api, unsafe { (api.GetAllocatorWithDefaultOptions)(&raw mut allocator) })?;
        check(api, unsafe {
            (api.CreateTensorAsOrtValue)(
                allocator,
                shape.as_ptr(),
                shape.len(),
                sys::ONNXTensorElementDataType::ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING,
                &raw mut raw,
            )
        })?;
        let value = made(Self::take(api, raw))?;
        for (index, string) in strings.enumerate() {
            let mut place = ptr::null_mut();
            // SAFETY: the runtime checks the index and gives room for exactly this many bytes.
            unsafe {
                check(
                    api,
                    (api.GetResizedStringTensorElementBuffer)(
                        value.as_ptr(),
                        index,
                        string.len(),
                        &raw mut place,
                    ),
                )?;
                if !string.is_empty() {
                    ptr::copy_nonoverlapping(string.as_ptr(), place.cast::<u8>(), string.len());
                }
            }
        }
        Ok(value)
    }

    /// Element type (as a number) and shape.
    pub fn shape(&self) -> Result<(i32, Vec<usize>), Status> {
        let mut raw = ptr::null_mut();
        // SAFETY: the value is a tensor (its session said so); `raw` is written with a new object.
        check(self.api, unsafe { (self.api.GetTensorTypeAndShape)(self.as_ptr(), &raw mut raw) })?;
        let info = made(ShapeInfo::take(self.api, raw))?;
        Ok((
            info.element()?,
            info.extents()?.into_iter().map(|e| usize::try_from(e).unwrap_or(0)).collect(),
        ))
    }

    /// Where the elements begin.
    pub fn data(&self) -> Result<*const u8, Status> {
        let mut data = ptr::null_mut();
        // SAFETY: `data` is where the function writes the address.
        check(self.api, unsafe { (self.api.GetTensorMutableData)(self.as_ptr(), &raw mut data) })?;
        Ok(data.cast_const().cast())
    }

    /// All strings, one after another, and where each begins.
    pub fn string_content(&self, count: usize) -> Result<(Vec<u8>, Vec<usize>), Status> {
        let mut total = 0;
        // SAFETY: the runtime refuses a value that holds no strings.
        check(self.api, unsafe {
            (self.api.GetStringTensorDataLength)(self.as_ptr(), &raw mut total)
        })?;
        let (mut content, mut offsets) = (vec![0_u8; total], vec![0_usize; count]);
        if count > 0 {
            // SAFETY: both buffers are as long as said; the runtime checks both lengths.
            check(self.api, unsafe {
                (self.api.GetStringTensorContent)(
                    self.as_ptr(),
                    content.as_mut_ptr().cast::<c_void>(),
                    total,
                    offsets.as_mut_ptr(),
                    count,
                )
            })?;
        }
        Ok((content, offsets))
    }
}

impl ShapeInfo {
    /// `ONNXTensorElementDataType` as a number: a newer library may have types that we do not know.
    pub fn element(&self) -> Result<i32, Status> {
        element_of(self.api, self.as_ptr())
    }

    /// Extents; -1 for what is not fixed.
    pub fn extents(&self) -> Result<Vec<i64>, Status> {
        extents_of(self.api, self.as_ptr())
    }
}

/// The element type of an info that someone else owns.
pub(crate) fn element_of(
    api: Api,
    info: *const sys::OrtTensorTypeAndShapeInfo,
) -> Result<i32, Status> {
    let mut element = 0_i32;
    // SAFETY: the enum is an int in C; it is read as one.
    check(api, unsafe { (api.GetTensorElementType)(info, (&raw mut element).cast()) })?;
    Ok(element)
}

/// The extents of an info that someone else owns.
pub(crate) fn extents_of(
    api: Api,
    info: *const sys::OrtTensorTypeAndShapeInfo,
) -> Result<Vec<i64>, Status> {
    let mut rank = 0;
    // SAFETY: `info` is alive; `rank` is written with a count, and then that many extents are.
    check(api, unsafe { (api.GetDimensionsCount)(info, &raw mut rank) })?;
    let mut extents = vec![0_i64; rank];
    // SAFETY: as above.
    check(api, unsafe { (api.GetDimensions)(info, extents.as_mut_ptr(), rank) })?;
    Ok(extents)
}
