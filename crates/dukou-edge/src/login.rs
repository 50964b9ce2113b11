//! Connections to others: what is trusted, who we are, how long we wait.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use dukou_types::{ErrorCode, Failure};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use ureq::{
    Agent as Client,
    tls::{Certificate, RootCerts, TlsConfig, TlsProvider},
};

use crate::settings::{Follow, Place};

/// Where systems keep the certificates that they trust.
const SYSTEM: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
const CONNECT: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(30);
/// One body; what did not come within it is taken up where it broke off.
const BODY: Duration = Duration::from_secs(300);

/// A user and a password. It cannot be printed.
#[derive(Clone)]
pub struct Login {
    /// May be shown.
    pub username: String,
    password: String,
}

impl Login {
    /// What a folder says of who we are to the registry.
    ///
    /// # Errors
    /// `edge.not-a-folder`: a user, and no password.
    pub fn find(place: &Place, follow: &Follow) -> Result<Option<Self>, Failure> {
        let Some(username) = follow.username.clone() else { return Ok(None) };
        let file = place.password();
        let read = fs::read_to_string(&file).ok().map(|text| text.trim_end().to_owned());
        let said = read.or_else(|| std::env::var("DUKOU_REMOTE_PASSWORD").ok());
        let password = said.ok_or_else(|| {
            Failure::new(
                ErrorCode::EdgeNotAFolder,
                format!(
                    "`edge.json` names user `{username}`, and neither `{}` nor DUKOU_REMOTE_PASSWORD has a \
                     password",
                    file.display()
                ),
            )
        })?;
        Ok(Some(Self { username, password }))
    }

    /// The value of an `Authorization` header.
    pub fn basic(&self) -> String {
        format!("Basic {}", STANDARD.encode(format!("{}:{}", self.username, self.password)))
    }
}

/// A client that trusts what the system and the folder trust. Where there is no TLS nothing is read.
///
/// # Errors
/// `edge.not-a-folder`: the folder's certificates cannot be read.
pub fn client(url: &str, authorities: &Path) -> Result<Client, Failure> {
    let secure = url.starts_with("https:");
    let mut config = Client::config_builder()
        .http_status_as_error(false)
        .https_only(secure)
        .max_redirects(5)
        .timeout_connect(Some(CONNECT))
        .timeout_recv_response(Some(ANSWER))
        .timeout_recv_body(Some(BODY))
        .user_agent("dukou-edge")
        .proxy(None);
    if secure {
        let trusted = trusted(authorities)?;
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .root_certs(RootCerts::Specific(Arc::new(trusted)))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        config = config.tls_config(tls);
    }
    Ok(config.build().into())
}

fn trusted(authorities: &Path) -> Result<Vec<Certificate<'static>>, Failure> {
    let own = authorities.exists().then(|| authorities.to_owned());
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let system = named.or_else(|| SYSTEM.iter().map(PathBuf::from).find(|path| path.exists()));
    let mut found = Vec::new();
    for (path, demanded) in
        own.into_iter().map(|path| (path, true)).chain(system.into_iter().map(|path| (path, false)))
    {
        let certificates: Result<Vec<_>, _> =
            CertificateDer::pem_file_iter(&path).and_then(Iterator::collect);
        match certificates {
            Ok(read) => {
                found.extend(read.iter().map(|one| Certificate::from_der(one).to_owned()));
            }
            Err(error) if demanded => {
                let message = format!("`{}` holds no certificates: {error}", path.display());
                return Err(Failure::new(ErrorCode::EdgeNotAFolder, message));
            }
            Err(_) => {}
        }
    }
    Ok(found)
}

/// Whether an address leads to this machine.
pub fn is_loopback(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known() {
        for here in ["http://127.0.0.1:5000/x", "http://localhost", "https://[::1]:5/", "127.9.9.9"]
        {
            assert!(is_loopback(here), "{here}");
        }
        for elsewhere in ["http://10.0.0.1:5000", "http://localhost.example", "https://[::2]/"] {
            assert!(!is_loopback(elsewhere), "{elsewhere}");
        }
    }

    #[test]
    fn certificates_that_are_none_are_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        assert!(client("https://registry.example", &path).is_ok());
        fs::write(&path, "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n").unwrap();
        let failure = client("https://registry.example", &path).unwrap_err();
        assert_eq!(failure.code, ErrorCode::EdgeNotAFolder);
        assert!(client("http://127.0.0.1", &path).is_ok());
    }
}
