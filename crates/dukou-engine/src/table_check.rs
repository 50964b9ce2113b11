//! What serde cannot say of a table: ranges, and references from one part to another.
//!
//! Ranges are those of `table.py`. References (a split naming a version that is not served) are
//! checked here, before anything is loaded.

use std::{collections::HashSet, fmt::Display, path::Path};

use dukou_remote::Address;
use dukou_types::{ModelName, Version};
use dukou_wire::{Named, Peer};

use super::{
    Backend, Batching, GoldenMode, InvalidTable, Listener, ModelLimits, PrincipalKey, RemoteSource,
    Repository, ServedModel, ServedVersion, ServingTable, Source, check_graph, invalid,
};
use crate::network::Network;

pub(super) type Checked = Result<(), InvalidTable>;

pub fn table(table: &ServingTable) -> Checked {
    range("format", table.format, 1, 1)?;
    not_empty("listeners", &table.listeners)?;
    let mut names = HashSet::new();
    for (index, listener) in table.listeners.iter().enumerate() {
        let path = format!("listeners[{index}]");
        once(&format!("{path}.name"), &mut names, listener.name.as_str())?;
        check_listener(&path, listener)?;
    }
    let limits = &table.limits;
    range("limits.connections", limits.connections, 1, u64::MAX)?;
    range("limits.body_bytes", limits.body_bytes, 1, u64::MAX)?;
    range("limits.json_depth", limits.json_depth, 1, 1000)?;
    range("limits.header_ms", limits.header_ms, 1, u64::MAX)?;
    for (index, key) in table.trust.keys.iter().enumerate() {
        hex(&format!("trust.keys[{index}].id"), &key.id, 64)?;
    }
    let mut ids = HashSet::new();
    for (index, principal) in table.principals.iter().enumerate() {
        let path = format!("principals[{index}]");
        once(&format!("{path}.id"), &mut ids, &principal.id)?;
        check_principal(&path, principal)?;
    }
    if let Some(repository) = &table.repository {
        check_repository(repository)?;
    }
    let mut names = HashSet::new();
    for (index, model) in table.models.iter().enumerate() {
        let path = format!("models[{index}]");
        once(&format!("{path}.name"), &mut names, model.name.as_str())?;
        check_model(&path, model)?;
    }
    check_graph::models(&table.models)
}

fn check_repository(repository: &Repository) -> Checked {
    not_empty("repository.folders", &repository.folders)?;
    let mut seen = HashSet::new();
    for (index, folder) in repository.folders.iter().enumerate() {
        let field = format!("repository.folders[{index}]");
        absolute(&field, folder)?;
        if !seen.insert(folder) {
            return Err(invalid(field, format!("`{}` is there twice", folder.display())));
        }
    }
    check_backend("repository.backend", &repository.backend)?;
    check_batching("repository.batching", &repository.batching)?;
    check_limits("repository.limits", &repository.limits)
}

fn check_listener(path: &str, listener: &Listener) -> Checked {
    not_empty(&format!("{path}.dialects"), &listener.dialects)?;
    if let Some(tls) = &listener.tls {
        absolute(&format!("{path}.tls.certificate"), &tls.certificate)?;
        absolute(&format!("{path}.tls.key"), &tls.key)?;
    }
    for (field, networks) in [("allow", &listener.allow), ("deny", &listener.deny)] {
        for (index, text) in networks.iter().enumerate() {
            if Network::parse(text).is_none() {
                let problem =
                    format!("`{text}` is neither an address nor a network such as `10.0.0.0/8`");
                return Err(invalid(format!("{path}.{field}[{index}]"), problem));
            }
        }
    }
    Ok(())
}

fn check_principal(path: &str, principal: &PrincipalKey) -> Checked {
    hex(&format!("{path}.id"), &principal.id, 12)?;
    hex(&format!("{path}.secret_sha256"), &principal.secret_sha256, 64)?;
    for (index, grant) in principal.grants.iter().enumerate() {
        let path = format!("{path}.grants[{index}].models");
        not_empty(&path, &grant.models)?;
        for (index, model) in grant.models.iter().enumerate() {
            if model != "*" && ModelName::parse(model).is_err() {
                let problem = format!("`{model}` is neither a model's name nor `*`");
                return Err(invalid(format!("{path}[{index}]"), problem));
            }
        }
    }
    if let Some(rate) = &principal.rate {
        range(&format!("{path}.rate.requests"), rate.requests, 1, 1_000_000_000)?;
        range(&format!("{path}.rate.seconds"), rate.seconds, 1, 86_400)?;
        range(&format!("{path}.rate.burst"), rate.burst, 1, 1_000_000_000)?;
    }
    Ok(())
}

/// What is not shown where it is wrong: it may be a secret.
fn hex(field: &str, text: &str, digits: usize) -> Checked {
    if text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Ok(());
    }
    Err(invalid(field, format!("is not {digits} lower-case hex digits")))
}

fn check_model(path: &str, model: &ServedModel) -> Checked {
    not_empty(&format!("{path}.versions"), &model.versions)?;
    let mut served = HashSet::new();
    for (index, version) in model.versions.iter().enumerate() {
        let path = format!("{path}.versions[{index}]");
        once(&format!("{path}.version"), &mut served, version.version.as_str())?;
        check_version(&path, version)?;
    }
    if model.versions.iter().any(|version| !version.source.is_run_here()) {
        for (field, said) in [
            ("shadow", model.shadow.is_some()),
            ("capture", model.capture.is_some()),
            ("cache", model.cache.is_some()),
        ] {
            if said {
                let problem = "is for models that this process runs, and one version is not";
                return Err(invalid(format!("{path}.{field}"), problem));
            }
        }
    }
    for (alias, target) in &model.aliases {
        let field = format!("{path}.aliases.{alias}");
        known(&field, &served, target.as_str())?;
        if served.contains(alias.as_str()) {
            return Err(invalid(field, format!("`{alias}` is a version already")));
        }
    }
    check_split(path, model, &served)?;
    if let Some(shadow) = &model.shadow {
        known(&format!("{path}.shadow.version"), &served, shadow.version.as_str())?;
        range(&format!("{path}.shadow.share"), shadow.share, 1, 1_000_000)?;
    }
    if let Some(capture) = &model.capture {
        range(&format!("{path}.capture.share"), capture.share, 1, 1_000_000)?;
        range(&format!("{path}.capture.buffer_bytes"), capture.buffer_bytes, 1, u64::MAX)?;
    }
    if let Some(cache) = &model.cache {
        range(&format!("{path}.cache.max_bytes"), cache.max_bytes, 65_536, u64::MAX)?;
        if let Some(ttl) = cache.ttl_ms {
            range(&format!("{path}.cache.ttl_ms"), ttl, 1, 31_536_000_000)?;
        }
    }
    check_batching(&format!("{path}.batching"), &model.batching)?;
    check_limits(&format!("{path}.limits"), &model.limits)
}

fn check_batching(path: &str, batching: &Batching) -> Checked {
    range(&format!("{path}.max_rows"), batching.max_rows, 1, 65_536)?;
    range(&format!("{path}.max_bytes"), batching.max_bytes, 1, u64::MAX)?;
    range(&format!("{path}.delay_us"), batching.delay_us, 0, 1_000_000)
}

fn check_limits(path: &str, limits: &ModelLimits) -> Checked {
    range(&format!("{path}.queue"), limits.queue, 1, u64::MAX)?;
    range(&format!("{path}.concurrency"), limits.concurrency, 1, u64::MAX)?;
    range(&format!("{path}.deadline_ms"), limits.deadline_ms, 1, u64::MAX)
}

fn check_backend(path: &str, backend: &Backend) -> Checked {
    range(&format!("{path}.instances"), backend.instances, 1, 256)?;
    range(&format!("{path}.threads"), backend.threads, 1, 256)?;
    not_empty(&format!("{path}.providers"), &backend.providers)?;
    for (index, provider) in backend.providers.iter().enumerate() {
        check_provider(&format!("{path}.providers[{index}].name"), &provider.name)?;
    }
    Ok(())
}

fn check_version(path: &str, version: &ServedVersion) -> Checked {
    let source = format!("{path}.source");
    match &version.source {
        Source::File(file) => absolute(&source, file)?,
        Source::Artifact { store, .. } => absolute(&source, store)?,
        Source::Remote(remote) => check_remote(&format!("{source}.remote"), remote)?,
        Source::Graph(graph) => check_graph::graph(&format!("{source}.graph"), graph)?,
    }
    let field = format!("{path}.backend");
    match (&version.backend, version.source.is_run_here()) {
        (Some(backend), true) => check_backend(&field, backend),
        (None, false) => match version.golden {
            GoldenMode::Off => Ok(()),
            _ => Err(invalid(
                format!("{path}.golden"),
                "must be `off`: this process does not run the version",
            )),
        },
        (Some(_), false) => {
            Err(invalid(field, "must be null: this process does not run the version"))
        }
        (None, true) => Err(invalid(field, "is null, and this process is to run the version")),
    }
}

fn check_remote(path: &str, remote: &RemoteSource) -> Checked {
    not_empty(&format!("{path}.replicas"), &remote.replicas)?;
    let mut seen = HashSet::new();
    for (index, text) in remote.replicas.iter().enumerate() {
        let field = format!("{path}.replicas[{index}]");
        let address = Address::parse(text).map_err(|why| invalid(&field, why))?;
        once(&field, &mut seen, text)?;
        if address.encrypted && remote.ca_file.is_none() {
            let problem = format!(
                "`{text}` speaks TLS: `ca_file` must name the certificates that it is checked against"
            );
            return Err(invalid(field, problem));
        }
    }
    for (field, file) in remote.files() {
        absolute(&format!("{path}.{field}"), file)?;
    }
    check_spoken(path, remote)?;
    range(&format!("{path}.health_ms"), remote.health_ms, 10, 60_000)?;
    range(&format!("{path}.retry_percent"), remote.retry_percent, 0, 100)
}

/// Whether what is asked for can be asked in the servers' dialect.
fn check_spoken(path: &str, remote: &RemoteSource) -> Checked {
    let name = &remote.dialect;
    let Some(peer) = Peer::parse(name) else {
        let problem = format!("`{name}` is no dialect, must be one of {}", Peer::names());
        return Err(invalid(format!("{path}.dialect"), problem));
    };
    let version = remote.version.as_ref().map(Version::as_str);
    if let Err(problem) = peer.infer_path(Named { model: remote.model.as_str(), version }) {
        return Err(invalid(format!("{path}.version"), problem));
    }
    let field = format!("{path}.signature");
    let Some(declared) = &remote.signature else {
        if peer.tells_signatures() {
            return Ok(());
        }
        let problem =
            format!("is missing: a server of `{name}` does not tell what a model takes and gives");
        return Err(invalid(field, problem));
    };
    for (side, tensors) in [("inputs", &declared.inputs), ("outputs", &declared.outputs)] {
        let field = format!("{field}.{side}");
        not_empty(&field, tensors)?;
        let mut seen = HashSet::new();
        for (index, tensor) in tensors.iter().enumerate() {
            let field = format!("{field}[{index}]");
            if tensor.name.is_empty() {
                return Err(invalid(format!("{field}.name"), "is empty"));
            }
            once(&format!("{field}.name"), &mut seen, &tensor.name)?;
            if let Some(place) = tensor.shape.iter().position(|&extent| extent < -1) {
                let problem = format!("is {}, must be at least -1", tensor.shape[place]);
                return Err(invalid(format!("{field}.shape[{place}]"), problem));
            }
        }
    }
    Ok(())
}

/// A name of ONNX Runtime's form. Whether there is such a provider is seen when a model is loaded.
fn check_provider(path: &str, name: &str) -> Checked {
    let stem = name.split_once("ExecutionProvider").map_or("", |(stem, _)| stem);
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.');
    if !stem.is_empty() && name.len() <= 128 && name.bytes().all(plain) {
        return Ok(());
    }
    Err(invalid(path, format!("`{name}` is no name such as `CUDAExecutionProvider`")))
}

fn check_split(path: &str, model: &ServedModel, served: &HashSet<&str>) -> Checked {
    not_empty(&format!("{path}.split"), &model.split)?;
    let mut arms = HashSet::new();
    for (index, weight) in model.split.iter().enumerate() {
        let path = format!("{path}.split[{index}]");
        known(&format!("{path}.version"), served, weight.version.as_str())?;
        range(&format!("{path}.weight"), weight.weight, 0, 1_000_000)?;
        if !arms.insert((weight.version.as_str(), weight.arm.as_str())) {
            let problem =
                format!("arm `{}` of version `{}` is there twice", weight.arm, weight.version);
            return Err(invalid(format!("{path}.arm"), problem));
        }
    }
    if model.split.iter().all(|weight| weight.weight == 0) {
        return Err(invalid(
            format!("{path}.split"),
            "all weights are 0, so that no request could go anywhere",
        ));
    }
    Ok(())
}

pub(super) fn range(field: &str, value: u64, least: u64, most: u64) -> Checked {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    let allowed = match most {
        u64::MAX => format!("at least {least}"),
        _ if least == most => format!("{least}"),
        _ => format!("{least} to {most}"),
    };
    Err(invalid(field, format!("is {value}, must be {allowed}")))
}

pub(super) fn not_empty<T>(field: &str, list: &[T]) -> Checked {
    if list.is_empty() {
        Err(invalid(field, "is empty, must have at least one entry"))
    } else {
        Ok(())
    }
}

fn absolute(field: &str, path: &Path) -> Checked {
    if path.is_absolute() {
        return Ok(());
    }
    Err(invalid(field, format!("`{}` is a relative path, must be an absolute one", path.display())))
}

pub(super) fn once<'a>(field: &str, seen: &mut HashSet<&'a str>, name: &'a str) -> Checked {
    if seen.insert(name) { Ok(()) } else { Err(invalid(field, format!("`{name}` is there twice"))) }
}

fn known(field: &str, served: &HashSet<&str>, version: impl Display + AsRef<str>) -> Checked {
    if served.contains(version.as_ref()) {
        return Ok(());
    }
    let mut names: Vec<_> = served.iter().copied().collect();
    names.sort_unstable();
    Err(invalid(
        field,
        format!("`{version}` is not a version of this model, which has {}", names.join(", ")),
    ))
}
