//! Whether every dependency may be taken under licences that `deny.toml` allows.
//!
//! The same list serves cargo-deny; this check needs nothing but cargo, and takes a second.

use std::{env, fs, path::Path, process::Command};

use anyhow::{Context, ensure};
use serde::Deserialize;

#[derive(Deserialize)]
struct Deny {
    licenses: Licenses,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
    exceptions: Vec<Exception>,
}

#[derive(Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    name: String,
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
}

pub(crate) fn run() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has no parent directory")?;
    let deny = fs::read_to_string(root.join("deny.toml")).context("failed to read deny.toml")?;
    let deny: Deny = toml::from_str(&deny).context("failed to understand deny.toml")?;

    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--locked"])
        .current_dir(root)
        .output()
        .context("failed to run cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Metadata = serde_json::from_slice(&output.stdout).context("failed to understand cargo metadata")?;

    let wrong: Vec<_> = metadata.packages.iter().filter(|package| !may_be_used(package, &deny.licenses)).collect();
    for Package { name, version, license } in &wrong {
        let license = license.as_deref().unwrap_or("no licence");
        println_plain(&format!("{name} {version}: {license}: not allowed by deny.toml"));
    }
    ensure!(
        wrong.is_empty(),
        "{} of {} packages have a licence that is not allowed",
        wrong.len(),
        metadata.packages.len()
    );
    Ok(())
}

fn may_be_used(package: &Package, licenses: &Licenses) -> bool {
    let exceptions = licenses.exceptions.iter().filter(|exception| exception.name == package.name);
    let allowed: Vec<_> = licenses.allow.iter().chain(exceptions.flat_map(|exception| &exception.allow)).collect();
    let is_allowed = |name: &str| allowed.iter().any(|allowed| *allowed == name);
    package.license.as_deref().is_some_and(|expression| satisfied(expression, &is_allowed))
}

/// Whether an SPDX expression can be met by allowed licences. Older manifests write `/` for `OR`.
fn satisfied(expression: &str, is_allowed: &dyn Fn(&str) -> bool) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let tokens: Vec<_> = spaced.split_whitespace().collect();
    let mut rest = tokens.as_slice();
    any(&mut rest, is_allowed) && rest.is_empty()
}

fn any(tokens: &mut &[&str], is_allowed: &dyn Fn(&str) -> bool) -> bool {
    let mut met = all(tokens, is_allowed);
    while let [operator, rest @ ..] = *tokens
        && *operator == "OR"
    {
        *tokens = rest;
        // Not short-circuited: the tokens must be read in any case.
        met |= all(tokens, is_allowed);
    }
    met
}

fn all(tokens: &mut &[&str], is_allowed: &dyn Fn(&str) -> bool) -> bool {
    let mut met = one(tokens, is_allowed);
    while let [operator, rest @ ..] = *tokens
        && *operator == "AND"
    {
        *tokens = rest;
        met &= one(tokens, is_allowed);
    }
    met
}

fn one(tokens: &mut &[&str], is_allowed: &dyn Fn(&str) -> bool) -> bool {
    match **tokens {
        ["(", ref rest @ ..] => {
            *tokens = rest;
            let met = any(tokens, is_allowed);
            match **tokens {
                [")", ref rest @ ..] => {
                    *tokens = rest;
                    met
                }
                _ => false,
            }
        }
        [name, "WITH", exception, ref rest @ ..] => {
            *tokens = rest;
            is_allowed(&format!("{name} WITH {exception}"))
        }
        [name, ref rest @ ..] => {
            *tokens = rest;
            is_allowed(name)
        }
        [] => false,
    }
}

#[allow(clippy::print_stdout, reason = "the result of a chore is what it prints")]
fn println_plain(line: &str) {
    println!("{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expression: &str) -> bool {
        satisfied(expression, &|name| matches!(name, "MIT" | "Apache-2.0" | "Apache-2.0 WITH LLVM-exception"))
    }

    #[test]
    fn one_allowed_choice_is_enough() {
        for expression in ["MIT", "GPL-3.0 OR MIT", "MIT/GPL-3.0", "GPL-3.0 / MIT", "GPL-3.0 OR (GPL-2.0 OR MIT)"] {
            assert!(check(expression), "{expression}");
        }
    }

    #[test]
    fn all_that_are_joined_must_be_allowed() {
        assert!(check("(MIT OR GPL-3.0) AND Apache-2.0"));
        assert!(!check("(MIT OR Apache-2.0) AND GPL-3.0"));
        assert!(!check("MIT AND GPL-3.0"));
    }

    #[test]
    fn an_exception_is_part_of_the_licence() {
        assert!(check("Apache-2.0 WITH LLVM-exception"));
        assert!(!check("MIT WITH LLVM-exception"));
    }

    #[test]
    fn what_cannot_be_read_is_not_allowed() {
        for expression in ["", "MIT MIT", "(MIT", "MIT AND", "MIT)"] {
            assert!(!check(expression), "{expression}");
        }
    }
}
