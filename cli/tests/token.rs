//! `galen token create`, and the file that `--token-file` names.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    process::{Command, Output},
};

use galen_runtime::access::{Entry, Role, Token};

fn galen(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_galen")).args(arguments).output().unwrap()
}

#[test]
fn a_token_is_printed_with_the_line_that_makes_it_known() {
    let made = galen(&["token", "create", "--name", "ada", "--role", "operate"]);
    assert!(made.status.success(), "{made:?}");
    let text = String::from_utf8(made.stdout).unwrap();
    let mut lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let token: Token = lines.next().unwrap().parse().unwrap();
    let entry: Entry = lines.next().unwrap().parse().unwrap();
    assert_eq!(entry, Entry::new("ada", Role::Operate, token.digest()).unwrap());
    assert_eq!(lines.next(), None);
}

#[test]
fn a_name_or_a_role_that_is_none_is_wrong_usage() {
    for wrong in [&["--name", "a b", "--role", "read"][..], &["--name", "ada", "--role", "root"], &["--name", "ada"]] {
        let refused = galen(&[&["token", "create"], wrong].concat());
        assert_eq!(refused.status.code(), Some(2), "{wrong:?}: {refused:?}");
    }
}

#[test]
fn a_token_file_is_for_its_owner_and_holds_a_token() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    let file = path.to_str().unwrap();
    // The file is looked at before anything is dialled.
    let says = |what: &str| {
        let refused = galen(&["status", "--token-file", file]);
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(2) && text.contains(what) && text.contains(file), "{text}");
    };
    says("failed to read");
    let token = Token::random().unwrap();
    fs::write(&path, token.reveal()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    says("chmod o-rwx");
    fs::write(&path, "secret").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    says("is no token");
    fs::write(&path, format!("{}\n", token.reveal())).unwrap();
    let dialled = galen(&["status", "--token-file", file, "--aggregator", "http://127.0.0.1:1"]);
    assert_eq!(dialled.status.code(), Some(4), "{dialled:?}");
}
