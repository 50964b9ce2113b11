//! One model's cache: what is kept, for how long, and who waits for whom.
//!
//! The map is `quick_cache`: shards with a lock of their own, which a hit only reads; when it is full, what
//! was asked for least goes (CLOCK-Pro: one pass over many questions that nobody repeats does not push out
//! those that are). The one asker who leads holds its question's place; when he fails, is cancelled or
//! panics, one of those who wait leads anew.

use std::{
    cell::RefCell,
    fmt,
    future::Future,
    hash::BuildHasher as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use dukou_batch::{Clock, SystemClock};
use dukou_exec::Execute;
use dukou_types::{Data, ErrorCode, Failure, InferRequest};
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter, sync};
use tokio::{task::yield_now, time::timeout_at};

use super::{
    Answered, Found, Ran,
    answer::KeptAnswer,
    question::{Asked, Question, write_question},
};
use crate::{load::size, table::Caching};

/// A shard has at least this much, so that large answers find room.
const SHARD_BYTES: u64 = 4 * 1024 * 1024;
/// Shards, at most: more than threads that answer on one machine hardly ever meet.
const SHARDS: u64 = 16;
/// What an entry is taken to have when room is made to remember those that went.
const TYPICAL_ENTRY: u64 = 1024;
/// A question's memory is used again by the thread's next one, up to this size.
const SCRATCH_BYTES: usize = 1024 * 1024;

/// One model's answers.
pub struct Cache {
    settings: Caching,
    entries: sync::Cache<Question, Arc<KeptAnswer>, Sizes, DefaultHashBuilder, Evictions>,
    hasher: DefaultHashBuilder,
    clock: Arc<dyn Clock>,
    evicted: Arc<AtomicU64>,
    expired: AtomicU64,
}

/// What is kept, and what went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Answers.
    pub entries: usize,
    /// Bytes of questions and answers, with what keeping them takes.
    pub bytes: u64,
    /// Bytes that there may be.
    pub max_bytes: u64,
    /// Answers that went for want of room, or found none. Cumulative.
    pub evicted: u64,
    /// Answers that were found when their time was over. Cumulative.
    pub expired: u64,
}

#[derive(Clone, Debug)]
struct Sizes;

impl Weighter<Question, Arc<KeptAnswer>> for Sizes {
    fn weight(&self, question: &Question, answer: &Arc<KeptAnswer>) -> u64 {
        (question.size() + answer.size) as u64
    }
}

/// Counts what goes.
#[derive(Clone, Debug)]
struct Evictions(Arc<AtomicU64>);

impl Lifecycle<Question, Arc<KeptAnswer>> for Evictions {
    /// What goes is freed when the shard's lock is free again.
    type RequestState = Vec<(Question, Arc<KeptAnswer>)>;

    fn on_evict(&self, gone: &mut Self::RequestState, key: Question, value: Arc<KeptAnswer>) {
        self.0.fetch_add(1, Relaxed);
        gone.push((key, value));
    }
}

impl Cache {
    /// An empty cache with a table's settings.
    ///
    /// # Errors
    /// `engine.internal`, where the map cannot be made of them.
    pub fn new(settings: &Caching, clock: Arc<dyn Clock>) -> Result<Self, Failure> {
        // The largest power of two that is not more; the shards' equal parts never exceed the whole.
        let shards = 1 << (settings.max_bytes / SHARD_BYTES).clamp(1, SHARDS).ilog2();
        let part = settings.max_bytes / shards;
        let evicted = Arc::new(AtomicU64::new(0));
        let options = OptionsBuilder::new()
            .shards(size(shards))
            .weight_capacity(part * shards)
            .estimated_items_capacity(size(settings.max_bytes / TYPICAL_ENTRY))
            .build()
            .map_err(|error| {
                Failure::new(ErrorCode::EngineInternal, "the cache could not be made")
                    .with_detail(error.to_string())
            })?;
        let entries = sync::Cache::with_options(
            options,
            Sizes,
            DefaultHashBuilder::default(),
            Evictions(Arc::clone(&evicted)),
        );
        Ok(Self {
            settings: settings.clone(),
            entries,
            hasher: DefaultHashBuilder::default(),
            clock,
            evicted,
            expired: AtomicU64::new(0),
        })
    }

    /// The cache for these settings: the one before, with what it holds, where they are the same.
    ///
    /// # Errors
    /// As [`Cache::new`].
    pub fn carried_over(
        settings: &Caching,
        before: Option<&Arc<Self>>,
    ) -> Result<Arc<Self>, Failure> {
        match before {
            Some(before) if before.settings == *settings => Ok(Arc::clone(before)),
            _ => Ok(Arc::new(Self::new(settings, Arc::new(SystemClock))?)),
        }
    }

    /// Answers a request from what is kept, with whoever is asking the same, or by `rest`.
    ///
    /// `identity` is the loaded version's; `execute` gets the buffers of a request back that is not run.
    ///
    /// # Errors
    /// As [`super::through`].
    pub async fn answer<R>(
        &self,
        identity: u64,
        execute: &dyn Execute,
        request: InferRequest,
        rest: impl FnOnce(InferRequest) -> R,
    ) -> Result<Answered, Failure>
    where
        R: Future<Output = Ran>,
    {
        let question = match self.look_up(identity, &request) {
            Ok(known) => {
                // Whoever else has been read in this turn of the event loop is looked up first, and all
                // their answers leave together: the clients' machine is woken once for many.
                yield_now().await;
                return Ok(found(&known, Found::Hit, execute, request));
            }
            Err(question) => question,
        };
        let place = self.entries.get_value_or_guard_async(&question);
        let place = match request.deadline {
            None => place.await,
            Some(deadline) => match timeout_at(deadline.into(), place).await {
                Ok(place) => place,
                Err(_late) => {
                    give_back(execute, request);
                    return Err(Failure::new(
                        ErrorCode::LimitsDeadline,
                        "the deadline passed while the request waited for the run of one that asks the same",
                    ));
                }
            },
        };
        let leads = match place {
            Ok(known) => return Ok(found(&known, Found::Wait, execute, request)),
            Err(leads) => leads,
        };
        drop(question);
        // Whatever ends this early frees the place: the next of those who wait leads.
        let (response, ride) = rest(request).await?;
        let until = self.settings.ttl_ms.map(|ttl| self.clock.now() + Duration::from_millis(ttl));
        if let Some(answer) = KeptAnswer::of(&response, until) {
            // Where it is too large to be kept, those who wait have it all the same.
            let _taken_away = leads.insert(Arc::new(answer));
        }
        Ok(Answered { response, ride: Some(ride), found: Some(Found::Miss) })
    }

    /// The answer that is known; otherwise the question, to be kept with it.
    fn look_up(&self, identity: u64, request: &InferRequest) -> Result<Arc<KeptAnswer>, Question> {
        thread_local!(static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) });
        SCRATCH.with_borrow_mut(|bytes| {
            bytes.clear();
            write_question(identity, request, bytes);
            let asked = Asked { hash: self.hasher.hash_one(&**bytes), bytes };
            let known = self.entries.get(&asked);
            let known = known.filter(|answer| {
                let over = answer.until.is_some() && answer.is_over(self.clock.now());
                if over
                    && self.entries.remove_if(&asked, |kept| Arc::ptr_eq(kept, answer)).is_some()
                {
                    self.expired.fetch_add(1, Relaxed);
                }
                !over
            });
            let outcome = known.ok_or_else(|| asked.into());
            if bytes.capacity() > SCRATCH_BYTES {
                *bytes = Vec::new();
            }
            outcome
        })
    }

    /// Lets go of what these loaded versions answered: nobody will ask them again.
    pub fn forget(&self, identities: &[u64]) {
        if !identities.is_empty() {
            self.entries.retain(|question, _| !identities.contains(&question.identity()));
        }
    }

    /// What is kept now, and what went.
    pub fn kept(&self) -> Kept {
        Kept {
            entries: self.entries.len(),
            bytes: self.entries.weight(),
            max_bytes: self.settings.max_bytes,
            evicted: self.evicted.load(Relaxed),
            expired: self.expired.load(Relaxed),
        }
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("settings", &self.settings)
            .field("kept", &self.kept())
            .finish()
    }
}

fn found(
    known: &KeptAnswer,
    found: Found,
    execute: &dyn Execute,
    request: InferRequest,
) -> Answered {
    give_back(execute, request);
    Answered { response: known.response(), ride: None, found: Some(found) }
}

/// What was leased for inputs that nobody will run.
fn give_back(execute: &dyn Execute, request: InferRequest) {
    for input in request.inputs {
        if let Data::Owned(buffer) = input.data {
            execute.give_back(buffer);
        }
    }
}

#[cfg(test)]
#[path = "store_test.rs"]
mod tests;
