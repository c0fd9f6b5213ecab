//! The command as it is run: exit codes, messages, pipes.

use std::{
    io::{Read, Write},
    net::TcpListener,
    process::{Command, Output, Stdio},
};

fn galen(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_galen"));
    command.args(arguments).env_remove("GALEN_AGGREGATOR").stdin(Stdio::null());
    command
}

#[allow(clippy::unwrap_used, reason = "part of a test")]
fn run(arguments: &[&str]) -> (i32, String) {
    let Output { status, stderr, .. } = galen(arguments).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn an_aggregator_that_is_not_there_is_named_and_exits_with_4() {
    // Bound and given back: nothing listens there now.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{address}");
    for arguments in [&["status"][..], &["events", "--follow"], &["flame", "n/0000000000000001/1"]] {
        let (code, error) = run(&[&["--aggregator", &url], arguments].concat());
        assert_eq!(code, 4, "{error}");
        assert!(error.contains(&url) && error.contains("GALEN_AGGREGATOR"), "{error}");
    }
}

#[test]
fn a_server_that_is_no_aggregator_is_told_apart_and_exits_with_4() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    // As often as it is tried, until the test ends.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    let (code, error) = run(&["--aggregator", &url, "status"]);
    assert_eq!(code, 4, "{error}");
    assert!(error.contains("gRPC, not that of the page"), "{error}");
}

#[test]
fn wrong_usage_exits_with_2_and_says_what() {
    let cases: [(&[&str], &str); 9] = [
        (&["--aggregator", "http://10.0.0.1:7400", "status"], "loopback"),
        (&["--aggregator", "https://127.0.0.1:7400", "status"], "--ca-file"),
        (&["--aggregator", "nonsense", "status"], "nonsense"),
        (&["events", "--since", "yesterday"], "2026-05-01"),
        (&["events", "--limit", "0"], "--limit"),
        (&["incidents", "--severity", "bad"], "critical"),
        (&["incidents", "--follow", "--state", "open"], "--follow"),
        (&["reload", "web-1", "--set", "=x"], "KEY=VALUE"),
        (&["fly"], "fly"),
    ];
    for (arguments, text) in cases {
        let (code, error) = run(arguments);
        assert_eq!(code, 2, "{arguments:?}: {error}");
        assert!(error.contains(text), "{arguments:?}: {error}");
    }
}

#[test]
fn a_reader_that_leaves_ends_the_command_quietly() {
    let mut child = galen(&["completions", "bash"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut error = String::new();
    child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
    assert_eq!((child.wait().unwrap().code(), error.as_str()), (Some(0), ""));
}

#[test]
fn completions_are_made_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = galen(&["completions", shell]).output().unwrap();
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && script.contains("count-by"), "{shell}");
        assert!(!script.contains("tethered"), "{shell}: a hidden command shows");
    }
}
