//! Tasks that wait, and tasks that sleep.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::LazyLock,
};

/// The program of `blocked.c`.
static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    // Another run of the tests may be at it.
    let unfinished = folder.join(format!("blocked-{}", std::process::id()));
    let mut compiler = Command::new("cc")
        .args(["-O1", "-pthread", "-x", "c", "-", "-o"])
        .arg(&unfinished)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run cc: {error}"));
    compiler.stdin.take().unwrap().write_all(include_bytes!("blocked.c")).unwrap();
    assert!(compiler.wait().unwrap().success(), "cannot compile blocked.c with cc");
    fs::rename(unfinished, folder.join("blocked")).unwrap();
    folder.join("blocked")
});

/// To be run by a shell: a process with so many threads in uninterruptible sleep.
pub(crate) fn waiting(threads: usize) -> String {
    format!("exec {} {threads}", PROGRAM.display())
}

/// The same, just asleep.
pub(crate) fn sleeping(threads: usize) -> String {
    format!("{} quiet", waiting(threads))
}

/// How many threads a process has in this state, such as `D`, as procfs tells.
pub(crate) fn threads_in_state(pid: u32, state: char) -> usize {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let stats = tasks.filter_map(|task| fs::read_to_string(task.path().join("stat")).ok());
    stats.filter(|stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(state))).count()
}
