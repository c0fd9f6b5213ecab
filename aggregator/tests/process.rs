//! The program itself: its arguments, its settings, its signals.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output},
    time::{Duration, Instant},
};

use galen_aggregator::{ADDRESSES_FILE, Addresses};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::tempdir;

const PATIENCE: Duration = Duration::from_secs(20);

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_galen-aggregator"))
}

/// Killed at the end, whatever happens.
struct Running {
    child: Child,
    messages: PathBuf,
    addresses: Addresses,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    fn start(data_dir: &Path, deadline: &str) -> Self {
        let messages = data_dir.join("messages");
        let mut command = program();
        for setting in [
            "listen.grpc=127.0.0.1:0",
            "listen.http=127.0.0.1:0",
            &format!("data_dir={}", data_dir.display()),
            &format!("shutdown_deadline={deadline}"),
        ] {
            command.args(["--set", setting]);
        }
        let child = command.stderr(fs::File::create(&messages).unwrap()).spawn().unwrap();
        let path = data_dir.join(ADDRESSES_FILE);
        wait_until("it listens", || path.exists());
        let addresses = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        fs::remove_file(&path).unwrap();
        Self { child, messages, addresses }
    }

    fn messages(&self) -> String {
        fs::read_to_string(&self.messages).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.child.id() as i32).unwrap(), signal).unwrap();
    }
}

fn wait_until(what: &str, mut met: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !met() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_wrong_key_names_file_line_key_and_the_nearest_right_one() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("aggregator.toml");
    fs::write(&file, "[listen]\n\ngrcp = \"127.0.0.1:1\"\n").unwrap();
    let output = program().arg("--config").arg(&file).args(["config", "check"]).output().unwrap();
    let text = stderr(&output);
    assert!(!output.status.success());
    for part in [&format!("{}:3", file.display()), "listen.grcp", "listen.grpc"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn the_printed_defaults_are_valid_settings() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("aggregator.toml");
    fs::write(&file, program().args(["config", "defaults"]).output().unwrap().stdout).unwrap();
    let output = program().arg("--config").arg(&file).args(["config", "check"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn an_address_beyond_loopback_is_refused_before_anything_is_opened() {
    let dir = tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let setting = format!("data_dir={}", data_dir.display());
    let output = program().args(["--set", &setting, "--set", "listen.grpc=0.0.0.0:0"]).output().unwrap();
    assert!(!output.status.success());
    assert!(stderr(&output).contains("TLS"), "{}", stderr(&output));
    assert!(!data_dir.exists());
}

#[test]
fn sigterm_drains_ends_with_code_zero_and_it_starts_again() {
    let dir = tempdir().unwrap();
    for _ in 0..2 {
        let mut running = Running::start(dir.path(), "4s");
        // Someone who is connected and says nothing does not hold it up for long.
        let _idle = TcpStream::connect(running.addresses.grpc).unwrap();
        running.signal(Signal::TERM);
        assert_eq!(running.child.wait().unwrap().code(), Some(0));
        assert!(!running.messages().contains("not everything ended"), "{}", running.messages());
    }
}

#[test]
fn a_second_sigterm_ends_it_at_once() {
    let dir = tempdir().unwrap();
    let mut running = Running::start(dir.path(), "1day");
    let _idle = TcpStream::connect(running.addresses.grpc).unwrap();
    running.signal(Signal::TERM);
    wait_until("it shuts down", || running.messages().contains("shutting down"));
    assert!(running.child.try_wait().unwrap().is_none(), "the idle connection holds it up");
    // Repeated, because the watch for the second signal begins a moment after the message.
    wait_until("it ends", || {
        running.signal(Signal::TERM);
        running.child.try_wait().unwrap().is_some()
    });
    assert_eq!(running.child.wait().unwrap().code(), Some(128 + 15));
}

#[test]
fn a_data_directory_in_use_is_refused_by_name() {
    let dir = tempdir().unwrap();
    let _running = Running::start(dir.path(), "4s");
    let setting = format!("data_dir={}", dir.path().display());
    let ports = ["--set", "listen.grpc=127.0.0.1:0", "--set", "listen.http=127.0.0.1:0"];
    let output = program().args(ports).args(["--set", &setting]).output().unwrap();
    assert!(!output.status.success());
    assert!(stderr(&output).contains(&*dir.path().to_string_lossy()), "{}", stderr(&output));
}
