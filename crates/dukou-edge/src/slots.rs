//! Two slots and a pointer: which version serves, and which one it was before.
//!
//! A slot is a file that names a version; the pointer is a file that names a slot. Each is replaced by
//! rename after fsync, the slot before the pointer: at every moment the pointer leads to a whole slot.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use dukou_types::{Digest, ErrorCode, Failure, Version};
use serde::{Deserialize, Serialize};

use crate::files::{disk, replace};

/// The pointer's name.
const CURRENT: &str = "current";

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Name {
    /// Slot A.
    A,
    /// Slot B.
    B,
}

impl Name {
    /// Both.
    pub const ALL: [Self; 2] = [Self::A, Self::B];

    /// The one that this one is not.
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }
}

/// What a slot names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Always 1.
    pub format: u64,
    /// The version.
    pub digest: Digest,
    /// Its label in answers: its number in the repository, else the first digits of its digest.
    pub version: Version,
    /// Its class names.
    pub labels: Vec<String>,
    /// Larger for each version that came: the sequence of its table.
    pub sequence: u64,
    /// When it came, in seconds since 1970.
    pub installed: u64,
}

/// The slots of a folder.
#[derive(Clone, Debug)]
pub struct Slots {
    folder: PathBuf,
}

impl Slots {
    /// Those in this folder.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Which slot serves.
    ///
    /// # Errors
    /// `edge.not-a-folder`: the pointer is not there, or names no slot.
    pub fn current(&self) -> Result<Name, Failure> {
        let path = self.folder.join(CURRENT);
        let text = fs::read_to_string(&path).map_err(|error| strange(&path, &error))?;
        let named = Name::ALL.into_iter().find(|name| name.as_str() == text.trim());
        named.ok_or_else(|| strange(&path, &format_args!("it names `{}`", text.escape_default())))
    }

    /// What a slot names; none where it is empty, or not to be read.
    pub fn read(&self, name: Name) -> Option<Slot> {
        let text = fs::read(self.path(name)).ok()?;
        serde_json::from_slice(&text).ok().filter(|slot: &Slot| slot.format == 1)
    }

    /// Both, as far as they are there.
    pub fn all(&self) -> impl Iterator<Item = Slot> + '_ {
        Name::ALL.into_iter().filter_map(|name| self.read(name))
    }

    /// Fills the slot that does not serve, and then moves the pointer to it.
    ///
    /// # Errors
    /// `edge.no-room`, `edge.disk`: then the pointer is where it was.
    pub fn commit(&self, slot: &Slot) -> Result<Name, Failure> {
        let next = self.current()?.other();
        let text = serde_json::to_vec_pretty(slot).unwrap_or_default();
        let path = self.path(next);
        replace(&path, &text).map_err(|error| disk(&path, &error))?;
        self.point(next)?;
        Ok(next)
    }

    /// Moves the pointer.
    ///
    /// # Errors
    /// `edge.no-room`, `edge.disk`.
    pub fn point(&self, name: Name) -> Result<(), Failure> {
        let path = self.folder.join(CURRENT);
        replace(&path, name.as_str().as_bytes()).map_err(|error| disk(&path, &error))
    }

    /// Empties the slot that does not serve: its version's blobs make room.
    ///
    /// # Errors
    /// `edge.disk`.
    pub fn clear_other(&self) -> Result<(), Failure> {
        let path = self.path(self.current()?.other());
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(disk(&path, &error)),
            _ => Ok(()),
        }
    }

    fn path(&self, name: Name) -> PathBuf {
        self.folder.join(format!("{}.json", name.as_str()))
    }
}

fn strange(path: &Path, why: &dyn std::fmt::Display) -> Failure {
    Failure::new(ErrorCode::EdgeNotAFolder, format!("`{}`: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn slot(digit: char, sequence: u64) -> Slot {
        let digest = format!("sha256:{}", digit.to_string().repeat(64));
        Slot {
            format: 1,
            digest: Digest::parse(&digest).unwrap(),
            version: Version::parse(&sequence.to_string()).unwrap(),
            labels: vec![],
            sequence,
            installed: 0,
        }
    }

    #[test]
    fn the_pointer_moves_to_the_other_slot_and_back() {
        let folder = tempfile::tempdir().unwrap();
        let slots = Slots::new(folder.path().to_owned());
        assert!(slots.current().is_err());
        slots.point(Name::A).unwrap();
        assert_eq!(slots.commit(&slot('1', 1)).unwrap(), Name::B);
        assert_eq!(slots.commit(&slot('2', 2)).unwrap(), Name::A);
        assert_eq!(slots.current().unwrap(), Name::A);
        assert_eq!(slots.read(Name::B), Some(slot('1', 1)));
        slots.clear_other().unwrap();
        assert_eq!(slots.all().collect::<Vec<_>>(), [slot('2', 2)]);
        slots.clear_other().unwrap();
    }

    #[test]
    fn half_a_slot_is_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let slots = Slots::new(folder.path().to_owned());
        fs::write(folder.path().join("a.json"), b"{\"format\": 1, \"dig").unwrap();
        assert_eq!(slots.read(Name::A), None);
        fs::write(folder.path().join(CURRENT), b"c").unwrap();
        assert!(slots.current().unwrap_err().to_string().contains("it names `c`"));
    }
}
