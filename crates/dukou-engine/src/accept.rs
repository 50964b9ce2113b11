//! accept: the first room. Connections go to the worker that has the fewest.
//!
//! One thread accepts for all: a busy worker never keeps a newcomer waiting in its own queue, and
//! connections are spread by how many are open, not by chance.

use std::{
    io,
    net::TcpStream as Socket,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use dukou_sys::sockets::Listener;
use dukou_types::{ErrorCode, Failure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    select,
    time::{sleep, timeout},
};

use crate::{engine::Engine, reply, visit, workers::Workers};

/// Connections that may be open before a table says how many.
const CONNECTIONS_BEFORE_A_TABLE: usize = 1024;
/// How long to wait where the system has no descriptors left.
const EXHAUSTED: Duration = Duration::from_millis(50);
/// Refusals that are being told at once; further ones are closed without a word.
const REFUSALS: usize = 64;
/// How long a refused client may take to read why.
const REFUSAL: Duration = Duration::from_millis(500);

/// An accepted connection on its way to a worker.
#[derive(Debug)]
pub struct Arrival {
    /// The socket, not blocking.
    pub socket: Socket,
    /// The name of the listener that it came to.
    pub listener: Arc<str>,
}

/// Accepts on all listeners until the process drains. Runs on a thread of its own.
///
/// # Errors
/// The system gives no event loop.
pub fn run(listeners: Vec<Listener>, workers: &Workers, engine: &Arc<Engine>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut doors = tokio::task::JoinSet::new();
        for Listener { name, socket } in listeners {
            let listener = TcpListener::from_std(socket)?;
            let (workers, engine) = (workers.clone(), Arc::clone(engine));
            doors.spawn(accept(listener, name.into(), workers, engine));
        }
        engine.drain.begun().await;
        doors.shutdown().await;
        Ok(())
    })
}

async fn accept(listener: TcpListener, name: Arc<str>, workers: Workers, engine: Arc<Engine>) {
    let refusals = Arc::new(AtomicUsize::new(0));
    loop {
        let accepted = select! {
            biased;
            () = engine.drain.begun() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _peer)) => stream,
            Err(error) if is_the_peer_s(&error) => continue,
            // Out of descriptors or memory: those that are open go on, newcomers queue in the kernel.
            Err(_) => {
                sleep(EXHAUSTED).await;
                continue;
            }
        };
        let limit = engine
            .serving
            .load()
            .as_ref()
            .map_or(CONNECTIONS_BEFORE_A_TABLE, |serving| serving.limits.connections);
        let refused =
            if workers.open() >= limit { Some(stream) } else { hand_over(stream, &name, &workers) };
        if let Some(stream) = refused {
            refuse(stream, limit, &refusals, &engine);
        }
    }
}

/// Hands a connection to the worker that has the fewest; gives it back where all are overrun.
fn hand_over(stream: TcpStream, listener: &Arc<str>, workers: &Workers) -> Option<TcpStream> {
    // The socket moves to another thread's event loop. One that breaks on the way had nothing to lose.
    let socket = stream.into_std().ok()?;
    let arrival = Arrival { socket, listener: Arc::clone(listener) };
    let arrival = workers.hand_over(arrival).err()?;
    TcpStream::from_std(arrival.socket).ok()
}

/// Says why at once, and lets the client read it before the socket closes.
fn refuse(stream: TcpStream, limit: usize, refusals: &Arc<AtomicUsize>, engine: &Engine) {
    let code = ErrorCode::LimitsTooManyConnections;
    engine.state.refused(crate::table::Dialect::V2, code);
    if refusals.fetch_add(1, Relaxed) >= REFUSALS {
        refusals.fetch_sub(1, Relaxed);
        return;
    }
    let message = format!("{limit} connections are open, which is `limits.connections`");
    let text = reply::plain(&Failure::new(code, message), visit::next_id());
    let refusals = Arc::clone(refusals);
    tokio::spawn(async move {
        let _gone = timeout(REFUSAL, tell(stream, text)).await;
        refusals.fetch_sub(1, Relaxed);
    });
}

async fn tell(mut stream: TcpStream, text: Vec<u8>) -> io::Result<()> {
    stream.write_all(&text).await?;
    stream.shutdown().await?;
    // Closing with unread bytes would reset the connection, and the client would lose the answer.
    let mut unread = [0; 4096];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}

fn is_the_peer_s(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
