//! A serving folder: a table in which some words are left to whoever starts it.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use dukou_types::{ErrorCode, Failure, ModelName};
use serde_json::{Value, json};

use super::door::Doors;
use crate::{
    container::{Container, processors},
    table::ServingTable,
};

/// The table's name in a folder.
const TABLE: &str = "table.json";
/// Written in place of a number: as many as there are processors.
const PROCESSORS: &str = "cpus";
/// Memory that an open connection may come to, in bytes: buffers of both directions, and its task.
const CONNECTION_BYTES: u64 = 32 << 10;
/// Of the memory that there is, one body may take a part as large as one over this.
const BODY_PARTS: u64 = 4;
/// Descriptors that are not connections: files, listeners, event loops.
const OTHER_DESCRIPTORS: u64 = 64;

/// A folder to serve.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

/// What a folder's table is resolved with.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// What there is to run on.
    pub container: Container,
    /// Threads that run at once.
    pub processors: usize,
    /// Descriptors that may be open.
    pub descriptors: u64,
    /// The listeners with their addresses.
    pub listening: Vec<(ModelName, SocketAddr)>,
    /// The folder with keys and certificate.
    pub access: Option<PathBuf>,
    /// Whether anybody may ask, in clear.
    pub insecure: bool,
}

impl Surroundings {
    /// Those of this process.
    pub fn here(container: Container, listening: Vec<(ModelName, SocketAddr)>) -> Self {
        Self {
            container,
            processors: processors(),
            descriptors: dukou_sys::raise_descriptors(),
            listening,
            access: None,
            insecure: false,
        }
    }
}

impl Folder {
    /// A folder that is there.
    ///
    /// # Errors
    /// `deploy.invalid`: it is not there.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let path = path
            .canonicalize()
            .map_err(|error| invalid(format!("the folder `{}`: {error}", path.display())))?;
        Ok(Self { path })
    }

    /// Where it is, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its table, resolved.
    ///
    /// # Errors
    /// `deploy.invalid`: the table cannot be read or is not one, or a listener is none of its own.
    /// What [`Doors::of`] says.
    pub fn table(&self, surroundings: &Surroundings) -> Result<ServingTable, Failure> {
        let file = self.path.join(TABLE);
        let text = fs::read(&file).map_err(|error| {
            invalid(format!("the table `{}` cannot be read: {error}", file.display()))
        })?;
        let mut table: Value = serde_json::from_slice(&text)
            .map_err(|error| invalid(format!("the table `{}`: {error}", file.display())))?;
        let doors = Doors::of(
            &surroundings.listening,
            surroundings.access.as_deref(),
            surroundings.insecure,
        )?;
        open_doors(&mut table, &doors)?;
        for version in versions(&mut table) {
            for word in ["file", "store"] {
                if let Some(Value::String(path)) = version["source"].get_mut(word) {
                    *path = self.path.join(&*path).to_string_lossy().into_owned();
                }
            }
            if let Some(instances) = version["backend"].get_mut("instances")
                && *instances == PROCESSORS
            {
                *instances = json!(surroundings.processors);
            }
        }
        bound(&mut table["limits"], surroundings);
        Ok(ServingTable::parse(table.to_string().as_bytes())?)
    }
}

fn versions(table: &mut Value) -> impl Iterator<Item = &mut Value> {
    list(&mut table["models"]).iter_mut().flat_map(|model| list(&mut model["versions"]))
}

/// A list; what is none is told when the table is read.
fn list(value: &mut Value) -> &mut [Value] {
    value.as_array_mut().map_or(&mut [], Vec::as_mut_slice)
}

/// What is allowed on the listeners that are open.
fn open_doors(table: &mut Value, doors: &Doors) -> Result<(), Failure> {
    let listeners = list(&mut table["listeners"]);
    for door in &doors.doors {
        let known = |listeners: &[Value]| {
            let names = listeners.iter().map(|l| format!("{}", l["name"]).replace('"', "`"));
            names.collect::<Vec<_>>().join(", ")
        };
        let Some(place) = listeners.iter().position(|l| l["name"] == door.name.as_str()) else {
            return Err(invalid(format!(
                "`--listen` names `{}`, and the folder's table has {}",
                door.name,
                known(listeners)
            )));
        };
        listeners[place]["access"] = json!(door.access);
        listeners[place]["tls"] = json!(door.tls);
    }
    if let Some(principals) = &doors.principals {
        table["principals"] = json!(principals);
    }
    Ok(())
}

/// Keeps what clients can make the process hold within what it has.
fn bound(limits: &mut Value, surroundings: &Surroundings) {
    let mut at_most = |name: &str, most: u64| {
        if let Some(limit) = limits.get_mut(name)
            && limit.as_u64().is_some_and(|limit| limit > most)
        {
            *limit = json!(most.max(1));
        }
    };
    at_most("connections", surroundings.descriptors.saturating_sub(OTHER_DESCRIPTORS));
    if let Some(memory) = surroundings.container.memory {
        at_most("connections", memory / CONNECTION_BYTES);
        at_most("body_bytes", memory / BODY_PARTS);
    }
}

fn invalid(message: String) -> Failure {
    Failure::new(ErrorCode::DeployInvalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Access, Source};

    fn surroundings(address: &str) -> Surroundings {
        Surroundings {
            container: Container { memory: Some(64 << 20), quota: Some(3.0) },
            processors: 3,
            descriptors: 1024,
            listening: vec![(ModelName::parse("http").unwrap(), address.parse().unwrap())],
            access: None,
            insecure: false,
        }
    }

    fn folder(change: impl FnOnce(&mut Value)) -> tempfile::TempDir {
        let mut table: Value = serde_json::from_str(include_str!(
            "../../../../conformance/tables/good/bare-file.json"
        ))
        .unwrap();
        table["listeners"][0]["name"] = json!("http");
        table["models"][0]["versions"][0]["source"] = json!({"file": "models/digits.onnx"});
        table["models"][0]["versions"][0]["backend"]["instances"] = json!("cpus");
        table["limits"]["connections"] = json!(8192);
        table["limits"]["body_bytes"] = json!(64 << 20);
        change(&mut table);
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("table.json"), table.to_string()).unwrap();
        folder
    }

    #[test]
    fn what_is_left_open_is_resolved() {
        let folder = folder(|_| ());
        let found = Folder::open(folder.path()).unwrap();
        let table = found.table(&surroundings("127.0.0.1:1")).unwrap();
        let version = &table.models[0].versions[0];
        assert_eq!(version.source, Source::File(found.path().join("models/digits.onnx")));
        assert_eq!(version.backend.as_ref().unwrap().instances, 3);
        assert_eq!(table.listeners[0].access, Access::Loopback);
        assert_eq!((table.limits.connections, table.limits.body_bytes), (960, 16 << 20));
    }

    #[test]
    fn what_is_said_stays() {
        let folder = folder(|table| {
            table["models"][0]["versions"][0]["backend"]["instances"] = json!(7);
            table["models"][0]["versions"][0]["source"] = json!({"file": "/m.onnx"});
            table["limits"]["connections"] = json!(10);
        });
        let table = Folder::open(folder.path()).unwrap();
        let table = table.table(&surroundings("127.0.0.1:1")).unwrap();
        let version = &table.models[0].versions[0];
        assert_eq!(version.backend.as_ref().unwrap().instances, 7);
        assert_eq!(version.source, Source::File("/m.onnx".into()));
        assert_eq!(table.limits.connections, 10);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let mut other = surroundings("127.0.0.1:1");
        other.listening[0].0 = ModelName::parse("grpc").unwrap();
        let good = folder(|_| ());
        let said = Folder::open(good.path()).unwrap().table(&other).unwrap_err().to_string();
        assert!(
            said.contains("`--listen` names `grpc`, and the folder's table has `http`"),
            "{said}"
        );
        let bad = folder(|table| table["models"] = json!(1));
        let failure = Folder::open(bad.path()).unwrap().table(&surroundings("127.0.0.1:1"));
        assert!(failure.unwrap_err().message.contains("`models`"));
        let open = Folder::open(good.path()).unwrap().table(&surroundings("0.0.0.0:1"));
        assert_eq!(open.unwrap_err().code, ErrorCode::AccessOffLoopback);
        assert!(Folder::open(Path::new("/nowhere")).is_err());
        let empty = tempfile::tempdir().unwrap();
        let failure = Folder::open(empty.path()).unwrap().table(&surroundings("127.0.0.1:1"));
        assert!(failure.unwrap_err().message.contains("table.json"));
    }
}
