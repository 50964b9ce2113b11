//! What the engine is started with. The only settings that are not in the table: where the table
//! comes from, and what must be known before one is read.

use std::{ffi::OsString, fmt, num::NonZeroUsize, path::PathBuf, thread::available_parallelism};

/// Worker threads, at most.
const MAX_THREADS: usize = 256;

/// The command line, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arguments {
    /// `--hello`: say what this engine is made of.
    Hello {
        /// ONNX Runtime's library.
        runtime: Option<PathBuf>,
    },
    /// Serve.
    Serve(Serve),
}

/// How to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serve {
    /// The Unix socket of the local API.
    pub socket: PathBuf,
    /// Where the last good table and the compiled cache are kept.
    pub state_dir: PathBuf,
    /// ONNX Runtime's library; `ORT_DYLIB_PATH` where absent.
    pub runtime: Option<PathBuf>,
    /// A table to begin with; the last good one where absent.
    pub table: Option<PathBuf>,
    /// Threads that answer requests.
    pub threads: usize,
    /// Where the encryption keys come from: a path, `env:VARIABLE` or `command:WORDS`;
    /// `DUKOU_ENCRYPTION_KEY` where absent. Never a key itself: arguments are everybody's to read.
    pub encryption_key: Option<String>,
}

/// The command line is not one that the engine understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misunderstood(String);

impl fmt::Display for Misunderstood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}\nusage: dukou-engine --socket PATH --state-dir DIR [--runtime PATH] [--table FILE] \
             [--threads N] [--encryption-key SOURCE]\n       dukou-engine --hello [--runtime PATH]",
            self.0
        )
    }
}

impl std::error::Error for Misunderstood {}

impl Arguments {
    /// Reads the words after the program's name.
    ///
    /// # Errors
    /// An unknown word, a missing value, or one that is needed and not there.
    pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Self, Misunderstood> {
        let mut words = words.into_iter();
        let (mut socket, mut state_dir, mut runtime, mut table) = (None, None, None, None);
        let (mut threads, mut hello, mut encryption_key) = (None, false, None);
        while let Some(word) = words.next() {
            let name = word.to_string_lossy().into_owned();
            let mut value = || {
                words
                    .next()
                    .ok_or_else(|| Misunderstood(format!("`{name}` needs a value behind it")))
            };
            match name.as_str() {
                "--hello" => hello = true,
                "--socket" => socket = Some(PathBuf::from(value()?)),
                "--state-dir" => state_dir = Some(PathBuf::from(value()?)),
                "--runtime" => runtime = Some(PathBuf::from(value()?)),
                "--table" => table = Some(PathBuf::from(value()?)),
                "--threads" => threads = Some(count(&value()?)?),
                "--encryption-key" => encryption_key = Some(text(value()?)?),
                _ => {
                    return Err(Misunderstood(format!(
                        "`{name}` is not an argument of the engine"
                    )));
                }
            }
        }
        if hello {
            return Ok(Self::Hello { runtime });
        }
        let needed = |name| move || Misunderstood(format!("`{name}` is needed"));
        Ok(Self::Serve(Serve {
            socket: socket.ok_or_else(needed("--socket"))?,
            state_dir: state_dir.ok_or_else(needed("--state-dir"))?,
            runtime,
            table,
            threads: threads
                .unwrap_or_else(|| available_parallelism().map_or(1, NonZeroUsize::get))
                .min(MAX_THREADS),
            encryption_key: encryption_key.or_else(|| {
                std::env::var("DUKOU_ENCRYPTION_KEY").ok().filter(|said| !said.is_empty())
            }),
        }))
    }
}

fn text(value: OsString) -> Result<String, Misunderstood> {
    value
        .into_string()
        .map_err(|value| Misunderstood(format!("`{}` is not UTF-8", value.to_string_lossy())))
}

fn count(text: &OsString) -> Result<usize, Misunderstood> {
    let number = text.to_str().and_then(|text| text.parse().ok());
    number.filter(|number| (1..=MAX_THREADS).contains(number)).ok_or_else(|| {
        let text = text.to_string_lossy();
        Misunderstood(format!("`--threads` is `{text}`, and may be from 1 to {MAX_THREADS}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, String> {
        Arguments::parse(line.split_whitespace().map(Into::into)).map_err(|e| e.to_string())
    }

    #[test]
    fn all_of_it() {
        let line =
            "--socket s --state-dir d --runtime r --table t --threads 3 --encryption-key env:KEK";
        let serve = Serve {
            socket: "s".into(),
            state_dir: "d".into(),
            runtime: Some("r".into()),
            table: Some("t".into()),
            threads: 3,
            encryption_key: Some("env:KEK".into()),
        };
        assert_eq!(parse(line), Ok(Arguments::Serve(serve)));
        assert_eq!(parse("--hello"), Ok(Arguments::Hello { runtime: None }));
        let Ok(Arguments::Serve(serve)) = parse("--socket s --state-dir d") else { panic!() };
        assert!(serve.threads >= 1);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, words) in [
            ("", "`--socket` is needed"),
            ("--socket s", "`--state-dir` is needed"),
            ("--socket", "`--socket` needs a value"),
            ("--port 1", "`--port` is not an argument"),
            ("--socket s --state-dir d --threads 0", "from 1 to 256"),
            ("--socket s --state-dir d --threads x", "`--threads` is `x`"),
        ] {
            let said = parse(line).unwrap_err();
            assert!(said.contains(words), "{line}: {said}");
            assert!(said.contains("usage:"), "{said}");
        }
    }
}
