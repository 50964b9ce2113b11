//! access: who may do what. The one place that says yes, for every endpoint of every listener.
//!
//! [`enforce`] is called once a request, before anything of a model's is touched; what it does not
//! grant is refused. What each endpoint needs is [`needed`]; `spec/endpoints.toml` lists all of them,
//! and tests hold both to it and ask every one with every role.

use std::{net::IpAddr, sync::Arc, time::SystemTime};

use dukou_types::{ErrorCode, Failure, ModelName, Principal};
use dukou_wire::Target;
use http::{
    HeaderMap,
    header::{AUTHORIZATION, HOST, ORIGIN},
    request::Parts,
};

use crate::{
    authenticate::refuse_foreign,
    keys::Key,
    network::admits,
    serving::{ListenerPolicy, Serving},
    table::{Access, Role},
};

/// A key without a scheme before it, as other servers have it.
const API_KEY: &str = "x-api-key";

/// Who asks, and what they may.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who.
    pub principal: Principal,
    may: May,
}

#[derive(Clone, Debug)]
enum May {
    /// Whoever is on this machine: all that a listener offers.
    Everything,
    /// Anybody: all but changing what is served.
    AllButManage,
    /// Anybody where keys are asked for: health.
    Nothing,
    /// What a key was granted.
    Granted(Arc<Key>),
}

/// What an endpoint asks of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needed<'t> {
    /// Nothing: it says whether the process lives, and no more.
    Nothing,
    /// Any good key.
    Key,
    /// This role, with this model where it is about one.
    Role(Role, Option<&'t ModelName>),
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'o> {
    /// The listener's name.
    pub listener: &'o str,
    /// The client's address.
    pub peer: IpAddr,
    /// Whether the connection is encrypted.
    pub encrypted: bool,
}

/// What an endpoint asks of its caller; none for a path that nothing is at: a stranger does not even
/// hear that.
pub const fn needed(target: Option<&Target>) -> Needed<'_> {
    match target {
        Some(Target::Live | Target::Ready | Target::Watch) => Needed::Nothing,
        // What a message says is asked about again, once it is there: `permit`.
        None
        | Some(
            Target::ServerMetadata
            | Target::ModelList
            | Target::InferOnly
            | Target::SharedMemory
            | Target::ModelStatistics { model: None, .. }
            | Target::Message { .. }
            | Target::Stream
            | Target::RepositoryIndex
            | Target::ModelPage { .. }
            | Target::ApiDescription { model: None },
        ) => Needed::Key,
        Some(
            Target::ModelMetadata { model, .. }
            | Target::ModelReady { model, .. }
            | Target::ModelConfig { model, .. }
            | Target::ModelStatistics { model: Some(model), .. }
            | Target::Infer { model, .. }
            | Target::Explain { model, .. }
            | Target::ModelWorkers { model, .. }
            | Target::ApiDescription { model: Some(model) },
        ) => Needed::Role(Role::Predict, Some(model)),
        Some(Target::Metrics) => Needed::Role(Role::ReadMetrics, None),
        // Where the body names the model, it is asked for that one again (`manage::carry_out`).
        Some(Target::Change { model, .. }) => Needed::Role(Role::Manage, model.as_ref()),
    }
}

impl Caller {
    /// Somebody on this machine.
    pub const LOOPBACK: Self = Self { principal: Principal::Loopback, may: May::Everything };

    /// Whether this is granted.
    pub fn may(&self, needed: Needed<'_>) -> bool {
        match (&self.may, needed) {
            (May::Everything, _) | (_, Needed::Nothing) => true,
            (May::AllButManage, needed) => !matches!(needed, Needed::Role(Role::Manage, _)),
            (May::Nothing, _) => false,
            (May::Granted(_), Needed::Key) => true,
            (May::Granted(key), Needed::Role(role, model)) => key.may(role, model),
        }
    }

    /// Whether it may hear of this model at all.
    pub fn knows(&self, model: &ModelName) -> bool {
        [Role::Predict, Role::Manage]
            .into_iter()
            .any(|role| self.may(Needed::Role(role, Some(model))))
    }
}

/// Says who asks, and that they may ask this.
///
/// # Errors
/// `access.*`, `limits.rate`, `wire.invalid-request` where there are two of what there may be one of.
/// Sentences are for strangers: they say what is missing and nothing of what is here.
pub fn enforce(
    serving: Option<&Serving>,
    origin: Origin<'_>,
    head: &Parts,
    target: Option<&Target>,
) -> Result<Caller, Failure> {
    let headers = &head.headers;
    refuse_two(headers)?;
    let needed = needed(target);
    let Some(serving) = serving else {
        // Before the first table nothing is served, and loopback's rule holds for what is said of it.
        refuse_foreign(&[], &head.uri, headers)?;
        return Ok(Caller::LOOPBACK);
    };
    let policy = serving.listener(origin.listener).ok_or_else(|| {
        Failure::new(
            ErrorCode::ServerNotReady,
            format!("the serving table says nothing of the listener `{}`", origin.listener),
        )
    })?;
    let caller = authenticate(policy, serving, origin, head, needed)?;
    permit(&caller, target).map(|()| caller)
}

/// Says that a known caller may ask this.
///
/// # Errors
/// `access.no-key`, `access.forbidden`.
pub fn permit(caller: &Caller, target: Option<&Target>) -> Result<(), Failure> {
    let needed = needed(target);
    if caller.may(needed) {
        return Ok(());
    }
    Err(match &caller.may {
        May::Nothing => Failure::new(ErrorCode::AccessNoKey, "this needs a key"),
        May::Granted(key) => forbidden(needed).with_detail(key.whose()),
        May::Everything | May::AllButManage => forbidden(needed),
    })
}

/// Says who asks.
fn authenticate(
    policy: &ListenerPolicy,
    serving: &Serving,
    origin: Origin<'_>,
    head: &Parts,
    needed: Needed<'_>,
) -> Result<Caller, Failure> {
    // Asked again although the door asked at the connection's begin: the lists may have changed since.
    if !admits(&policy.allow, &policy.deny, origin.peer) {
        return Err(denied_address());
    }
    if policy.tls.is_some() && !origin.encrypted {
        let message = "this connection began before the server spoke TLS: connect again";
        return Err(Failure::new(ErrorCode::AccessForbidden, message));
    }
    match policy.access {
        Access::Loopback => {
            refuse_foreign(&policy.hosts, &head.uri, &head.headers)?;
            Ok(Caller::LOOPBACK)
        }
        Access::Open => Ok(anybody(May::AllButManage)),
        Access::Keys if needed == Needed::Nothing => Ok(anybody(May::Nothing)),
        Access::Keys => {
            let Some(text) = shown_key(&head.headers)? else {
                return Ok(anybody(May::Nothing));
            };
            let key =
                serving.keys.find(text, SystemTime::now()).map_err(|why| bad_key(why.as_str()))?;
            if let Some(bucket) = &key.bucket {
                bucket.take().map_err(|wait| {
                    Failure::new(ErrorCode::LimitsRate, "this key asks more often than it may")
                        .with_retry_after(wait)
                        .with_detail(key.whose())
                })?;
            }
            Ok(Caller { principal: key.principal.clone(), may: May::Granted(Arc::clone(key)) })
        }
    }
}

fn anybody(may: May) -> Caller {
    Caller { principal: Principal::Anonymous, may }
}

/// The key that a request shows; none where it shows none.
fn shown_key(headers: &HeaderMap) -> Result<Option<&str>, Failure> {
    let one = |name| -> Result<Option<&str>, Failure> {
        let Some(value) = headers.get(name) else { return Ok(None) };
        value.to_str().map(Some).map_err(|_| bad_key("it is not text"))
    };
    if let Some(value) = one(AUTHORIZATION.as_str())? {
        let (scheme, text) = value.split_once(' ').unwrap_or((value, ""));
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(bad_key("the scheme is not `Bearer`"));
        }
        return Ok(Some(text.trim_ascii()));
    }
    one(API_KEY)
}

/// Two hosts, origins or keys are a quarrel about which one counts: somebody in between may have read
/// the other one.
fn refuse_two(headers: &HeaderMap) -> Result<(), Failure> {
    for name in [HOST, ORIGIN, AUTHORIZATION] {
        if headers.get_all(&name).iter().nth(1).is_some() {
            let message = format!("there are several `{name}` headers, and there may be one");
            return Err(Failure::new(ErrorCode::WireInvalidRequest, message));
        }
    }
    Ok(())
}

fn bad_key(why: &'static str) -> Failure {
    Failure::new(ErrorCode::AccessBadKey, "the key is not good").with_detail(why)
}

/// An address that may not connect.
pub fn denied_address() -> Failure {
    Failure::new(ErrorCode::AccessDeniedAddress, "this address may not connect")
}

/// What is not granted.
pub fn forbidden(needed: Needed<'_>) -> Failure {
    let message = match needed {
        Needed::Role(role, Some(model)) => format!("`{role}` with `{model}` is not granted"),
        Needed::Role(role, None) => format!("`{role}` is not granted"),
        Needed::Key | Needed::Nothing => "this is not granted".into(),
    };
    Failure::new(ErrorCode::AccessForbidden, message)
}

#[cfg(test)]
#[path = "access_test.rs"]
mod tests;
