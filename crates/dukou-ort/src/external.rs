//! External data of a bare file: looked for in the model's own folder and nowhere else.

use std::{
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use dukou_sys::FileBytes;
use dukou_types::{ErrorCode, Failure};

use crate::graph::{Facts, clip};

/// A file of external data, by the `location` that the graph uses.
pub(crate) type Files = Vec<(String, Arc<FileBytes>)>;

fn outside(what: &str, location: &str, why: &str) -> Failure {
    Failure::new(
        ErrorCode::FormatsExternalDataOutside,
        format!("{what} refers to weights at `{}`, {why}", clip(location)),
    )
}

fn missing(what: &str, why: String) -> Failure {
    Failure::new(ErrorCode::FormatsExternalDataMissing, format!("{what} {why}"))
}

/// Whether a location is a plain relative path that goes down only.
pub(crate) fn stays_inside(location: &str) -> bool {
    !location.contains(['\\', '\0'])
        && Path::new(location)
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
        && Path::new(location).file_name().is_some()
}

/// The folder that a model lies in, without links.
pub(crate) fn folder_of(model: &Path, what: &str) -> Result<PathBuf, Failure> {
    let folder = model.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder
        .unwrap_or(Path::new("."))
        .canonicalize()
        .map_err(|error| missing(what, format!("lies in a folder that cannot be read: {error}")))
}

/// Opens every file of external data under `folder`, which has no links in it. Refuses absolute paths,
/// `..`, and links that lead out of the folder, before anything is read.
pub(crate) fn open_files(facts: &Facts, folder: &Path, what: &str) -> Result<Files, Failure> {
    let locations = facts.locations();
    let mut files = Files::with_capacity(locations.len());
    for location in locations {
        if !stays_inside(location) {
            return Err(outside(
                what,
                location,
                "which is not a path below the model's own folder",
            ));
        }
        let absent = |error: std::io::Error| {
            missing(
                what,
                format!("refers to weights at `{}`, which cannot be read: {error}", clip(location)),
            )
        };
        let real = folder.join(location).canonicalize().map_err(absent)?;
        if !real.starts_with(folder) {
            return Err(outside(what, location, "a link that leads out of the model's folder"));
        }
        files.push((location.to_owned(), Arc::new(FileBytes::map(&real).map_err(absent)?)));
    }
    Ok(files)
}

/// Whether every tensor lies within its file.
pub(crate) fn check_extents(facts: &Facts, files: &Files, what: &str) -> Result<(), Failure> {
    for external in &facts.externals {
        let location = clip(&external.location);
        let Some((_, bytes)) = files.iter().find(|(name, _)| *name == external.location) else {
            return Err(missing(
                what,
                format!("refers to weights at `{location}`, which are not part of it"),
            ));
        };
        let end = external.offset.checked_add(external.length);
        if end.is_none_or(|end| end > bytes.len()) {
            return Err(missing(
                what,
                format!(
                    "wants {} bytes from byte {} of `{location}` for `{}`, but the file has {}",
                    external.length,
                    external.offset,
                    clip(&external.tensor),
                    bytes.len()
                ),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_that_go_down_stay_inside() {
        for good in ["w.bin", "sub/w.bin", "weights-0.bin", "a..b", "./w.bin"] {
            assert!(stays_inside(good), "{good}");
        }
        for bad in ["", "/etc/passwd", "../w.bin", "a/../../w", "a/..", "..", "a\\..\\b", "./../w"]
        {
            assert!(!stays_inside(bad), "{bad}");
        }
    }
}
