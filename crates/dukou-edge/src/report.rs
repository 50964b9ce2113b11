//! Sends records that wait, and takes away exactly those that were acknowledged.

use std::fs;

use dukou_types::{ErrorCode, Failure};
use serde::Deserialize;
use ureq::Agent as Client;

use crate::{
    login::{client, is_loopback},
    manifest::LARGEST_DOCUMENT,
    settings::{Place, Report},
    waiting::{Waiting, id_of},
};

/// Bytes of one request, at most: one record in any case.
const BATCH_BYTES: usize = 256 << 10;

/// Where records go.
pub struct Reporter {
    client: Client,
    url: String,
    key: Option<String>,
}

#[derive(Deserialize)]
struct Acknowledged {
    acknowledged: Vec<String>,
}

impl Reporter {
    /// One for this address.
    ///
    /// # Errors
    /// `edge.not-a-folder`: certificates that cannot be read, or a key that would travel in clear.
    pub fn new(place: &Place, report: &Report) -> Result<Self, Failure> {
        let key = fs::read_to_string(place.report_key()).ok().map(|key| key.trim().to_owned());
        if key.is_some() && !report.url.starts_with("https:") && !is_loopback(&report.url) {
            return Err(Failure::new(
                ErrorCode::EdgeNotAFolder,
                format!("the key for reports would travel to `{}` in clear", report.url),
            ));
        }
        let client = client(&report.url, &place.authorities())?;
        Ok(Self { client, url: report.url.clone(), key })
    }

    /// Sends what waits, until nothing does or the other side takes nothing.
    ///
    /// # Errors
    /// `remote.*`: what was not acknowledged waits on.
    pub fn send(&self, waiting: &Waiting) -> Result<usize, Failure> {
        let mut sent = 0;
        loop {
            let (body, ids) = batch(&waiting.lines());
            if ids.is_empty() {
                return Ok(sent);
            }
            let taken = self.post(&body, &ids)?;
            waiting.remove(&taken).map_err(|error| {
                Failure::new(ErrorCode::EdgeDisk, format!("reported lines stay: {error}"))
            })?;
            sent += taken.len();
            if taken.is_empty() {
                return Ok(sent);
            }
        }
    }

    fn post(&self, body: &str, ids: &[String]) -> Result<Vec<String>, Failure> {
        let unreachable = |error: ureq::Error| {
            Failure::new(
                ErrorCode::RemoteUnreachable,
                format!("no answer from `{}`: {error}", self.url),
            )
        };
        let mut request =
            self.client.post(&self.url).header("content-type", "application/x-ndjson");
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let mut answer = request.send(body).map_err(unreachable)?;
        let status = answer.status().as_u16();
        if !(200..300).contains(&status) {
            return Err(Failure::new(
                ErrorCode::RemoteRefused,
                format!("`{}` answered {status} to a report", self.url),
            ));
        }
        let text = answer.body_mut().with_config().limit(LARGEST_DOCUMENT).read_to_vec();
        let text = text.map_err(unreachable)?;
        if text.is_empty() {
            return Ok(ids.to_vec());
        }
        let said: Acknowledged = serde_json::from_slice(&text).map_err(|error| {
            Failure::new(
                ErrorCode::RemoteRefused,
                format!("`{}` acknowledges nothing: {error}", self.url),
            )
        })?;
        // Ids of others are none of our lines.
        Ok(said.acknowledged.into_iter().filter(|id| ids.contains(id)).collect())
    }
}

/// The oldest lines that fit into one request, and their ids.
fn batch(lines: &[String]) -> (String, Vec<String>) {
    let (mut body, mut ids) = (String::new(), Vec::new());
    for line in lines {
        if !ids.is_empty() && body.len() + line.len() > BATCH_BYTES {
            break;
        }
        if let Some(id) = id_of(line) {
            body.push_str(line);
            body.push('\n');
            ids.push(id);
        }
    }
    (body, ids)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_batch_is_bounded_and_never_empty() {
        let long = format!(r#"{{"id":"1","x":"{}"}}"#, "y".repeat(BATCH_BYTES));
        let lines = [long.clone(), r#"{"id":"2"}"#.into()];
        assert_eq!(batch(&lines).1, ["1"]);
        assert_eq!(batch(&lines[1..]), ("{\"id\":\"2\"}\n".into(), vec!["2".into()]));
        assert_eq!(batch(&[]).1, Vec::<String>::new());
    }

    #[test]
    fn a_key_does_not_travel_in_clear() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new(folder.path());
        let report = |url: &str| Report { url: url.into() };
        assert!(Reporter::new(&place, &report("http://10.0.0.1/")).is_ok());
        fs::write(place.report_key(), "secret").unwrap();
        assert!(Reporter::new(&place, &report("http://10.0.0.1/")).is_err());
        assert!(Reporter::new(&place, &report("http://127.0.0.1/")).is_ok());
        assert!(Reporter::new(&place, &report("https://10.0.0.1/")).is_ok());
        assert!(!Path::new("report.key").exists());
    }
}
