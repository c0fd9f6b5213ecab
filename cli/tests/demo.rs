//! The demo on this machine, with the real daemons, and the other commands against its aggregator.

use std::{
    fs,
    io::{self, BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const TRACERS: [&str; 7] = ["cpuidle", "cpusys", "waitrate", "dload", "iotracer", "memburst", "oom"];
const HOT_FUNCTION: &str = "galen_hot_function";

/// The demo, killed if the test fails; its children end with it.
struct Demo {
    process: Child,
    lines: BufReader<ChildStdout>,
}

impl Demo {
    #[allow(clippy::unwrap_used, reason = "part of a test")]
    fn start(arguments: &[&str]) -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_galen"));
        for daemon in ["galen-agent", "galen-aggregator"] {
            assert!(program.with_file_name(daemon).is_file(), "{daemon} is not built: cargo build --workspace");
        }
        let mut process = Command::new(program).arg("demo").args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap());
        Self { process, lines }
    }

    /// Ctrl-C, and that it then ends well and leaves no cgroup.
    #[allow(clippy::unwrap_used, reason = "part of a test")]
    fn ends(&mut self) {
        kill_process(Pid::from_child(&self.process), Signal::INT).unwrap();
        assert_eq!(self.process.wait().unwrap().code(), Some(0));
        let name = format!("galen-demo-{}", self.process.id());
        for root in ["", "cpu", "cpuacct", "memory", "blkio", "unified"] {
            let left = fs::read_dir(Path::new("/sys/fs/cgroup").join(root)).into_iter().flatten().flatten();
            let left: Vec<_> = left.filter(|entry| entry.file_name().to_string_lossy().starts_with(&name)).collect();
            assert!(left.is_empty(), "{left:?}");
        }
    }

    /// The words after the next line that begins with `label`. The demo gives up by itself, which ends its output.
    #[allow(clippy::unwrap_used, reason = "part of a test")]
    fn says(&mut self, label: &str) -> String {
        let mut seen = String::new();
        loop {
            let mut line = String::new();
            assert_ne!(self.lines.read_line(&mut line).unwrap(), 0, "the demo ended before `{label}`:\n{seen}");
            if let Some(rest) = line.trim().strip_prefix(label) {
                return rest.trim().to_owned();
            }
            seen.push_str(&line);
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[allow(clippy::unwrap_used, reason = "part of a test")]
fn galen(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_galen")).args(arguments).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn the_demo_catches_its_burst_answers_every_command_and_leaves_nothing() {
    if !galen_scratch::has_root("the demo") {
        return;
    }
    let mut demo = Demo::start(&[]);
    let id = demo.says("event ");
    let url = demo.says("query   galen --aggregator ");
    let url = url.split_whitespace().next().unwrap().to_owned();
    demo.says("Ctrl-C ends it");

    let ask = |arguments: &[&str]| galen(&[&["--aggregator", &url], arguments].concat());
    let (code, found) = ask(&["events", "tracer:cpuidle AND kind:capture", "--since", "1h", "--output", "json"]);
    let events: Vec<Value> = found.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((code, events.iter().any(|event| event["id"] == id)), (0, true), "{found}");
    let (code, counts) = ask(&["events", "--count-by", "tracer,kind"]);
    assert!(code == 0 && counts.contains("cpuidle") && counts.contains("trigger"), "{counts}");
    let (code, event) = ask(&["event", &id]);
    assert!(code == 0 && event.contains(&id) && event.contains("galen-demo-"), "{event}");
    for format in ["terminal", "folded", "svg"] {
        let (code, flame) = ask(&["flame", &id, "--format", format]);
        assert!(code == 0 && flame.contains(HOT_FUNCTION), "{format}: {flame}");
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cpu.pb.gz");
    assert_eq!(ask(&["flame", &id, "--format", "pprof", "--output-file", file.to_str().unwrap()]).0, 0);
    assert_eq!(fs::read(&file).unwrap()[..2], [0x1f, 0x8b], "gzip");
    for (arguments, text) in [("status", "1 connected"), ("nodes", "connected"), ("tracers", "cpuidle")] {
        let (code, answer) = ask(&[arguments]);
        assert!(code == 0 && answer.contains(text), "{arguments}: {answer}");
    }
    assert_eq!(ask(&["events", "tracer:("]).0, 2);
    assert_eq!(ask(&["event", "nobody/0000000000000001/1"]).0, 3);
    assert_eq!(ask(&["flame", "nobody/0000000000000001/1"]).0, 3);

    demo.ends();
    assert_eq!(ask(&["status"]).0, 4, "the aggregator is still there");
}

#[test]
fn with_all_each_tracer_catches_its_anomaly_and_no_disk_is_left() {
    if !galen_scratch::has_root("the demo of all tracers") {
        return;
    }
    let mut demo = Demo::start(&["--all"]);
    demo.says("Tracers");
    for tracer in TRACERS {
        let fate = demo.says(tracer);
        if fate.starts_with("left out") {
            // Past the harness, which keeps back what macros write.
            let _ = writeln!(io::stderr(), "skipped: the demo of {tracer}: {fate}");
        } else {
            assert!(fate.starts_with("caught after"), "{tracer}: {fate}");
        }
    }
    demo.says("Ctrl-C ends it");
    demo.ends();
    for device in fs::read_dir("/sys/block").unwrap().flatten() {
        let file = fs::read_to_string(device.path().join("loop/backing_file")).unwrap_or_default();
        assert!(!file.contains("/galen-demo-"), "{}: {file}", device.path().display());
    }
}
