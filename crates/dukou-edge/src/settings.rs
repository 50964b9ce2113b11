//! `edge.json`: what an agent does. Written by `dukou edge build`; every value stands in it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use dukou_types::{ErrorCode, Failure};
use serde::{Deserialize, Serialize};

/// The file's name in a folder.
const FILE: &str = "edge.json";

/// What an agent follows and how much it may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Always 1.
    pub format: u64,
    /// What the device is called in reports.
    pub device: String,
    /// Where it listens, as `127.0.0.1:8080`.
    pub listen: String,
    /// Threads that answer requests; 0: one a processor.
    pub threads: usize,
    /// Where updates come from; null: nowhere.
    #[serde(deserialize_with = "Option::deserialize")]
    pub follow: Option<Follow>,
    /// Where reports go; null: they wait, and the oldest are dropped.
    #[serde(deserialize_with = "Option::deserialize")]
    pub report: Option<Report>,
    /// Seconds between two records of what was counted.
    pub record_s: u64,
    /// Bytes of records that wait, at most.
    pub waiting_bytes: u64,
    /// Bytes of the store, at most; 0: what the disk has.
    pub store_bytes: u64,
    /// Bytes of the disk that an update leaves free.
    pub spare_bytes: u64,
}

/// A tag of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Follow {
    /// `http://` or `https://`, host and port.
    pub registry: String,
    /// The repository.
    pub repository: String,
    /// The tag.
    pub tag: String,
    /// Seconds between two questions; up to a tenth more by chance.
    pub every_s: u64,
    /// Bytes a second of a download; 0: as fast as it comes.
    pub bytes_per_s: u64,
    /// Who we are; null: nobody.
    #[serde(deserialize_with = "Option::deserialize")]
    pub username: Option<String>,
}

/// Where reports go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// The address that lines are posted to.
    pub url: String,
}

/// A folder that an agent works in.
#[derive(Clone, Debug)]
pub struct Place(PathBuf);

impl Place {
    /// The folder at this path.
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// The image layout that both slots share.
    pub fn store(&self) -> PathBuf {
        self.0.join("store")
    }

    /// The two slots and the pointer.
    pub fn slots(&self) -> PathBuf {
        self.0.join("slots")
    }

    /// What the agent remembers and what waits to be reported.
    pub fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    /// The password of `follow.username`; `DUKOU_REMOTE_PASSWORD` where there is no such file.
    pub fn password(&self) -> PathBuf {
        self.0.join("password")
    }

    /// The key that reports are sent with, where there is such a file.
    pub fn report_key(&self) -> PathBuf {
        self.0.join("report.key")
    }

    /// Certificates that are trusted beside the system's, where there is such a file.
    pub fn authorities(&self) -> PathBuf {
        self.0.join("ca.pem")
    }
}

impl Settings {
    /// Reads the settings of a folder.
    ///
    /// # Errors
    /// `edge.not-a-folder`: there are none, or they are not as they should be.
    pub fn read(folder: &Path) -> Result<Self, Failure> {
        let path = folder.join(FILE);
        let wrong = |why: &dyn std::fmt::Display| {
            Failure::new(ErrorCode::EdgeNotAFolder, format!("`{}`: {why}", path.display()))
        };
        let text = fs::read(&path).map_err(|error| wrong(&error))?;
        let settings: Self = serde_json::from_slice(&text).map_err(|error| wrong(&error))?;
        if settings.format != 1 {
            return Err(wrong(&format_args!("its format is {}, and 1 is known", settings.format)));
        }
        if settings.record_s == 0 || settings.follow.as_ref().is_some_and(|f| f.every_s == 0) {
            return Err(wrong(&"an interval is 0 seconds"));
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let read = |text: &str| {
            fs::write(folder.path().join(FILE), text).unwrap();
            Settings::read(folder.path()).map_err(|failure| failure.to_string())
        };
        let good = r#"{"format": 1, "device": "d", "listen": "127.0.0.1:0", "threads": 0, "follow": null,
            "report": null, "record_s": 60, "waiting_bytes": 1, "store_bytes": 0, "spare_bytes": 0}"#;
        assert_eq!(read(good).unwrap().device, "d");
        for (from, to, said) in [
            ("\"format\": 1", "\"format\": 2", "its format is 2"),
            ("\"record_s\": 60", "\"record_s\": 0", "0 seconds"),
            ("\"device\": \"d\",", "", "missing field `device`"),
            ("\"device\"", "\"devise\": 1, \"device\"", "unknown field `devise`"),
        ] {
            let refused = read(&good.replace(from, to)).unwrap_err();
            assert!(refused.contains(said) && refused.contains("edge.not-a-folder"), "{refused}");
        }
        assert!(Settings::read(&folder.path().join("nowhere")).is_err());
    }
}
