//! Records that wait until somebody takes them: lines of a file, bounded, the oldest dropped and counted.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::files::replace;

/// The file of waiting lines.
#[derive(Clone, Debug)]
pub struct Waiting {
    path: PathBuf,
    limit: u64,
}

impl Waiting {
    /// `report.jsonl` in this folder, of at most so many bytes.
    pub fn new(state: &Path, limit: u64) -> Self {
        Self { path: state.join("report.jsonl"), limit }
    }

    /// The lines, the oldest first. One that was cut off by a power failure is none.
    pub fn lines(&self) -> Vec<String> {
        let text = fs::read(&self.path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        text.lines().filter(|line| id_of(line).is_some()).map(str::to_owned).collect()
    }

    /// Adds a record; gives how many old ones made room for it.
    ///
    /// # Errors
    /// Of the disk: then it is not kept.
    pub fn add(&self, record: &Value) -> io::Result<u64> {
        let line = format!("{record}\n");
        let size = fs::metadata(&self.path).map_or(0, |data| data.len());
        if size + line.len() as u64 <= self.limit && self.ends_whole() {
            let mut file = OpenOptions::new().create(true).append(true).open(&self.path)?;
            file.write_all(line.as_bytes())?;
            file.sync_all()?;
            return Ok(0);
        }
        let mut lines = self.lines();
        lines.push(line.trim_end().to_owned());
        let mut bytes: u64 = lines.iter().map(|line| line.len() as u64 + 1).sum();
        let mut dropped = 0;
        while bytes > self.limit && (dropped as usize) < lines.len() {
            bytes -= lines[dropped as usize].len() as u64 + 1;
            dropped += 1;
        }
        self.write(&lines[dropped as usize..])?;
        Ok(dropped)
    }

    /// Takes away the records with these ids.
    ///
    /// # Errors
    /// Of the disk: then they are sent again, and whoever takes them knows their ids.
    pub fn remove(&self, taken: &[String]) -> io::Result<()> {
        let mut lines = self.lines();
        lines.retain(|line| id_of(line).is_none_or(|id| !taken.contains(&id)));
        self.write(&lines)
    }

    fn write(&self, lines: &[String]) -> io::Result<()> {
        let text: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
        replace(&self.path, text.as_bytes())
    }

    /// Whether the file ends with a whole line: a power failure may have left half of one.
    fn ends_whole(&self) -> bool {
        fs::read(&self.path).map_or(true, |text| text.last().is_none_or(|last| *last == b'\n'))
    }
}

/// The id of a record; none where the line is not one.
pub fn id_of(line: &str) -> Option<String> {
    let record: Value = serde_json::from_str(line).ok()?;
    record["id"].as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ids(waiting: &Waiting) -> Vec<String> {
        waiting.lines().iter().filter_map(|line| id_of(line)).collect()
    }

    #[test]
    fn the_oldest_make_room_and_the_taken_go() {
        let folder = tempfile::tempdir().unwrap();
        let waiting = Waiting::new(folder.path(), 60);
        let dropped: u64 =
            (0..10).map(|n| waiting.add(&json!({"id": format!("1-{n}")})).unwrap()).sum();
        assert_eq!(
            (dropped, ids(&waiting)),
            (6, vec!["1-6".into(), "1-7".into(), "1-8".into(), "1-9".into()])
        );
        waiting.remove(&["1-7".into(), "1-1".into()]).unwrap();
        assert_eq!(ids(&waiting), ["1-6", "1-8", "1-9"]);
    }

    #[test]
    fn half_a_line_is_none_and_hurts_none() {
        let folder = tempfile::tempdir().unwrap();
        let waiting = Waiting::new(folder.path(), 1000);
        waiting.add(&json!({"id": "1-1"})).unwrap();
        let mut file =
            OpenOptions::new().append(true).open(folder.path().join("report.jsonl")).unwrap();
        file.write_all(b"{\"id\": \"1-").unwrap();
        assert_eq!(ids(&waiting), ["1-1"]);
        waiting.add(&json!({"id": "1-3"})).unwrap();
        assert_eq!(ids(&waiting), ["1-1", "1-3"]);
    }
}
