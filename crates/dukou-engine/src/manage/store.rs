//! The model store: folders whose files and folders are models that a client may have served.
//!
//! ```text
//! NAME.onnx
//! NAME/model.onnx            (or `graph.onnx`, or one file with the ending `.onnx`)
//! NAME/1/model.onnx          (versions are numbers)
//! ```
//!
//! A client names what lies directly in a folder and no path: nothing that is outside is ever opened, also
//! not by a link that leads there.

use std::{
    fs,
    path::{Path, PathBuf},
};

use dukou_types::{ErrorCode, Failure, ModelName, Version};

use super::apply::number;
use crate::table::Repository;

/// The folders.
#[derive(Clone, Copy, Debug)]
pub struct ModelStore<'r>(pub &'r Repository);

/// A model of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its versions in the order of their numbers, each with its file.
    pub versions: Vec<(Version, PathBuf)>,
}

/// What a model's file is called in its folder.
const USUAL: [&str; 2] = ["model.onnx", "graph.onnx"];
/// Endings of archives that bring a handler.
const ARCHIVES: [&str; 3] = [".mar", ".war", ".tar.gz"];

impl ModelStore<'_> {
    /// What a client names: a file or a folder of the store, by its name there.
    ///
    /// # Errors
    /// `manage.*`, in the words that TorchServe's clients know.
    pub fn find(self, said: &str) -> Result<Found, Failure> {
        let name = self.plain(said)?;
        if ARCHIVES.iter().any(|ending| name.ends_with(ending)) {
            return Err(Failure::new(
                ErrorCode::ManageNoHandler,
                format!(
                    "`{name}` is an archive with a handler, and none is run here yet: convert the model in \
                     it to ONNX (`dukou convert`) and register that"
                ),
            ));
        }
        let folders = self.0.folders.iter();
        let found = folders.filter_map(|folder| look(folder, name)).next();
        found.ok_or_else(|| {
            Failure::new(ErrorCode::ManageNotInStore, format!("Model not found at: {said}"))
        })
    }

    /// The name without what a client may put around it.
    fn plain(self, said: &str) -> Result<&str, Failure> {
        if said.contains("..") {
            let message = format!("Relative path is not allowed in url: {said}");
            return Err(Failure::new(ErrorCode::ManageNotInStore, message));
        }
        let rest = match said.split_once("://") {
            None => said,
            Some(("file", path)) => self
                .0
                .folders
                .iter()
                .find_map(|folder| Path::new(path).strip_prefix(folder).ok()?.to_str())
                .ok_or_else(|| refused(said))?,
            Some(_) => return Err(refused(said)),
        };
        let name = rest.trim_end_matches('/');
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', '\0']) {
            let message = format!("Model not found at: {said}");
            return Err(Failure::new(ErrorCode::ManageNotInStore, message));
        }
        Ok(name)
    }

    /// Every model that there is, by the name that its file or folder makes.
    pub fn models(self) -> Vec<(ModelName, Found)> {
        let mut models: Vec<(ModelName, Found)> = Vec::new();
        for folder in &self.0.folders {
            let Ok(entries) = fs::read_dir(folder) else { continue };
            for entry in entries.flatten() {
                let Some(file) = entry.file_name().to_str().map(str::to_owned) else { continue };
                let stem = file.strip_suffix(".onnx").unwrap_or(&file);
                let Ok(name) = ModelName::parse(stem) else { continue };
                if models.iter().any(|(known, _)| *known == name) {
                    continue;
                }
                models.extend(look(folder, &file).map(|found| (name, found)));
            }
        }
        models.sort_by(|(first, _), (second, _)| first.cmp(second));
        models
    }
}

#[cold]
fn refused(said: &str) -> Failure {
    let message = format!("Given URL {said} does not match any allowed URL(s)");
    Failure::new(ErrorCode::ManageUrlRefused, message)
}

/// A model of this folder, where it has it.
fn look(folder: &Path, name: &str) -> Option<Found> {
    let root = folder.canonicalize().ok()?;
    let inside = |path: &Path| path.canonicalize().ok().filter(|path| path.starts_with(&root));
    let first = Version::parse("1").ok()?;
    for name in [name.to_owned(), format!("{name}.onnx")] {
        let Some(path) = inside(&root.join(&name)) else { continue };
        if path.is_file() && name.ends_with(".onnx") {
            return Some(Found { versions: vec![(first, path)] });
        }
        if !path.is_dir() {
            continue;
        }
        let numbered = fs::read_dir(&path).ok()?.flatten().filter_map(|entry| {
            let version = Version::parse(entry.file_name().to_str()?).ok()?;
            number(&version)?;
            Some((version, inside(&graph(&entry.path())?)?))
        });
        let mut versions: Vec<_> = numbered.collect();
        versions.sort_by_key(|(version, _)| number(version));
        if versions.is_empty() {
            versions.extend(
                graph(&path).and_then(|file| inside(&file)).map(|file| (first.clone(), file)),
            );
        }
        if !versions.is_empty() {
            return Some(Found { versions });
        }
    }
    None
}

/// The model's file in its folder: of a usual name, or the only one there is.
fn graph(folder: &Path) -> Option<PathBuf> {
    let mut usual = USUAL.iter().map(|name| folder.join(name));
    if let Some(usual) = usual.find(|path| path.is_file()) {
        return Some(usual);
    }
    let mut files =
        fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).filter(|path| {
            path.extension().is_some_and(|ending| ending == "onnx") && path.is_file()
        });
    let only = files.next()?;
    files.next().is_none().then_some(only)
}
