//! Who may come into an engine that stands alone: keys and a certificate that lie in a folder.
//!
//! The rule is that of `dukou serve`: on loopback whoever is on this machine, elsewhere whoever holds a
//! key, by TLS, unless `--insecure` was said. What lies in the folder always counts, also on loopback
//! and beside `--insecure`: who mounts keys wants them asked for.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use dukou_types::{ErrorCode, Failure, ModelName};
use serde_json::Value;

use crate::table::{Access, TlsFiles};

/// The names that the files have.
const KEYS: &str = "keys.json";
const CERTIFICATE: &str = "tls.crt";
const PRIVATE: &str = "tls.key";
/// A larger document is none of ours.
const LARGEST: u64 = 16 << 20;

/// What is allowed on one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Door {
    /// The listener.
    pub name: ModelName,
    /// Who may speak.
    pub access: Access,
    /// The certificate.
    pub tls: Option<TlsFiles>,
}

/// What is allowed on all of them, and whose keys are good.
#[derive(Clone, Debug, PartialEq)]
pub struct Doors {
    /// One a listener.
    pub doors: Vec<Door>,
    /// Principals as in a table; none where no keys lie there.
    pub principals: Option<Vec<Value>>,
}

impl Doors {
    /// Decides for listeners with their addresses.
    ///
    /// # Errors
    /// `access.off-loopback`: other machines reach one and nothing guards it.
    /// `access.unreadable-keys`, `access.bad-certificate`.
    pub fn of(
        listening: &[(ModelName, SocketAddr)],
        access: Option<&Path>,
        insecure: bool,
    ) -> Result<Self, Failure> {
        let principals = access.map(read_keys).transpose()?.flatten();
        let tls = access.map(certificate).transpose()?.flatten();
        let doors = listening
            .iter()
            .map(|(name, address)| {
                let here = address.ip().to_canonical().is_loopback();
                if !here && !insecure && (principals.is_none() || tls.is_none()) {
                    return Err(unguarded(name, *address, access));
                }
                let access = match principals {
                    Some(_) => Access::Keys,
                    None if here => Access::Loopback,
                    None => Access::Open,
                };
                Ok(Door { name: name.clone(), access, tls: tls.clone() })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { doors, principals })
    }
}

fn unguarded(name: &ModelName, address: SocketAddr, access: Option<&Path>) -> Failure {
    let missing = match access {
        None => "no `--access` folder is named".to_owned(),
        Some(folder) => {
            let absent: Vec<_> = [KEYS, CERTIFICATE, PRIVATE]
                .into_iter()
                .filter(|file| !folder.join(file).exists())
                .map(|file| format!("`{file}`"))
                .collect();
            format!("`{}` lacks {}", folder.display(), absent.join(", "))
        }
    };
    Failure::new(
        ErrorCode::AccessOffLoopback,
        format!(
            "listener `{name}` can be reached from other machines at `{address}`, and {missing}: put \
             keys and a certificate there, listen on 127.0.0.1, or say `--insecure`"
        ),
    )
}

/// Whose keys are good, as in a table; none where there is no such file.
fn read_keys(folder: &Path) -> Result<Option<Vec<Value>>, Failure> {
    let path = folder.join(KEYS);
    let unreadable = |why: &dyn std::fmt::Display| {
        let message = format!("`{}` cannot be read: {why}", path.display());
        Failure::new(ErrorCode::AccessUnreadableKeys, message)
    };
    let text = match fs::metadata(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Ok(data) if data.len() > LARGEST => return Err(unreadable(&"it is larger than 16 MiB")),
        _ => fs::read(&path).map_err(|error| unreadable(&as_user(&error)))?,
    };
    let document: Value = serde_json::from_slice(&text).map_err(|error| unreadable(&error))?;
    if document["format"] != 1 {
        return Err(unreadable(&format_args!("its format is {}, not 1", document["format"])));
    }
    let Value::Array(mut keys) = document["keys"].clone() else {
        return Err(unreadable(&"it has no list `keys`"));
    };
    for key in &mut keys {
        if let Value::Object(fields) = key {
            // When it was made is no matter of the table's.
            fields.remove("created");
        }
    }
    Ok(Some(keys))
}

/// The pair; none where neither file is there. Half of it is a mistake that is said.
fn certificate(folder: &Path) -> Result<Option<TlsFiles>, Failure> {
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let files = TlsFiles { certificate: folder.join(CERTIFICATE), key: folder.join(PRIVATE) };
    let readable = |path: &PathBuf| match fs::File::open(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(bad(path, &as_user(&error))),
    };
    match (readable(&files.certificate)?, readable(&files.key)?) {
        (true, true) => Ok(Some(files)),
        (false, false) => Ok(None),
        (true, false) => Err(bad(&files.key, "it is not there, and its certificate is")),
        (false, true) => Err(bad(&files.certificate, "it is not there, and its key is")),
    }
}

fn bad(path: &Path, why: &str) -> Failure {
    let message = format!("the certificate or key `{}` cannot be used: {why}", path.display());
    Failure::new(ErrorCode::AccessBadCertificate, message)
}

/// What the system says, with whose rights are meant: in a container that is the riddle.
fn as_user(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            format!("user {} may not read it", dukou_sys::effective_user())
        }
        _ => error.to_string(),
    }
}

/// What tells whether the keys are still those that were read.
pub(super) fn stamp(folder: &Path) -> Option<(u64, u64, u64, i64, i64)> {
    let data = fs::metadata(folder.join(KEYS)).ok()?;
    Some((data.dev(), data.ino(), data.size(), data.mtime(), data.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listening(address: &str) -> Vec<(ModelName, SocketAddr)> {
        vec![(ModelName::parse("http").unwrap(), address.parse().unwrap())]
    }

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    const NO_KEYS: &str = r#"{"format": 1, "keys": []}"#;

    fn access(address: &str, files: &[(&str, &str)], insecure: bool) -> Result<Door, String> {
        let folder = folder(files);
        Doors::of(&listening(address), Some(folder.path()), insecure)
            .map(|doors| doors.doors[0].clone())
            .map_err(|failure| failure.to_string())
    }

    #[test]
    fn on_this_machine_anybody_elsewhere_whoever_holds_a_key() {
        let pair = [("keys.json", NO_KEYS), ("tls.crt", "c"), ("tls.key", "k")];
        for address in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert_eq!(access(address, &[], false).unwrap().access, Access::Loopback, "{address}");
        }
        for address in ["0.0.0.0:1", "10.0.0.1:1", "[::]:1"] {
            let said = access(address, &[], false).unwrap_err();
            assert!(said.contains("lacks `keys.json`, `tls.crt`, `tls.key`"), "{said}");
            let said = access(address, &pair[..1], false).unwrap_err();
            assert!(said.contains("lacks `tls.crt`, `tls.key`"), "{said}");
            let door = access(address, &pair, false).unwrap();
            assert_eq!((door.access, door.tls.is_some()), (Access::Keys, true));
            assert_eq!(access(address, &[], true).unwrap().access, Access::Open);
        }
        let said = Doors::of(&listening("0.0.0.0:1"), None, false).unwrap_err().to_string();
        assert!(said.contains("no `--access` folder"), "{said}");
    }

    #[test]
    fn what_is_mounted_always_counts() {
        let keys = [("keys.json", NO_KEYS)];
        assert_eq!(access("127.0.0.1:1", &keys, false).unwrap().access, Access::Keys);
        assert_eq!(access("0.0.0.0:1", &keys, true).unwrap().access, Access::Keys);
        let said = access("127.0.0.1:1", &[("tls.crt", "c")], true).unwrap_err();
        assert!(said.contains("tls.key` cannot be used: it is not there"), "{said}");
    }

    #[test]
    fn keys_are_read_as_they_are_kept() {
        let one = r#"{"format": 1, "keys": [{"id": "0123456789ab", "created": 1}]}"#;
        let found = read_keys(folder(&[("keys.json", one)]).path()).unwrap().unwrap();
        assert_eq!(found, [serde_json::json!({"id": "0123456789ab"})]);
        for wrong in ["", "[]", r#"{"format": 2, "keys": []}"#, r#"{"format": 1}"#] {
            let failure = read_keys(folder(&[("keys.json", wrong)]).path()).unwrap_err();
            assert_eq!(failure.code, ErrorCode::AccessUnreadableKeys, "{wrong}");
        }
    }
}
