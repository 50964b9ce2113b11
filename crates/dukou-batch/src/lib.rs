//! The queue that owns its state, and the batcher: how requests of one version come to a run.
//!
//! A [`Batcher`] is work-conserving: an idle instance takes what is queued at once, up to caps in rows
//! and bytes; it waits for more only where a delay was asked for. On whose thread it runs was decided
//! when the version was loaded, from its measured run time ([`Mode`]). It knows nothing of networks,
//! dialects or tables.
//!
//! Its laws, which the property tests hold it to: every asker hears exactly once; an answer goes to its
//! own asker; no two runs of one instance overlap; no run exceeds the caps unless one request alone
//! does; what is expired or abandoned before a run is not run.

mod batcher;
mod clock;
mod inline;
mod pooled;
mod queue;
mod run;

pub use batcher::{Answer, Batcher, Counts, Mode, Observe, Ride, Settings, enter_lane};
pub use clock::{Clock, SystemClock};
