//! Calls of gRPC in a closed loop, for the bench: so many connections with so many streams each, every
//! answer's last bytes compared with the numbers that it must end with.

use std::{
    fs, io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::{Request, client::conn::http2, header::CONTENT_TYPE};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, task::JoinSet};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What is asked, and how.
pub struct Plan {
    /// Of the server.
    pub address: SocketAddr,
    /// `/package.Service/Method`.
    pub path: String,
    /// Messages, sent in turn.
    pub messages: Vec<Bytes>,
    /// The floats that each answer ends with; none: only that it went well is looked at.
    pub endings: Vec<Vec<f32>>,
    /// Connections.
    pub connections: usize,
    /// Streams of each.
    pub streams: usize,
    /// For so long.
    pub duration: Duration,
}

/// What came of it.
pub struct Measured {
    /// Calls that went well.
    pub well: u64,
    /// Calls that did not.
    pub failed: u64,
    /// How long each took, in microseconds, the shortest first.
    pub latencies_us: Vec<u32>,
    /// How long all took.
    pub elapsed: Duration,
}

/// Puts a message into its envelope.
pub fn enveloped(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.put_u8(0);
    framed.put_u32(message.len() as u32);
    framed.extend_from_slice(message);
    framed.freeze()
}

/// Reads a file of a message.
pub fn message(path: &str) -> io::Result<Bytes> {
    Ok(enveloped(&fs::read(path)?))
}

/// Calls until the time is over.
pub fn run(plan: Plan) -> Result<Measured, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(drive(Arc::new(plan)))
}

async fn drive(plan: Arc<Plan>) -> Result<Measured, Failure> {
    let turn = Arc::new(AtomicU64::new(0));
    let mut askers = JoinSet::new();
    let mut senders = Vec::new();
    for _ in 0..plan.connections {
        let stream = TcpStream::connect(plan.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(8 << 20)
            .handshake(TokioIo::new(stream))
            .await?;
        tokio::spawn(connection);
        senders.push(sender);
    }
    let begun = Instant::now();
    let end = begun + plan.duration;
    for sender in senders {
        for _ in 0..plan.streams {
            let (plan, turn, sender) = (Arc::clone(&plan), Arc::clone(&turn), sender.clone());
            askers.spawn(ask_until(plan, turn, sender, end));
        }
    }
    let mut measured =
        Measured { well: 0, failed: 0, latencies_us: Vec::new(), elapsed: Duration::ZERO };
    while let Some(asker) = askers.join_next().await {
        let (latencies, failed) = asker?;
        measured.well += latencies.len() as u64;
        measured.failed += failed;
        measured.latencies_us.extend(latencies);
    }
    measured.elapsed = begun.elapsed();
    measured.latencies_us.sort_unstable();
    Ok(measured)
}

async fn ask_until(
    plan: Arc<Plan>,
    turn: Arc<AtomicU64>,
    mut sender: http2::SendRequest<Full<Bytes>>,
    end: Instant,
) -> (Vec<u32>, u64) {
    let (mut latencies, mut failed) = (Vec::with_capacity(1 << 16), 0);
    let uri = format!("http://{}{}", plan.address, plan.path);
    loop {
        let sent = Instant::now();
        if sent >= end {
            return (latencies, failed);
        }
        let at = turn.fetch_add(1, Relaxed) as usize;
        match ask(&plan, at, &uri, &mut sender).await {
            Ok(()) => {
                latencies.push(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX));
            }
            Err(_) => failed += 1,
        }
    }
}

async fn ask(
    plan: &Plan,
    at: usize,
    uri: &str,
    sender: &mut http2::SendRequest<Full<Bytes>>,
) -> Result<(), Failure> {
    let request = Request::post(uri)
        .header(CONTENT_TYPE, "application/grpc")
        .header("te", "trailers")
        .body(Full::new(plan.messages[at % plan.messages.len()].clone()))?;
    sender.ready().await?;
    let answered = sender.send_request(request).await?;
    let collected = answered.into_body().collect().await?;
    let status = collected.trailers().and_then(|trailers| trailers.get("grpc-status"));
    if status.is_none_or(|status| status != "0") {
        return Err("the call failed".into());
    }
    let Some(ending) = plan.endings.get(at % plan.endings.len().max(1)) else { return Ok(()) };
    let body = collected.to_bytes();
    let start = body.len().checked_sub(ending.len() * 4).ok_or("the answer is too short")?;
    let floats =
        body[start..].chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    if floats.zip(ending).all(|(came, wanted)| (came - wanted).abs() <= 1e-4) {
        return Ok(());
    }
    Err("another answer came".into())
}
