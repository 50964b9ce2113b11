//! What a worker knows of each of its connections: whether the client owes us the rest of a head, and
//! whether it takes the answers that it asked for.
//!
//! Why not a timer a request: a client that is slow with its head is rare, and a timer that is set and
//! taken back for every request is not free. A connection only notes the worker's current tick when
//! bytes arrive that no request accounts for yet; the worker looks over its connections once a tick.
//! An idle connection between requests owes nothing and may stay.
//!
//! What has been answered and not been taken is counted in bytes. A client that takes not a byte of it for
//! very long is let go, and one that leaves much of it much sooner.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
    time::{Sleep, sleep},
};

use crate::{refused::Rewriter, stack::Door};

/// How many ticks a head may take.
pub const TICKS: u64 = 8;
/// How many ticks a client may take nothing of the answers that wait for it: five minutes, by default.
const UNTAKEN_TICKS: u64 = 30 * TICKS;
/// Bytes of answers that are much: while so many wait, a client may take nothing for no longer than its head.
const UNTAKEN_BYTES: usize = 64 * 1024 * 1024;
/// A piece of an answer that is smaller is not counted: a connection cannot have many of them open.
const COUNTED: usize = 16 * 1024;

/// One connection, as its worker watches it.
#[derive(Debug)]
pub struct Watch {
    /// The worker's tick.
    tick: Arc<AtomicU64>,
    /// The tick at which the client began to owe us a head, plus one; 0 where it owes nothing.
    owes_since: AtomicU64,
    /// Requests that are being answered.
    busy: AtomicUsize,
    /// Whether it speaks HTTP/2, whose frames are not heads.
    http2: AtomicBool,
    /// Whether nothing has been read yet.
    fresh: AtomicBool,
    stalled: AtomicBool,
    /// Whether answers have waited for too long.
    forsaken: AtomicBool,
    /// Whether the last request was answered before its body had been read.
    unread: AtomicBool,
    /// Bytes of answers that have not been taken.
    untaken: AtomicUsize,
    /// The tick at which the client last took some, or began to have some to take.
    took: AtomicU64,
    /// Rung when the connection should end: at once where it stalled, gracefully otherwise.
    end: Notify,
}

/// Why a connection should end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client took too long for its head.
    Stalled,
    /// It took nothing of its answers for too long.
    Untaken,
    /// The process drains.
    Graceful,
}

impl Watch {
    /// A connection that has just been accepted: its client owes a first head.
    pub fn new(tick: Arc<AtomicU64>) -> Self {
        let now = tick.load(Relaxed);
        Self {
            tick,
            owes_since: AtomicU64::new(now + 1),
            busy: AtomicUsize::new(0),
            http2: AtomicBool::new(false),
            fresh: AtomicBool::new(true),
            stalled: AtomicBool::new(false),
            forsaken: AtomicBool::new(false),
            unread: AtomicBool::new(false),
            untaken: AtomicUsize::new(0),
            took: AtomicU64::new(0),
            end: Notify::new(),
        }
    }

    /// Whether it was seen to speak HTTP/2.
    pub fn is_http2(&self) -> bool {
        self.http2.load(Relaxed)
    }

    /// A head is complete. The guard's end says that its answer is known.
    pub fn request(self: &Arc<Self>) -> Busy {
        self.owes_since.store(0, Relaxed);
        self.busy.fetch_add(1, Relaxed);
        Busy(Arc::clone(self))
    }

    /// Notes whether a request was answered before its body had been read: its client may still send.
    pub fn leaves_unread(&self, unread: bool) {
        self.unread.store(unread, Relaxed);
    }

    /// Looks whether the client has taken too long, and ends the connection where it has.
    pub fn check(&self) {
        let since = self.owes_since.load(Relaxed);
        let now = self.tick.load(Relaxed);
        if since != 0 && now + 1 > since + TICKS {
            self.stalled.store(true, Relaxed);
            self.end.notify_one();
        }
        let untaken = self.untaken.load(Relaxed);
        let patience = if untaken < UNTAKEN_BYTES { UNTAKEN_TICKS } else { TICKS };
        if untaken != 0 && now > self.took.load(Relaxed) + patience {
            self.forsaken.store(true, Relaxed);
            self.end.notify_one();
        }
    }

    /// A piece of an answer, counted until it has been written or let go.
    pub fn counted(self: &Arc<Self>, piece: Bytes) -> Bytes {
        if piece.len() < COUNTED {
            return piece;
        }
        if self.untaken.fetch_add(piece.len(), Relaxed) == 0 {
            self.took.store(self.tick.load(Relaxed), Relaxed);
        }
        Bytes::from_owner(Counted { piece, watch: Arc::clone(self) })
    }

    fn wrote(&self, count: usize) {
        if count != 0 && self.untaken.load(Relaxed) != 0 {
            self.took.store(self.tick.load(Relaxed), Relaxed);
        }
    }

    /// Ends the connection once what is being answered has been.
    pub fn end_gracefully(&self) {
        self.end.notify_one();
    }

    /// Waits until the connection should end.
    pub async fn ended(&self) -> End {
        self.end.notified().await;
        if self.stalled.load(Relaxed) {
            End::Stalled
        } else if self.forsaken.load(Relaxed) {
            End::Untaken
        } else {
            End::Graceful
        }
    }

    fn received(&self, bytes: &[u8]) {
        if self.fresh.swap(false, Relaxed) && bytes.starts_with(b"PRI") {
            self.http2.store(true, Relaxed);
            self.owes_since.store(0, Relaxed);
        }
        let idle = self.busy.load(Relaxed) == 0 && self.owes_since.load(Relaxed) == 0;
        if idle && !self.http2.load(Relaxed) {
            self.owes_since.store(self.tick.load(Relaxed) + 1, Relaxed);
        }
    }
}

/// A piece of an answer that a connection still holds.
struct Counted {
    piece: Bytes,
    watch: Arc<Watch>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.piece
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.watch.untaken.fetch_sub(self.piece.len(), Relaxed);
    }
}

/// A request that is being answered on a watched connection.
#[derive(Debug)]
pub struct Busy(Arc<Watch>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Relaxed);
    }
}

/// How long a client that still sends may take to read why it should not.
const LINGER: Duration = Duration::from_secs(1);

/// A connection whose reads are noted, whose refusals are put into our words, and which is not closed
/// in its client's face: closing with bytes unread resets the connection, and the client would lose
/// the answer that says why.
pub struct Watched<S> {
    stream: S,
    door: Arc<Door>,
    rewriter: Rewriter,
    lingering: Option<Pin<Box<Sleep>>>,
}

impl<S> Watched<S> {
    /// Notes what is read from this stream.
    pub fn new(stream: S, door: Arc<Door>) -> Self {
        Self { stream, door, rewriter: Rewriter::default(), lingering: None }
    }
}

impl<S> Watched<S> {
    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(count)) = written {
            self.door.watch.wrote(count);
        }
        written
    }
}

impl<S: AsyncWrite + Unpin> Watched<S> {
    /// Writes our answer in the place of hyper's own; none where `bytes` are none.
    fn poll_rewrite(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Option<Poll<io::Result<usize>>> {
        loop {
            let Self { stream, door, rewriter, .. } = self;
            let instead = rewriter.instead_of(bytes, door)?;
            match Pin::new(stream).poll_write(context, instead) {
                Poll::Ready(Ok(count)) if rewriter.wrote(count) => {
                    return Some(Poll::Ready(Ok(bytes.len())));
                }
                Poll::Ready(Ok(0)) => {
                    return Some(Poll::Ready(Err(io::ErrorKind::WriteZero.into())));
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Some(Poll::Ready(Err(error))),
                Poll::Pending => return Some(Poll::Pending),
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let came = &buffer.filled()[before..];
        if !came.is_empty() {
            self.door.watch.received(came);
        }
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(written) = self.poll_rewrite(context, bytes) {
            return written;
        }
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(first) = slices.iter().find(|slice| !slice.is_empty())
            && let Some(written) = self.poll_rewrite(context, first)
        {
            return written;
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
        self.poll_read_rest(context).map(Ok)
    }
}

impl<S: AsyncRead + Unpin> Watched<S> {
    /// Reads and forgets what a client still sends, for a while; at once done where it sends nothing.
    fn poll_read_rest(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut sends = self.door.watch.unread.load(Relaxed) || self.lingering.is_some();
        let mut bytes = [0; 16 * 1024];
        for _ in 0..64 {
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => sends = true,
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending if !sends => return Poll::Ready(()),
                Poll::Pending => {
                    let lingering = self.lingering.get_or_insert_with(|| Box::pin(sleep(LINGER)));
                    return lingering.as_mut().poll(context);
                }
            }
        }
        let lingering = self.lingering.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        if lingering.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        // Others have their turn before this client's next megabyte.
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched() -> (Arc<AtomicU64>, Arc<Watch>) {
        let tick = Arc::new(AtomicU64::new(5));
        (Arc::clone(&tick), Arc::new(Watch::new(tick)))
    }

    fn stalled_after(watch: &Watch, tick: &AtomicU64, ticks: u64) -> bool {
        tick.fetch_add(ticks, Relaxed);
        watch.check();
        watch.stalled.load(Relaxed)
    }

    #[test]
    fn a_head_that_never_ends_stalls() {
        let (tick, watch) = watched();
        watch.received(b"POST /v2");
        assert!(!stalled_after(&watch, &tick, TICKS));
        assert!(stalled_after(&watch, &tick, 1));
    }

    #[test]
    fn an_idle_connection_owes_nothing() {
        let (tick, watch) = watched();
        watch.received(b"GET / HTTP/1.1\r\n\r\n");
        drop(watch.request());
        assert!(!stalled_after(&watch, &tick, 1000));
        watch.received(b"GET");
        assert!(stalled_after(&watch, &tick, TICKS + 1));
    }

    #[test]
    fn answers_that_nobody_takes_are_counted_and_let_go() {
        let (tick, watch) = watched();
        drop(watch.request());
        watch.owes_since.store(0, Relaxed);
        let forsaken_after = |ticks| {
            tick.fetch_add(ticks, Relaxed);
            watch.check();
            watch.forsaken.load(Relaxed)
        };
        let small = watch.counted(Bytes::from_static(b"{}"));
        assert_eq!((&*small, watch.untaken.load(Relaxed)), (b"{}".as_slice(), 0));
        let half = Bytes::from(vec![7; UNTAKEN_BYTES / 2]);
        let first = watch.counted(half.clone());
        assert_eq!(first, half);
        assert!(!forsaken_after(UNTAKEN_TICKS));
        watch.wrote(1);
        assert!(!forsaken_after(UNTAKEN_TICKS));
        assert!(forsaken_after(1));
        drop(first);
        assert_eq!(watch.untaken.load(Relaxed), 0);
        // With nothing to take a connection may be as quiet as it likes.
        watch.forsaken.store(false, Relaxed);
        assert!(!forsaken_after(10 * UNTAKEN_TICKS));
        // Of much that waits something must be taken soon.
        let _much = [watch.counted(half.clone()), watch.counted(half)];
        assert!(!forsaken_after(TICKS));
        assert!(forsaken_after(1));
    }

    #[test]
    fn a_body_and_http2_are_no_heads() {
        let (tick, watch) = watched();
        let request = watch.request();
        watch.received(b"[1, 2, 3");
        assert!(!stalled_after(&watch, &tick, 1000));
        drop(request);

        let (tick, watch) = watched();
        watch.received(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        assert!(watch.is_http2());
        assert!(!stalled_after(&watch, &tick, 1000));
    }
}
