//! `galen certs init`: what is there afterwards, and what is never touched.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use galen_runtime::tls::{self, File, Files};

fn init(dir: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_galen")).args(["certs", "init"]).arg(dir).args(more).output().unwrap()
}

fn files(dir: &Path, name: &str) -> Files {
    Files {
        certificate: File::new("certificate", dir.join(format!("{name}.pem"))),
        key: File::new("key", dir.join(format!("{name}.key"))),
        authorities: File::new("ca", dir.join("ca.pem")),
        revoked: Vec::new(),
    }
}

#[test]
fn a_set_is_whole_its_keys_are_for_the_owner_and_its_settings_are_printed() {
    let dir = tempfile::tempdir().unwrap();
    let set = dir.path().join("tls");
    let made = init(&set, &["--node", "web-1", "--node", "web-2", "--host", "aggregator.example"]);
    assert!(made.status.success(), "{made:?}");
    for name in ["aggregator", "node-web-1", "node-web-2", "user-operator"] {
        let material = files(&set, name).read().unwrap();
        tls::client(&material, tls::HTTP_2).unwrap();
    }
    for entry in fs::read_dir(&set).unwrap() {
        let path = entry.unwrap().path();
        let is_key = path.extension().unwrap() == "key";
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert!(!is_key || mode == 0o600, "{} has {mode:o}", path.display());
    }
    assert_eq!(fs::metadata(&set).unwrap().permissions().mode() & 0o777, 0o700);
    let text = String::from_utf8(made.stdout).unwrap();
    for told in [
        "aggregator.toml",
        "agent.toml of web-2",
        "https://aggregator.example:7400",
        "node-web-1.key",
        "ca.pem",
        "operator = \"admin\"",
    ] {
        assert!(text.contains(told), "{told}: {text}");
    }
}

#[test]
fn nothing_that_is_there_is_overwritten_and_nothing_is_begun_with_a_wrong_name() {
    let dir = tempfile::tempdir().unwrap();
    let set = dir.path().join("tls");
    assert!(init(&set, &[]).status.success());
    let before = fs::read(set.join("ca.key")).unwrap();
    let again = init(&set, &["--node", "web-1"]);
    assert_eq!(again.status.code(), Some(2), "{again:?}");
    assert!(String::from_utf8_lossy(&again.stderr).contains("not empty"), "{again:?}");
    assert_eq!(fs::read(set.join("ca.key")).unwrap(), before);

    let other = dir.path().join("other");
    for wrong in [&["--node", "a/b"][..], &["--host", "a b"], &["--trust-domain", ""]] {
        let refused = init(&other, wrong);
        assert_eq!(refused.status.code(), Some(2), "{wrong:?}: {refused:?}");
        assert!(!other.exists(), "{wrong:?}");
    }
}
