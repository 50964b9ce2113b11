//! Asks a server on this machine whether it is ready: for images that have no shell and no `curl`.
//!
//! One request on one connection, over `std` alone: a probe runs every few seconds, beside the server
//! whose processor it takes. It speaks with its own machine only, and therefore does not ask a
//! certificate whose it is.

use std::{
    fmt,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, Stream,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, IpAddr as PkiAddr, ServerName, UnixTime},
};

/// How long each step may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// As much of an answer as is read: its status and the beginning of what it says.
const ANSWER: u64 = 4096;

/// Why a server is not ready.
#[derive(Debug)]
pub enum NotReady {
    /// What was asked for is not something to ask.
    Address(String),
    /// Nothing answered.
    Silent(SocketAddr, io::Error),
    /// It answered otherwise than with 2xx.
    Refused(u16, String),
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(text) => write!(
                f,
                "`--probe {text}` is not an address of this machine with a path, as \
                 `127.0.0.1:8000/v2/health/ready`"
            ),
            Self::Silent(address, error) => write!(f, "`{address}` does not answer: {error}"),
            Self::Refused(0, said) => write!(f, "what answers is no HTTP server: `{said}`"),
            Self::Refused(status, said) => write!(f, "the answer is {status}: {said}"),
        }
    }
}

impl std::error::Error for NotReady {}

/// Asks once; by TLS where the address says `https`, or where it says nothing and a certificate lies in
/// `access`; then by the other way where the first is not what the server speaks.
///
/// # Errors
/// It is not ready, or what was asked for is no address of this machine.
pub fn probe(url: &str, access: Option<&Path>) -> Result<(), NotReady> {
    let (rest, encrypted) = match url.split_once("://") {
        Some(("http", rest)) => (rest, Some(false)),
        Some(("https", rest)) => (rest, Some(true)),
        Some(_) => return Err(NotReady::Address(url.to_owned())),
        None => (url, None),
    };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = host.replace("localhost", "127.0.0.1");
    let address: SocketAddr = host.parse().map_err(|_| NotReady::Address(url.to_owned()))?;
    if !address.ip().to_canonical().is_loopback() {
        return Err(NotReady::Address(url.to_owned()));
    }
    let path = if path.is_empty() { "/" } else { path };
    match encrypted {
        Some(encrypted) => ask(address, path, encrypted),
        None => {
            let first = access.is_some_and(|folder| folder.join("tls.crt").exists());
            match ask(address, path, first) {
                Err(NotReady::Silent(_, error))
                    if error.kind() == io::ErrorKind::ConnectionRefused =>
                {
                    Err(NotReady::Silent(address, error))
                }
                // 503 is an answer to the question; anything else may be one to the wrong way of asking.
                Err(NotReady::Refused(503, said)) => Err(NotReady::Refused(503, said)),
                Err(why) => ask(address, path, !first).map_err(|_| why),
                Ok(()) => Ok(()),
            }
        }
    }
}

fn ask(address: SocketAddr, path: &str, encrypted: bool) -> Result<(), NotReady> {
    let silent = |error| NotReady::Silent(address, error);
    let answer = exchange(address, path, encrypted).map_err(silent)?;
    let text = String::from_utf8_lossy(&answer);
    let status = text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    match status {
        Some(200..=299) => Ok(()),
        status => {
            let body = text.split_once("\r\n\r\n").map_or(&*text, |(_, body)| body);
            let said = body.trim().chars().take(300).collect();
            Err(NotReady::Refused(status.unwrap_or(0), said))
        }
    }
}

fn exchange(address: SocketAddr, path: &str, encrypted: bool) -> io::Result<Vec<u8>> {
    let mut socket = TcpStream::connect_timeout(&address, PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {address}\r\nuser-agent: dukou-probe\r\nconnection: close\r\n\r\n"
    );
    if !encrypted {
        return converse(&mut socket, &request);
    }
    let name = ServerName::IpAddress(PkiAddr::from(address.ip()));
    let mut client = ClientConnection::new(Arc::new(config()?), name).map_err(io::Error::other)?;
    converse(&mut Stream::new(&mut client, &mut socket), &request)
}

fn converse(stream: &mut (impl Read + Write), request: &str) -> io::Result<Vec<u8>> {
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    let mut answer = Vec::new();
    match stream.take(ANSWER).read_to_end(&mut answer) {
        // One that closes without a word of TLS has said all that it had to say.
        Err(_) if !answer.is_empty() => Ok(answer),
        outcome => outcome.map(|_| answer),
    }
}

fn config() -> io::Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    Ok(config
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth())
}

/// Believes whatever a server on this machine shows: who could stand there in its place could as well
/// answer the probe otherwise.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _stapled: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    /// A server of one answer.
    fn answering(text: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _read = stream.read(&mut [0; 1024]);
                let _gone = stream.write_all(text.as_bytes());
            }
        });
        address
    }

    #[test]
    fn two_hundred_is_ready_and_nothing_else_is() {
        let ready = answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        probe(&format!("{ready}/v2/health/ready"), None).unwrap();
        probe(&format!("http://localhost:{}", ready.port()), None).unwrap();
        let not_yet = answering("HTTP/1.1 503 x\r\n\r\n{\"error\": \"no table\"}");
        let said = probe(&format!("{not_yet}/"), None).unwrap_err().to_string();
        assert_eq!(said, "the answer is 503: {\"error\": \"no table\"}");
        let other = answering("SSH-2.0");
        let said = probe(&format!("http://{other}/"), None).unwrap_err().to_string();
        assert!(said.contains("no HTTP server: `SSH-2.0`"), "{said}");
    }

    #[test]
    fn nobody_and_strangers_are_told_apart() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let said = probe(&format!("{free}/"), None).unwrap_err().to_string();
        assert!(said.contains("does not answer"), "{said}");
        for wrong in ["10.0.0.1:80/", "ftp://127.0.0.1:1/", "127.0.0.1/", "x:1", ""] {
            let said = probe(wrong, None).unwrap_err().to_string();
            assert!(said.contains("is not an address of this machine"), "{wrong}: {said}");
        }
    }
}
