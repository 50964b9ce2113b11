//! Has every decoder read its corpus, and inputs made of it by chance: none panics, none takes more memory
//! than its input gives reason for, none goes on for ever.
//!
//! A few seconds, with a seed that does not change. Longer, with another one each time:
//! `DUKOU_FUZZ_SECONDS=60 cargo test -p dukou-fuzz --test corpus [NAME]`, so many seconds a target;
//! `DUKOU_FUZZ_SEED` says which chances are taken, to have them again.

#![allow(clippy::expect_used, reason = "a test that cannot go on stops")]

use std::{
    env, fs,
    io::{Seek as _, Write as _},
    panic::catch_unwind,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use dukou_fuzz::{
    TARGETS, Target,
    mutate::{Chance, mutated},
};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Inputs of a target where nobody says how long.
const INPUTS: u64 = 500;
/// How long one input may take: a thousand times what the slowest takes.
const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    // Whoever lists tests lists those of the other kind.
    if arguments.iter().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    let wanted = arguments.iter().find(|argument| !argument.starts_with('-'));
    let seconds = number("DUKOU_FUZZ_SECONDS");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let seed =
        number("DUKOU_FUZZ_SEED").unwrap_or(if seconds.is_some() { now } else { 20_261_126 });
    let mut runner = Runner::new();
    let folders = folders();
    let named: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    let mut failed: Vec<String> = folders
        .iter()
        .filter(|folder| !named.contains(&&***folder))
        .map(|folder| format!("`fuzz/corpus/{folder}` is of no target"))
        .collect();
    for target in TARGETS {
        if wanted.is_none_or(|wanted| target.name.contains(&**wanted))
            && let Err(words) = runner.hold(target, seed, seconds.map(Duration::from_secs))
        {
            failed.push(words);
        }
    }
    fs::remove_file(&runner.path).expect("the file of what ran");
    for words in &failed {
        eprintln!("{words}");
    }
    println!("{} inputs of seed {seed}, {} failed", runner.inputs, failed.len());
    if failed.is_empty() && runner.inputs > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().expect("a whole number"))
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn folders() -> Vec<String> {
    let entries = fs::read_dir(corpus()).expect("the corpus");
    let name = |entry: fs::DirEntry| entry.file_name().into_string().expect("a name in UTF-8");
    entries.map(|entry| name(entry.expect("a folder"))).collect()
}

struct Runner {
    /// Where what runs now stands, for whoever looks after a crash that no handler survives.
    path: PathBuf,
    running: fs::File,
    /// How many ran, seen by who watches that they end.
    begun: Arc<AtomicU64>,
    inputs: u64,
    _watched: mpsc::Sender<()>,
}

impl Runner {
    fn new() -> Self {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let path = place.join(format!("running-{}", std::process::id()));
        println!("what runs stands in {}", path.display());
        let running = fs::File::create(&path).expect("a file for what runs");
        let begun = Arc::new(AtomicU64::new(0));
        let (watched, over) = mpsc::channel::<()>();
        let (seen, path_of_it) = (Arc::clone(&begun), path.clone());
        thread::spawn(move || {
            let mut before = u64::MAX;
            while over.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
                let now = seen.load(Relaxed);
                if now == before {
                    eprintln!("an input does not end: it stands in {}", path_of_it.display());
                    std::process::exit(1);
                }
                before = now;
            }
        });
        Self { path, running, begun, inputs: 0, _watched: watched }
    }

    /// Holds a target to what it promises; says what it did not keep.
    fn hold(&mut self, target: &Target, seed: u64, time: Option<Duration>) -> Result<(), String> {
        let folder = corpus().join(target.name);
        let mut paths: Vec<PathBuf> = fs::read_dir(&folder)
            .map_err(|error| format!("{}: {error}; every target has a corpus", folder.display()))?
            .map(|entry| entry.expect("an input").path())
            .collect();
        paths.sort_unstable();
        if paths.is_empty() {
            return Err(format!("{} is empty; every target has a corpus", folder.display()));
        }
        let kept: Vec<Vec<u8>> =
            paths.iter().map(|path| fs::read(path).expect("an input")).collect();
        for (input, path) in kept.iter().zip(&paths) {
            self.one(target, input).map_err(|words| {
                format!("{}: {words}; the input is {}", target.name, path.display())
            })?;
        }
        let name: u64 =
            target.name.bytes().fold(0, |sum: u64, byte| sum.wrapping_mul(31) ^ u64::from(byte));
        let mut chance = Chance::new(seed ^ name);
        let began = Instant::now();
        let mut made = 0;
        while time.map_or(made < INPUTS, |time| began.elapsed() < time) {
            made += 1;
            let input = mutated(&kept, target.shape, &mut chance);
            self.one(target, &input).map_err(|words| {
                let path = failed(target, &input);
                format!(
                    "{}: {words}; the input is {}, and belongs to {} once it is mended",
                    target.name,
                    path.display(),
                    folder.display()
                )
            })?;
        }
        if time.is_some() {
            println!("{}: {made} inputs", target.name);
        }
        Ok(())
    }

    fn one(&mut self, target: &Target, input: &[u8]) -> Result<(), String> {
        self.running.rewind().expect("a file");
        self.running.set_len(0).expect("a file");
        self.running.write_all(input).expect("a file");
        self.begun.fetch_add(1, Relaxed);
        self.inputs += 1;
        MEMORY.reset_peak_usage();
        let before = MEMORY.current_usage();
        let run = target.run;
        let ended = catch_unwind(|| run(input));
        let held = MEMORY.peak_usage().saturating_sub(before);
        if let Err(payload) = ended {
            let words = payload.downcast_ref::<String>().map(String::as_str);
            let words = words.or_else(|| payload.downcast_ref::<&str>().copied());
            return Err(format!("it panicked: {}", words.unwrap_or("without words")));
        }
        let most = target.besides + target.times * input.len();
        if held > most {
            return Err(format!(
                "it held {held} bytes for an input of {}, and {most} are allowed",
                input.len()
            ));
        }
        Ok(())
    }
}

/// Keeps an input that failed.
fn failed(target: &Target, input: &[u8]) -> PathBuf {
    let mixed = input.iter().fold(0xcbf2_9ce4_8422_2325_u64, |mixed, &byte| {
        (mixed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let name = format!("{}-{mixed:016x}", target.name);
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, input).expect("a file for what failed");
    path
}
