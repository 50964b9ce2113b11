//! accept: the first room. Connections go to the worker that has the fewest.
//!
//! One thread accepts for all: a busy worker never keeps a newcomer waiting in its own queue, and
//! connections are spread by how many are open, not by chance.

use std::{
    io,
    net::{IpAddr, TcpStream as Socket},
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

use crate::{
    access::denied_address, engine::Engine, network::admits, reply, security::SecurityEvent, visit,
    workers::Workers,
};

/// Connections that may be open before a table says how many.
const CONNECTIONS_BEFORE_A_TABLE: usize = 1024;
/// How long to wait where the system has no descriptors left.
const EXHAUSTED: Duration = Duration::from_millis(50);
/// Refusals that are being told at once; further ones are closed without a word.
const REFUSALS: usize = 64;
/// How long a refused client may take to read why.
pub(crate) const REFUSAL: Duration = Duration::from_millis(500);

/// An accepted connection on its way to a worker.
#[derive(Debug)]
pub struct Arrival {
    /// The socket, not blocking.
    pub socket: Socket,
    /// The name of the listener that it came to.
    pub listener: Arc<str>,
    /// The client's address.
    pub peer: IpAddr,
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
        let (stream, peer) = match accepted {
            Ok((stream, peer)) => (stream, peer.ip()),
            Err(error) if is_the_peer_s(&error) => continue,
            // Out of descriptors or memory: those that are open go on, newcomers queue in the kernel.
            Err(_) => {
                sleep(EXHAUSTED).await;
                continue;
            }
        };
        let serving = engine.serving.load();
        let policy = serving.as_ref().and_then(|serving| serving.listener(&name));
        let stranger = Stranger {
            peer,
            in_clear: policy.is_none_or(|policy| policy.tls.is_none()),
            listener: &name,
        };
        if policy.is_some_and(|policy| !admits(&policy.allow, &policy.deny, peer)) {
            refuse(stream, denied_address(), &stranger, &refusals, &engine);
            continue;
        }
        let limit = serving
            .as_ref()
            .map_or(CONNECTIONS_BEFORE_A_TABLE, |serving| serving.limits.connections);
        let refused = if workers.open() >= limit {
            Some(stream)
        } else {
            hand_over(stream, &name, peer, &workers)
        };
        if let Some(stream) = refused {
            let message = format!("{limit} connections are open, which is `limits.connections`");
            let failure = Failure::new(ErrorCode::LimitsTooManyConnections, message);
            refuse(stream, failure, &stranger, &refusals, &engine);
        }
    }
}

/// Whose connection is refused.
struct Stranger<'s> {
    peer: IpAddr,
    listener: &'s str,
    /// Whether it would read what is written to it in clear.
    in_clear: bool,
}

/// Hands a connection to the worker that has the fewest; gives it back where all are overrun.
fn hand_over(
    stream: TcpStream,
    listener: &Arc<str>,
    peer: IpAddr,
    workers: &Workers,
) -> Option<TcpStream> {
    // The socket moves to another thread's event loop. One that breaks on the way had nothing to lose.
    let socket = stream.into_std().ok()?;
    let arrival = Arrival { socket, listener: Arc::clone(listener), peer };
    let arrival = workers.hand_over(arrival).err()?;
    TcpStream::from_std(arrival.socket).ok()
}

/// Says why at once, and lets the client read it before the socket closes. One that expects TLS is
/// closed without a word: it could not read ours.
fn refuse(
    stream: TcpStream,
    failure: Failure,
    stranger: &Stranger<'_>,
    refusals: &Arc<AtomicUsize>,
    engine: &Engine,
) {
    let id = visit::next_id();
    engine.state.refused(crate::table::Dialect::V2, failure.code);
    engine.security.note(&SecurityEvent {
        code: failure.code,
        listener: stranger.listener,
        peer: Some(stranger.peer),
        id: stranger.in_clear.then_some(id),
        principal: None,
        model: None,
        detail: None,
    });
    if !stranger.in_clear {
        return;
    }
    if refusals.fetch_add(1, Relaxed) >= REFUSALS {
        refusals.fetch_sub(1, Relaxed);
        return;
    }
    let text = reply::plain(&failure, reply::status(failure.code), id);
    let refusals = Arc::clone(refusals);
    tokio::spawn(async move {
        let _gone = timeout(REFUSAL, tell(stream, text)).await;
        refusals.fetch_sub(1, Relaxed);
    });
}

/// Writes an answer, and waits until the client has read it.
pub(crate) async fn tell(mut stream: TcpStream, text: Vec<u8>) -> io::Result<()> {
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
