use dukou_wire::{Operation, Selector};
use http::{HeaderValue, Request};

use super::*;
use crate::table::Grant;

fn model(name: &str) -> ModelName {
    ModelName::parse(name).unwrap()
}

fn infer(name: &str) -> Target {
    Target::Infer { model: model(name), selector: Selector::Default }
}

#[test]
fn every_target_says_what_it_needs() {
    assert_eq!(needed(Some(&Target::Live)), Needed::Nothing);
    assert_eq!(needed(Some(&Target::Ready)), Needed::Nothing);
    assert_eq!(needed(Some(&Target::ServerMetadata)), Needed::Key);
    assert_eq!(needed(Some(&Target::ModelList)), Needed::Key);
    assert_eq!(needed(None), Needed::Key, "a path that nothing is at is nobody's business either");
    assert_eq!(needed(Some(&infer("m"))), Needed::Role(Role::Predict, Some(&model("m"))));
    assert_eq!(needed(Some(&Target::Metrics)), Needed::Role(Role::ReadMetrics, None));
    let register = Target::Change { operation: Operation::Register, model: None, version: None };
    assert_eq!(needed(Some(&register)), Needed::Role(Role::Manage, None));
    assert_eq!(needed(Some(&Target::RepositoryIndex)), Needed::Key);
}

#[test]
fn anybody_may_not_manage_and_a_stranger_may_nothing() {
    let manage =
        Target::Change { operation: Operation::Unload, model: Some(model("m")), version: None };
    let anonymous = anybody(May::AllButManage);
    assert!(anonymous.may(needed(Some(&infer("m")))) && anonymous.knows(&model("m")));
    assert!(!anonymous.may(needed(Some(&manage))));
    let stranger = anybody(May::Nothing);
    assert!(stranger.may(needed(Some(&Target::Live))));
    assert!(!stranger.may(needed(None)) && !stranger.knows(&model("m")));
    assert!(Caller::LOOPBACK.may(needed(Some(&manage))));
}

#[test]
fn the_list_of_endpoints_is_what_is_enforced() {
    let text = include_str!("../../../spec/endpoints.toml");
    let spec: toml::Table = text.parse().unwrap();
    let endpoints = spec["endpoint"].as_array().unwrap();
    assert!(endpoints.len() >= 16);
    for endpoint in endpoints {
        let said = |key: &str| endpoint[key].as_str().unwrap();
        let path = said("path").replace("{model}", "digits").replace("{version}", "1");
        let path = path.replace("{alias}", "champion");
        let mut request = Request::builder().method(said("method")).uri(&*path);
        let is_call = endpoint.get("grpc").is_some();
        if is_call {
            request =
                request.version(http::Version::HTTP_2).header("content-type", "application/grpc");
        }
        let head = request.body(()).unwrap().into_parts().0;
        let mut asked = crate::address::address(&head).unwrap();
        assert_eq!(asked.dialect.is_grpc(), is_call, "{path}");
        assert_eq!(asked.target.operation(), said("operation"), "{path}");
        if let Target::Message { .. } = asked.target {
            // A stranger's message is not read at all.
            assert_eq!(needed(Some(&asked.target)), Needed::Key, "{path}");
            asked = crate::hear::named(&asked, &head, &[message_about_digits(&path)]).unwrap();
            assert_eq!(asked.target.operation(), said("operation"), "{path}");
        }
        let needed = match needed(Some(&asked.target)) {
            Needed::Nothing => "nobody".to_owned(),
            Needed::Key => "key".to_owned(),
            Needed::Role(role, None) => role.to_string(),
            Needed::Role(role, Some(model)) => {
                assert_eq!(model.as_str(), "digits", "{path}");
                format!("{role} with model")
            }
        };
        assert_eq!(needed, said("needs"), "{path}");
    }
}

/// A message that names the model: in its first field, or in the first of its first.
fn message_about_digits(path: &str) -> bytes::Bytes {
    let mut name = b"\x0a\x06digits".to_vec();
    if path.contains("/RepositoryModel") {
        name[0] = 0x12;
    }
    if path.starts_with("/tensorflow") {
        name = [&b"\x0a\x08"[..], &name, b"\x12\x0dsignature_def"].concat();
    }
    if path.ends_with("/MultiInference") {
        name = [&b"\x0a\x19"[..], &name].concat();
    }
    if path.ends_with("/SetDefault") {
        name.extend_from_slice(b"\x12\x011");
    }
    if path.ends_with("/RegisterModel") {
        // The name, and where the file is.
        name = b"\x2a\x06digits\x4a\x01x".to_vec();
    }
    name.into()
}

#[test]
fn no_path_is_answered_that_the_list_does_not_have() {
    let text = include_str!("../../../spec/endpoints.toml");
    let spec: toml::Table = text.parse().unwrap();
    let listed: Vec<(String, String)> = spec["endpoint"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| (e["method"].as_str().unwrap().into(), e["path"].as_str().unwrap().into()))
        .collect();
    let words = [
        "",
        "metrics",
        "v2",
        "v1",
        "health",
        "live",
        "ready",
        "models",
        "digits",
        "versions",
        "1",
        "aliases",
        "infer",
        "predict",
        "repository",
        "index",
        "load",
        "unload",
        "stats",
        "config",
        "admin",
        "ping",
        "predictions",
        "explanations",
        "all",
        "..",
    ];
    let is_listed = |method: &str, path: &str| {
        listed.iter().any(|(listed, template)| {
            let (path, template) = (path.split('/'), template.split('/'));
            listed == method
                && path.clone().count() == template.clone().count()
                && path
                    .zip(template)
                    .all(|(part, wanted)| part == wanted || wanted.starts_with('{'))
        })
    };
    // Every path of up to four of these words, and of five and six behind `/v2/models/digits`.
    let mut paths = vec![String::new()];
    let mut all = Vec::new();
    for depth in 0..6 {
        paths = paths
            .iter()
            .filter(|path| depth < 4 || path.starts_with("/v2/models/digits"))
            .flat_map(|path| words.map(|word| format!("{path}/{word}")))
            .collect();
        all.extend(paths.iter().cloned());
    }
    assert!(all.len() > 190_000);
    for path in all {
        for method in ["GET", "POST"] {
            let Ok(request) = Request::builder().method(method).uri(&*path).body(()) else {
                continue;
            };
            if crate::address::address(&request.into_parts().0).is_ok() {
                assert!(is_listed(method, &path), "{method} {path} is answered and not listed");
            }
        }
    }
}

#[test]
fn a_key_is_shown_in_one_of_two_ways() {
    let headers = |pairs: &[(&'static str, &str)]| {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    };
    let shown = |pairs: &[(&'static str, &str)]| {
        let headers = headers(pairs);
        shown_key(&headers).map(|key| key.map(str::to_owned)).map_err(|failure| failure.code)
    };
    assert_eq!(shown(&[]), Ok(None));
    for (name, value) in
        [("authorization", "Bearer k"), ("authorization", "bearer  k "), ("x-api-key", "k")]
    {
        assert_eq!(shown(&[(name, value)]), Ok(Some("k".into())), "{name}: {value}");
    }
    assert_eq!(shown(&[("authorization", "Basic a")]), Err(ErrorCode::AccessBadKey));
    let refused = refuse_two(&headers(&[("host", "a"), ("host", "b")])).unwrap_err();
    assert_eq!(refused.code, ErrorCode::WireInvalidRequest);
    assert!(refuse_two(&headers(&[("host", "a"), ("origin", "b")])).is_ok());
}

#[test]
fn a_grant_without_models_is_none() {
    // The table refuses it; should it come all the same, it grants nothing.
    let grant = Grant { role: Role::Predict, models: Vec::new() };
    let key = crate::table::PrincipalKey {
        id: "a".into(),
        name: model("billing"),
        secret_sha256: "0".repeat(64),
        grants: vec![grant],
        rate: None,
        expires: None,
    };
    let keys = crate::keys::Keys::compile(&[key], None);
    assert!(keys.find(&format!("dk_a_{}", "A".repeat(43)), SystemTime::UNIX_EPOCH).is_err());
}
