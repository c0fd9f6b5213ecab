//! The first signal asks, the second ends the process at once, also when its runtime is stuck.

use std::{
    io::{BufRead, BufReader},
    os::unix::process::ExitStatusExt,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use galen_runtime::signal;
use rustix::process::{Pid, Signal, kill_process};

const DEADLINE: Duration = Duration::from_secs(30);
const AS_CHILD: &str = "GALEN_TEST_SIGNALS_CHILD";

/// Killed when the test ends, however it ends.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_second_signal_ends_a_process_that_does_not_drain() {
    if std::env::var_os(AS_CHILD).is_some() {
        return be_the_child();
    }
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_second_signal_ends_a_process_that_does_not_drain", "--nocapture"])
        .env(AS_CHILD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Killed(child);
    let pid = Pid::from_child(&child.0);
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.ends_with("ready")));
    kill_process(pid, Signal::TERM).unwrap();
    assert!(lines.any(|line| line.ends_with("drains")));

    let deadline = Instant::now() + DEADLINE;
    let status = loop {
        if let Some(status) = child.0.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < deadline, "the child is still there");
        kill_process(pid, Signal::TERM).unwrap();
        thread::sleep(Duration::from_millis(10));
    };
    assert_eq!((status.code(), status.signal()), (Some(143), None));
}

#[allow(clippy::unwrap_used, clippy::print_stdout, reason = "part of a test")]
fn be_the_child() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut terminated = Box::pin(signal::terminated());
        // Polled once, the handler is there.
        tokio::select! {
            biased;
            () = &mut terminated => panic!("no signal was sent yet"),
            () = async {} => println!("ready"),
        }
        terminated.await;
        println!("drains");
        signal::on_second_signal_exit();
        // A runtime that is stuck.
        loop {
            thread::park();
        }
    });
}
