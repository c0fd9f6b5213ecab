//! Many nodes that tell of two causes at once.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::{Command, Stdio},
};

use anyhow::{Result, ensure};
use galen_integration_tests::{burst::HOT_FUNCTION, process::program};

/// `nobody`.
const ORDINARY_USER: u32 = 65_534;

#[test]
fn a_storm_of_two_causes_becomes_two_incidents_with_exact_counts() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut command = Command::new(program("galen")?);
    if rustix::process::geteuid().is_root() {
        // An ordinary user cannot look into the target folder of root. As root it would provoke bursts at first.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        for name in ["galen", "galen-aggregator"] {
            fs::copy(program(name)?, dir.path().join(name))?;
        }
        command = Command::new(dir.path().join("galen"));
        command.uid(ORDINARY_USER);
    }
    let output = command.args(["demo", "--storm", "--nodes=50", "--for=6s"]).stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned();
    ensure!(output.status.success(), "{said}");
    assert_eq!(said.matches("counted exactly").count(), 2, "{said}");
    for part in ["shop/web", "shop/checkout", HOT_FUNCTION, " 0 unaccounted for"] {
        assert!(said.contains(part), "it does not say `{part}`: {said}");
    }
    Ok(())
}
