//! dukou's data plane: one process that answers requests from the table it holds.
//!
//! A request passes these rooms in this order, never back; [`stack`] is the whole path in one function:
//!
//! accept ► address ► authenticate ► admit ► route ► decode ► cache ► batch ► run ► encode ► record
//!
//! Beside the path, once per change: a [`table`] document is compiled ([`load`]) to what the path reads
//! ([`serving`]), proved ([`golden`]) and put in place ([`swap`]), at the word of the control plane
//! ([`local_api`]), or of a client who may ([`manage`]). [`engine::Engine`] is what all of these share.

pub mod accept;
pub mod access;
pub mod address;
pub mod admit;
pub mod arguments;
pub mod artifact;
pub mod authenticate;
pub mod batch_sizes;
pub mod cache;
pub mod container;
pub mod describe;
pub mod describe_call;
pub mod drain;
pub mod engine;
pub mod hear;
pub mod http;
pub mod inspect;
pub mod keys;
pub mod network;
pub mod penalty;
pub mod rate;
pub mod refused;
pub mod reply;
pub mod route;
pub mod security;
pub mod stack;
pub mod standalone;
pub mod stream;
pub mod tls;
pub mod visit;
pub mod watch;
pub mod way;
pub mod workers;

pub mod access_line;
pub mod access_log;
pub mod agree;
pub mod announce;
pub mod assemble;
pub mod counters;
pub mod edge;
pub mod events;
pub mod golden;
pub mod graph;
pub mod load;
pub mod local_api;
mod log_file;
pub mod manage;
pub mod metrics;
mod metrics_peers;
pub mod origin;
pub mod plan;
pub mod private;
pub mod probe;
pub mod record;
pub mod rehearse;
pub mod retire;
pub mod room;
pub mod samples;
pub mod serving;
pub mod shadow;
pub mod side_by_side;
pub mod state;
pub mod state_document;
pub mod swap;
pub mod table;
pub mod table_file;
pub mod tap;
pub mod told;
