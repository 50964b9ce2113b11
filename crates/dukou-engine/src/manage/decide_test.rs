use std::{collections::BTreeMap, fs, sync::Arc};

use dukou_wire::{Wanted, Wanting};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

fn name(text: &str) -> ModelName {
    ModelName::parse(text).unwrap()
}

fn label(text: &str) -> Version {
    Version::parse(text).unwrap()
}

/// A table with `digits` in versions 1 and 2, `other` in version 1, a graph of both, and this store.
fn table(store: &TempDir) -> Arc<ServingTable> {
    let mut table: Value =
        serde_json::from_str(include_str!("../../../../conformance/tables/good/bare-file.json"))
            .unwrap();
    let digits = table["models"][0].clone();
    let backend = digits["versions"][0]["backend"].clone();
    let mut second = digits["versions"][0].clone();
    second["version"] = json!("2");
    second["source"] = json!({"file": "/models/second.onnx"});
    table["models"][0]["versions"].as_array_mut().unwrap().push(second);
    table["models"][0]["aliases"] = json!({"champion": "1"});
    let mut other = digits.clone();
    other["name"] = json!("other");
    let mut graph = digits.clone();
    graph["name"] = json!("both");
    graph["versions"][0]["backend"] = Value::Null;
    graph["versions"][0]["golden"] = json!("off");
    let node =
        |model: &str| json!({"name": model, "model": model, "version": null, "inputs": null});
    let nodes = [node("other")];
    graph["versions"][0]["source"] = json!({"graph": {"nodes": nodes, "outputs": "other"}});
    table["models"].as_array_mut().unwrap().extend([other, graph]);
    table["repository"] = json!({
        "folders": [store.path().canonicalize().unwrap()],
        "backend": backend,
        "batching": digits["batching"],
        "limits": digits["limits"],
    });
    Arc::new(ServingTable::parse(table.to_string().as_bytes()).unwrap())
}

fn store() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for path in ["new.onnx", "many/1/model.onnx", "many/2/any.onnx", "plain/model.onnx", "old.mar"]
    {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "no graph: nothing is loaded here").unwrap();
    }
    folder
}

fn after(
    changes: &Changes,
    held: &Arc<ServingTable>,
    change: &Change,
) -> Result<(Changes, Outcome), (ErrorCode, String)> {
    decide(changes, change, held)
        .map(|decision| (decision.next, decision.outcome))
        .map_err(|failure| (failure.code, failure.message.into_owned()))
}

fn served(changes: &Changes, held: &Arc<ServingTable>) -> Vec<String> {
    let table = changes.apply(held).table;
    let line = |model: &ServedModel| {
        let versions: Vec<&str> = model.versions.iter().map(|v| v.version.as_str()).collect();
        let default = default_of(model).unwrap();
        format!("{} {} → {default}", model.name, versions.join(","))
    };
    table.models.iter().map(line).collect()
}

fn register(location: &str, as_name: &str) -> Change {
    Change::Register(Registration {
        model: Some(name(as_name)),
        location: location.into(),
        workers: None,
        batch_rows: None,
        batch_delay_ms: None,
        wait: true,
    })
}

#[test]
fn unloading_and_loading_is_there_and_back() {
    let folder = store();
    let held = table(&folder);
    let none = Changes::default();
    assert_eq!(served(&none, &held), ["digits 1,2 → 1", "other 1 → 1", "both 1 → 1"]);
    let unload = |model: &str, dependents| Change::Unload { model: name(model), dependents };
    let (gone, _) = after(&none, &held, &unload("digits", false)).unwrap();
    assert_eq!(served(&gone, &held), ["other 1 → 1", "both 1 → 1"]);
    let (again, _) = after(&gone, &held, &unload("digits", false)).unwrap();
    assert_eq!(again, gone, "what is gone may be unloaded again");
    let load = Change::Load { model: name("digits") };
    let (back, _) = after(&gone, &held, &load).unwrap();
    assert!(back.is_empty());
    // What a graph asks does not go alone.
    let (code, message) = after(&none, &held, &unload("other", false)).unwrap_err();
    assert_eq!(code, ErrorCode::ManageInUse);
    assert_eq!(message, "`both` is made of `other`, and would go with it");
    let (gone, _) = after(&none, &held, &unload("other", true)).unwrap();
    assert_eq!(served(&gone, &held), ["digits 1,2 → 1"]);
    assert_eq!(gone.apply(&held).absent[&name("both")].why, Why::Lacks(name("other")));
    let (code, _) = after(&none, &held, &unload("nobody", false)).unwrap_err();
    assert_eq!(code, ErrorCode::RequestUnknownModel);
    let (code, message) = after(&none, &held, &Change::Load { model: name("nobody") }).unwrap_err();
    assert_eq!(code, ErrorCode::RequestUnknownModel);
    assert!(message.starts_with("failed to load 'nobody', failed to poll from model repository"));
}

#[test]
fn models_of_the_store_are_registered_and_no_others() {
    let folder = store();
    let held = table(&folder);
    let none = Changes::default();
    let (registered, outcome) = after(&none, &held, &register("many", "m")).unwrap();
    assert_eq!(outcome, Outcome::Registered { model: name("m"), version: label("2"), workers: 2 });
    assert_eq!(served(&registered, &held)[3], "m 1,2 → 2");
    let again = after(&registered, &held, &register("many", "m")).unwrap_err();
    assert_eq!(
        again,
        (
            ErrorCode::ManageAlreadyRegistered,
            "Model version 2 is already registered for model m".into()
        )
    );
    let (loaded, _) = after(&none, &held, &Change::Load { model: name("plain") }).unwrap();
    assert_eq!(served(&loaded, &held)[3], "plain 1 → 1");
    // A version that was laid beside the others is found when the model is loaded again.
    let (many, _) = after(&none, &held, &Change::Load { model: name("many") }).unwrap();
    fs::create_dir_all(folder.path().join("many/10")).unwrap();
    fs::write(folder.path().join("many/10/model.onnx"), "").unwrap();
    let (more, _) = after(&many, &held, &Change::Load { model: name("many") }).unwrap();
    assert_eq!(served(&more, &held)[3], "many 1,2,10 → 10");
    for location in ["new", "new.onnx"] {
        assert!(after(&none, &held, &register(location, "n")).is_ok(), "{location}");
    }
    let path = folder.path().canonicalize().unwrap();
    let by_url = format!("file://{}/new.onnx", path.display());
    assert!(after(&none, &held, &register(&by_url, "n")).is_ok());
    let outside = folder.path().join("outside.onnx");
    std::os::unix::fs::symlink("/etc/passwd", &outside).unwrap();
    for (location, code, words) in [
        ("nothing", ErrorCode::ManageNotInStore, "Model not found at: nothing"),
        ("outside.onnx", ErrorCode::ManageNotInStore, "Model not found at: outside.onnx"),
        (
            "../x.onnx",
            ErrorCode::ManageNotInStore,
            "Relative path is not allowed in url: ../x.onnx",
        ),
        ("many/1", ErrorCode::ManageNotInStore, "Model not found at: many/1"),
        ("/etc/passwd", ErrorCode::ManageNotInStore, "Model not found at: /etc/passwd"),
        (
            "http://x/m.onnx",
            ErrorCode::ManageUrlRefused,
            "Given URL http://x/m.onnx does not match any allowed URL(s)",
        ),
        (
            "file:///etc/passwd",
            ErrorCode::ManageUrlRefused,
            "Given URL file:///etc/passwd does not match",
        ),
        ("old.mar", ErrorCode::ManageNoHandler, "`old.mar` is an archive with a handler"),
    ] {
        let (came, message) = after(&none, &held, &register(location, "n")).unwrap_err();
        assert!(came == code && message.starts_with(words), "{location}: {came} {message}");
    }
    let (code, _) = after(&none, &held, &register("new.onnx", "digits")).unwrap_err();
    assert_eq!(code, ErrorCode::ManageAlreadyRegistered, "the table's own model");
    let mut bare = ServingTable::clone(&held);
    bare.repository = None;
    let (code, _) = after(&none, &Arc::new(bare), &register("new.onnx", "n")).unwrap_err();
    assert_eq!(code, ErrorCode::ManageNoStore);
}

#[test]
fn workers_defaults_and_versions() {
    let folder = store();
    let held = table(&folder);
    let none = Changes::default();
    let scale = |version: Option<&str>, workers| Change::Scale {
        model: name("digits"),
        version: version.map(label),
        workers,
        wait: true,
    };
    let (scaled, _) = after(&none, &held, &scale(None, 7)).unwrap();
    let model = scaled.apply(&held).table.models[0].clone();
    let instances: Vec<u64> =
        model.versions.iter().map(|v| v.backend.as_ref().unwrap().instances).collect();
    assert_eq!(instances, [7, 2], "the default version alone");
    assert_eq!(after(&none, &held, &scale(None, 0)).unwrap_err().0, ErrorCode::ManageIsDefault);
    assert_eq!(after(&none, &held, &scale(None, 257)).unwrap_err().0, ErrorCode::WireInvalidField);
    let (asleep, _) = after(&none, &held, &scale(Some("2"), 0)).unwrap();
    assert_eq!(served(&asleep, &held)[0], "digits 1 → 1");
    let (asleep, _) = after(&asleep, &held, &scale(Some("1"), 0)).unwrap();
    assert_eq!(asleep.apply(&held).absent[&name("digits")].why, Why::NoWorkers);
    let (awake, _) = after(&asleep, &held, &scale(Some("1"), 1)).unwrap();
    assert_eq!(served(&awake, &held)[0], "digits 1 → 1");
    let set = |version: &str| Change::SetDefault { model: name("digits"), version: label(version) };
    let (second, _) = after(&none, &held, &set("2")).unwrap();
    assert_eq!(served(&second, &held)[0], "digits 1,2 → 2");
    assert_eq!(after(&none, &held, &set("9")).unwrap_err().0, ErrorCode::RequestUnknownVersion);
    let (by_alias, _) = after(&second, &held, &set("champion")).unwrap();
    assert_eq!(served(&by_alias, &held)[0], "digits 1,2 → 1");
    let unregister = |version: Option<&str>| Change::Unregister {
        model: name("digits"),
        version: version.map(label),
    };
    assert_eq!(after(&second, &held, &unregister(None)).unwrap_err().0, ErrorCode::ManageIsDefault);
    let (one, _) = after(&second, &held, &unregister(Some("1"))).unwrap();
    assert_eq!(served(&one, &held)[0], "digits 2 → 2");
    let (gone, _) = after(&one, &held, &unregister(None)).unwrap();
    assert_eq!(gone.apply(&held).absent[&name("digits")].why, Why::Unloaded);
    let mut rollout = ServingTable::clone(&held);
    let arm = Weight { version: label("2"), ..rollout.models[0].split[0].clone() };
    rollout.models[0].split.push(arm);
    assert_eq!(after(&none, &Arc::new(rollout), &set("2")).unwrap_err().0, ErrorCode::ManageInUse);
}

#[test]
fn a_list_is_served_and_nothing_else() {
    let folder = store();
    let held = table(&folder);
    let none = Changes::default();
    let wanted = |model: &str, versions, labels: &[(&str, &str)]| Wanted {
        model: name(model),
        location: None,
        versions,
        labels: labels.iter().map(|(alias, version)| (label(alias), label(version))).collect(),
    };
    let list = Change::Reload(vec![
        wanted("digits", Wanting::Latest(1), &[("stable", "2")]),
        wanted("many", Wanting::All, &[]),
    ]);
    let (next, _) = after(&none, &held, &list).unwrap();
    assert_eq!(served(&next, &held), ["digits 2 → 2", "many 1,2 → 2"]);
    let aliases = &next.apply(&held).table.models[0].aliases;
    assert_eq!(*aliases, BTreeMap::from([(label("stable"), label("2"))]));
    let back = Change::Reload(vec![
        wanted("digits", Wanting::Only(vec![label("1")]), &[]),
        wanted("other", Wanting::Latest(1), &[]),
        wanted("both", Wanting::Latest(1), &[]),
    ]);
    let (next, _) = after(&next, &held, &back).unwrap();
    assert_eq!(served(&next, &held), ["digits 1 → 1", "other 1 → 1", "both 1 → 1"]);
    for (list, code) in [
        (vec![wanted("nobody", Wanting::All, &[])], ErrorCode::RequestUnknownModel),
        (
            vec![wanted("digits", Wanting::Only(vec![label("9")]), &[])],
            ErrorCode::RequestUnknownVersion,
        ),
        (
            vec![wanted("digits", Wanting::Latest(1), &[("stable", "1")])],
            ErrorCode::WireInvalidField,
        ),
        (
            vec![wanted("other", Wanting::All, &[]), wanted("other", Wanting::All, &[])],
            ErrorCode::WireInvalidField,
        ),
    ] {
        assert_eq!(after(&none, &held, &Change::Reload(list)).unwrap_err().0, code);
    }
    let mut elsewhere = wanted("digits", Wanting::All, &[]);
    elsewhere.location = Some("/models".into());
    assert!(after(&none, &held, &Change::Reload(vec![elsewhere.clone()])).is_ok());
    elsewhere.location = Some("/somewhere/else".into());
    let (code, _) = after(&none, &held, &Change::Reload(vec![elsewhere])).unwrap_err();
    assert_eq!(code, ErrorCode::ManageUrlRefused);
}

#[test]
fn another_table_ends_what_was_said_of_the_models_that_it_changes() {
    let folder = store();
    let held = table(&folder);
    let none = Changes::default();
    let changes = [
        Change::SetDefault { model: name("digits"), version: label("2") },
        Change::Scale { model: name("other"), version: None, workers: 5, wait: true },
        register("new.onnx", "n"),
        Change::Unload { model: name("n"), dependents: false },
    ];
    let made = changes.iter().fold(none, |made, change| after(&made, &held, change).unwrap().0);
    assert_eq!(made.rebased(&held, &held), made);
    let mut new = ServingTable::clone(&held);
    new.models[0].labels = vec!["a".into()];
    let rebased = made.rebased(&held, &new);
    assert!(rebased.defaults.is_empty() && !rebased.workers.is_empty());
    assert!(rebased.unloaded.contains(&name("n")) && rebased.is_registered(&name("n")));
    // A table that has the name itself counts.
    let mut new = ServingTable::clone(&held);
    new.models[1].name = name("n");
    let rebased = made.rebased(&held, &new);
    assert!(!rebased.is_registered(&name("n")) && rebased.workers.is_empty());
    assert!(rebased.unloaded.contains(&name("n")), "what was unloaded stays so");
}
