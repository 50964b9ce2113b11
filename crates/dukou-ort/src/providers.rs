//! Execution providers: which of those that are asked for this library has, and how each is put into a
//! session.
//!
//! There are three ways in. Those with options of a type of their own (CUDA, TensorRT, ROCm), those of the
//! runtime's general call, by name, and those of a *plugin*: a library of its own that is registered with
//! the environment and says which of this machine's devices it can use.

use std::{
    ffi::{CStr, CString, c_char},
    fmt,
    path::{Path, PathBuf},
    ptr, slice,
};

use ort::sys;
use parking_lot::Mutex;
use serde::Serialize;

use crate::{
    Runtime,
    api::{Api, SessionOptions, Status, c_path, c_text, check},
    graph::clip,
};

/// The provider that every library has and every list ends with.
pub const CPU: &str = "CPUExecutionProvider";

/// A provider that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// By ONNX Runtime's name (`CUDAExecutionProvider`) or the short one (`cuda`).
    pub name: String,
    /// Its own settings, by its own names.
    pub options: Vec<(String, String)>,
}

/// A provider that was asked for and does not run the model, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PassedOver {
    /// As it was asked for.
    pub provider: String,
    /// Why, in a sentence.
    pub reason: String,
}

/// A device that a provider can use on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Device {
    /// The provider.
    pub provider: String,
    /// `cpu`, `gpu`, `npu`, or the number of a kind that is newer than this engine.
    pub kind: String,
    /// Who made it.
    pub vendor: String,
    /// What the provider says of it: `ov_device=GPU.0`.
    pub says: String,
}

/// A plugin's library.
#[derive(Debug)]
pub(crate) struct Plugin {
    path: PathBuf,
    /// None: not registered yet.
    outcome: Option<Result<(), String>>,
}

/// The plugins that this process was told of.
pub(crate) type Plugins = Mutex<Vec<Plugin>>;

/// The option that chooses among a plugin's devices: `CPU`, `GPU`, `NPU`.
const DEVICE_TYPE: &str = "device_type";
/// What of a name's ending every provider has.
const ENDING: &str = "ExecutionProvider";

/// A provider that this library, or a plugin, has.
pub(crate) struct Usable {
    /// As it was asked for.
    pub asked: String,
    /// By ONNX Runtime's name.
    pub name: String,
    keys: Vec<CString>,
    values: Vec<CString>,
    way: Way,
}

enum Way {
    /// Options of a type of its own.
    Own(Typed),
    /// The general call, by the name without its ending.
    General(CString),
    /// A plugin's devices. They live as long as the plugin is registered, which is for ever.
    Devices(Vec<*const sys::OrtEpDevice>),
}

/// A provider whose options have a type of their own.
#[derive(Clone, Copy)]
enum Typed {
    Cuda,
    TensorRt,
    Rocm,
}

impl fmt::Debug for Usable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Usable").field(&self.name).finish()
    }
}

impl Runtime {
    /// Tells of a plugin's library. It is loaded when a model asks for what the runtime itself lacks.
    pub fn add_plugin(&self, path: &Path) {
        let mut plugins = self.0.plugins.lock();
        if plugins.iter().all(|plugin| plugin.path != path) {
            plugins.push(Plugin { path: path.to_path_buf(), outcome: None });
        }
    }

    /// Loads the plugins that are not loaded yet; those that cannot be, with why.
    pub fn register_plugins(&self) -> Vec<(PathBuf, String)> {
        let mut plugins = self.0.plugins.lock();
        for (index, plugin) in plugins.iter_mut().enumerate() {
            if plugin.outcome.is_none() {
                let registered = register(self, index, &plugin.path);
                plugin.outcome = Some(registered.map_err(|status| clip(&status.message)));
            }
        }
        let failed = plugins.iter().filter_map(|plugin| match &plugin.outcome {
            Some(Err(reason)) => Some((plugin.path.clone(), reason.clone())),
            _ => None,
        });
        failed.collect()
    }

    /// The devices that providers can use here. Plugins count once they are registered.
    pub fn devices(&self) -> Vec<Device> {
        let api = self.0.api;
        let devices = ep_devices(self).unwrap_or_default();
        devices.into_iter().map(|device| describe(api, device)).collect()
    }
}

fn register(runtime: &Runtime, index: usize, path: &Path) -> Result<(), Status> {
    let name = c_text(&format!("dukou-plugin-{index}"))?;
    let path = c_path(path)?;
    // SAFETY: both texts are copied; the environment lives for ever. A plugin is foreign code, which
    // whoever started this process named.
    check(runtime.0.api, unsafe {
        (runtime.0.api.RegisterExecutionProviderLibrary)(
            runtime.0.env.0,
            name.as_ptr(),
            path.as_ptr(),
        )
    })
}

fn ep_devices(runtime: &Runtime) -> Result<Vec<*const sys::OrtEpDevice>, Status> {
    let (mut devices, mut count) = (ptr::null(), 0);
    // SAFETY: the function writes an array of `count` pointers that the environment owns.
    unsafe {
        check(
            runtime.0.api,
            (runtime.0.api.GetEpDevices)(runtime.0.env.0, &raw mut devices, &raw mut count),
        )?;
        Ok(if count == 0 { Vec::new() } else { slice::from_raw_parts(devices, count).to_vec() })
    }
}

/// A text of the runtime's; empty where there is none.
///
/// # Safety
/// `text` is null, or ends with NUL and lives during the call.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

fn describe(api: Api, device: *const sys::OrtEpDevice) -> Device {
    // SAFETY: the device and what hangs on it belong to the environment, which lives for ever. The kind
    // is an int in C and is read as one: a newer library may have kinds that we do not know.
    unsafe {
        let hardware = (api.EpDevice_Device)(device);
        let kind_of: unsafe extern "system" fn(*const sys::OrtHardwareDevice) -> i32 =
            std::mem::transmute(api.HardwareDevice_Type as *const ());
        let kind = match kind_of(hardware) {
            0 => "cpu".to_owned(),
            1 => "gpu".to_owned(),
            2 => "npu".to_owned(),
            other => other.to_string(),
        };
        let (mut keys, mut values, mut count) = (ptr::null(), ptr::null(), 0);
        let metadata = (api.EpDevice_EpMetadata)(device);
        (api.GetKeyValuePairs)(metadata, &raw mut keys, &raw mut values, &raw mut count);
        let says =
            (0..count).map(|at| format!("{}={}", text(*keys.add(at)), text(*values.add(at))));
        Device {
            provider: text((api.EpDevice_EpName)(device)),
            kind,
            vendor: text((api.HardwareDevice_Vendor)(hardware)),
            says: says.collect::<Vec<_>>().join(" "),
        }
    }
}

/// Of the providers that are asked for those that are here, in the order asked for, up to the CPU, which
/// ends every list by itself; and those that are not, with why.
pub(crate) fn choose(
    runtime: &Runtime,
    asked: &[Provider],
    encrypted: bool,
) -> (Vec<Usable>, Vec<PassedOver>) {
    let (mut usable, mut passed_over) = (Vec::new(), Vec::new());
    for provider in asked {
        if is_named(CPU, &provider.name) {
            break;
        }
        let found = match provider.options.iter().find(|(key, _)| encrypted && is_kept(key)) {
            Some((key, _)) => Err(format!(
                "the version is encrypted, and the option `{}` would have its plain form written to a disk",
                clip(key)
            )),
            None => find(runtime, provider),
        };
        match found {
            Ok(found) => usable.push(found),
            Err(reason) => {
                passed_over.push(PassedOver { provider: clip(&provider.name), reason });
            }
        }
    }
    (usable, passed_over)
}

/// Whether an option has a provider write what it made of the model to a disk: engine caches, dumps.
fn is_kept(option: &str) -> bool {
    let option = option.to_ascii_lowercase();
    ["cache", "dump", "save", "context_enable"].iter().any(|word| option.contains(word))
}

/// Whether a name that was asked for, in any case, with or without its ending, means this provider.
fn is_named(name: &str, asked: &str) -> bool {
    let stem = |text: &str| text.strip_suffix(ENDING).unwrap_or(text).to_ascii_lowercase();
    stem(name) == stem(asked)
}

fn find(runtime: &Runtime, provider: &Provider) -> Result<Usable, String> {
    let made = |name: String, way: Way| {
        // A plugin is told the kind of device by the device.
        let plugin = matches!(way, Way::Devices(_));
        let options = provider.options.iter().filter(|(key, _)| !(plugin && key == DEVICE_TYPE));
        let texts = |text: &str| c_text(text).map_err(|status| status.message);
        let keys = options.clone().map(|(key, _)| texts(key)).collect::<Result<_, _>>()?;
        let values = options.map(|(_, value)| texts(value)).collect::<Result<_, _>>()?;
        Ok(Usable { asked: clip(&provider.name), name, keys, values, way })
    };
    let built_in = runtime.providers().iter().find(|known| is_named(known, &provider.name));
    if let Some(name) = built_in {
        let stem = name.strip_suffix(ENDING).unwrap_or(name);
        let way = match stem {
            "CUDA" => Way::Own(Typed::Cuda),
            "Tensorrt" => Way::Own(Typed::TensorRt),
            "ROCM" => Way::Own(Typed::Rocm),
            _ => Way::General(c_text(stem).map_err(|status| status.message)?),
        };
        return made(name.clone(), way);
    }
    let failed = runtime.register_plugins();
    let devices = ep_devices(runtime).map_err(|status| clip(&status.message))?;
    let api = runtime.0.api;
    // SAFETY: the devices belong to the environment, which lives for ever.
    let name_of =
        |device: &*const sys::OrtEpDevice| unsafe { text((api.EpDevice_EpName)(*device)) };
    let named: Vec<_> =
        devices.into_iter().filter(|device| is_named(&name_of(device), &provider.name)).collect();
    if let Some(first) = named.first() {
        let name = name_of(first);
        return made(name, Way::Devices(with_kind(api, named, &provider.options)));
    }
    let mut reason = format!(
        "it is not in this ONNX Runtime {}, which has {}",
        runtime.version(),
        runtime.providers().join(", ")
    );
    for plugin in runtime.0.plugins.lock().iter() {
        let path = plugin.path.display();
        match failed.iter().find(|(failed, _)| *failed == plugin.path) {
            Some((_, why)) => reason += &format!("; the plugin `{path}` cannot be loaded: {why}"),
            None => {
                reason += &format!("; the plugin `{path}` finds no device of it on this machine")
            }
        }
    }
    Err(reason)
}

/// One device: the one of the kind that the option `device_type` names, else the first.
fn with_kind(
    api: Api,
    devices: Vec<*const sys::OrtEpDevice>,
    options: &[(String, String)],
) -> Vec<*const sys::OrtEpDevice> {
    let wanted = options.iter().find(|(key, _)| key == DEVICE_TYPE).map(|(_, value)| value);
    let at = devices.iter().position(|&device| {
        wanted.is_none_or(|wanted| {
            let found = describe(api, device);
            found.kind.eq_ignore_ascii_case(wanted)
                || found.says.split_whitespace().any(|said| said.ends_with(&format!("={wanted}")))
        })
    });
    devices.into_iter().skip(at.unwrap_or(0)).take(1).collect()
}

impl Usable {
    /// Puts it into a session that is about to be made, behind those that were put before.
    pub fn append(&self, runtime: &Runtime, options: &SessionOptions) -> Result<(), Status> {
        let api = runtime.0.api;
        let raw = options.as_ptr();
        let pointers = |texts: &[CString]| texts.iter().map(|t| t.as_ptr()).collect::<Vec<_>>();
        let (keys, values) = (pointers(&self.keys), pointers(&self.values));
        match &self.way {
            // SAFETY (all three): the two arrays are equally long; every text lives through the call and
            // is copied; the devices belong to the environment; `raw` is alive and ours.
            Way::General(stem) => check(api, unsafe {
                (api.SessionOptionsAppendExecutionProvider)(
                    raw,
                    stem.as_ptr(),
                    keys.as_ptr(),
                    values.as_ptr(),
                    keys.len(),
                )
            }),
            Way::Devices(devices) => check(api, unsafe {
                (api.SessionOptionsAppendExecutionProvider_V2)(
                    raw,
                    runtime.0.env.0,
                    devices.as_ptr(),
                    devices.len(),
                    keys.as_ptr(),
                    values.as_ptr(),
                    keys.len(),
                )
            }),
            Way::Own(Typed::Cuda) => {
                let life = Life {
                    create: api.CreateCUDAProviderOptions,
                    update: api.UpdateCUDAProviderOptions,
                    release: api.ReleaseCUDAProviderOptions,
                };
                // SAFETY: `made` was made by this API for this call, and is copied.
                life.with(api, &keys, &values, |made| unsafe {
                    (api.SessionOptionsAppendExecutionProvider_CUDA_V2)(raw, made)
                })
            }
            Way::Own(Typed::TensorRt) => {
                let life = Life {
                    create: api.CreateTensorRTProviderOptions,
                    update: api.UpdateTensorRTProviderOptions,
                    release: api.ReleaseTensorRTProviderOptions,
                };
                // SAFETY: as above.
                life.with(api, &keys, &values, |made| unsafe {
                    (api.SessionOptionsAppendExecutionProvider_TensorRT_V2)(raw, made)
                })
            }
            Way::Own(Typed::Rocm) => {
                let life = Life {
                    create: api.CreateROCMProviderOptions,
                    update: api.UpdateROCMProviderOptions,
                    release: api.ReleaseROCMProviderOptions,
                };
                // SAFETY: as above.
                life.with(api, &keys, &values, |made| unsafe {
                    (api.SessionOptionsAppendExecutionProvider_ROCM)(raw, made)
                })
            }
        }
    }
}

type Create<T> = unsafe extern "system" fn(*mut *mut T) -> sys::OrtStatusPtr;
type Update<T> = unsafe extern "system" fn(
    *mut T,
    *const *const c_char,
    *const *const c_char,
    usize,
) -> sys::OrtStatusPtr;
type Release<T> = unsafe extern "system" fn(*mut T);

/// How options of a provider's own type come and go.
struct Life<T> {
    create: Create<T>,
    update: Update<T>,
    release: Release<T>,
}

impl<T> Life<T> {
    /// Makes the options, fills them, has them appended and releases them.
    fn with(
        &self,
        api: Api,
        keys: &[*const c_char],
        values: &[*const c_char],
        append: impl FnOnce(*mut T) -> sys::OrtStatusPtr,
    ) -> Result<(), Status> {
        let mut made = ptr::null_mut();
        // SAFETY: `made` is where the function writes the new object.
        check(api, unsafe { (self.create)(&raw mut made) })?;
        if made.is_null() {
            return Err(Status::ours("ONNX Runtime gave no options and no reason"));
        }
        // SAFETY: the object was just made; both arrays are equally long and their texts are copied.
        let updated =
            check(api, unsafe { (self.update)(made, keys.as_ptr(), values.as_ptr(), keys.len()) });
        let appended = updated.and_then(|()| check(api, append(made)));
        // SAFETY: the object is ours, and what was appended is a copy.
        unsafe { (self.release)(made) };
        appended
    }
}
