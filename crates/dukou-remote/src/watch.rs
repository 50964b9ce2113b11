//! Looks at the replicas, a few times a second, on one thread for all models.

use std::{
    io,
    sync::{Arc, Weak, mpsc::Sender},
    time::Duration,
};

use dukou_types::{ErrorCode, Failure, Signature};
use dukou_wire::{DecodeLimits, Page};
use parking_lot::Mutex;
use tokio::{
    runtime::{Builder, Handle},
    time::{sleep, timeout},
};

use crate::{
    connection::{Connection, Heard},
    opening::described,
    remote::Remote,
    replica::Replica,
    upstream::Upstream,
};

/// How long one look may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// A page is not larger, and its JSON not deeper.
const LIMITS: DecodeLimits = DecodeLimits { json_depth: 64, body_bytes: 16 << 20 };

/// The loop that looks; made when it is first needed.
///
/// # Errors
/// The system gives no thread.
fn handle() -> io::Result<Handle> {
    static WATCH: Mutex<Option<Handle>> = Mutex::new(None);
    let mut watch = WATCH.lock();
    if let Some(handle) = &*watch {
        return Ok(handle.clone());
    }
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new()
        .name("replicas".into())
        .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    *watch = Some(handle.clone());
    Ok(handle)
}

/// Looks at every replica once, so that it is known whom to ask, and goes on looking.
///
/// # Errors
/// `engine.internal`: the system gives no thread.
pub fn look_at_all(remote: &Arc<Remote>) -> Result<(), Failure> {
    let watch = handle().map_err(|error| {
        Failure::new(ErrorCode::EngineInternal, "nobody looks at the replicas")
            .with_detail(error.to_string())
    })?;
    let (tell, told) = std::sync::mpsc::channel();
    for index in 0..remote.upstream.replicas.len() {
        watch.spawn(keep(Arc::downgrade(remote), index, tell.clone()));
    }
    drop(tell);
    // Each tells once it has looked, by dropping its end.
    let _all = told.recv_timeout(2 * PATIENCE);
    Ok(())
}

/// Looks at one replica for as long as its model is served.
async fn keep(remote: Weak<Remote>, index: usize, first: Sender<()>) {
    let mut eye = Eye::default();
    let mut first = Some(first);
    loop {
        let Some(held) = remote.upgrade() else { return };
        let pause = held.upstream.health;
        if let (0, Some(key)) = (index, &held.upstream.key) {
            key.refresh();
        }
        eye.look(&held, index).await;
        held.settle();
        drop(held);
        first.take();
        sleep(pause).await;
    }
}

/// What is kept of one replica from look to look.
#[derive(Default)]
struct Eye {
    connection: Option<Connection>,
    /// The revision at which its signature was last compared; none where it has to be.
    compared: Option<Option<Arc<str>>>,
}

impl Eye {
    async fn look(&mut self, remote: &Remote, index: usize) {
        let replica = &remote.upstream.replicas[index];
        if let Err(why) = self.try_look(remote, replica).await {
            self.compared = None;
            replica.known.lock().standing.failing(why);
        }
    }

    async fn try_look(&mut self, remote: &Remote, replica: &Replica) -> Result<(), String> {
        let upstream = &remote.upstream;
        let ready = upstream.peer.ready_page(upstream.named());
        let heard = self.ask(upstream, replica, &ready).await?;
        upstream.peer.check_ready(&heard.reply(), &LIMITS)?;
        let revision: Option<Arc<str>> = upstream.revision(&heard.headers).map(Into::into);
        replica.known.lock().hears(revision.as_deref(), true);
        if self.compared.as_ref() != Some(&revision) {
            let (unfit, rides) = self.compare(upstream, replica, remote.signature()).await?;
            let mut known = replica.known.lock();
            known.standing.set_unfit(unfit);
            known.rides = revision.clone().filter(|_| rides);
            drop(known);
            self.compared = Some(revision);
        }
        replica.known.lock().standing.ready();
        Ok(())
    }

    /// Why it does not serve what the others serve, and whether rows may ride together there.
    async fn compare(
        &mut self,
        upstream: &Upstream,
        replica: &Replica,
        wanted: &Signature,
    ) -> Result<(Option<String>, bool), String> {
        let Some(page) = upstream.signature_page() else { return Ok((None, false)) };
        let heard = self.ask(upstream, replica, &page).await?;
        let message = match upstream.peer.open(&heard.reply(), &LIMITS) {
            Ok(message) => message,
            Err(refusal) if refusal.status == 404 => return Ok((Some(refusal.to_string()), false)),
            Err(refusal) => return Err(refusal.to_string()),
        };
        Ok(match upstream.peer.read_signature(&message) {
            Err(why) => (Some(why), false),
            Ok(found) if alike(&found, wanted) => (None, found.batchable),
            Ok(other) => (Some(format!("serves another signature: {}", described(&other))), false),
        })
    }

    async fn ask(
        &mut self,
        upstream: &Upstream,
        replica: &Replica,
        page: &Page,
    ) -> Result<Heard, String> {
        let asked = timeout(PATIENCE, async {
            // One that was closed meanwhile is made anew.
            if let Some(mut connection) = self.connection.take()
                && let Ok(heard) = connection.exchange(upstream.page(replica, page)?).await
            {
                self.keep(connection, &heard);
                return Ok(heard);
            }
            let mut connection = Connection::open(replica).await.map_err(|loss| loss.why)?;
            let heard = connection.exchange(upstream.page(replica, page)?).await;
            let heard = heard.map_err(|loss| loss.why)?;
            self.keep(connection, &heard);
            Ok(heard)
        });
        asked.await.unwrap_or_else(|_| Err(late()))
    }

    fn keep(&mut self, connection: Connection, heard: &Heard) {
        if connection.can_go_on(&heard.headers) {
            self.connection = Some(connection);
        }
    }
}

/// Whether two take and give the same, however they run it.
pub fn alike(a: &Signature, b: &Signature) -> bool {
    a.inputs == b.inputs && a.outputs == b.outputs
}

/// What a first look at a replica found.
pub struct Found {
    /// The revision that it serves, as it wrote it.
    pub revision: Option<String>,
    /// The model's signature there.
    pub signature: Signature,
}

/// Looks at one replica for the first time.
///
/// # Errors
/// Why nothing was found.
pub async fn first_look(upstream: &Upstream, replica: &Replica) -> Result<Found, String> {
    let mut eye = Eye::default();
    let page = upstream.peer.ready_page(upstream.named());
    let ready = eye.ask(upstream, replica, &page).await?;
    upstream.peer.check_ready(&ready.reply(), &LIMITS)?;
    let signature = match (&upstream.declared, upstream.signature_page()) {
        (None, Some(page)) => {
            let metadata = eye.ask(upstream, replica, &page).await?;
            let message = upstream.peer.open(&metadata.reply(), &LIMITS);
            upstream.peer.read_signature(&message.map_err(|refusal| refusal.to_string())?)?
        }
        (declared, _) => declared.clone().unwrap_or_default(),
    };
    Ok(Found { revision: upstream.revision(&ready.headers).map(str::to_owned), signature })
}

fn late() -> String {
    format!("no answer within {} ms", PATIENCE.as_millis())
}
