//! Where requests go: the parts of an `http://` or `https://` address.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    path::Path,
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};

use crate::settings::UsageError;

/// A server and a path on it.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where the name resolved to, once for the whole run.
    pub address: SocketAddr,
    /// `host:port`, for the `Host` header.
    pub authority: String,
    /// From the first `/`, without a trailing one where it is a base.
    pub path: String,
    /// How its certificate is checked; none where it speaks in clear.
    pub tls: Option<Tls>,
    /// Whether it is asked in calls of gRPC, over HTTP/2.
    pub calls: bool,
}

/// How a server's certificate is checked.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Which certificates are trusted.
    pub config: Arc<ClientConfig>,
    /// Whom it must name.
    pub name: ServerName<'static>,
}

impl Tls {
    fn trusting(file: &Path, host: &str, calls: bool) -> Result<Self, UsageError> {
        let unusable = |error: &dyn std::fmt::Display| UsageError::BadCertificate {
            path: file.to_owned(),
            error: error.to_string(),
        };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(file).map_err(|e| unusable(&e))? {
            let certificate = certificate.map_err(|error| unusable(&error))?;
            roots.add(certificate).map_err(|error| unusable(&error))?;
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&error))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        if calls {
            config.alpn_protocols = vec![b"h2".to_vec()];
        }
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(bare).map_err(|_| UsageError::UnknownHost(host.into()))?;
        Ok(Self { config: Arc::new(config), name })
    }
}

impl Target {
    /// Parses and resolves `http://host:port/path`; `https://` against the certificates of a file.
    pub fn resolve(url: &str, cacert: Option<&Path>, calls: bool) -> Result<Self, UsageError> {
        let (rest, secure) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
            (Some(rest), _) => (rest, false),
            (None, Some(rest)) => (rest, true),
            (None, None) => return Err(UsageError::NotHttp(url.into())),
        };
        let (authority, path) = rest.find('/').map_or((rest, "/"), |at| (&rest[..at], &rest[at..]));
        let named =
            if authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
                authority.to_owned()
            } else {
                format!("{authority}:{}", if secure { 443 } else { 80 })
            };
        let address = named
            .to_socket_addrs()
            .ok()
            .and_then(|mut addresses| addresses.next())
            .ok_or_else(|| UsageError::UnknownHost(authority.into()))?;
        let host = named.rsplit_once(':').map_or(&*named, |(host, _)| host);
        let tls = match (secure, cacert) {
            (false, _) => None,
            (true, Some(file)) => Some(Tls::trusting(file, host, calls)?),
            (true, None) => return Err(UsageError::NoCertificate),
        };
        Ok(Self { address, authority: authority.to_owned(), path: path.to_owned(), tls, calls })
    }

    /// The same server, another path below this one.
    pub fn join(&self, below: &str) -> String {
        format!("{}{below}", self.path.trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let resolve = |url: &str| Target::resolve(url, None, false);
        let target = resolve("http://127.0.0.1:8080/v2/models/a/infer").unwrap();
        assert_eq!(target.address.port(), 8080);
        assert_eq!(target.authority, "127.0.0.1:8080");
        assert_eq!(target.path, "/v2/models/a/infer");
        assert_eq!(resolve("http://127.0.0.1").unwrap().address.port(), 80);
        assert_eq!(resolve("http://[::1]:9/x").unwrap().address.port(), 9);
        assert_eq!(resolve("http://127.0.0.1:1/b/").unwrap().join("/v2"), "/b/v2");
        assert!(matches!(resolve("https://127.0.0.1"), Err(UsageError::NoCertificate)));
        assert!(matches!(resolve("ftp://127.0.0.1"), Err(UsageError::NotHttp(_))));
        let nowhere = Path::new("/nowhere.pem");
        assert!(Target::resolve("https://127.0.0.1", Some(nowhere), false).is_err());
        assert!(resolve("http://no such host:1/").is_err());
    }
}
