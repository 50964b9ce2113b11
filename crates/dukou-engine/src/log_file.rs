//! A log's file and the thread that owns it: what the access log and the security log have in common.
//!
//! A log gathers lines in its own way and is a [`Gather`]; [`LogFile`] opens the file, runs the thread
//! that writes, and exchanges both with the table.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    thread::{Builder, JoinHandle, Thread},
};

use parking_lot::Mutex;

/// Where lines wait for the thread that writes them.
pub(crate) trait Gather: Send + Sync + 'static {
    /// A writer is about to begin: its end has not come.
    fn begin(&self);

    /// A writer runs: lines are welcome from now on.
    fn welcome(&self, writer: &Thread);

    /// No more lines: the writer should write what waits, and return.
    fn end(&self, writer: &Thread);

    /// The writer's work.
    fn write_until_ended(&self, target: &mut Target);
}

/// Where a log goes: a file, stdout, or nowhere. Changed while the engine serves, with the table.
#[derive(Debug, Default)]
pub(crate) struct LogFile<G: Gather> {
    pub(crate) lines: Arc<G>,
    writer: Mutex<Option<(String, JoinHandle<()>)>>,
}

impl<G: Gather> LogFile<G> {
    /// Sends lines to `target` from now on: a path, `-` for stdout, or nowhere. What was written for
    /// the target before goes there first. The same target again changes nothing.
    ///
    /// # Errors
    /// The file cannot be opened; lines go where they went.
    pub(crate) fn open(&self, target: Option<&str>, thread: &str) -> io::Result<()> {
        let mut writer = self.writer.lock();
        if writer.as_ref().map(|(target, _)| target.as_str()) == target {
            return Ok(());
        }
        let opened = target.map(Target::open).transpose()?;
        self.end(writer.take());
        if let (Some(name), Some(mut sink)) = (target, opened) {
            self.lines.begin();
            let lines = Arc::clone(&self.lines);
            let thread = Builder::new()
                .name(thread.to_owned())
                .spawn(move || lines.write_until_ended(&mut sink))?;
            self.lines.welcome(thread.thread());
            *writer = Some((name.to_owned(), thread));
        }
        Ok(())
    }

    /// Writes what waits and stops. Called when the engine has drained.
    pub(crate) fn close(&self) {
        self.end(self.writer.lock().take());
    }

    fn end(&self, writer: Option<(String, JoinHandle<()>)>) {
        if let Some((_, thread)) = writer {
            self.lines.end(thread.thread());
            // A writer that panicked has said so.
            let _ended = thread.join();
        }
    }
}

impl<G: Gather> Drop for LogFile<G> {
    fn drop(&mut self) {
        self.close();
    }
}

/// What lines are written to.
#[derive(Debug)]
pub(crate) enum Target {
    Stdout,
    File { file: File, path: PathBuf },
}

impl Target {
    fn open(name: &str) -> io::Result<Self> {
        if name == "-" {
            return Ok(Self::Stdout);
        }
        let path = PathBuf::from(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        Ok(Self::File { file: append_to(&path)?, path })
    }

    pub(crate) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(lines)?;
                out.flush()
            }
            Self::File { file, path } => {
                if was_rotated(file, path) {
                    *file = append_to(path)?;
                }
                file.write_all(lines)
            }
        }
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    // Who asked for what is for this user and its group alone.
    OpenOptions::new().create(true).append(true).mode(0o640).open(path)
}

/// Whether the path no longer leads to the open file: it was renamed or removed, as log rotation does.
fn was_rotated(file: &File, path: &Path) -> bool {
    let identity = |data: fs::Metadata| (data.dev(), data.ino());
    match (file.metadata().map(identity), fs::metadata(path).map(identity)) {
        (Ok(open), Ok(there)) => open != there,
        _ => true,
    }
}
