//! The engine's process: reads its arguments, takes over its listeners, serves until it is told to end.

use std::{
    env,
    error::Error,
    io::{Read as _, Write as _},
    net::SocketAddr,
    os::fd::OwnedFd,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use dukou_edge::Agent;
use dukou_engine::{
    accept,
    arguments::{Arguments, Listen, Serve},
    artifact::KeySource,
    container::Container,
    edge,
    engine::Engine,
    events::{self, Event, Level},
    local_api::LocalApi,
    private::hide_values_of_panics,
    probe::probe,
    standalone::{self, Folder, Surroundings},
    swap::{First, Swap},
    tls,
    workers::Workers,
};
use dukou_ort::Runtime;
use dukou_sys::{
    children::{is_first_process, reap_orphans},
    sockets::{Listener, Passed, inherited_lifeline, inherited_listeners, open_listener},
};
use dukou_types::{ErrorCode, ModelName};
use serde_json::json;
use tokio::{
    select,
    signal::unix::{Signal, SignalKind, signal},
};

/// Faster for many small allocations than the C library's, and it gives memory back to the system.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long requests wait in the kernel for the first table, before they hear that there is none yet.
const PATIENCE: Duration = Duration::from_secs(2);

/// The command line was wrong: the exit status of an input error.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    hide_values_of_panics();
    let mut words = env::args_os();
    let program = words.next().unwrap_or_default();
    match Arguments::parse(edge::words(&program, words)) {
        Ok(Arguments::Hello { runtime, plugins }) => hello(runtime.as_deref(), &plugins),
        Ok(Arguments::Probe { url, access }) => match probe(&url, access.as_deref()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(not_ready) => {
                events::log(Level::Error, not_ready);
                ExitCode::FAILURE
            }
        },
        Ok(Arguments::Status { folder }) => match edge::print_status(&folder) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                events::log(Level::Error, failure);
                ExitCode::FAILURE
            }
        },
        Ok(Arguments::Serve(arguments)) => match serve(arguments) {
            Ok(status) => status,
            Err(error) => {
                events::log(Level::Error, error);
                ExitCode::FAILURE
            }
        },
        Err(misunderstood) => {
            events::log(Level::Error, misunderstood);
            ExitCode::from(USAGE)
        }
    }
}

/// Serves until a drain is done.
fn serve(mut arguments: Serve) -> Result<ExitCode, Box<dyn Error>> {
    // Before anything else opens a descriptor: the first ones are not ours to reuse.
    let passed = Passed::from_environment();
    let mut listeners = inherited_listeners(&passed)?;
    let lifeline = inherited_lifeline(&passed)?;
    // And before anything takes time: process 1 does not even end by a signal that it does not hear.
    let end = End::listen(lifeline)?;
    let settings = edge::settings(&mut arguments)?;
    let container = Container::here();
    let listening = open_listeners(&arguments.listen, &mut listeners)?;
    let (first, runtime) = first_table(&arguments, container, &listeners)?;
    let keys = KeySource::new(arguments.encryption_key.as_deref());
    let exposed =
        listening.iter().filter(|(_, address)| !address.ip().to_canonical().is_loopback());
    let engine = Engine::new(arguments.threads, arguments.state_dir, runtime)
        .with_plugins(arguments.plugins)
        .with_keys(keys)
        .within(container)
        .with_exposed(exposed.cloned().collect());
    let engine = Arc::new(engine);
    let swap = Swap::new(Arc::clone(&engine));
    let agent = match (settings, &first) {
        (Some(settings), First::Folder(folder, surroundings)) => {
            Some(edge::take_over(&swap, folder, surroundings, settings)?)
        }
        _ => None,
    };
    let socket = arguments.socket;
    let local = socket.as_deref().map(bind).transpose()?;
    events::emit(&Event::Started {
        pid: std::process::id(),
        epoch: &engine.state.epoch,
        listening: listening.iter().map(|(name, address)| (name.as_str(), *address)).collect(),
    });
    if container != Container::default() {
        let threads = engine.threads;
        events::log(
            Level::Info,
            format_args!("the container gives {container}: {threads} threads"),
        );
    }

    // Loading begins at once, beside everything else; until it is done requests hear 503.
    let failed = Arc::new(AtomicBool::new(false));
    let (loaded, until_loaded) = std::sync::mpsc::channel::<()>();
    let starting = Starting {
        swap: Arc::clone(&swap),
        first,
        agent: agent.clone(),
        is_told: socket.is_some(),
        failed: Arc::clone(&failed),
    };
    thread::Builder::new().name("load".into()).spawn(move || {
        let serves = starting.begin();
        // However it went: whoever waits need wait no longer. A panic drops it too.
        drop(loaded);
        if serves {
            starting.keep_fresh();
        }
    })?;
    let (workers, threads) = Workers::start(&engine)?;
    let accepting = Arc::clone(&engine);
    thread::Builder::new().name("accept".into()).spawn(move || {
        // The sockets outlive engines: what comes while one starts again waits in the kernel, for a wait
        // of milliseconds is no failure and a 503 is one. Only a long load is not waited for: then
        // probes must hear that the process lives.
        let _loaded_or_not = until_loaded.recv_timeout(PATIENCE);
        if let Err(error) = accept::run(listeners, &workers, &accepting) {
            events::log(Level::Error, format_args!("the engine cannot accept: {error}"));
            accepting.drain.begin();
        }
    })?;
    let keeping = Arc::clone(&engine);
    thread::Builder::new().name("certificates".into()).spawn(move || tls::keep_fresh(&keeping))?;
    if let Some(local) = local {
        local.start(swap)?;
    }

    end.wait(&engine);
    if let Some(agent) = agent {
        agent.end();
    }
    for thread in threads {
        // A worker that panicked has nothing left to answer.
        let _ended = thread.join();
    }
    engine.access_log.close();
    engine.security.close();
    if let Some(socket) = socket {
        let _gone = std::fs::remove_file(&socket);
    }
    if failed.load(Ordering::Acquire) {
        // Why was said when it happened.
        return Ok(ExitCode::FAILURE);
    }
    events::emit(&Event::Drained);
    Ok(ExitCode::SUCCESS)
}

/// Opens what was asked for, and gives the addresses that were got.
fn open_listeners(
    asked: &[Listen],
    listeners: &mut Vec<Listener>,
) -> Result<Vec<(ModelName, SocketAddr)>, Box<dyn Error>> {
    asked
        .iter()
        .map(|Listen { name, address }| {
            let refused =
                |error| format!("listener `{name}` cannot be opened at `{address}`: {error}");
            if listeners.iter().any(|there| there.name == name.as_str()) {
                return Err(format!("listener `{name}` is inherited already").into());
            }
            let listener = open_listener(name.to_string(), *address).map_err(refused)?;
            let bound = listener.socket.local_addr().map_err(refused)?;
            listeners.push(listener);
            Ok((name.clone(), bound))
        })
        .collect()
}

/// What the engine begins with, and the runtime that runs it.
fn first_table(
    arguments: &Serve,
    container: Container,
    listeners: &[Listener],
) -> Result<(First, Option<PathBuf>), Box<dyn Error>> {
    let runtime = arguments.runtime.clone();
    let Some(path) = &arguments.folder else {
        return Ok((arguments.table.clone().map_or(First::Last, First::File), runtime));
    };
    if listeners.is_empty() {
        return Err("nothing is listened on: give `--listen http=127.0.0.1:8000`".into());
    }
    let listening = listeners
        .iter()
        .map(|one| Ok((ModelName::parse(&one.name)?, one.socket.local_addr()?)))
        .collect::<Result<_, Box<dyn Error>>>()?;
    let folder = Folder::open(path)?;
    let runtime = runtime.or_else(|| standalone::runtime_in(folder.path()));
    let surroundings = Surroundings {
        access: arguments.access.clone(),
        insecure: arguments.insecure,
        ..Surroundings::here(container, listening)
    };
    Ok((First::Folder(folder, surroundings), runtime))
}

fn bind(socket: &Path) -> Result<LocalApi, String> {
    LocalApi::bind(socket)
        .map_err(|error| format!("the local API's socket `{}`: {error}", socket.display()))
}

/// Puts the first table in place, and keeps its keys fresh where they are a folder's.
struct Starting {
    swap: Arc<Swap>,
    first: First,
    /// Who puts tables in place where the folder is an agent's.
    agent: Option<Arc<Agent>>,
    /// Whether somebody can tell this engine another table.
    is_told: bool,
    failed: Arc<AtomicBool>,
}

impl Starting {
    /// Loads it; whether it serves.
    fn begin(&self) -> bool {
        // A fault of ours in loading must be as loud as any other refusal: somebody waits for it.
        let begun = catch_unwind(AssertUnwindSafe(|| match &self.agent {
            Some(agent) => edge::begin(agent),
            None => self.swap.start(self.first.clone()),
        }));
        let serves = begun.unwrap_or_else(|_| {
            let message = "loading the first table met a fault of ours";
            let code = ErrorCode::EngineInternal.as_str();
            events::emit(&Event::Refused { code, message, model: None, version: None });
            false
        });
        if !serves && !self.is_told {
            // Nobody will ever tell it another: to live on would only hide that it does not serve.
            self.failed.store(true, Ordering::Release);
            self.swap.engine().drain.begin();
        }
        serves
    }

    /// Looks at a folder's keys until the process ends.
    fn keep_fresh(&self) {
        if self.agent.is_none()
            && let First::Folder(folder, surroundings) = &self.first
        {
            standalone::keep_fresh(&self.swap, folder, surroundings);
        }
    }
}

/// What ends the process: signals, the supervisor's end, the local API's word.
struct End {
    runtime: tokio::runtime::Runtime,
    terminate: Signal,
    interrupt: Signal,
    child: Signal,
    lifeline: Option<OwnedFd>,
}

impl End {
    /// From now on signals are heard.
    fn listen(lifeline: Option<OwnedFd>) -> Result<Self, Box<dyn Error>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        let child = signal(SignalKind::child())?;
        drop(entered);
        Ok(Self { runtime, terminate, interrupt, child, lifeline })
    }

    /// Waits until somebody says that the process should end, and begins the drain.
    fn wait(self, engine: &Engine) {
        let Self { runtime, mut terminate, mut interrupt, mut child, lifeline } = self;
        runtime.block_on(async {
            let supervisor = closed(lifeline);
            tokio::pin!(supervisor);
            let why = loop {
                select! {
                    _ = terminate.recv() => break "SIGTERM",
                    _ = interrupt.recv() => break "SIGINT",
                    () = &mut supervisor => break "the supervisor is gone",
                    () = engine.drain.begun() => break "asked to",
                    _ = child.recv(), if is_first_process() => {
                        reap_orphans();
                    }
                }
            };
            events::log(Level::Info, format_args!("draining: {why}"));
            engine.drain.begin();
        });
    }
}

/// Waits until the other end of the pipe is closed; for ever where there is none.
async fn closed(lifeline: Option<OwnedFd>) {
    let Some(pipe) = lifeline else {
        return std::future::pending().await;
    };
    let (tell, told) = tokio::sync::oneshot::channel();
    let mut pipe = std::fs::File::from(pipe);
    let watching = thread::Builder::new().name("lifeline".into()).spawn(move || {
        let mut ignored = [0; 64];
        while pipe.read(&mut ignored).is_ok_and(|read| read > 0) {}
        let _ended = tell.send(());
    });
    match watching {
        Ok(_) => {
            let _closed = told.await;
        }
        Err(error) => {
            events::log(Level::Warn, format_args!("the supervisor is not watched: {error}"));
            std::future::pending().await
        }
    }
}

/// Says on one line what this engine is made of.
fn hello(runtime: Option<&Path>, plugins: &[PathBuf]) -> ExitCode {
    let mut line = json!({
        "engine": env!("CARGO_PKG_VERSION"),
        "runtime": null,
        "providers": [],
        "plugins": [],
        "devices": [],
        "cpu": cpu(),
    });
    match Runtime::load(runtime) {
        Ok(runtime) => {
            line["runtime"] = runtime.version().into();
            line["providers"] = runtime.providers().into();
            plugins.iter().for_each(|plugin| runtime.add_plugin(plugin));
            let failed = runtime.register_plugins();
            let said = plugins.iter().map(|path| {
                let failed = failed.iter().find(|(failed, _)| failed == path);
                json!({ "path": path, "problem": failed.map(|(_, why)| why) })
            });
            line["plugins"] = said.collect();
            line["devices"] = json!(runtime.devices());
        }
        Err(error) => line["problem"] = error.to_string().into(),
    }
    match writeln!(std::io::stdout(), "{line}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// The processor's architecture and what models run faster with.
fn cpu() -> String {
    let mut words = vec![env::consts::ARCH];
    #[cfg(target_arch = "x86_64")]
    {
        let features = [
            ("avx2", is_x86_feature_detected!("avx2")),
            ("avx512f", is_x86_feature_detected!("avx512f")),
            ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
        ];
        words.extend(features.into_iter().filter(|(_, has)| *has).map(|(name, _)| name));
    }
    words.join(" ")
}
