//! Where a replica is: a base address, taken apart once.

use std::{fmt, path::Path, sync::Arc};

use http::HeaderValue;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};

/// A base address: `http://host:port`, or `https://`, with a path or without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// As it was written, without a last `/`.
    pub text: String,
    /// The name or number of the machine, without brackets.
    pub host: String,
    /// 80 or 443 where nothing is said.
    pub port: u16,
    /// Before every path; empty, or beginning with `/`.
    pub base: String,
    /// Whether it speaks TLS.
    pub encrypted: bool,
    /// The value of `host`.
    pub authority: HeaderValue,
}

impl Address {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with it, to be said behind the field's name.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| Err(format!("`{text}` {why}"));
        let (encrypted, rest) = match text.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            _ => return wrong("is not an address such as `http://10.0.0.7:8080`"),
        };
        let (authority, path) = match rest.find('/') {
            Some(place) => rest.split_at(place),
            None => (rest, ""),
        };
        if authority.contains('@') {
            return wrong("carries a password: name the key's file with `key_file`");
        }
        if rest.contains(['?', '#']) || !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
            return wrong("is no base address: it may hold a host, a port and a path");
        }
        let bracketed = authority.strip_prefix('[').and_then(|inside| inside.split_once(']'));
        let (host, port) = match bracketed {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let Ok(port) = port.map_or(Ok(if encrypted { 443 } else { 80 }), str::parse) else {
            return wrong("has a port that is none");
        };
        let (false, false, Ok(authority)) =
            (host.is_empty(), port == 0, HeaderValue::from_str(authority))
        else {
            return wrong("names no host and port");
        };
        Ok(Self {
            text: text.trim_end_matches('/').to_owned(),
            host: host.to_owned(),
            port,
            base: path.trim_end_matches('/').to_owned(),
            encrypted,
            authority,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// How certificates are checked: against those of a file. Who is asked over HTTP/2 must say that he
/// speaks it.
///
/// # Errors
/// Why the file is no use.
pub fn trusting(file: &Path, calls: bool) -> Result<Arc<ClientConfig>, String> {
    let unusable = |error: &dyn fmt::Display| {
        format!("`{}` holds no certificates that can be used: {error}", file.display())
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| unusable(&error))? {
        let certificate = certificate.map_err(|error| unusable(&error))?;
        roots.add(certificate).map_err(|error| unusable(&error))?;
    }
    if roots.is_empty() {
        return Err(unusable(&"there is none in it"));
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    if calls {
        config.alpn_protocols = vec![b"h2".to_vec()];
    }
    Ok(Arc::new(config))
}

/// Whom a certificate must name.
///
/// # Errors
/// The host is no name that a certificate could carry.
pub fn server_name(address: &Address) -> Result<ServerName<'static>, String> {
    ServerName::try_from(address.host.clone())
        .map_err(|_| format!("`{}` is no name that a certificate could carry", address.host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_address_is_taken_apart() {
        let of = |text: &str| {
            let address = Address::parse(text).unwrap();
            (address.host, address.port, address.base, address.encrypted)
        };
        assert_eq!(of("http://10.0.0.7:8080"), ("10.0.0.7".into(), 8080, String::new(), false));
        assert_eq!(of("https://a.example/x/"), ("a.example".into(), 443, "/x".into(), true));
        assert_eq!(of("http://[::1]:9/"), ("::1".into(), 9, String::new(), false));
        assert_eq!(of("http://[::1]"), ("::1".into(), 80, String::new(), false));
        assert_eq!(Address::parse("http://[::1]:9").unwrap().authority, "[::1]:9");
    }

    #[test]
    fn what_is_none_is_refused_with_a_word() {
        for (text, word) in [
            ("10.0.0.7:8080", "such as"),
            ("ftp://a", "such as"),
            ("http://", "no host"),
            ("http://:80", "no host"),
            ("http://a:0", "no host"),
            ("http://a:99999", "port"),
            ("http://a:b", "port"),
            ("http://me:secret@a", "password"),
            ("http://a/?q", "base address"),
            ("http://a b", "base address"),
        ] {
            let problem = Address::parse(text).unwrap_err();
            assert!(problem.contains(word), "{text}: {problem}");
        }
    }
}
