//! The part of the OCI distribution specification that a device needs: ask a tag, read a manifest, fetch a
//! blob from where it broke off.
//!
//! Blocking, on threads of the agent's own: no request waits for it.

use std::{io::Read, sync::Mutex};

use dukou_types::{Digest, ErrorCode, Failure};
use serde::Deserialize;
use ureq::{Agent as Client, Body, http::Response};

use crate::{
    login::{Login, is_loopback},
    manifest::{Descriptor, INDEX_TYPE, Index, LARGEST_DOCUMENT, MANIFEST_TYPE, parse},
    settings::Follow,
    store::{check, may_sign, signatures_tag},
};

/// Numbered tags that are asked for a version's number, the highest first.
const NUMBERS: usize = 20;

/// A repository.
pub struct Registry {
    client: Client,
    base: String,
    root: String,
    login: Option<Login>,
    /// What was worked out from the last 401.
    authorization: Mutex<Option<String>>,
}

#[derive(Deserialize)]
struct Tags {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Registry {
    /// The repository that is followed.
    pub fn new(follow: &Follow, client: Client, login: Option<Login>) -> Self {
        let base = follow.registry.trim_end_matches('/').to_owned();
        let root = format!("{base}/v2/{}", follow.repository);
        Self { client, base, root, login, authorization: Mutex::new(None) }
    }

    /// Where the tag leads.
    ///
    /// # Errors
    /// `remote.*`.
    pub fn tag(&self, tag: &str) -> Result<Option<Digest>, Failure> {
        let url = format!("{}/manifests/{tag}", self.root);
        let answer = self.ask("HEAD", &url, None, &[200, 404])?;
        if answer.status() == 404 {
            return Ok(None);
        }
        let said = answer.headers().get("docker-content-digest");
        match said.and_then(|said| said.to_str().ok()).map(Digest::parse) {
            Some(Ok(digest)) => Ok(Some(digest)),
            _ => Err(refused(format!("`{}` does not say where tag `{tag}` leads", self.base))),
        }
    }

    /// The highest number that leads to a version, of the newest ones.
    ///
    /// # Errors
    /// `remote.*`.
    pub fn number(&self, version: &Digest) -> Result<Option<u64>, Failure> {
        let answer = self.ask("GET", &format!("{}/tags/list", self.root), None, &[200, 404])?;
        if answer.status() == 404 {
            return Ok(None);
        }
        let listed: Tags = parse(&self.body(answer)?, "the registry's list of tags")?;
        let mut numbers: Vec<u64> =
            listed.tags.unwrap_or_default().iter().filter_map(|tag| tag.parse().ok()).collect();
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        for number in numbers.into_iter().take(NUMBERS) {
            if self.tag(&number.to_string())?.as_ref() == Some(version) {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    /// A manifest or an index, verified.
    ///
    /// # Errors
    /// `remote.*`, `package.digest-mismatch`.
    pub fn manifest(&self, digest: &Digest) -> Result<Vec<u8>, Failure> {
        let url = format!("{}/manifests/{digest}", self.root);
        let bytes = self.body(self.ask("GET", &url, None, &[200])?)?;
        check(&bytes, digest)?;
        Ok(bytes)
    }

    /// The signatures that say they are of a version.
    ///
    /// # Errors
    /// `remote.*`, `formats.corrupt`.
    pub fn signatures(&self, version: &Digest) -> Result<Vec<Descriptor>, Failure> {
        let url = format!("{}/referrers/{version}", self.root);
        let answer = self.ask("GET", &url, None, &[200, 400, 404, 405])?;
        let mut found = match answer.status().as_u16() {
            200 => parse::<Index>(&self.body(answer)?, "the registry's referrers")?.entries(),
            _ => Vec::new(),
        };
        if found.is_empty() {
            let url = format!("{}/manifests/{}", self.root, signatures_tag(version));
            let answer = self.ask("GET", &url, None, &[200, 404])?;
            if answer.status() == 200 {
                found = parse::<Index>(&self.body(answer)?, "the version's index of signatures")?
                    .entries();
            }
        }
        found.retain(may_sign);
        Ok(found)
    }

    /// A blob from byte `from` on, and where what comes really begins: a registry that knows no ranges
    /// begins again.
    ///
    /// # Errors
    /// `remote.*`.
    pub fn blob(&self, blob: &Descriptor, from: u64) -> Result<(u64, impl Read + use<>), Failure> {
        let url = format!("{}/blobs/{}", self.root, blob.digest);
        let range = (from > 0).then(|| format!("bytes={from}-"));
        let answer = self.ask("GET", &url, range.as_deref(), &[200, 206])?;
        let begins = if answer.status() == 206 { from } else { 0 };
        Ok((begins, answer.into_body().into_reader()))
    }

    fn body(&self, mut answer: Response<Body>) -> Result<Vec<u8>, Failure> {
        let read = answer.body_mut().with_config().limit(LARGEST_DOCUMENT).read_to_vec();
        read.map_err(|error| self.failure(&error))
    }

    /// Asks until the registry knows who we are, and takes only these statuses for an answer.
    fn ask(
        &self,
        method: &str,
        url: &str,
        range: Option<&str>,
        expected: &[u16],
    ) -> Result<Response<Body>, Failure> {
        let mut answer = self.send(method, url, range)?;
        if answer.status() == 401 {
            let challenge = answer.headers().get("www-authenticate");
            let challenge = challenge.and_then(|c| c.to_str().ok()).unwrap_or_default().to_owned();
            let fresh = self.authorize(&challenge)?;
            *lock(&self.authorization) = Some(fresh);
            answer = self.send(method, url, range)?;
        }
        let status = answer.status().as_u16();
        if expected.contains(&status) {
            return Ok(answer);
        }
        let what = format!("`{}` answered {status} to {method} `{}`", self.base, self.path(url));
        Err(match status {
            401 | 403 => Failure::new(ErrorCode::RemoteDenied, what),
            404 => Failure::new(ErrorCode::RemoteNotFound, what),
            429 | 500..=599 => Failure::new(ErrorCode::RemoteUnreachable, what),
            _ => refused(what),
        })
    }

    fn send(
        &self,
        method: &str,
        url: &str,
        range: Option<&str>,
    ) -> Result<Response<Body>, Failure> {
        let mut request = match method {
            "HEAD" => self.client.head(url),
            _ => self.client.get(url),
        };
        request = request.header("accept", format!("{MANIFEST_TYPE}, {INDEX_TYPE}, */*"));
        if let Some(said) = lock(&self.authorization).as_deref() {
            request = request.header("authorization", said);
        }
        if let Some(range) = range {
            request = request.header("range", range);
        }
        request.call().map_err(|error| self.failure(&error))
    }

    /// What answers a challenge: the password itself, or a token for it.
    fn authorize(&self, challenge: &str) -> Result<String, Failure> {
        let denied = |why: &str| {
            Failure::new(ErrorCode::RemoteDenied, format!("the registry `{}` {why}", self.base))
        };
        let (scheme, rest) = challenge.split_once(' ').unwrap_or((challenge, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return match &self.login {
                Some(login) => Ok(login.basic()),
                None => Err(denied("wants to know who asks")),
            };
        }
        let Some(realm) = word(rest, "realm").filter(|_| scheme.eq_ignore_ascii_case("bearer"))
        else {
            return Err(denied("wants to know who asks, in a way that is not known here"));
        };
        if !realm.starts_with("https:") && !is_loopback(&realm) {
            return Err(refused(format!(
                "`{}` wants the password sent to `{realm}`, in clear",
                self.base
            )));
        }
        let mut request = self.client.get(&realm);
        for name in ["service", "scope"] {
            if let Some(value) = word(rest, name) {
                request = request.query(name, value);
            }
        }
        if let Some(login) = &self.login {
            request = request.header("authorization", login.basic());
        }
        let answer = request.call().map_err(|error| self.failure(&error))?;
        if answer.status() != 200 {
            return Err(denied(&format!("gives no token: `{realm}` answered {}", answer.status())));
        }
        let token: Token = parse(&self.body(answer)?, "the registry's token")?;
        let token = token.token.or(token.access_token);
        token.map(|token| format!("Bearer {token}")).ok_or_else(|| denied("gives no token"))
    }

    fn failure(&self, error: &ureq::Error) -> Failure {
        let message = format!("no answer from `{}`: {error}", self.base);
        Failure::new(ErrorCode::RemoteUnreachable, message)
    }

    fn path<'u>(&self, url: &'u str) -> &'u str {
        url.strip_prefix(&self.base).unwrap_or(url)
    }
}

fn refused(message: String) -> Failure {
    Failure::new(ErrorCode::RemoteRefused, message)
}

/// A lock whose holder never panics half-way through a change.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A quoted word of a challenge: `realm="…"`.
fn word(challenge: &str, name: &str) -> Option<String> {
    let (_, after) = challenge.split_once(&format!("{name}=\""))?;
    after.split_once('"').map(|(value, _)| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_taken_apart() {
        let said = r#"realm="https://auth.example/token",service="r",scope="repository:a/b:pull""#;
        assert_eq!(word(said, "realm").unwrap(), "https://auth.example/token");
        assert_eq!(word(said, "scope").unwrap(), "repository:a/b:pull");
        assert_eq!(word(said, "error"), None);
    }

    #[test]
    fn nobody_there_is_said() {
        let follow = Follow {
            registry: "http://127.0.0.1:1".into(),
            repository: "a".into(),
            tag: "t".into(),
            every_s: 1,
            bytes_per_s: 0,
            username: None,
        };
        let client = crate::login::client(&follow.registry, "ca.pem".as_ref()).unwrap();
        let failure = Registry::new(&follow, client, None).tag("t").unwrap_err();
        assert_eq!(failure.code, ErrorCode::RemoteUnreachable);
        assert!(failure.message.contains("http://127.0.0.1:1"), "{failure}");
    }
}
