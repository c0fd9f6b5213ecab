//! What is said where programs cannot be loaded. The test runs itself again without privileges.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{os::unix::process::CommandExt, process::Command};

use galen_profile::{Kernel, Support};

const AGAIN: &str = "GALEN_TEST_WITHOUT_PRIVILEGES";
const NOBODY: u32 = 65534;

#[test]
fn missing_privileges_are_named_in_one_line() {
    if std::env::var_os(AGAIN).is_some() {
        let error = Kernel::open().unwrap_err();
        let reason = error.reason();
        assert_eq!(reason, "needs root, or the capabilities CAP_BPF and CAP_PERFMON");
        assert_eq!(error.support(), Support::Unsupported(reason));
        return;
    }
    // The folder of the test may be closed to others, so the program is handed over as a copy.
    let copy = std::env::temp_dir().join(format!("galen-denied-{}", std::process::id()));
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let output = Command::new(&copy)
        .args(["--exact", "missing_privileges_are_named_in_one_line"])
        .env(AGAIN, "1")
        .current_dir("/")
        .uid(NOBODY)
        .gid(NOBODY)
        .output();
    let _ = std::fs::remove_file(&copy);
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
