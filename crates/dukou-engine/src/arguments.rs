//! What the engine is started with. The only settings that are not in the table: where the table
//! comes from, and what must be known before one is read.

use std::{ffi::OsString, fmt, net::SocketAddr, path::PathBuf};

use dukou_types::ModelName;

use crate::container::processors;

/// Worker threads, at most.
const MAX_THREADS: usize = 256;

/// The command line, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arguments {
    /// `--hello`: say what this engine is made of.
    Hello {
        /// ONNX Runtime's library.
        runtime: Option<PathBuf>,
        /// Libraries that bring execution providers of their own.
        plugins: Vec<PathBuf>,
    },
    /// `--probe`: ask a server on this machine whether it is ready.
    Probe {
        /// What to ask, as `127.0.0.1:8000/v2/health/ready`.
        url: String,
        /// Where that server's certificate would lie.
        access: Option<PathBuf>,
    },
    /// `agent --status`: say what an agent's folder holds.
    Status {
        /// The folder.
        folder: PathBuf,
    },
    /// Serve.
    Serve(Serve),
}

/// How to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serve {
    /// The Unix socket of the local API; none: nobody tells this engine anything.
    pub socket: Option<PathBuf>,
    /// Where the last good table and the compiled cache are kept; none: nowhere, nothing is written.
    pub state_dir: Option<PathBuf>,
    /// ONNX Runtime's library; `ORT_DYLIB_PATH` where absent.
    pub runtime: Option<PathBuf>,
    /// Libraries that bring execution providers of their own, loaded where a table asks for one of these.
    pub plugins: Vec<PathBuf>,
    /// A table to begin with; the last good one where absent.
    pub table: Option<PathBuf>,
    /// A serving folder to begin with, alone.
    pub folder: Option<PathBuf>,
    /// Whether that folder is an agent's, which follows a registry.
    pub edge: bool,
    /// Where a folder's keys and certificate lie.
    pub access: Option<PathBuf>,
    /// Whether a folder may be served to anybody, in clear.
    pub insecure: bool,
    /// Listeners to open, besides those that are inherited.
    pub listen: Vec<Listen>,
    /// Threads that answer requests.
    pub threads: usize,
    /// Where the encryption keys come from: a path, `env:VARIABLE` or `command:WORDS`;
    /// `DUKOU_ENCRYPTION_KEY` where absent. Never a key itself: arguments are everybody's to read.
    pub encryption_key: Option<String>,
}

/// A listener to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Its name in the table.
    pub name: ModelName,
    /// Where; port 0 takes a free one.
    pub address: SocketAddr,
}

/// The command line is not one that the engine understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misunderstood(String);

impl fmt::Display for Misunderstood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}\nusage: dukou-engine --socket PATH --state-dir DIR [--runtime PATH] [--table FILE] \
             [--threads N] [--encryption-key SOURCE] [--plugin PATH]\n       dukou-engine --folder DIR --listen \
             NAME=ADDRESS:PORT [--access DIR] [--insecure] [--state-dir DIR] [--socket PATH]\n       \
             dukou-engine --table FILE --listen NAME=ADDRESS:PORT\n       dukou-engine agent \
             --folder DIR [--status] [--listen NAME=ADDRESS:PORT] [--access DIR] [--insecure]\n       \
             dukou-engine --probe ADDRESS:PORT/PATH [--access DIR]\n       dukou-engine --hello [--runtime PATH] [--plugin PATH]",
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
        let mut said = Said::default();
        while let Some(word) = words.next() {
            let name = word.to_string_lossy().into_owned();
            let mut value = || {
                words
                    .next()
                    .ok_or_else(|| Misunderstood(format!("`{name}` needs a value behind it")))
            };
            match name.as_str() {
                "agent" => said.agent = true,
                "--status" => said.status = true,
                "--hello" => said.hello = true,
                "--insecure" => said.insecure = true,
                "--probe" => said.probe = Some(text(value()?)?),
                "--socket" => said.socket = Some(PathBuf::from(value()?)),
                "--state-dir" => said.state_dir = Some(PathBuf::from(value()?)),
                "--runtime" => said.runtime = Some(PathBuf::from(value()?)),
                "--plugin" => said.plugins.push(PathBuf::from(value()?)),
                "--table" => said.table = Some(PathBuf::from(value()?)),
                "--folder" => said.folder = Some(PathBuf::from(value()?)),
                "--access" => said.access = Some(PathBuf::from(value()?)),
                "--listen" => said.listen.push(listen(&text(value()?)?)?),
                "--threads" => said.threads = Some(count(&value()?)?),
                "--encryption-key" => said.encryption_key = Some(text(value()?)?),
                _ => {
                    return Err(Misunderstood(format!(
                        "`{name}` is not an argument of the engine"
                    )));
                }
            }
        }
        said.resolve()
    }
}

/// The words, each where it belongs.
#[derive(Default)]
struct Said {
    agent: bool,
    status: bool,
    hello: bool,
    insecure: bool,
    probe: Option<String>,
    socket: Option<PathBuf>,
    state_dir: Option<PathBuf>,
    runtime: Option<PathBuf>,
    plugins: Vec<PathBuf>,
    table: Option<PathBuf>,
    folder: Option<PathBuf>,
    access: Option<PathBuf>,
    listen: Vec<Listen>,
    threads: Option<usize>,
    encryption_key: Option<String>,
}

impl Said {
    fn resolve(self) -> Result<Arguments, Misunderstood> {
        if self.hello {
            return Ok(Arguments::Hello { runtime: self.runtime, plugins: self.plugins });
        }
        if let Some(url) = self.probe {
            return Ok(Arguments::Probe { url, access: self.access });
        }
        if self.agent || self.status {
            self.check_agent()?;
        }
        if let (true, Some(folder)) = (self.status, &self.folder) {
            return Ok(Arguments::Status { folder: folder.clone() });
        }
        self.check()?;
        Ok(Arguments::Serve(Serve {
            edge: self.agent,
            socket: self.socket,
            state_dir: self.state_dir,
            runtime: self.runtime,
            plugins: self.plugins,
            table: self.table,
            folder: self.folder,
            access: self.access,
            insecure: self.insecure,
            listen: self.listen,
            threads: self.threads.unwrap_or_else(processors).min(MAX_THREADS),
            encryption_key: self.encryption_key.or_else(|| {
                std::env::var("DUKOU_ENCRYPTION_KEY").ok().filter(|said| !said.is_empty())
            }),
        }))
    }

    /// What an agent takes: the rest stands in its folder.
    fn check_agent(&self) -> Result<(), Misunderstood> {
        let refuse = |words: &str| Err(Misunderstood(words.to_owned()));
        if !self.agent {
            return refuse("`--status` is asked of an `agent`");
        }
        if self.folder.is_none() {
            return refuse("`--folder` is needed: an agent works in one");
        }
        if self.threads.is_some() || self.table.is_some() || self.state_dir.is_some() {
            return refuse(
                "`--threads`, `--table` and `--state-dir` are not for an agent: its folder says them",
            );
        }
        Ok(())
    }

    /// What is needed where, and what contradicts what.
    fn check(&self) -> Result<(), Misunderstood> {
        let refuse = |words: &str| Err(Misunderstood(words.to_owned()));
        let alone = self.folder.is_some() || !self.listen.is_empty();
        if !alone && self.socket.is_none() {
            return refuse("`--socket` is needed");
        }
        if !alone && self.state_dir.is_none() {
            return refuse("`--state-dir` is needed");
        }
        if self.folder.is_some() && self.table.is_some() {
            return refuse("`--folder` and `--table` both say what to serve: give one of them");
        }
        if self.folder.is_none() && (self.access.is_some() || self.insecure) {
            return refuse(
                "`--access` and `--insecure` say who may ask a `--folder`, and none is given",
            );
        }
        let nothing = self.folder.is_none() && self.table.is_none();
        if nothing && self.socket.is_none() && self.state_dir.is_none() {
            return refuse(
                "there is nothing to serve: give a `--folder`, a `--table` or a `--socket`",
            );
        }
        for (index, one) in self.listen.iter().enumerate() {
            if self.listen.iter().take(index).any(|before| before.name == one.name) {
                return Err(Misunderstood(format!("two `--listen` are called `{}`", one.name)));
            }
        }
        Ok(())
    }
}

fn listen(text: &str) -> Result<Listen, Misunderstood> {
    let wrong = |why: &str| {
        Misunderstood(format!(
            "`--listen {text}` {why}: it is `NAME=ADDRESS:PORT`, as `http=127.0.0.1:8000` or \
             `http=[::1]:8000`"
        ))
    };
    let (name, address) = text.split_once('=').ok_or_else(|| wrong("has no `=`"))?;
    Ok(Listen {
        name: ModelName::parse(name).map_err(|_| wrong("has no name of a listener"))?,
        address: address.parse().map_err(|_| wrong("has no address with a port"))?,
    })
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
        let line = "--socket s --state-dir d --runtime r --plugin p --plugin q --table t --threads 3 --encryption-key env:KEK";
        let serve = Serve {
            socket: Some("s".into()),
            state_dir: Some("d".into()),
            runtime: Some("r".into()),
            plugins: vec!["p".into(), "q".into()],
            table: Some("t".into()),
            folder: None,
            edge: false,
            access: None,
            insecure: false,
            listen: Vec::new(),
            threads: 3,
            encryption_key: Some("env:KEK".into()),
        };
        assert_eq!(parse(line), Ok(Arguments::Serve(serve)));
        assert_eq!(parse("--hello"), Ok(Arguments::Hello { runtime: None, plugins: vec![] }));
        let Ok(Arguments::Serve(serve)) = parse("--socket s --state-dir d") else { panic!() };
        assert!(serve.threads >= 1);
    }

    #[test]
    fn alone_it_needs_no_socket_and_no_state() {
        let Ok(Arguments::Serve(serve)) =
            parse("--folder f --listen http=0.0.0.0:8000 --listen x=[::1]:0 --access a --insecure")
        else {
            panic!()
        };
        assert_eq!((serve.socket, serve.state_dir), (None, None));
        assert_eq!((serve.folder, serve.access), (Some("f".into()), Some("a".into())));
        assert!(serve.insecure);
        let addresses: Vec<_> = serve.listen.iter().map(|l| l.address.to_string()).collect();
        assert_eq!(addresses, ["0.0.0.0:8000", "[::1]:0"]);
        assert!(parse("--table t --listen http=127.0.0.1:0").is_ok());
        assert_eq!(
            parse("--probe 127.0.0.1:1/x --access a"),
            Ok(Arguments::Probe { url: "127.0.0.1:1/x".into(), access: Some("a".into()) })
        );
    }

    #[test]
    fn an_agent_takes_a_folder() {
        let Ok(Arguments::Serve(serve)) = parse("agent --folder f --access a") else { panic!() };
        assert!(serve.edge);
        let status = Arguments::Status { folder: "f".into() };
        assert_eq!(parse("agent --folder f --status"), Ok(status));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, words) in [
            ("agent", "`--folder` is needed"),
            ("--status --folder f", "asked of an `agent`"),
            ("agent --folder f --threads 2", "not for an agent"),
            ("", "`--socket` is needed"),
            ("--socket s", "`--state-dir` is needed"),
            ("--socket", "`--socket` needs a value"),
            ("--port 1", "`--port` is not an argument"),
            ("--socket s --state-dir d --threads 0", "from 1 to 256"),
            ("--socket s --state-dir d --threads x", "`--threads` is `x`"),
            ("--folder f --table t", "both say what to serve"),
            ("--table t --listen http=127.0.0.1:0 --insecure", "and none is given"),
            ("--listen http=127.0.0.1:0", "nothing to serve"),
            ("--folder f --listen 8000", "has no `=`"),
            ("--folder f --listen /=127.0.0.1:1", "no name of a listener"),
            ("--folder f --listen http=localhost:1", "no address with a port"),
            ("--folder f --listen a=127.0.0.1:1 --listen a=127.0.0.1:2", "two `--listen`"),
        ] {
            let said = parse(line).unwrap_err();
            assert!(said.contains(words), "{line}: {said}");
            assert!(said.contains("usage:"), "{said}");
        }
    }
}
