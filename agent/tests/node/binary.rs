//! The command itself.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

const AGENT: &str = env!("CARGO_BIN_EXE_galen-agent");

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts it, reads its log up to the line that says that it runs, ends it by SIGTERM: the log, and its exit code.
fn run_and_end(mut command: Command, data: &Path) -> (Vec<String>, Option<i32>) {
    command
        .args(["--set", "aggregator.endpoint=http://127.0.0.1:1", "--set"])
        .arg(format!("data_dir={}", data.display()));
    let mut running = Running(command.stderr(Stdio::piped()).spawn().unwrap());
    let mut log = Vec::new();
    let mut lines = BufReader::new(running.0.stderr.take().unwrap()).lines().map(Result::unwrap);
    for line in lines.by_ref() {
        let runs = line.contains("agent runs");
        log.push(line);
        if runs {
            break;
        }
    }
    crate::support::signal(running.0.id(), rustix::process::Signal::TERM);
    log.extend(lines);
    (log, running.0.wait().unwrap().code())
}

fn a_copy_for_everybody() -> (TempDir, PathBuf) {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let copy = dir.path().join("galen-agent");
    std::fs::copy(AGENT, &copy).unwrap();
    (dir, copy)
}

#[test]
fn a_term_signal_drains_and_exits_with_zero() {
    let data = tempfile::tempdir().unwrap();
    let (log, code) = run_and_end(Command::new(AGENT), data.path());
    assert_eq!(code, Some(0), "{log:#?}");
    assert!(log.iter().any(|line| line.contains("agent has ended") && line.contains("complete=true")), "{log:#?}");
}

#[test]
fn without_a_disk_it_starts_and_says_so_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "no directory").unwrap();
    let (log, code) = run_and_end(Command::new(AGENT), &file.join("data"));
    assert_eq!(code, Some(0), "{log:#?}");
    assert!(log.iter().any(|line| line.contains("agent runs")), "{log:#?}");
    assert_eq!(log.iter().filter(|line| line.contains("the buffer cannot be opened")).count(), 1, "{log:#?}");
}

#[test]
fn without_root_it_says_what_is_missing_and_goes_on() {
    let (dir, agent) = a_copy_for_everybody();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]).arg(agent);
    let (log, code) = run_and_end(command, &dir.path().join("data"));
    assert_eq!(code, Some(0), "{log:#?}");
    let said = log.iter().filter(|line| line.contains("not root") && line.contains("still detected"));
    assert_eq!(said.count(), 1, "{log:#?}");
    assert!(log.iter().any(|line| line.contains("tracer starts degraded") && line.contains("cpuidle")), "{log:#?}");
    assert!(log.iter().any(|line| line.contains("tracer is not supported here") && line.contains("oom")), "{log:#?}");
}

#[test]
fn without_btf_tracefs_and_bpffs_it_says_each_in_a_line_and_goes_on() {
    // Hidden under empty file systems, in a mount namespace of its own. Only `/sys` is made private, because `/` is no
    // mount point where the tests run in a changed root.
    let script = "mount --make-rprivate /sys || exit 8; for hidden in /sys/kernel/btf /sys/kernel/tracing /sys/kernel/debug /sys/fs/bpf; do \
        mount -t tmpfs none $hidden || exit 9; done; exec \"$0\" \"$@\"";
    let data = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation=unchanged", "sh", "-c", script, AGENT]);
    let (log, code) = run_and_end(command, data.path());
    assert_eq!(code, Some(0), "{log:#?}");
    for (missing, works) in
        [("no BTF at", "still detected"), ("no tracefs at", "still work"), ("no bpffs at", "still works")]
    {
        let lines: Vec<_> = log.iter().filter(|line| line.contains(missing)).collect();
        assert_eq!(lines.len(), 1, "{missing}: {log:#?}");
        assert!(lines[0].contains(works), "{lines:?}");
    }
}

#[test]
fn tracers_are_listed_and_the_default_settings_are_right() {
    let listed = Command::new(AGENT).arg("tracers").output().unwrap();
    let text = String::from_utf8(listed.stdout).unwrap();
    for tracer in ["cpuidle", "cpusys", "dload", "iotracer", "memburst", "oom"] {
        assert!(text.lines().any(|line| line.starts_with(tracer) && line.contains("enabled")), "{text}");
    }
    let dir = tempfile::tempdir().unwrap();
    let defaults = Command::new(AGENT).args(["config", "defaults"]).output().unwrap();
    let file = dir.path().join("agent.toml");
    std::fs::write(&file, defaults.stdout).unwrap();
    let check = Command::new(AGENT).args(["config", "check", "--config"]).arg(&file).status().unwrap();
    assert!(check.success());
    let wrong = Command::new(AGENT).args(["config", "check", "--set", "nod=x"]).output().unwrap();
    assert!(!wrong.status.success());
    assert!(String::from_utf8(wrong.stderr).unwrap().contains("did you mean `node`?"));
}
