//! TLS of a listener: its certificate, and what becomes of a client's first bytes.
//!
//! TLS 1.2 and 1.3 by rustls with ring. The files are looked at twice a second and read again where one
//! has changed; a pair that is no good changes nothing and is said, so that a renewal that went wrong
//! never ends serving.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use dukou_types::{ErrorCode, Failure};
use parking_lot::Mutex;
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    engine::Engine,
    events::{self, Level},
    security::SecurityEvent,
    table::TlsFiles,
};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// A file larger than this is no certificate.
const LARGEST: u64 = 1 << 20;
/// The first byte of a TLS connection: a handshake record.
const HANDSHAKE: u8 = 22;

/// A listener's certificate with its key, as they were last good.
#[derive(Debug)]
pub struct Certificate {
    files: TlsFiles,
    config: ArcSwap<ServerConfig>,
    seen: Mutex<Seen>,
}

/// What tells whether a file is still the file that it was.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    certificate: Stamp,
    key: Stamp,
}

impl Seen {
    fn of(files: &TlsFiles) -> Self {
        Self { certificate: stamp(&files.certificate), key: stamp(&files.key) }
    }
}

fn stamp(path: &Path) -> Stamp {
    let data = fs::metadata(path).ok()?;
    Some((data.dev(), data.ino(), data.size(), data.mtime(), data.mtime_nsec()))
}

/// How a handshake ended.
#[derive(Debug)]
pub enum Shaken {
    /// Well.
    Well(Box<TlsStream<TcpStream>>),
    /// The client speaks in clear: it can be told so.
    InClear(TcpStream),
    /// Not at all. What the log should carry.
    Failed(ErrorCode, String),
    /// The client left before it said anything that is worth a word.
    Left,
}

impl Certificate {
    /// Reads the pair.
    ///
    /// # Errors
    /// `access.bad-certificate`: a file cannot be read, holds no PEM of its kind, or the two do not
    /// belong together.
    pub fn load(files: &TlsFiles) -> Result<Self, Failure> {
        let seen = Seen::of(files);
        let config = ArcSwap::new(read(files)?);
        Ok(Self { files: files.clone(), config, seen: Mutex::new(seen) })
    }

    /// The files that it is read from.
    pub const fn files(&self) -> &TlsFiles {
        &self.files
    }

    /// Reads the pair again where a file has changed; says whether another one is in place.
    ///
    /// # Errors
    /// `access.bad-certificate`, once a change; the pair before it stays.
    pub fn refresh(&self) -> Result<bool, Failure> {
        let now = Seen::of(&self.files);
        let mut seen = self.seen.lock();
        if *seen == now {
            return Ok(false);
        }
        *seen = now;
        self.config.store(read(&self.files)?);
        Ok(true)
    }

    /// Has a client say who it wants and proves that we are it. A client that speaks in clear, or says
    /// nothing for as long as a head may take, is not waited for.
    pub async fn shake(&self, stream: TcpStream, patience: Duration) -> Shaken {
        let shaking = async {
            let mut first = [0];
            match stream.peek(&mut first).await {
                Ok(1) if first[0] != HANDSHAKE => return Shaken::InClear(stream),
                Ok(1) => {}
                Ok(_) | Err(_) => return Shaken::Left,
            }
            match TlsAcceptor::from(self.config.load_full()).accept(stream).await {
                Ok(stream) => Shaken::Well(Box::new(stream)),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    Shaken::Failed(ErrorCode::AccessBadHandshake, error.to_string())
                }
                // A client that does not trust our certificate says so and leaves, or just leaves.
                Err(_) => Shaken::Left,
            }
        };
        let slow = || Shaken::Failed(ErrorCode::LimitsSlowHead, "the handshake did not end".into());
        timeout(patience, shaking).await.unwrap_or_else(|_| slow())
    }
}

/// Looks at the certificates of the table being served, until the process ends.
pub fn keep_fresh(engine: &Engine) {
    loop {
        std::thread::park_timeout(LOOK);
        let Some(serving) = engine.serving.load_full() else { continue };
        for policy in serving.policies.values() {
            let Some(certificate) = &policy.tls else { continue };
            let path = certificate.files.certificate.display();
            match certificate.refresh() {
                Ok(false) => {}
                Ok(true) => events::log(
                    Level::Info,
                    format_args!("the certificate `{path}` was read again"),
                ),
                Err(failure) => {
                    events::log_failure(Level::Error, "the certificate stays as it was", &failure);
                    engine.security.note(&SecurityEvent {
                        code: failure.code,
                        listener: &policy.name,
                        peer: None,
                        id: None,
                        principal: None,
                        model: None,
                        detail: Some(&failure.message),
                    });
                }
            }
        }
    }
}

fn read(files: &TlsFiles) -> Result<Arc<ServerConfig>, Failure> {
    let (certificate, key) = (&*files.certificate, &*files.key);
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&text(certificate)?)
        .collect::<Result<_, _>>()
        .map_err(|error| bad(certificate, &error))?;
    if chain.is_empty() {
        return Err(bad(certificate, &"it holds no certificate"));
    }
    let private = PrivateKeyDer::from_pem_slice(&text(key)?).map_err(|error| bad(key, &error))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private))
        .map_err(|error| bad(certificate, &error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Resumption without memory of ours; a client that comes back pays no signature.
    config.ticketer = ring::Ticketer::new().map_err(|error| bad(certificate, &error))?;
    Ok(Arc::new(config))
}

fn text(path: &Path) -> Result<Vec<u8>, Failure> {
    match fs::metadata(path) {
        Ok(data) if data.len() > LARGEST => return Err(bad(path, &"it is larger than 1 MiB")),
        _ => {}
    }
    fs::read(path).map_err(|error| bad(path, &error))
}

fn bad(path: &Path, why: &dyn std::fmt::Display) -> Failure {
    let message = format!("the certificate or key `{}` cannot be used: {why}", path.display());
    Failure::new(ErrorCode::AccessBadCertificate, message)
}
