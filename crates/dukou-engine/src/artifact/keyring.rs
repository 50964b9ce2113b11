//! The encryption keys: where they come from, and what they unwrap.
//!
//! As `python/dukou/trust/keyring.py`, which also makes and replaces them. Asked anew whenever a
//! version is opened: a rotation needs no restart. What a key is never stands in an argument, a table
//! or a log.

use std::{
    fs,
    io::{self, Read as _},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use dukou_types::{ErrorCode, Failure};
use parking_lot::Mutex;
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest,
};

use super::blobs::hex;

pub(super) const KEY_BYTES: usize = 32;
const TAG_BYTES: usize = 16;
const WRAPPED_BYTES: usize = NONCE_LEN + KEY_BYTES + TAG_BYTES;
/// For how long a command's answer is believed, and how long it may take.
const COMMAND_KEPT: Duration = Duration::from_secs(60);
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// Where the encryption keys come from. Cloning shares what a command said.
#[derive(Clone, Debug)]
pub struct KeySource {
    source: Arc<Source>,
    said: Arc<Mutex<Option<(Instant, Keyring)>>>,
}

#[derive(Debug)]
enum Source {
    None,
    File(PathBuf),
    Variable(String),
    Command(String),
    #[cfg(test)]
    Given(String),
}

/// One or more keys: any of them may be the one that is wanted.
#[derive(Clone, Debug)]
pub(super) struct Keyring {
    source: String,
    keys: Arc<[Key]>,
}

#[derive(Debug)]
struct Key {
    id: String,
    key: LessSafeKey,
}

impl KeySource {
    /// From a path, `env:VARIABLE` or `command:WORDS`; `None`: there are no keys.
    pub fn new(said: Option<&str>) -> Self {
        let source = match said {
            None => Source::None,
            Some(said) => match said.split_once(':') {
                Some(("env", name)) => Source::Variable(name.to_owned()),
                Some(("command", words)) => Source::Command(words.to_owned()),
                _ => Source::File(said.into()),
            },
        };
        Self { source: Arc::new(source), said: Arc::default() }
    }

    /// Keys in the form of a key file.
    #[cfg(test)]
    pub fn given(text: &str) -> Self {
        Self { source: Arc::new(Source::Given(text.to_owned())), said: Arc::default() }
    }

    /// The key of this id. `what` names what wants it.
    pub(super) fn unwrap(
        &self,
        key: &str,
        wrapped: &[u8],
        about: &[u8],
        what: &str,
    ) -> Result<[u8; KEY_BYTES], Failure> {
        let Some(keyring) = self.load()? else {
            let tried = match &*self.source {
                Source::File(path) => format!(" (`{}` is not there)", path.display()),
                _ => String::new(),
            };
            return Err(Failure::new(
                ErrorCode::TrustNoEncryptionKey,
                format!(
                    "{what} is encrypted under key `{}`, and no encryption key is configured here{tried}",
                    key.escape_default()
                ),
            ));
        };
        keyring.unwrap(key, wrapped, about, what)
    }

    fn load(&self) -> Result<Option<Keyring>, Failure> {
        match &*self.source {
            Source::None => Ok(None),
            Source::File(path) => read_file(path),
            Source::Variable(name) => {
                let text = std::env::var(name).unwrap_or_default();
                if text.is_empty() {
                    return Err(Failure::new(
                        ErrorCode::TrustNoEncryptionKey,
                        format!("the variable `{name}` is empty or not set"),
                    ));
                }
                Keyring::parse(&text, format!("the variable `{name}`")).map(Some)
            }
            Source::Command(words) => {
                let mut said = self.said.lock();
                if let Some((at, keyring)) = &*said
                    && at.elapsed() < COMMAND_KEPT
                {
                    return Ok(Some(keyring.clone()));
                }
                let text = ask(words)?;
                let source = "the answer of the command for the encryption key".to_owned();
                let keyring = Keyring::parse(&text, source)?;
                *said = Some((Instant::now(), keyring.clone()));
                Ok(Some(keyring))
            }
            #[cfg(test)]
            Source::Given(text) => Keyring::parse(text, "given keys".to_owned()).map(Some),
        }
    }
}

impl Keyring {
    fn parse(text: &str, source: String) -> Result<Self, Failure> {
        let invalid = |why: String| Failure::new(ErrorCode::TrustInvalidEncryptionKey, why);
        let mut keys = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let said = line.split('#').next().unwrap_or_default().trim();
            if said.is_empty() {
                continue;
            }
            let number = number + 1;
            let bytes = STANDARD
                .decode(said)
                .map_err(|_| invalid(format!("line {number} of {source} is not base64")))?;
            let key = Key::of(&bytes).ok_or_else(|| {
                invalid(format!(
                    "line {number} of {source} is a key of {} bytes, must be {KEY_BYTES}",
                    bytes.len()
                ))
            })?;
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(invalid(format!("{source} holds no key")));
        }
        Ok(Self { source, keys: keys.into() })
    }

    fn unwrap(
        &self,
        id: &str,
        wrapped: &[u8],
        about: &[u8],
        what: &str,
    ) -> Result<[u8; KEY_BYTES], Failure> {
        let Some(key) = self.keys.iter().find(|key| key.id == id) else {
            let here: Vec<String> = self.keys.iter().map(|key| format!("`{}`", key.id)).collect();
            return Err(Failure::new(
                ErrorCode::TrustWrongEncryptionKey,
                format!(
                    "{what} is encrypted under key `{}`, and {} holds {}",
                    id.escape_default(),
                    self.source,
                    here.join(", ")
                ),
            ));
        };
        key.unwrap(wrapped, about).ok_or_else(|| {
            Failure::new(
                ErrorCode::TrustBadCiphertext,
                format!(
                    "the wrapped key of {what} is not one that encryption key `{id}` made for it"
                ),
            )
        })
    }
}

impl Key {
    fn of(bytes: &[u8]) -> Option<Self> {
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, bytes).ok()?);
        let named = [b"dukou encryption key\0", bytes].concat();
        let id = hex(&digest::digest(&digest::SHA256, &named).as_ref()[..8]);
        Some(Self { id, key })
    }

    /// The key inside; none where anything of it was changed.
    fn unwrap(&self, wrapped: &[u8], about: &[u8]) -> Option<[u8; KEY_BYTES]> {
        let mut rest = <[u8; WRAPPED_BYTES]>::try_from(wrapped).ok()?;
        let (nonce, sealed) = rest.split_at_mut(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let content = self.key.open_in_place(nonce, Aad::from(about), sealed).ok()?;
        <[u8; KEY_BYTES]>::try_from(&*content).ok()
    }
}

fn read_file(path: &Path) -> Result<Option<Keyring>, Failure> {
    let read = || -> io::Result<(u32, String)> {
        let mut file = fs::File::open(path)?;
        let mode = file.metadata()?.mode() & 0o777;
        let mut text = String::new();
        if mode & 0o077 == 0 {
            file.read_to_string(&mut text)?;
        }
        Ok((mode, text))
    };
    let (mode, text) = match read() {
        Ok(read) => read,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(Failure::new(
                ErrorCode::TrustNoEncryptionKey,
                format!("the encryption key `{}` cannot be read: {error}", path.display()),
            ));
        }
    };
    if mode & 0o077 != 0 {
        return Err(Failure::new(
            ErrorCode::TrustKeyReadable,
            format!(
                "the encryption key `{}` has mode {mode:04o}: others than its owner may use it",
                path.display()
            ),
        ));
    }
    Keyring::parse(&text, format!("`{}`", path.display())).map(Some)
}

/// What the command prints.
fn ask(words: &str) -> Result<String, Failure> {
    let failed = |why: String| {
        Failure::new(
            ErrorCode::TrustKeyCommandFailed,
            format!("the command for the encryption key {why}"),
        )
    };
    let _waited_for = dukou_sys::children::own_child();
    let mut child = Command::new("/bin/sh")
        .args(["-c", words])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|error| failed(format!("cannot be run: {error}")))?;
    let (sender, receiver) = mpsc::channel();
    if let Some(mut output) = child.stdout.take() {
        thread::spawn(move || {
            let mut text = String::new();
            let read = output.read_to_string(&mut text).map(|_| text);
            // Nobody waits any more where the time was over.
            let _ = sender.send(read);
        });
    }
    let said = receiver.recv_timeout(COMMAND_TIMEOUT);
    if said.is_err() {
        // One that has ended meanwhile cannot be killed.
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| failed(format!("cannot be waited for: {error}")))?;
    match said {
        Err(_) => Err(failed(format!("did not end within {} s", COMMAND_TIMEOUT.as_secs()))),
        Ok(_) if !status.success() => Err(failed(format!("ended with {status}"))),
        Ok(Err(error)) => Err(failed(format!("gave no text: {error}"))),
        Ok(Ok(text)) => Ok(text),
    }
}
