//! An engine at the edge: it serves from one of two slots and has an agent beside it that keeps the folder
//! up to date (`dukou-edge`, `spec/edge.md`).
//!
//! Serving is that of every engine: what differs is where the first table comes from, and who puts the
//! next one.

mod device;

pub use device::EdgeDevice;

use std::{
    ffi::{OsStr, OsString},
    path::Path,
    sync::Arc,
    thread,
};

use dukou_edge::{Agent, Settings};
use dukou_types::{ErrorCode, Failure, ModelName};

use crate::{
    arguments::{Listen, Serve},
    events::{self, Level},
    standalone::{Folder, Surroundings},
    swap::Swap,
};

/// The name under which a folder's engine is its agent.
const RUN: &str = "run";
/// The listener of a folder's table.
const LISTENER: &str = "http";

/// The words of a command line; those of `FOLDER/run` are those of an agent of that folder.
pub fn words(program: &OsStr, rest: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let rest = rest.into_iter();
    if Path::new(program).file_name() != Some(OsStr::new(RUN)) {
        return rest.collect();
    }
    // The link leads to the engine, which lies beside it.
    let here = std::env::current_exe().ok();
    let folder = here.as_deref().and_then(Path::parent).unwrap_or_else(|| Path::new("."));
    let first = ["agent".into(), "--folder".into(), folder.as_os_str().to_owned()];
    first.into_iter().chain(rest).collect()
}

/// Reads an agent's settings, and has them say what the command line left open.
///
/// # Errors
/// `edge.not-a-folder`.
pub fn settings(arguments: &mut Serve) -> Result<Option<Settings>, Failure> {
    let (true, Some(folder)) = (arguments.edge, &arguments.folder) else { return Ok(None) };
    let settings = Settings::read(folder)?;
    if arguments.listen.is_empty() {
        let wrong = || {
            let message = format!("`edge.json`: `listen` is `{}`", settings.listen);
            Failure::new(ErrorCode::EdgeNotAFolder, message)
        };
        let address = settings.listen.parse().map_err(|_| wrong())?;
        let name = ModelName::parse(LISTENER).map_err(|_| wrong())?;
        arguments.listen.push(Listen { name, address });
    }
    if settings.threads > 0 {
        arguments.threads = settings.threads;
    }
    Ok(Some(settings))
}

/// The agent of a folder that an engine serves.
///
/// # Errors
/// `edge.busy`, `edge.not-a-folder`, `edge.disk`; `deploy.invalid` (the folder's table).
pub fn take_over(
    swap: &Arc<Swap>,
    folder: &Folder,
    surroundings: &Surroundings,
    settings: Settings,
) -> Result<Arc<Agent>, Failure> {
    let device = EdgeDevice::new(Arc::clone(swap), folder, surroundings)?;
    Agent::open(folder.path(), settings, Arc::new(device))
}

/// Serves from the slots, and then follows on a thread of its own. False where nothing can be served and
/// nothing will come.
pub fn begin(agent: &Arc<Agent>) -> bool {
    let serving = match agent.begin() {
        Ok(digest) => Some(digest),
        Err(failure) => {
            events::log_failure(Level::Error, "neither slot can be served", &failure);
            if !agent.follows() {
                return false;
            }
            None
        }
    };
    let following = Arc::clone(agent);
    let started = thread::Builder::new().name("agent".into()).spawn(move || following.run(serving));
    if let Err(error) = started {
        events::log(Level::Error, format_args!("nothing is followed: {error}"));
    }
    true
}

/// Prints what a folder says of itself.
///
/// # Errors
/// `edge.not-a-folder`, `edge.disk`.
pub fn print_status(folder: &Path) -> Result<(), Failure> {
    use std::io::Write as _;
    let status = dukou_edge::status(folder)?;
    let printed = writeln!(std::io::stdout(), "{status}");
    printed.map_err(|error| Failure::new(ErrorCode::EdgeDisk, format!("stdout: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folders_own_program_is_its_agent() {
        let words = |program: &str| words(OsStr::new(program), [OsString::from("--status")]);
        assert_eq!(words("/opt/edge/dukou-engine"), ["--status"]);
        let said = words("./run");
        assert_eq!(
            (said.len(), &said[0], &said[1], &said[3]),
            (4, &OsString::from("agent"), &OsString::from("--folder"), &OsString::from("--status"),)
        );
    }
}
