//! Whether a stranger's web page asks in its reader's name.
//!
//! On loopback nobody has a name, and every program of this machine may ask; a browser is not a
//! program of its user's but of whatever page it shows. A page can reach loopback under a name of its
//! own (DNS rebinding), which `Host` betrays, or send from its own origin, which `Origin` betrays.

use std::net::{Ipv4Addr, Ipv6Addr};

use dukou_types::{ErrorCode, Failure};
use http::{
    HeaderMap, HeaderValue, Uri,
    header::{HOST, ORIGIN},
};

/// Refuses what a browser would send for a page of somebody else's.
///
/// # Errors
/// `access.foreign-host` or `access.foreign-origin`.
pub fn refuse_foreign(hosts: &[Box<str>], uri: &Uri, headers: &HeaderMap) -> Result<(), Failure> {
    // HTTP/2 says it in the URI; a client of HTTP/1.0 may say nothing, and is no browser.
    let authority = match (uri.authority(), headers.get(HOST)) {
        (Some(authority), _) => Some(authority.as_str()),
        (None, Some(value)) => Some(text(value).ok_or_else(|| foreign_host("(not text)"))?),
        (None, None) => None,
    };
    if let Some(authority) = authority
        && !is_ours(authority, hosts)
    {
        return Err(foreign_host(authority));
    }
    if let Some(origin) = headers.get(ORIGIN) {
        let origin = text(origin).unwrap_or("(not text)");
        let same = ["http://", "https://"].iter().find_map(|scheme| origin.strip_prefix(scheme));
        if same.is_none() || same != authority {
            return Err(foreign_origin(origin, authority.unwrap_or("(no host)")));
        }
    }
    Ok(())
}

/// Whether an authority names this machine's loopback, or a host that the table allows, at any port.
fn is_ours(authority: &str, hosts: &[Box<str>]) -> bool {
    let host = without_port(authority);
    if let Some(inside) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inside.parse::<Ipv6Addr>().is_ok_and(|address| {
            address.is_loopback() || address.to_ipv4_mapped().is_some_and(|v4| v4.is_loopback())
        });
    }
    host.eq_ignore_ascii_case("localhost")
        || (host.starts_with("127.")
            && host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback()))
        || hosts.iter().any(|ours| host.eq_ignore_ascii_case(ours))
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    }
}

fn text(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok()
}

fn foreign_host(host: &str) -> Failure {
    let host = shown(host);
    Failure::new(
        ErrorCode::AccessForeignHost,
        format!("the request is for the host `{host}`, and this server answers to loopback only"),
    )
}

fn foreign_origin(origin: &str, host: &str) -> Failure {
    let (origin, host) = (shown(origin), shown(host));
    Failure::new(
        ErrorCode::AccessForeignOrigin,
        format!("a web page of `{origin}` asks, and this server is `{host}`"),
    )
}

/// As much of what came as a sentence can hold.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() && *c != '`').take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(host: Option<&str>, origin: Option<&str>, hosts: &[&str]) -> Result<(), ErrorCode> {
        let mut headers = HeaderMap::new();
        if let Some(host) = host {
            headers.insert(HOST, HeaderValue::from_str(host).unwrap());
        }
        if let Some(origin) = origin {
            headers.insert(ORIGIN, HeaderValue::from_str(origin).unwrap());
        }
        let hosts: Vec<Box<str>> = hosts.iter().map(|host| (*host).into()).collect();
        refuse_foreign(&hosts, &Uri::from_static("/"), &headers).map_err(|failure| failure.code)
    }

    #[test]
    fn loopback_by_any_of_its_names() {
        let names = [
            "localhost",
            "LOCALHOST:8080",
            "127.0.0.1",
            "127.0.0.1:1",
            "127.9.9.9:80",
            "[::1]",
            "[::1]:80",
            "[::ffff:127.0.0.1]:80",
        ];
        for name in names {
            assert_eq!(ask(Some(name), None, &[]), Ok(()), "{name}");
        }
        assert_eq!(ask(None, None, &[]), Ok(()));
        assert_eq!(ask(Some("models.example:80"), None, &["models.example"]), Ok(()));
    }

    #[test]
    fn foreign_hosts_are_refused() {
        let names = [
            "example.com",
            "localhost.example.com",
            "127.0.0.1.example.com",
            "127.1",
            "10.0.0.1",
            "",
            "[::2]",
            "::1",
            "localhost:80:80",
            "127.0.0.1@example.com",
            "0.0.0.0",
        ];
        for name in names {
            assert_eq!(ask(Some(name), None, &[]), Err(ErrorCode::AccessForeignHost), "{name}");
        }
    }

    #[test]
    fn only_the_same_origin() {
        let host = Some("127.0.0.1:8080");
        assert!(ask(host, Some("http://127.0.0.1:8080"), &[]).is_ok());
        for origin in ["http://127.0.0.1:3000", "https://example.com", "null", "127.0.0.1:8080", ""]
        {
            let refused = Err(ErrorCode::AccessForeignOrigin);
            assert_eq!(ask(host, Some(origin), &[]), refused, "{origin}");
        }
        assert_eq!(ask(None, Some("http://x"), &[]), Err(ErrorCode::AccessForeignOrigin));
    }
}
