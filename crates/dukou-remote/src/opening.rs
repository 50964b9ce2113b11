//! The first look at a remote model: what it takes and gives, and whether its replicas agree.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use dukou_types::{ErrorCode, Failure, Signature, TensorSpec};
use tokio::{runtime::Builder, task::JoinSet, time::sleep};

use crate::{
    gate::Serves,
    upstream::Upstream,
    watch::{Found, alike, first_look},
};

/// Asks every replica, until one answers or patience is over. Blocks; for a thread that loads.
///
/// # Errors
/// `replica.unavailable`, `replica.mismatch`, `engine.internal`.
pub fn signature(upstream: &Arc<Upstream>, patience: Duration) -> Result<Signature, Failure> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| {
        Failure::new(ErrorCode::EngineInternal, "no loop to ask the replicas with")
            .with_detail(error.to_string())
    })?;
    let until = Instant::now() + patience;
    runtime.block_on(async {
        loop {
            let found = look(upstream).await;
            let answered: Vec<_> =
                found.iter().filter_map(|(i, look)| Some((*i, look.as_ref().ok()?))).collect();
            if !answered.is_empty() {
                return agreed(upstream, &answered);
            }
            if Instant::now() >= until {
                return Err(unavailable(upstream, &found));
            }
            sleep(upstream.health).await;
        }
    })
}

/// A look at every replica, side by side; in their order.
async fn look(upstream: &Arc<Upstream>) -> Vec<(usize, Result<Found, String>)> {
    let mut looks = JoinSet::new();
    for index in 0..upstream.replicas.len() {
        let upstream = Arc::clone(upstream);
        looks.spawn(async move { (index, first_look(&upstream, &upstream.replicas[index]).await) });
    }
    let mut found = looks.join_all().await;
    found.sort_by_key(|(index, _)| *index);
    found
}

/// The signature at the latest revision. Others may still follow; those of the same revision may not
/// differ.
fn agreed(upstream: &Upstream, answered: &[(usize, &Found)]) -> Result<Signature, Failure> {
    let serves = |found: &Found| Serves::parse(found.revision.as_deref());
    let latest = answered.iter().map(|(_, found)| serves(found).number()).max().flatten();
    let mut current = answered.iter().filter(|(_, found)| serves(found).number() == latest);
    let Some((first, model)) = current.next() else {
        return Err(unavailable(upstream, &[]));
    };
    for (other, found) in current {
        if !alike(&found.signature, &model.signature) {
            let message = format!(
                "replica `{}` serves {}, and replica `{}` serves {}",
                upstream.replicas[*first].address,
                described(&model.signature),
                upstream.replicas[*other].address,
                described(&found.signature),
            );
            return Err(Failure::new(ErrorCode::ReplicaMismatch, message));
        }
    }
    // Whether rows ride together is each replica's own matter, and asked anew.
    Ok(Signature { batchable: false, ..model.signature.clone() })
}

fn unavailable(upstream: &Upstream, found: &[(usize, Result<Found, String>)]) -> Failure {
    let why: Vec<_> = found
        .iter()
        .filter_map(|(index, look)| {
            Some(format!("`{}`: {}", upstream.replicas[*index].address, look.as_ref().err()?))
        })
        .collect();
    let message = format!("no replica of `{}` can be asked ({})", upstream.shown(), why.join("; "));
    Failure::new(ErrorCode::ReplicaUnavailable, message)
}

/// A signature in a sentence.
pub fn described(signature: &Signature) -> String {
    let list = |specs: &[TensorSpec]| {
        let each = specs.iter().map(|s| format!("`{}` {} {:?}", s.name, s.dtype, s.wire_shape()));
        each.collect::<Vec<_>>().join(", ")
    };
    format!("{} → {}", list(&signature.inputs), list(&signature.outputs))
}
