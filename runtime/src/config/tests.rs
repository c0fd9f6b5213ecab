use std::{collections::BTreeMap, io::Write};

use serde::Deserialize;

use super::*;
use crate::{Size, Span};

#[derive(Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    /// Name of the node.
    node: String,
    /// Region, if any.
    region: Option<String>,
    /// Where to listen.
    listen: Listen,
    /// Per tracer.
    tracers: BTreeMap<String, Tracer>,
    tags: Vec<String>,
    limits: Option<Limits>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Listen {
    /// Address for agents.
    ///
    /// Loopback only.
    grpc: String,
    /// Connections at most.
    max_connections: u32,
    timeout: Span,
    window: Size,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Tracer {
    enabled: bool,
    threshold: f64,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Limits {
    rate: u32,
}

impl Default for Listen {
    fn default() -> Self {
        Self { grpc: "127.0.0.1:7400".into(), max_connections: 10, timeout: Span::from_secs(5), window: Size::mib(1) }
    }
}

fn read(file: &str, environment: &[(&str, &str)], overrides: &[(&str, &str)]) -> Result<Raw, String> {
    let mut named = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    named.write_all(file.as_bytes()).unwrap();
    let environment = environment.iter().map(|(k, v)| (k.to_string(), v.to_string()));
    let overrides: Vec<_> = overrides.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    load_from(Some(named.path()), "GALEN_TEST", environment, &overrides)
        .map_err(|error| error.to_string().replace(&named.path().display().to_string(), "galen.toml"))
}

#[test]
fn nothing_given_is_the_defaults() {
    assert_eq!(read("", &[], &[]), Ok(Raw::default()));
    assert_eq!(load::<Raw>(None, "GALEN_TEST_NONE", &[]).unwrap(), Raw::default());
}

#[test]
fn later_layers_win_and_leave_the_rest() {
    let file = "node = 'file'\nregion = 'file'\n[listen]\ngrpc = 'file'\nmax_connections = 20\n";
    let environment = [("GALEN_TEST__LISTEN__GRPC", "env"), ("GALEN_TEST__REGION", "env"), ("OTHER__NODE", "env")];
    let raw = read(file, &environment, &[("region", "arg")]).unwrap();
    assert_eq!((raw.node.as_str(), raw.region.as_deref()), ("file", Some("arg")));
    let expected = Listen { grpc: "env".into(), max_connections: 20, ..Listen::default() };
    assert_eq!(raw.listen, expected);
}

#[test]
fn text_is_read_as_the_type_that_is_expected() {
    let overrides = [
        ("node", "42"),
        ("region", "43"),
        ("listen.grpc", "'quoted'"),
        ("listen.max_connections", "42"),
        ("listen.timeout", "1m"),
        ("listen.window", "2MiB"),
        ("tracers.cpuidle.enabled", "true"),
        ("tracers.cpuidle.threshold", "0.5"),
        ("tags", "['a', 'b']"),
        ("limits.rate", "7"),
    ];
    let raw = read("", &[], &overrides).unwrap();
    assert_eq!((raw.node.as_str(), raw.region.as_deref()), ("42", Some("43")));
    assert_eq!(raw.listen.grpc, "quoted");
    assert_eq!(raw.listen.max_connections, 42);
    assert_eq!((raw.listen.timeout, raw.listen.window), (Span::from_secs(60), Size::mib(2)));
    assert_eq!(raw.tracers["cpuidle"], Tracer { enabled: true, threshold: 0.5 });
    assert_eq!(raw.tags, ["a", "b"]);
    assert_eq!(raw.limits, Some(Limits { rate: 7 }));
}

#[test]
fn maps_are_merged_by_entry() {
    let raw = read("[tracers.a]\nenabled = true\n[tracers.b]\n", &[("GALEN_TEST__TRACERS__A__THRESHOLD", "1.5")], &[])
        .unwrap();
    assert_eq!(raw.tracers["a"], Tracer { enabled: true, threshold: 1.5 });
    assert_eq!(raw.tracers["b"], Tracer::default());
}

#[test]
fn a_wrong_key_names_file_line_and_the_nearest_right_one() {
    assert_eq!(
        read("node = 'a'\n\n[listen]\nmax_conections = 1\n", &[], &[]).unwrap_err(),
        "galen.toml:4: there is no setting `listen.max_conections`, did you mean `listen.max_connections`?"
    );
    assert_eq!(
        read("[tracers.a]\nenable = true\n", &[], &[]).unwrap_err(),
        "galen.toml:2: there is no setting `tracers.a.enable`, did you mean `tracers.a.enabled`?"
    );
    assert_eq!(
        read("[limits]\nrat = 1\n", &[], &[]).unwrap_err(),
        "galen.toml:2: there is no setting `limits.rat`, did you mean `limits.rate`?"
    );
}

#[test]
fn a_key_in_the_wrong_section_names_the_right_one() {
    assert_eq!(
        read("grpc = 'a'\n", &[], &[]).unwrap_err(),
        "galen.toml:1: there is no setting `grpc`, did you mean `listen.grpc`?"
    );
}

#[test]
fn a_key_like_no_other_gets_no_suggestion() {
    assert_eq!(read("\nzzz = 1\n", &[], &[]).unwrap_err(), "galen.toml:2: there is no setting `zzz`");
}

#[test]
fn a_wrong_variable_or_argument_is_named() {
    assert_eq!(
        read("", &[("GALEN_TEST__LISTEN__GRCP", "x")], &[]).unwrap_err(),
        "environment variable GALEN_TEST__LISTEN__GRCP: there is no setting `listen.grcp`, did you mean `listen.grpc`?"
    );
    assert_eq!(
        read("", &[], &[("nodes", "x")]).unwrap_err(),
        "argument nodes: there is no setting `nodes`, did you mean `node`?"
    );
}

#[test]
fn a_wrong_value_names_file_line_and_key() {
    let error = read("node = 'a'\n[listen]\ntimeout = 5\n", &[], &[]).unwrap_err();
    assert!(error.starts_with("galen.toml:3: `listen.timeout`: ") && error.contains("such as \"5s\""), "{error}");
    let error = read("[tracers.a]\nthreshold = 'high'\n", &[], &[]).unwrap_err();
    assert!(error.starts_with("galen.toml:2: `tracers.a.threshold`: "), "{error}");
    let error = read("listen = 5\n", &[], &[]).unwrap_err();
    assert!(error.starts_with("galen.toml:1: `listen`: "), "{error}");
    let error = read("tags = ['a',\n 5]\n", &[], &[]).unwrap_err();
    assert!(error.starts_with("galen.toml:1: `tags[1]`: "), "{error}");
}

#[test]
fn a_wrong_value_names_the_layer_that_won() {
    let error =
        read("[listen]\nmax_connections = 5\n", &[("GALEN_TEST__LISTEN__MAX_CONNECTIONS", "-1")], &[]).unwrap_err();
    assert!(
        error.starts_with("environment variable GALEN_TEST__LISTEN__MAX_CONNECTIONS: `listen.max_connections`: "),
        "{error}"
    );
}

#[test]
fn text_cannot_bring_keys_of_its_own() {
    let error = read("", &[], &[("listen.max_connections", "1\nnode = 'x'")]).unwrap_err();
    assert!(error.starts_with("argument listen.max_connections: `listen.max_connections`: "), "{error}");
}

#[test]
fn bad_syntax_names_file_and_line() {
    let error = read("node = 'a'\nlisten = = 5\n", &[], &[]).unwrap_err();
    assert!(error.starts_with("galen.toml:2: not TOML: "), "{error}");
    let error = read("node = 'a'\nnode = 'b'\n", &[], &[]).unwrap_err();
    assert!(error.starts_with("galen.toml:2: not TOML: "), "{error}");
}

#[test]
fn a_missing_file_is_named() {
    let error = load::<Raw>(Some(Path::new("/nonexistent/galen.toml")), "GALEN_TEST", &[]).unwrap_err();
    assert_eq!(error.to_string(), "failed to read `/nonexistent/galen.toml`");
}

#[test]
fn the_default_file_has_every_doc_and_reads_back_as_the_defaults() {
    let text = defaults_toml::<Raw>();
    for line in
        ["# Name of the node.\nnode = \"\"\n", "#region =\n", "[listen]\n", "timeout = \"5s\"\n", "window = \"1MiB\"\n"]
    {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    assert!(text.contains("# Address for agents.\n#\n# Loopback only.\ngrpc = \"127.0.0.1:7400\"\n"), "{text}");
    assert!(text.contains("#[limits]\n"), "{text}");
    assert_eq!(read(&text, &[], &[]), Ok(Raw::default()), "{text}");
}

#[test]
fn the_schema_has_the_defaults_and_docs() {
    let schema: serde_json::Value = serde_json::from_str(&schema_json::<Raw>()).unwrap();
    let grpc = &schema["properties"]["listen"]["properties"]["grpc"];
    assert_eq!(grpc["default"], "127.0.0.1:7400");
    assert!(grpc["description"].as_str().unwrap().starts_with("Address for agents."));
}

#[test]
fn no_text_makes_it_panic() {
    let right = "node = \"größe\"\n[listen]\ntimeout = \"5s\"\n[tracers.\"ö\"]\nthreshold = 1.5 # ✓\n";
    for end in 0..right.len() {
        let cut = String::from_utf8_lossy(&right.as_bytes()[..end]).into_owned();
        for garbage in ["", "=", "\"", "'''", "[", "]]", "\u{0}", "\u{fe0f}é", ".", "{", "1e999", "0x", "\\u"] {
            let text = format!("{cut}{garbage}{}", right.get(end..).unwrap_or_default());
            let _ = read(&text, &[], &[("node", &text), ("listen.max_connections", &text)]);
            let _ = read(&text, &[], &[]);
        }
    }
}
