//! Where requests go: the parts of an `http://` address.

use std::net::{SocketAddr, ToSocketAddrs};

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
}

impl Target {
    /// Parses and resolves `http://host:port/path`.
    pub fn resolve(url: &str) -> Result<Self, UsageError> {
        let rest = url.strip_prefix("http://").ok_or_else(|| UsageError::NotHttp(url.into()))?;
        let (authority, path) = rest.find('/').map_or((rest, "/"), |at| (&rest[..at], &rest[at..]));
        let named =
            if authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
                authority.to_owned()
            } else {
                format!("{authority}:80")
            };
        let address = named
            .to_socket_addrs()
            .ok()
            .and_then(|mut addresses| addresses.next())
            .ok_or_else(|| UsageError::UnknownHost(authority.into()))?;
        Ok(Self { address, authority: authority.to_owned(), path: path.to_owned() })
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
        let target = Target::resolve("http://127.0.0.1:8080/v2/models/a/infer").unwrap();
        assert_eq!(target.address.port(), 8080);
        assert_eq!(target.authority, "127.0.0.1:8080");
        assert_eq!(target.path, "/v2/models/a/infer");
        assert_eq!(Target::resolve("http://127.0.0.1").unwrap().address.port(), 80);
        assert_eq!(Target::resolve("http://[::1]:9/x").unwrap().address.port(), 9);
        assert_eq!(Target::resolve("http://127.0.0.1:1/b/").unwrap().join("/v2"), "/b/v2");
        assert!(Target::resolve("https://127.0.0.1").is_err());
        assert!(Target::resolve("http://no such host:1/").is_err());
    }
}
