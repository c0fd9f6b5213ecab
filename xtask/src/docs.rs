//! The pages of `docs/` that are made from the programs themselves, so that they cannot say anything else.
//!
//! `config-agent.md` and `config-aggregator.md` come from the JSON schema that the programs print, `metrics.md` from the
//! programs' own lists. The links of all pages are followed, too.

mod links;
mod metrics;

use std::{
    env,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail, ensure};
use serde_json::{Map, Value};

/// Name, page, prefix of the environment, and what becomes of settings that are read again.
const PROGRAMS: [(&str, &str, &str, &str); 2] = [
    (
        "galen-agent",
        "config-agent.md",
        "GALEN_AGENT",
        "On SIGHUP, and on `galen reload`, they are read again. Wrong ones are refused as a whole, and those of before hold \
         on. Tracers with new settings begin again with them, no other notices, and `log.filter` holds at once; other \
         settings that changed are named in the log and hold from the next start on.",
    ),
    (
        "galen-aggregator",
        "config-aggregator.md",
        "GALEN_AGGREGATOR",
        "On SIGHUP they are read again. Wrong ones are refused as a whole, and those of before hold on. \
         `telemetry.filter` holds at once, and so do the limits where there were some; other settings that changed are named \
         in the log and hold from the next start on.",
    ),
];

pub(crate) fn run(check: bool) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has no parent directory")?;
    let programs = build(root)?;
    let mut pages = Vec::new();
    for (program, page, prefix, again) in PROGRAMS {
        let schema = printed_by(&programs, program, &["config", "schema"])?;
        pages.push((page, config_page(program, prefix, again, &schema)?));
    }
    pages.push((
        "metrics.md",
        metrics::page(
            printed_by(&programs, "galen-aggregator", &["metrics"])?,
            printed_by(&programs, "galen-agent", &["metrics"])?,
        )?,
    ));
    let mut stale = Vec::new();
    for (page, text) in pages {
        let path = root.join("docs").join(page);
        if !check {
            fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))?;
        } else if fs::read_to_string(&path).unwrap_or_default() != text {
            stale.push(format!("docs/{page}"));
        }
    }
    ensure!(stale.is_empty(), "not up to date: {}; run `make docs`", stale.join(", "));
    let dead = links::dead(root)?;
    ensure!(dead.is_empty(), "links to what is not there:\n{}", dead.join("\n"));
    Ok(())
}

/// Builds the programs as the tests do, so that one build serves both, and returns the folder they are in.
fn build(root: &Path) -> anyhow::Result<PathBuf> {
    let own = env::current_exe().context("failed to find where programs are built")?;
    let folder = own.parent().context("a program lies in a folder")?.to_owned();
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--locked", "--workspace", "--bins"])
        .current_dir(root)
        .status()
        .context("failed to run cargo")?;
    ensure!(status.success(), "the programs cannot be built");
    Ok(folder)
}

/// Asks a program for JSON.
fn printed_by(folder: &Path, program: &str, question: &[&str]) -> anyhow::Result<Value> {
    let output = Command::new(folder.join(program))
        .args(question)
        .output()
        .with_context(|| format!("failed to run {program}"))?;
    let question = question.join(" ");
    if !output.status.success() {
        bail!("{program} {question}: {}", String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_slice(&output.stdout).with_context(|| format!("{program} {question}: not JSON"))
}

fn config_page(program: &str, prefix: &str, again: &str, schema: &Value) -> anyhow::Result<String> {
    let mut page = format!(
        "<!-- Made by `make docs` from `{program} config schema`: edit the docs of the settings instead. -->\n\
         # Settings of {program}\n\n\
         Layers, later ones win: defaults, the TOML file (`--config FILE` or `{prefix}_CONFIG`), the environment (`{prefix}__SECTION__KEY`), \
         arguments (`--set section.key=value`). `{program} config defaults` prints a file with all of them, \
         `{program} config check` reads one and says what is wrong.\n\n{again}\n"
    );
    section(&mut page, "", schema)?;
    Ok(page)
}

fn section(page: &mut String, path: &str, schema: &Value) -> anyhow::Result<()> {
    let none = Map::new();
    let properties = properties(schema).unwrap_or(&none);
    let (sections, settings): (Vec<_>, Vec<_>) = properties.iter().partition(|(_, schema)| is_section(schema));
    if !path.is_empty() {
        writeln!(page, "\n## `[{path}]`\n")?;
        if let Some(text) = description(schema) {
            writeln!(page, "{text}\n")?;
        }
    } else {
        writeln!(page)?;
    }
    if !settings.is_empty() {
        writeln!(page, "| Key | Type | Default | |\n|---|---|---|---|")?;
    }
    for (key, schema) in settings {
        let default = match schema.get("default") {
            None | Some(Value::Null) => String::new(),
            Some(value) => format!("`{value}`"),
        };
        let text = description(schema).unwrap_or_default().replace("\n\n", "<br>").replace('\n', " ");
        let text = text.replace('|', "\\|");
        writeln!(page, "| `{key}` | {} | {default} | {text} |", type_of(schema))?;
    }
    for (key, schema) in sections {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match entry_of(schema) {
            Some(entry) => section(page, &format!("{path}.NAME"), entry)?,
            None => section(page, &path, schema)?,
        }
    }
    Ok(())
}

fn is_section(schema: &Value) -> bool {
    properties(schema).is_some() || entry_of(schema).is_some()
}

/// What a map of structs maps to.
fn entry_of(schema: &Value) -> Option<&Value> {
    schema.get("additionalProperties").filter(|entry| properties(entry).is_some())
}

fn properties(schema: &Value) -> Option<&Map<String, Value>> {
    let own = schema.get("properties").and_then(Value::as_object);
    own.or_else(|| forms(schema).find_map(properties))
}

fn forms(schema: &Value) -> impl Iterator<Item = &Value> {
    ["anyOf", "oneOf", "allOf"].into_iter().filter_map(|key| schema.get(key)?.as_array()).flatten()
}

fn description(schema: &Value) -> Option<&str> {
    schema.get("description").and_then(Value::as_str)
}

/// In words, such as `duration`, `integer ≥ 1`, `text or nothing`, `` `text` or `json` ``.
fn type_of(schema: &Value) -> String {
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ");
    }
    if let Some(value) = schema.get("const") {
        return format!("`{value}`");
    }
    let mut names: Vec<String> = match schema.get("type") {
        Some(Value::String(name)) => vec![name.clone()],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => forms(schema).map(type_of).collect(),
    };
    names.dedup();
    let names = names.into_iter().map(|name| match (name.as_str(), schema.get("format").and_then(Value::as_str)) {
        ("string", Some(format @ ("duration" | "size"))) => format.to_owned(),
        ("string", _) => "text".into(),
        ("boolean", _) => "true or false".into(),
        ("null", _) => "nothing".into(),
        ("object", _) => "table".into(),
        ("array", _) => match schema.get("items") {
            Some(items) => format!("list of {}", type_of(items)),
            None => "list".into(),
        },
        _ => name,
    });
    names.collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sections_follow_the_settings_and_maps_have_a_name() {
        let schema = json!({ "properties": {
            "listen": { "description": "Where.", "properties": {
                "grpc": { "type": "string", "default": "127.0.0.1:7400", "description": "For agents." },
            } },
            "node": { "type": ["string", "null"], "description": "One | two\nlines." },
            "tracers": { "additionalProperties": { "properties": { "window": { "type": "string", "format": "duration" } } } },
        } });
        let page = config_page("galen-agent", "GALEN_AGENT", "Again.", &schema).unwrap();
        let body = page.split_once("Again.\n").unwrap().1;
        assert_eq!(
            body,
            "\n| Key | Type | Default | |\n|---|---|---|---|\n| `node` | text or nothing |  | One \\| two lines. |\n\
             \n## `[listen]`\n\nWhere.\n\n| Key | Type | Default | |\n|---|---|---|---|\n\
             | `grpc` | text | `\"127.0.0.1:7400\"` | For agents. |\n\
             \n## `[tracers.NAME]`\n\n| Key | Type | Default | |\n|---|---|---|---|\n| `window` | duration |  |  |\n"
        );
    }
}
