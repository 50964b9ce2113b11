//! What a compiled form says of itself on disk.

use std::{
    fs, io,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use dukou_sys::FileBytes;
use serde::{Deserialize, Serialize};

use crate::chunks::{self, Chunk};

/// The file's name within a compiled form.
pub(crate) const FILE: &str = "index";
pub(crate) const GRAPH: &str = "graph.onnx";
pub(crate) const FORMAT: u32 = 1;
/// A compiled form that nobody opened for so long is removed when another one is made.
const KEPT_UNUSED: Duration = Duration::from_secs(30 * 24 * 3600);
/// A chunk that no index names may be one that another process has just written.
const CHUNK_AGE: Duration = Duration::from_secs(3600);

/// The index, after the line with its own sha256.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Index {
    pub format: u32,
    pub runtime: String,
    pub cpu: String,
    pub source: String,
    /// Why this model's weights are not shared, where that was found out when it was compiled.
    pub unusable: Option<String>,
    pub graph_sha256: String,
    pub chunks: Vec<Chunk>,
    pub tensors: Vec<Place>,
}

/// Where an initializer lies.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Place {
    pub name: String,
    pub data_type: i32,
    pub dims: Vec<i64>,
    pub chunk: usize,
    pub offset: usize,
    pub length: usize,
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "damaged")
}

impl Index {
    /// Writes it into a folder that nobody reads yet.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        let document = serde_json::to_string(self)?;
        let text = format!("{}\n{document}", chunks::sha256(document.as_bytes()));
        fs::write(folder.join(FILE), text)
    }

    pub fn read(folder: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(folder.join(FILE))?;
        let (sum, document) = text.split_once('\n').ok_or_else(damaged)?;
        if chunks::sha256(document.as_bytes()) != sum {
            return Err(damaged());
        }
        Ok(serde_json::from_str(document)?)
    }

    /// The optimized graph, checked.
    pub fn graph(&self, folder: &Path) -> io::Result<Vec<u8>> {
        let graph = fs::read(folder.join(GRAPH))?;
        if chunks::sha256(&graph) == self.graph_sha256 { Ok(graph) } else { Err(damaged()) }
    }

    /// Every chunk mapped, and every tensor within its chunk.
    pub fn weights(&self, chunk_folder: &Path) -> io::Result<Vec<Arc<FileBytes>>> {
        let chunks: Vec<Arc<FileBytes>> = self
            .chunks
            .iter()
            .map(|chunk| chunks::map(chunk_folder, chunk))
            .collect::<io::Result<_>>()?;
        let whole = self.tensors.iter().all(|place| {
            let end = place.offset.checked_add(place.length);
            let held = chunks.get(place.chunk).map(|chunk| chunk.len());
            end.zip(held).is_some_and(|(end, held)| end <= held)
        });
        if whole { Ok(chunks) } else { Err(damaged()) }
    }
}

/// Says that a compiled form is in use: [`sweep`] goes by it.
pub(crate) fn touch(folder: &Path) {
    let file = fs::File::options().append(true).open(folder.join(FILE));
    let _ = file.and_then(|file| file.set_modified(SystemTime::now()));
}

/// Removes compiled forms that nobody opened for a month and chunks that no index names. Whoever has
/// them mapped keeps them; whoever opens one just now finds it gone and makes it again.
pub(crate) fn sweep(folder: &Path, chunk_folder: &Path) -> io::Result<()> {
    let now = SystemTime::now();
    let age = |path: &Path| -> io::Result<Duration> {
        Ok(now.duration_since(fs::metadata(path)?.modified()?).unwrap_or_default())
    };
    let mut named: Vec<String> = Vec::new();
    for entry in fs::read_dir(folder)? {
        let form = entry?.path();
        let Ok(unused) = age(&form.join(FILE)) else {
            continue;
        };
        if unused > KEPT_UNUSED {
            fs::remove_dir_all(&form)?;
        } else if let Ok(index) = Index::read(&form) {
            named.extend(index.chunks.into_iter().map(|chunk| chunk.sha256));
        }
    }
    named.sort_unstable();
    for entry in fs::read_dir(chunk_folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if named.binary_search(&name).is_err() && age(&entry.path())? > CHUNK_AGE {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(folder: &Path, name: &str, chunk: Chunk) -> std::path::PathBuf {
        let index = Index {
            format: FORMAT,
            runtime: "1.32.0".into(),
            cpu: "cpu".into(),
            source: name.into(),
            unusable: None,
            graph_sha256: String::new(),
            chunks: vec![chunk],
            tensors: vec![],
        };
        fs::create_dir(folder.join(name)).unwrap();
        index.write(&folder.join(name)).unwrap();
        folder.join(name)
    }

    fn make_old(path: &Path) {
        let file = fs::File::options().append(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - 2 * KEPT_UNUSED).unwrap();
    }

    #[test]
    fn what_nobody_used_for_long_goes_and_takes_only_its_own_chunks() {
        let folder = tempfile::tempdir().unwrap();
        let chunk_folder = folder.path().join("chunks");
        fs::create_dir(&chunk_folder).unwrap();
        let chunk = |content: &[u8]| chunks::write(&chunk_folder, content).unwrap();
        let (shared, own, fresh) = (chunk(b"shared"), chunk(b"own"), chunk(b"just written"));
        let old = form(folder.path(), "old", own.clone());
        let used = form(folder.path(), "used", shared.clone());
        for path in [&old.join(FILE), &used.join(FILE)] {
            make_old(path);
        }
        for chunk in [&shared, &own] {
            make_old(&chunk_folder.join(&chunk.sha256));
        }
        touch(&used);
        sweep(folder.path(), &chunk_folder).unwrap();
        assert!(!old.exists() && used.exists());
        let there = |chunk: &Chunk| chunk_folder.join(&chunk.sha256).exists();
        assert!(there(&shared) && !there(&own) && there(&fresh));
    }
}
