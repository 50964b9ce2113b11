//! What a client changes while a table is served: models loaded and unloaded, registered, scaled.
//!
//! The table stays what control put; beside it the engine holds a list of [`Changes`], and what it serves
//! is made of both ([`Changes::apply`], a pure function). A change is decided on paper ([`decide`]), then
//! put in place by the swap, as any table: what is added is loaded, warmed and held to its golden samples
//! before anything else happens, and where that fails nothing has changed. The list outlives the engine's
//! restart, and yields to the table: what control says anew of a model counts.
//!
//! Every dialect comes here: [`carry_out`] and [`index`] are all that one needs.

mod answer;
mod apply;
mod changes;
mod decide;
mod file;
mod list;
mod reload;
mod store;

pub use answer::answer;
pub use apply::{Absent, Applied, Why};
pub use changes::Changes;
pub use decide::{Decision, decide};
pub use file::ChangesFile;
pub use list::{Entry, entries, page, workers};
pub use store::{Found, ModelStore};

use std::sync::{Arc, OnceLock, Weak};

use dukou_types::{ErrorCode, Failure, Principal};
use dukou_wire::{Change, Outcome};
use tokio::sync::Semaphore;

use crate::{
    access::{Caller, Needed, forbidden},
    describe::ready,
    engine::Engine,
    events::{Level, log},
    serving::Serving,
    swap::Swap,
    table::Role,
};

/// Changes that may wait for each other; more are refused at once.
const WAITING: usize = 64;

/// The way from the doors to whatever puts tables in place.
#[derive(Debug)]
pub struct Manager {
    swap: OnceLock<Weak<Swap>>,
    room: Arc<Semaphore>,
}

impl Default for Manager {
    fn default() -> Self {
        Self { swap: OnceLock::new(), room: Arc::new(Semaphore::new(WAITING)) }
    }
}

impl Manager {
    /// Says who puts tables in place; the first word counts.
    pub fn set(&self, swap: &Arc<Swap>) {
        let _ours = self.swap.set(Arc::downgrade(swap));
    }

    fn swap(&self) -> Result<Arc<Swap>, Failure> {
        self.swap.get().and_then(Weak::upgrade).ok_or_else(|| {
            Failure::new(ErrorCode::ServerNotReady, "nothing can be changed before the first table")
        })
    }
}

/// Carries a change out for this caller, and gives what came of it; where the asker does not wait, it goes
/// on by itself.
///
/// # Errors
/// `access.forbidden` where the caller may not manage every model that it is about; `limits.queue-full`;
/// what [`decide`] says; and why a model could not be loaded, with the status 500. Nothing has changed then.
pub async fn carry_out(
    engine: &Arc<Engine>,
    caller: &Caller,
    change: Change,
) -> Result<Outcome, Failure> {
    permit(caller, &change, ready(engine.serving.load().as_deref())?)?;
    let swap = engine.manager.swap()?;
    let room = Arc::clone(&engine.manager.room).try_acquire_owned().map_err(|_| {
        let message = format!("{WAITING} changes of what is served wait already");
        Failure::new(ErrorCode::LimitsQueueFull, message)
    })?;
    if !change.waits() {
        // Whoever does not wait hears at once what cannot be; it is decided again in its turn.
        let (swap, change) = (Arc::clone(&swap), change.clone());
        on_its_own_thread(move || swap.consider(&change).map(drop)).await?;
    }
    let who = caller.principal.clone();
    let waits = change.waits();
    let done = on_its_own_thread(move || {
        let outcome = swap.manage(&change);
        note(&who, &change, outcome.as_ref().err());
        drop(room);
        outcome
    });
    if !waits {
        tokio::spawn(done);
        return Ok(Outcome::Begun);
    }
    done.await
}

/// Every version of every model that the caller may hear of, with its state; with `only_ready` those that
/// answer.
///
/// # Errors
/// `server.not-ready` before the first table.
pub async fn index(
    engine: &Engine,
    caller: &Caller,
    only_ready: bool,
) -> Result<Vec<Entry>, Failure> {
    let serving = engine.serving.load_full();
    let caller = caller.clone();
    // The store's folders may be on a network.
    on_its_own_thread(move || Ok(entries(ready(serving.as_deref())?, &caller, only_ready))).await
}

/// Runs what may take seconds, and reads the disk, beside the threads that answer.
fn on_its_own_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> impl Future<Output = Result<T, Failure>> + Send {
    let done = tokio::task::spawn_blocking(work);
    async {
        done.await.unwrap_or_else(|_| {
            Err(Failure::new(ErrorCode::EngineInternal, "the change met a fault of ours"))
        })
    }
}

/// Whether the caller may manage every model that a change is about.
fn permit(caller: &Caller, change: &Change, serving: &Serving) -> Result<(), Failure> {
    let named = change.model().into_iter();
    let (listed, held): (Vec<_>, Vec<_>) = match change {
        // What is not on the list goes.
        Change::Reload(wanted) => (
            wanted.iter().map(|wanted| &wanted.model).collect(),
            serving.changes.known(&serving.held).map(|model| &model.name).collect(),
        ),
        _ => (Vec::new(), Vec::new()),
    };
    for model in named.chain(listed).chain(held) {
        let needed = Needed::Role(Role::Manage, Some(model));
        if !caller.may(needed) {
            return Err(forbidden(needed));
        }
    }
    Ok(())
}

/// One line of the log for each change, whoever asked for it.
fn note(who: &Principal, change: &Change, failed: Option<&Failure>) {
    let who = match who {
        Principal::Named(name) => format!("`{name}`"),
        Principal::Loopback => "somebody on this machine".to_owned(),
        Principal::Unknown | Principal::Anonymous | Principal::Engine => "somebody".to_owned(),
    };
    let what = match change.model() {
        Some(model) => format!("{} of `{model}`", change.operation().name()),
        None => change.operation().name().to_owned(),
    };
    match failed {
        None => log(Level::Info, format_args!("{what}, asked for by {who}, is done")),
        Some(failure) => log(
            Level::Warn,
            format_args!("{what}, asked for by {who}, failed and changed nothing: {failure}"),
        ),
    }
}
