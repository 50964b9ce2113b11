//! The engine's process: reads its arguments, takes over its listeners, serves until it is told to end.

use std::{
    env,
    error::Error,
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    process::ExitCode,
    sync::Arc,
    thread,
    time::Duration,
};

use dukou_engine::{
    accept,
    arguments::{Arguments, Serve},
    artifact::KeySource,
    engine::Engine,
    events::{self, Event, Level},
    local_api::LocalApi,
    private::hide_values_of_panics,
    swap::Swap,
    tls,
    workers::Workers,
};
use dukou_ort::Runtime;
use dukou_sys::sockets::{Passed, inherited_lifeline, inherited_listeners};
use dukou_types::ErrorCode;
use serde_json::json;
use tokio::{
    select,
    signal::unix::{SignalKind, signal},
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
    match Arguments::parse(env::args_os().skip(1)) {
        Ok(Arguments::Hello { runtime }) => hello(runtime.as_deref()),
        Ok(Arguments::Serve(arguments)) => match serve(arguments) {
            Ok(()) => ExitCode::SUCCESS,
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
fn serve(arguments: Serve) -> Result<(), Box<dyn Error>> {
    // Before anything else opens a descriptor: the first ones are not ours to reuse.
    let passed = Passed::from_environment();
    let listeners = inherited_listeners(&passed)?;
    let lifeline = inherited_lifeline(&passed)?;

    let engine = Engine::new(arguments.threads, arguments.state_dir, arguments.runtime);
    let keys = KeySource::new(arguments.encryption_key.as_deref());
    let engine = Arc::new(engine.with_keys(keys));
    let swap = Swap::new(Arc::clone(&engine));
    let socket = arguments.socket;
    let local = LocalApi::bind(&socket)
        .map_err(|error| format!("the local API's socket `{}`: {error}", socket.display()))?;
    events::emit(&Event::Started { pid: std::process::id(), epoch: &engine.state.epoch });

    // Loading begins at once, beside everything else; until it is done requests hear 503.
    let (first, named) = (Arc::clone(&swap), arguments.table);
    let (loaded, until_loaded) = std::sync::mpsc::channel::<()>();
    thread::Builder::new().name("load".into()).spawn(move || {
        // Dropped when this thread ends, however it does: whoever waits need wait no longer.
        let _loaded = loaded;
        // A fault of ours in loading must be as loud as any other refusal: somebody waits for it.
        if catch_unwind(AssertUnwindSafe(|| first.start(named))).is_err() {
            let message = "loading the first table met a fault of ours";
            let code = ErrorCode::EngineInternal.as_str();
            events::emit(&Event::Refused { code, message, model: None, version: None });
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
    local.start(swap)?;

    wait_for_the_end(&engine, lifeline)?;
    for thread in threads {
        // A worker that panicked has nothing left to answer.
        let _ended = thread.join();
    }
    engine.access_log.close();
    engine.security.close();
    let _gone = std::fs::remove_file(&socket);
    events::emit(&Event::Drained);
    Ok(())
}

/// Waits until somebody says that the process should end, and begins the drain.
fn wait_for_the_end(engine: &Engine, lifeline: Option<OwnedFd>) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let supervisor = closed(lifeline);
        let why = select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
            () = supervisor => "the supervisor is gone",
            () = engine.drain.begun() => "asked by the local API",
        };
        events::log(Level::Info, format_args!("draining: {why}"));
        engine.drain.begin();
        Ok(())
    })
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
fn hello(runtime: Option<&Path>) -> ExitCode {
    let mut line = json!({
        "engine": env!("CARGO_PKG_VERSION"),
        "runtime": null,
        "providers": [],
        "cpu": cpu(),
    });
    match Runtime::load(runtime) {
        Ok(runtime) => {
            line["runtime"] = runtime.version().into();
            line["providers"] = runtime.providers().into();
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
