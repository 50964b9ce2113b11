//! The command line. Every run is bounded in time, in connections and in bytes.

use std::{path::PathBuf, str::FromStr, time::Duration};

use dukou_wire::Peer;

/// What `--help` prints.
pub const HELP: &str = "\
dukou-load: sends requests to a server and says exactly what became of each

usage: dukou-load URL [--model NAME [--dialect NAME] | --body FILE ...] [options]

  dukou-load http://127.0.0.1:8080 --model digits --duration 10
  dukou-load http://127.0.0.1:8080/v2/models/digits/infer --body row.json --rate 500
  dukou-load http://127.0.0.1:8500 --model digits --dialect tensorflow-grpc

what is sent
  --model NAME          ask URL for the model's metadata and send random inputs in V2's JSON
  --rows N              rows of such an input, where the model takes several (1)
  --bodies N            distinct such inputs, sent in turn (16)
  --dialect NAME        ask in v2, v2-grpc, tensorflow, tensorflow-grpc, kserve-v1, torchserve,
                        torchserve-grpc or keras, with raw elements where it has them, and read the
                        answers by it: one that is none of it, or not of the model, is wrong
  --model-version V     ask for this version or alias of it
  --signature FILE      what it takes and gives, where such a server does not tell:
                        {\"inputs\": [{\"name\": \"x\", \"dtype\": \"FP32\", \"shape\": [-1, 4]}], \"outputs\": [...]}
  --inputs FILE         send these: tensors or a whole request as V2 writes them, or an array as NumPy
                        saves it (.npy); again for several, sent in turn
  --body FILE           send this file; give it again for several, sent in turn
  --key KEY             of a server that asks for one (`Authorization: Bearer KEY`)
  --cacert FILE         what an https:// server's certificate is checked against
  --header 'NAME: VALUE'  add a header; may be repeated (content-type is application/json)
  --seed N              of inputs and arrivals (1)

how
  --connections N       keep-alive connections; each carries one request at a time (32)
  --threads N           client threads (1)
  --rate R              open loop: R Poisson arrivals a second, latency from the intended
                        send time; without it closed loop
  --duration SECONDS    how long to measure (10)
  --requests N          stop after so many measured requests
  --warmup SECONDS      the same load first, reported apart (0)
  --timeout SECONDS     for one answer (10)

what is checked
  --expect FILE         the answer must contain this JSON; as many as bodies, in their order; of a
                        dialect, what it says as V2 would write it: {\"outputs\": [...]}
  --or-expect FILE      or this JSON, where two versions answer; given like --expect
  --expect-tail FILE    the answer must end with these bytes: raw tensors behind V2's JSON
  --tolerance T         for its numbers, relative above 1 and absolute below (1e-4)
  --header-version      count answers by their `dukou-version` header

what is shown
  --phases              a line on stdin names the phase that begins; each is reported apart
  --progress            a line a second on stderr
  --version, --help

The report is one JSON document on stdout. Exit status 0: measured (failed requests are in the
report); 2: nothing was measured, and one sentence says why.
";

/// What the command line asks for.
pub enum Command {
    /// Send load.
    Load(Settings),
    /// Print the help.
    Help,
    /// Print the version.
    Version,
}

/// Where bodies come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nothing: `GET`.
    None,
    /// Files, sent in turn.
    Files(Vec<PathBuf>),
    /// Random inputs of a model, from its V2 metadata.
    Model { name: String, rows: usize, count: usize },
    /// Inputs of a model, asked in a dialect.
    Spoken(Spoken),
}

/// Which model is asked, in which dialect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spoken {
    /// What its server speaks.
    pub peer: Peer,
    /// Its name.
    pub model: String,
    /// The version or alias; whichever the server chooses where absent.
    pub version: Option<String>,
    /// What it takes and gives; the server is asked where absent.
    pub signature: Option<PathBuf>,
    /// Inputs; random ones where empty.
    pub inputs: Vec<PathBuf>,
    /// Rows of random ones.
    pub rows: usize,
    /// How many random ones.
    pub count: usize,
}

impl Source {
    /// Whether it is asked in calls of gRPC.
    pub fn calls(&self) -> bool {
        matches!(self, Self::Spoken(spoken) if spoken.peer.is_grpc())
    }
}

/// One run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// As given.
    pub url: String,
    /// Where bodies come from.
    pub source: Source,
    /// Added to every request.
    pub headers: Vec<(String, String)>,
    /// Certificates that are trusted.
    pub cacert: Option<PathBuf>,
    /// Of inputs and arrivals.
    pub seed: u64,
    /// One request at a time each.
    pub connections: usize,
    /// Client threads.
    pub threads: usize,
    /// Arrivals a second; closed loop where absent.
    pub rate: Option<f64>,
    /// Of the measured part.
    pub duration: Duration,
    /// Measured requests after which to stop.
    pub requests: Option<u64>,
    /// Of the part reported apart.
    pub warmup: Duration,
    /// For one answer.
    pub timeout: Duration,
    /// What answers must contain.
    pub expect: Vec<PathBuf>,
    /// What they may contain instead.
    pub or_expect: Vec<PathBuf>,
    /// What they must end with, byte for byte.
    pub expect_tail: Vec<PathBuf>,
    /// For the numbers of it.
    pub tolerance: f64,
    /// Count answers by `dukou-version`.
    pub header_version: bool,
    /// Stdin names phases.
    pub phases: bool,
    /// A line a second on stderr.
    pub progress: bool,
}

/// What is wrong with the command line or with what it names.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// A flag nobody knows.
    #[error("`{0}` is not an option; hint: `dukou-load --help` lists them")]
    Unknown(String),
    /// A flag without its value.
    #[error("`{0}` needs a value")]
    NoValue(String),
    /// A value of the wrong kind or size.
    #[error("`{flag} {value}` is not {wanted}")]
    BadValue { flag: String, value: String, wanted: &'static str },
    /// No address.
    #[error("no URL was given; hint: `dukou-load http://127.0.0.1:8080 --model NAME`")]
    NoUrl,
    /// Not `http://`.
    #[error("`{0}` is not an address this program speaks; hint: http://HOST:PORT/PATH")]
    NotHttp(String),
    /// `https://` and nothing to check the server against.
    #[error(
        "an `https://` address needs `--cacert FILE`: the server's certificate, or its authority's"
    )]
    NoCertificate,
    /// A certificate that cannot be used.
    #[error("the certificate `{}` cannot be used: {error}", path.display())]
    BadCertificate { path: PathBuf, error: String },
    /// No such host.
    #[error("`{0}` does not name a host and port that can be found")]
    UnknownHost(String),
    /// Two sources of bodies.
    #[error("`--model` and `--body` exclude each other")]
    TwoSources,
    /// A file that cannot be read.
    #[error("cannot read `{}`: {error}", path.display())]
    Unreadable { path: PathBuf, error: std::io::Error },
    /// An expectation that is not JSON.
    #[error("`{}` is not JSON: {error}", path.display())]
    NotJson { path: PathBuf, error: serde_json::Error },
    /// Not one expectation a body.
    #[error("{expected} `{flag}` were given for {bodies} bodies; give one a body, or one for all")]
    ExpectCount { flag: &'static str, expected: usize, bodies: usize },
    /// Two kinds of expectation.
    #[error("`--expect` and `--expect-tail` exclude each other")]
    TwoExpectations,
    /// An alternative to nothing.
    #[error("`--or-expect` was given without `--expect`")]
    LoneAlternative,
    /// A dialect nobody knows.
    #[error("`--dialect {0}` is none; hint: one of {names}", names = Peer::names())]
    UnknownDialect(String),
    /// A dialect and no model.
    #[error("`{0}` was given without `--model NAME`")]
    NoModel(&'static str),
    /// A server that does not tell.
    #[error(
        "a server of `{0}` does not tell what a model takes and gives; hint: say it with `--signature FILE`"
    )]
    Untold(&'static str),
    /// What the dialect cannot say.
    #[error("{0}")]
    Unspeakable(String),
    /// Inputs that the model does not take.
    #[error("`{}` holds no inputs of the model: {reason}", path.display())]
    BadInputs { path: PathBuf, reason: String },
    /// The server's metadata could not be had.
    #[error("the server gave no metadata of model `{model}`: {reason}")]
    NoMetadata { model: String, reason: String },
    /// Nobody there.
    #[error("nothing answers at `{0}`; hint: start the server, or check host and port")]
    Unreachable(String),
    /// The system refused something.
    #[error("the system refused {what}: {error}")]
    System { what: &'static str, error: std::io::Error },
}

/// Reads the words after the program's name.
pub fn parse(words: impl Iterator<Item = String>) -> Result<Command, UsageError> {
    let mut words = words;
    let mut settings = Settings {
        url: String::new(),
        source: Source::None,
        headers: Vec::new(),
        cacert: None,
        seed: 1,
        connections: 32,
        threads: 1,
        rate: None,
        duration: Duration::from_secs(10),
        requests: None,
        warmup: Duration::ZERO,
        timeout: Duration::from_secs(10),
        expect: Vec::new(),
        or_expect: Vec::new(),
        expect_tail: Vec::new(),
        tolerance: 1e-4,
        header_version: false,
        phases: false,
        progress: false,
    };
    let (mut model, mut files, mut rows, mut count) = (None, Vec::new(), 1, 16);
    let (mut peer, mut version, mut signature, mut inputs) = (None, None, None, Vec::new());
    while let Some(flag) = words.next() {
        let mut value = || words.next().ok_or_else(|| UsageError::NoValue(flag.clone()));
        match flag.as_str() {
            "--help" | "-h" => return Ok(Command::Help),
            "--version" => return Ok(Command::Version),
            "--model" => model = Some(value()?),
            "--dialect" => {
                let name = value()?;
                peer = Some(Peer::parse(&name).ok_or(UsageError::UnknownDialect(name))?);
            }
            "--model-version" => version = Some(value()?),
            "--signature" => signature = Some(value()?.into()),
            "--inputs" => inputs.push(value()?.into()),
            "--rows" => rows = whole(&flag, &value()?, 1..=65_536)?,
            "--bodies" => count = whole(&flag, &value()?, 1..=65_536)?,
            "--body" => files.push(value()?.into()),
            "--key" => {
                let text = format!("authorization: Bearer {}", value()?);
                settings.headers.push(header(&flag, &text)?);
            }
            "--cacert" => settings.cacert = Some(value()?.into()),
            "--header" => settings.headers.push(header(&flag, &value()?)?),
            "--seed" => settings.seed = number(&flag, &value()?, "a whole number")?,
            "--connections" => settings.connections = whole(&flag, &value()?, 1..=10_000)?,
            "--threads" => settings.threads = whole(&flag, &value()?, 1..=256)?,
            "--rate" => settings.rate = Some(positive(&flag, &value()?)?),
            "--duration" => settings.duration = seconds(&flag, &value()?)?,
            "--requests" => settings.requests = Some(whole(&flag, &value()?, 1..=1 << 40)? as u64),
            "--warmup" => settings.warmup = seconds(&flag, &value()?)?,
            "--timeout" => settings.timeout = seconds(&flag, &value()?)?,
            "--expect" => settings.expect.push(value()?.into()),
            "--or-expect" => settings.or_expect.push(value()?.into()),
            "--expect-tail" => settings.expect_tail.push(value()?.into()),
            "--tolerance" => settings.tolerance = number(&flag, &value()?, "a number")?,
            "--header-version" => settings.header_version = true,
            "--phases" => settings.phases = true,
            "--progress" => settings.progress = true,
            _ if flag.starts_with('-') => return Err(UsageError::Unknown(flag)),
            _ if settings.url.is_empty() => settings.url = flag,
            _ => return Err(UsageError::Unknown(flag)),
        }
    }
    if settings.url.is_empty() {
        return Err(UsageError::NoUrl);
    }
    settings.threads = settings.threads.min(settings.connections);
    let spoken = [
        ("--dialect", peer.is_some()),
        ("--model-version", version.is_some()),
        ("--signature", signature.is_some()),
        ("--inputs", !inputs.is_empty()),
    ];
    let spoken = spoken.into_iter().find_map(|(flag, given)| given.then_some(flag));
    settings.source = match (model, files.is_empty()) {
        (Some(_), false) => return Err(UsageError::TwoSources),
        (Some(model), true) if spoken.is_some() => {
            let peer = peer.unwrap_or_default();
            Source::Spoken(Spoken { peer, model, version, signature, inputs, rows, count })
        }
        (None, _) if spoken.is_some() => {
            return Err(UsageError::NoModel(spoken.unwrap_or_default()));
        }
        (Some(name), true) => Source::Model { name, rows, count },
        (None, true) => Source::None,
        (None, false) => Source::Files(files),
    };
    Ok(Command::Load(settings))
}

fn bad(flag: &str, value: &str, wanted: &'static str) -> UsageError {
    UsageError::BadValue { flag: flag.to_owned(), value: value.to_owned(), wanted }
}

fn number<T: FromStr>(flag: &str, value: &str, wanted: &'static str) -> Result<T, UsageError> {
    value.parse().map_err(|_| bad(flag, value, wanted))
}

fn whole(
    flag: &str,
    value: &str,
    allowed: std::ops::RangeInclusive<usize>,
) -> Result<usize, UsageError> {
    let wanted = "a whole number in its range";
    let given = number(flag, value, wanted)?;
    if allowed.contains(&given) { Ok(given) } else { Err(bad(flag, value, wanted)) }
}

fn positive(flag: &str, value: &str) -> Result<f64, UsageError> {
    let wanted = "a number above 0 and up to 10 million";
    let given: f64 = number(flag, value, wanted)?;
    if given > 0.0 && given <= 1e7 { Ok(given) } else { Err(bad(flag, value, wanted)) }
}

/// Up to a day: a run always ends.
fn seconds(flag: &str, value: &str) -> Result<Duration, UsageError> {
    let wanted = "seconds, from 0 to 86400";
    let given: f64 = number(flag, value, wanted)?;
    if (0.0..=86_400.0).contains(&given) {
        Ok(Duration::from_secs_f64(given))
    } else {
        Err(bad(flag, value, wanted))
    }
}

fn header(flag: &str, value: &str) -> Result<(String, String), UsageError> {
    let wanted = "a header as `NAME: VALUE`";
    let (name, text) = value.split_once(':').ok_or_else(|| bad(flag, value, wanted))?;
    let (name, text) = (name.trim(), text.trim());
    let is_clean = !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_graphic())
        && !text.bytes().any(|b| b.is_ascii_control());
    if is_clean { Ok((name.to_owned(), text.to_owned())) } else { Err(bad(flag, value, wanted)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(line: &str) -> Result<Settings, UsageError> {
        match parse(line.split(' ').filter(|w| !w.is_empty()).map(str::to_owned))? {
            Command::Load(settings) => Ok(settings),
            _ => panic!("a load was asked for"),
        }
    }

    #[test]
    fn a_full_line_is_read() {
        let line = "http://h:1/p --body a --body b --rate 50 --duration 2.5 --requests 9 --phases";
        let read = settings(line).unwrap();
        assert_eq!(read.source, Source::Files(vec!["a".into(), "b".into()]));
        assert_eq!(read.rate, Some(50.0));
        assert_eq!(read.duration, Duration::from_millis(2500));
        assert_eq!(read.requests, Some(9));
        assert!(read.phases);
    }

    #[test]
    fn a_dialect_is_read_with_its_model() {
        let line =
            "http://h --model m --dialect torchserve-grpc --inputs a --inputs b --signature s";
        let Source::Spoken(spoken) = settings(line).unwrap().source else { panic!("in a dialect") };
        assert_eq!((spoken.peer, &*spoken.model), (Peer::TorchServeGrpc, "m"));
        assert_eq!(spoken.inputs, [PathBuf::from("a"), PathBuf::from("b")]);
        let plain = settings("http://h --model m --inputs a").unwrap().source;
        assert!(matches!(plain, Source::Spoken(Spoken { peer: Peer::V2, .. })));
    }

    #[test]
    fn mistakes_are_one_sentence() {
        for (line, words) in [
            ("", "no URL"),
            ("http://h --fast", "`--fast` is not an option"),
            ("http://h --rate", "needs a value"),
            ("http://h --rate 0", "above 0"),
            ("http://h --rate nan", "above 0"),
            ("http://h --duration 1e9", "seconds"),
            ("http://h --connections 0", "whole number"),
            ("http://h --model m --body f", "exclude"),
            ("http://h other", "`other`"),
            ("http://h --dialect triton", "`--dialect triton` is none; hint: one of `v2`"),
            ("http://h --dialect keras", "`--dialect` was given without `--model NAME`"),
            ("http://h --inputs x.npy", "`--inputs` was given without `--model NAME`"),
            ("http://h --model m --dialect keras --body b", "exclude"),
            ("http://h --header nonsense", "NAME: VALUE"),
        ] {
            let error = settings(line).unwrap_err().to_string();
            assert!(error.contains(words), "{line}: {error}");
        }
    }
}
