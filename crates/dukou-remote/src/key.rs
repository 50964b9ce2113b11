//! The key that is shown to the replicas, from a file; read again when the file changes.

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use dukou_types::{ErrorCode, Failure};
use http::HeaderValue;
use parking_lot::Mutex;

/// A file larger than this is no key.
const LARGEST: u64 = 4096;

/// A key and the file it came from.
#[derive(Debug)]
pub struct KeyFile {
    path: PathBuf,
    held: Mutex<(Option<SystemTime>, HeaderValue)>,
}

impl KeyFile {
    /// Reads it.
    ///
    /// # Errors
    /// `deploy.invalid`, which names the file and never what is in it.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let header = read(path).map_err(|why| {
            let message = format!("the key file `{}` {why}", path.display());
            Failure::new(ErrorCode::DeployInvalid, message)
        })?;
        Ok(Self { path: path.to_owned(), held: Mutex::new((changed(path), header)) })
    }

    /// The value of `authorization`.
    pub fn header(&self) -> HeaderValue {
        self.held.lock().1.clone()
    }

    /// Reads it again where it changed. What cannot be read changes nothing.
    pub fn refresh(&self) {
        let now = changed(&self.path);
        if now.is_none() || self.held.lock().0 == now {
            return;
        }
        if let Ok(header) = read(&self.path) {
            *self.held.lock() = (now, header);
        }
    }
}

fn changed(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|data| data.modified()).ok()
}

fn read(path: &Path) -> Result<HeaderValue, String> {
    let size = fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?.len();
    if size > LARGEST {
        return Err(format!("has {size} bytes and is no key"));
    }
    let text = fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))?;
    let key = text.trim();
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("does not hold one key on one line".into());
    }
    let mut header = HeaderValue::try_from(format!("Bearer {key}"))
        .map_err(|_| "does not hold one key on one line".to_owned())?;
    header.set_sensitive(true);
    Ok(header)
}
