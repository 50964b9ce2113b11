//! Numbers that control knows and the engine shows: how old a backup is has no other way to `/metrics`.
//!
//! The engine does not understand them. They are replaced whole, and gone with the process: whoever
//! tells them tells them again.

use arc_swap::ArcSwap;
use dukou_types::{ErrorCode, Failure};
use serde::Deserialize;

/// So many at most.
const MOST: usize = 64;

/// What was told last.
pub type Gauges = ArcSwap<Vec<Gauge>>;

/// One number.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gauge {
    /// The metric's name.
    pub name: String,
    /// What it is, in one line.
    pub help: String,
    /// The number.
    pub value: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    gauges: Vec<Gauge>,
}

/// Reads and checks a document of gauges.
///
/// # Errors
/// `wire.invalid-field`, with what is wrong; `is_ours` says which names the engine has itself.
pub fn parse(body: &[u8], is_ours: impl Fn(&str) -> bool) -> Result<Vec<Gauge>, Failure> {
    let Document { gauges } =
        serde_json::from_slice(body).map_err(|error| refused(error.to_string()))?;
    if gauges.len() > MOST {
        return Err(refused(format!("{} gauges are told, {MOST} are the most", gauges.len())));
    }
    for (index, gauge) in gauges.iter().enumerate() {
        let name = &*gauge.name;
        let well_named = name.len() <= 128
            && name.strip_prefix("dukou_").is_some_and(|rest| {
                !rest.is_empty()
                    && rest
                        .bytes()
                        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            });
        if !well_named {
            return Err(refused(format!(
                "gauge {index} has a name that is not `dukou_[a-z0-9_]+`"
            )));
        }
        if is_ours(name) || gauges[..index].iter().any(|earlier| earlier.name == name) {
            return Err(refused(format!("`{name}` is there twice")));
        }
        if gauge.help.contains('\n') || gauge.help.len() > 256 || !gauge.value.is_finite() {
            return Err(refused(format!("`{name}` needs a line of help and a finite value")));
        }
    }
    Ok(gauges)
}

fn refused(message: String) -> Failure {
    Failure::new(ErrorCode::WireInvalidField, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Vec<Gauge>, String> {
        parse(body.as_bytes(), |name| name == "dukou_connections").map_err(|failure| {
            assert_eq!(failure.code, ErrorCode::WireInvalidField);
            failure.message.into()
        })
    }

    #[test]
    fn what_is_well_told_is_kept() {
        let told =
            r#"{"gauges": [{"name": "dukou_backup_age", "help": "How old.", "value": 1.5}]}"#;
        let gauges = read(told).unwrap();
        assert_eq!((&*gauges[0].name, gauges[0].value), ("dukou_backup_age", 1.5));
        assert!(read(r#"{"gauges": []}"#).unwrap().is_empty());
    }

    #[test]
    fn what_would_spoil_the_page_is_refused() {
        let gauge = |name: &str, help: &str| {
            format!(r#"{{"gauges": [{{"name": "{name}", "help": "{help}", "value": 1}}]}}"#)
        };
        for (body, said) in [
            (gauge("up", "x"), "is not `dukou_"),
            (gauge("dukou_", "x"), "is not `dukou_"),
            (gauge("dukou_a{b}", "x"), "is not `dukou_"),
            (gauge("dukou_connections", "x"), "is there twice"),
            (gauge("dukou_a", r"a\nb"), "needs a line of help"),
            ("{".into(), "EOF"),
            (r#"{"gauges": [{"name": "dukou_a", "help": "x"}]}"#.into(), "missing field `value`"),
        ] {
            let refused = read(&body).unwrap_err();
            assert!(refused.contains(said), "{body}: {refused}");
        }
        let many: Vec<String> = (0..=MOST)
            .map(|n| format!(r#"{{"name": "dukou_{n}", "help": "x", "value": 1}}"#))
            .collect();
        assert!(
            read(&format!(r#"{{"gauges": [{}]}}"#, many.join(","))).unwrap_err().contains("64")
        );
    }
}
