use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value;

use super::*;

/// The golden tables of one kind by file name. `tests/contract/test_serving_table.py` reads the same.
fn golden_tables(kind: &str) -> BTreeMap<String, Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/tables").join(kind);
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    files
        .map(|path| (name(&path), serde_json::from_slice(&fs::read(&path).unwrap()).unwrap()))
        .collect()
}

#[test]
fn a_good_table_is_taken_and_written_again() {
    let tables = golden_tables("good");
    assert!(tables.len() >= 4);
    for (name, document) in tables {
        let table = ServingTable::parse(document.to_string().as_bytes())
            .unwrap_or_else(|invalid| panic!("{name}: {invalid}"));
        assert_eq!(serde_json::to_value(&table).unwrap(), document, "{name}");
    }
}

#[test]
fn a_bad_table_is_refused_at_its_field() {
    let tables = golden_tables("bad");
    assert!(tables.len() >= 50);
    for (name, case) in tables {
        let invalid = ServingTable::parse(case["table"].to_string().as_bytes())
            .expect_err(&format!("{name} was taken"));
        assert_eq!(case["expect"]["field"], *invalid.field, "{name}: {invalid}");
        assert_eq!(case["expect"]["code"], Failure::from(invalid).code.as_str(), "{name}");
    }
}

#[test]
fn a_refusal_says_what_came_and_what_may_come() {
    let refusal = |name: &str| {
        let case = &golden_tables("bad")[name];
        let text = case["table"].to_string();
        Failure::from(ServingTable::parse(text.as_bytes()).unwrap_err()).message.into_owned()
    };
    assert_eq!(
        refusal("too-many-instances"),
        "the serving table is not valid: `models[0].versions[0].backend.instances`: is 257, must be 1 to 256"
    );
    assert_eq!(
        refusal("split-of-an-unknown-version"),
        "the serving table is not valid: `models[0].split[0].version`: `9` is not a version of this model, which has 1"
    );
    assert_eq!(
        refusal("unknown-field"),
        "the serving table is not valid: `colour`: unknown field `colour`, expected one of `format`, `revision`, \
         `sequence`, `listeners`, `principals`, `limits`, `trust`, `observability`, `repository`, `models`"
    );
}

#[test]
fn what_is_no_json_or_more_than_one_document_is_refused() {
    for text in ["", "{", "[]", "null", "\u{1}"] {
        assert!(ServingTable::parse(text.as_bytes()).is_err(), "{text:?}");
    }
    let good = golden_tables("good")["bare-file"].to_string();
    assert!(ServingTable::parse(format!("{good} {good}").as_bytes()).is_err());
}
