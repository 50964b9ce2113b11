//! `HandleReloadConfigRequest`: the list of models that are to be served, and nothing else.

use std::borrow::Cow;

use bytes::Bytes;
use dukou_types::{ErrorCode, Failure, Version};

use crate::{
    Change, Wanted, Wanting,
    addressed::model_name,
    grpc::{Fields, PREFIX, Part, push_message},
    sentence::quoted,
};

/// Reads the list.
///
/// # Errors
/// `wire.invalid-message`, `wire.missing-field`; `wire.unsupported` for a configuration of another kind;
/// `request.unknown-model` and `request.unknown-version` for what nothing can be called.
pub fn decode_change(message: &[Bytes]) -> Result<Change, Failure> {
    let mut list = None;
    let mut fields = Fields::of(Part::whole(message));
    while let Some(field) = fields.next()? {
        if field.number != 1 {
            continue;
        }
        let mut choices = Fields::of(field.part("config")?);
        while let Some(choice) = choices.next()? {
            match choice.number {
                1 => list = Some(choice.part("model_config_list")?),
                2 => {
                    let message = "custom_model_config is not supported; send a model_config_list";
                    return Err(Failure::new(ErrorCode::WireUnsupported, message));
                }
                _ => {}
            }
        }
    }
    let Some(list) = list else {
        // In the words of TensorFlow Serving.
        let message = "unable to process config: the request has no model_config_list";
        return Err(Failure::new(ErrorCode::WireMissingField, message));
    };
    let mut wanted = Vec::new();
    let mut fields = Fields::of(list);
    while let Some(field) = fields.next()? {
        if field.number == 1 {
            wanted.push(read_model(field.part("config")?)?);
        }
    }
    Ok(Change::Reload(wanted))
}

fn read_model(part: Part<'_>) -> Result<Wanted, Failure> {
    let (mut name, mut location) = (Cow::Borrowed(""), None);
    // TensorFlow Serving's default.
    let mut versions = Wanting::Latest(1);
    let mut labels = Vec::new();
    let mut fields = Fields::of(part);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => name = field.text("name")?,
            2 => {
                let path = field.text("base_path")?;
                location = (!path.is_empty()).then(|| path.into_owned());
            }
            7 => versions = read_policy(field.part("model_version_policy")?)?,
            8 => labels.push(read_label(field.part("version_labels")?)?),
            _ => {}
        }
    }
    let model = model_name(&name.replace('%', "%25"))?;
    Ok(Wanted { model, location, versions, labels })
}

fn read_policy(part: Part<'_>) -> Result<Wanting, Failure> {
    let mut wanting = Wanting::Latest(1);
    let mut fields = Fields::of(part);
    while let Some(field) = fields.next()? {
        match field.number {
            100 => {
                let mut count = 1;
                let mut latest = Fields::of(field.part("latest")?);
                while let Some(field) = latest.next()? {
                    if field.number == 1 {
                        count = field.number("num_versions")?.max(1);
                    }
                }
                wanting = Wanting::Latest(usize::try_from(count).unwrap_or(usize::MAX));
            }
            101 => wanting = Wanting::All,
            102 => {
                let mut only = Vec::new();
                let mut specific = Fields::of(field.part("specific")?);
                while let Some(field) = specific.next()? {
                    if field.number == 1 {
                        field.numbers("versions", |number| {
                            only.push(version(&(number as i64).to_string())?);
                            Ok(())
                        })?;
                    }
                }
                wanting = Wanting::Only(only);
            }
            _ => {}
        }
    }
    Ok(wanting)
}

fn read_label(part: Part<'_>) -> Result<(Version, Version), Failure> {
    let (mut label, mut number) = (Cow::Borrowed(""), 0);
    let mut fields = Fields::of(part);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => label = field.text("version_labels")?,
            2 => number = field.number("version_labels")? as i64,
            _ => {}
        }
    }
    Ok((version(&label)?, version(&number.to_string())?))
}

fn version(text: &str) -> Result<Version, Failure> {
    Version::parse(text).map_err(|text| {
        let message = format!("no version can be called {}", quoted(&text));
        Failure::new(ErrorCode::RequestUnknownVersion, message)
    })
}

/// `ReloadConfigResponse` of a list that is served: its status is present, and well.
pub fn encode_reloaded() -> Vec<u8> {
    let mut out = vec![0; PREFIX];
    push_message(&mut out, 1, |_ok| {});
    out
}
