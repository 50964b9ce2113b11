//! route: the fifth room. Which version answers: the one that the request names, or the split's.

use std::sync::Arc;

use dukou_types::{ErrorCode, Failure, RequestId};
use dukou_wire::Selector;

use crate::serving::{Lane, Model};

/// Chooses the lane. A request that names no version falls to the split by its id, which is as good
/// as a die and can be followed up afterwards.
///
/// # Errors
/// `request.unknown-version` where the model is served, but not in this version or under this alias.
pub fn route<'m>(
    model: &'m Model,
    selector: &Selector,
    id: RequestId,
) -> Result<&'m Arc<Lane>, Failure> {
    let (kind, label, number) = match selector {
        Selector::Default => return Ok(model.draw(id.0)),
        Selector::Version(version) => ("version", version.as_str(), version.number()),
        Selector::Alias(alias) => ("alias", &**alias, None),
    };
    // A version may be asked for by an alias's name, as clients of other servers do; not the other way.
    let lane = model.labelled(label).or_else(|| model.labelled(number?));
    let exact = |lane: &&Arc<Lane>| kind == "version" || lane.version.version.as_str() != label;
    lane.filter(exact).ok_or_else(|| {
        let served: Vec<_> =
            model.versions.iter().map(|lane| lane.version.version.as_str()).collect();
        Failure::new(
            ErrorCode::RequestUnknownVersion,
            format!(
                "`{}` has no {kind} `{label}`; its versions are {}",
                model.name,
                served.join(", ")
            ),
        )
    })
}
