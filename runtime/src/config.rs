//! Settings in layers: defaults < file < environment < arguments.
//!
//! The raw settings are a struct with `deny_unknown_fields` and `default`, sections as nested structs, and a doc on
//! every field. A layer names a setting by its dotted key (`listen.grpc`): sections in the file,
//! `<PREFIX>__LISTEN__GRPC` in the environment. An error says where the value came from (file and line, variable,
//! argument), which key it is, and for a key that does not exist the nearest that does. From the same struct come the
//! commented default file, and the schema that the reference page is made from.

mod error;
mod flat;
mod layers;
mod reference;
mod shape;

use std::{env, fs, path::Path};

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};

pub use error::{Error, Origin};
pub use flat::{changed, flat};
pub use reference::{defaults_toml, schema_json};

use self::{layers::Layers, shape::Shape};

/// Reads the settings. `env_prefix` such as `GALEN_AGENT` takes in `GALEN_AGENT__LISTEN__GRPC=…`; `overrides` are
/// dotted keys with their values as text, later ones win.
pub fn load<R>(file: Option<&Path>, env_prefix: &str, overrides: &[(String, String)]) -> Result<R, Error>
where
    R: Serialize + DeserializeOwned + Default + JsonSchema,
{
    // A variable that is not Unicode can neither be one of ours nor hold a value of ours, but it may bear our prefix.
    let environment = env::vars_os().map(|(key, value)| (lossy(key), lossy(value)));
    load_from(file, env_prefix, environment, overrides)
}

fn load_from<R>(
    file: Option<&Path>,
    env_prefix: &str,
    environment: impl Iterator<Item = (String, String)>,
    overrides: &[(String, String)],
) -> Result<R, Error>
where
    R: Serialize + DeserializeOwned + Default + JsonSchema,
{
    let schema = reference::schema::<R>();
    let mut layers = Layers::new(&R::default(), Shape::of(&schema))?;
    if let Some(path) = file {
        let text = fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })?;
        layers.file(path, &text)?;
    }
    let prefix = format!("{env_prefix}__");
    let mut variables: Vec<_> =
        environment.filter_map(|(name, value)| Some((name.strip_prefix(&prefix)?.to_owned(), value))).collect();
    variables.sort();
    for (rest, value) in variables {
        let key = rest.split("__").map(str::to_lowercase).collect::<Vec<_>>();
        layers.text(&key, &value, Origin::Environment { variable: format!("{prefix}{rest}") })?;
    }
    for (key, value) in overrides {
        let path = key.split('.').map(str::to_owned).collect::<Vec<_>>();
        layers.text(&path, value, Origin::Argument { key: key.clone() })?;
    }
    layers.read()
}

fn lossy(text: std::ffi::OsString) -> String {
    text.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
