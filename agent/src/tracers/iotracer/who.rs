//! Who uses the disk: processes with their files, and containers, those with the most bytes first.
//!
//! A process is charged with the requests that it made itself, and with its part of what threads of the kernel wrote
//! back: these write what others left in the page cache. Their bytes are divided among the processes that wrote more
//! to files than to the disk, by how much more, within the container if the kernel names one. That part is an estimate
//! and told apart.

use std::collections::HashMap;

use galen_bpf::{
    Inode,
    block_io::{self, Direction},
    file_io::{self, Kind},
};
use serde::Serialize;

use super::{
    evidence::Evidence,
    latency::{Timing, seconds},
    names::{Names, Place},
};
use crate::tracer::percent;

/// A process, as far as it is known.
#[derive(Debug, Clone, Serialize)]
pub(super) struct User {
    /// `null` if the kernel does not tell who makes a request.
    pub pid: Option<u32>,
    pub name: String,
    /// A thread of the kernel: it works for the container.
    kernel_thread: bool,
    #[serde(flatten)]
    pub place: Place,
    /// Requests that it made itself.
    pub read_bytes: u64,
    pub write_bytes: u64,
    /// Its part of what was written back, estimated; of a thread of the kernel, what it wrote back for processes.
    pub writeback_bytes: u64,
    /// Share of all bytes of the disk.
    pub percent: f64,
    errors: u64,
    /// Bytes of system calls, the page cache included.
    fs_read_bytes: u64,
    fs_write_bytes: u64,
    read: Option<Timing>,
    write: Option<Timing>,
    other: Option<Timing>,
    /// Those with the most bytes first.
    pub files: Vec<File>,
}

/// A file, as one process used it by system calls.
#[derive(Debug, Clone, Serialize)]
pub(super) struct File {
    pub path: String,
    read_bytes: u64,
    write_bytes: u64,
    reads: u64,
    writes: u64,
    syncs: u64,
    /// Of all these calls.
    mean_seconds: f64,
    max_seconds: f64,
    /// Age of the oldest call that was not over when the capture ended; 0 if there was none.
    pending_seconds: f64,
}

/// Processes of one container, or of the machine itself.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Group {
    #[serde(flatten)]
    pub place: Place,
    pub id: String,
    pub read_bytes: u64,
    pub write_bytes: u64,
    pub requests: u64,
    pub percent: f64,
}

impl User {
    /// Bytes that it is to blame for.
    fn weight(&self) -> u64 {
        match self.kernel_thread {
            true => (self.read_bytes + self.write_bytes).saturating_sub(self.writeback_bytes),
            false => self.read_bytes + self.write_bytes + self.writeback_bytes,
        }
    }

    /// Bytes that it wrote to files and that it did not bring to the disk itself.
    fn left_in_cache(&self) -> u64 {
        match self.kernel_thread {
            true => 0,
            false => self.fs_write_bytes.saturating_sub(self.write_bytes),
        }
    }
}

/// Everybody who used the disk.
pub(super) fn users(evidence: &Evidence, names: &Names) -> Vec<User> {
    let mut users: HashMap<(Option<u32>, Place), User> = HashMap::new();
    for usage in &evidence.usage {
        let place = names.place(usage.user.owner);
        let user = users.entry((usage.user.pid, place.clone())).or_insert_with(|| {
            blank(usage.user.pid, usage.user.comm.text().into_owned(), place, usage.user.is_kernel_thread)
        });
        user.charge(usage);
    }
    for usage in &evidence.files {
        let place = names.place(usage.owner);
        let user = users
            .entry((Some(usage.pid), place.clone()))
            .or_insert_with(|| blank(Some(usage.pid), usage.comm.text().into_owned(), place, false));
        user.fs_read_bytes += usage.totals(Kind::Read).bytes;
        user.fs_write_bytes += usage.totals(Kind::Write).bytes;
        user.files.push(file(usage, evidence));
    }
    let mut users: Vec<User> = users.into_values().collect();
    add_files_of_pending_calls(&mut users, evidence);
    divide_writeback(&mut users);
    let whole = bytes(evidence, Direction::Read) + bytes(evidence, Direction::Write);
    for user in &mut users {
        user.percent = percent(user.weight(), whole);
        user.files.sort_by_key(|file| std::cmp::Reverse(file.read_bytes + file.write_bytes));
    }
    users.sort_by_key(|user| std::cmp::Reverse((user.weight(), user.fs_read_bytes + user.fs_write_bytes)));
    users
}

/// Everybody's requests by container.
pub(super) fn groups(evidence: &Evidence, names: &Names) -> Vec<Group> {
    let whole = bytes(evidence, Direction::Read) + bytes(evidence, Direction::Write);
    let mut groups: HashMap<Place, Group> = HashMap::new();
    for usage in &evidence.usage {
        let place = names.place(usage.user.owner);
        let id = names.container(&place.cgroup).map(|container| container.id.clone()).unwrap_or_default();
        let group = groups.entry(place.clone()).or_insert_with(|| Group {
            place,
            id,
            read_bytes: 0,
            write_bytes: 0,
            requests: 0,
            percent: 0.0,
        });
        group.read_bytes += usage.totals(Direction::Read).bytes;
        group.write_bytes += usage.totals(Direction::Write).bytes;
        group.requests += requests(usage);
        group.percent = percent(group.read_bytes + group.write_bytes, whole);
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort_by_key(|group| std::cmp::Reverse((group.read_bytes + group.write_bytes, group.requests)));
    groups
}

pub(super) fn requests(usage: &block_io::Usage) -> u64 {
    Direction::ALL.iter().map(|direction| usage.totals(*direction).requests).sum()
}

pub(super) fn bytes(evidence: &Evidence, direction: Direction) -> u64 {
    evidence.usage.iter().map(|usage| usage.totals(direction).bytes).sum()
}

impl User {
    fn charge(&mut self, usage: &block_io::Usage) {
        let timing = |direction| Timing::of(usage.totals(direction));
        self.read_bytes += usage.totals(Direction::Read).bytes;
        self.write_bytes += usage.totals(Direction::Write).bytes;
        self.errors += usage.errors;
        // A process that is charged to two cgroups of one container shows the times of one.
        self.read = timing(Direction::Read).or(self.read.take());
        self.write = timing(Direction::Write).or(self.write.take());
        self.other = timing(Direction::Other).or(self.other.take());
    }
}

fn blank(pid: Option<u32>, name: String, place: Place, kernel_thread: bool) -> User {
    User {
        pid,
        name,
        kernel_thread,
        place,
        read_bytes: 0,
        write_bytes: 0,
        writeback_bytes: 0,
        percent: 0.0,
        errors: 0,
        fs_read_bytes: 0,
        fs_write_bytes: 0,
        read: None,
        write: None,
        other: None,
        files: Vec::new(),
    }
}

fn file(usage: &file_io::Usage, evidence: &Evidence) -> File {
    let totals = |kind| usage.totals(kind);
    let calls: u64 = Kind::ALL.iter().map(|kind| totals(*kind).calls).sum();
    let time: f64 = Kind::ALL.iter().map(|kind| totals(*kind).time.as_secs_f64()).sum();
    let pending = evidence.calls.iter().filter(|call| call.pid == usage.pid && call.file == usage.file);
    File {
        path: path(usage.file, evidence),
        read_bytes: totals(Kind::Read).bytes,
        write_bytes: totals(Kind::Write).bytes,
        reads: totals(Kind::Read).calls,
        writes: totals(Kind::Write).calls,
        syncs: totals(Kind::Sync).calls,
        mean_seconds: if calls > 0 { (time / calls as f64 * 1e6).round() / 1e6 } else { 0.0 },
        max_seconds: Kind::ALL.iter().map(|kind| seconds(totals(*kind).time_max)).fold(0.0, f64::max),
        pending_seconds: pending.map(|call| seconds(call.age)).fold(0.0, f64::max),
    }
}

/// A call that lasted for all of the capture is the only one of its process and file.
fn add_files_of_pending_calls(users: &mut Vec<User>, evidence: &Evidence) {
    let told = |call: &file_io::Call| evidence.files.iter().any(|file| file.pid == call.pid && file.file == call.file);
    for call in evidence.calls.iter().filter(|call| !told(call)) {
        let file = File {
            path: path(call.file, evidence),
            read_bytes: 0,
            write_bytes: 0,
            reads: 0,
            writes: 0,
            syncs: 0,
            mean_seconds: 0.0,
            max_seconds: 0.0,
            pending_seconds: seconds(call.age),
        };
        match users.iter_mut().find(|user| user.pid == Some(call.pid)) {
            Some(user) => user.files.push(file),
            None => {
                let name = std::fs::read_to_string(format!("/proc/{}/comm", call.pid)).unwrap_or_default();
                let mut user = blank(Some(call.pid), name.trim_end().to_owned(), Place::default(), false);
                user.files.push(file);
                users.push(user);
            }
        }
    }
}

fn path(file: Inode, evidence: &Evidence) -> String {
    let unknown = || format!("inode {} of device {}:{}", file.number, file.device >> 20, file.device & 0xf_ffff);
    evidence.names.get(&file).cloned().unwrap_or_else(unknown)
}

fn divide_writeback(users: &mut [User]) {
    let mut written: HashMap<Place, u64> = HashMap::new();
    for user in users.iter().filter(|user| user.kernel_thread) {
        *written.entry(user.place.clone()).or_default() += user.write_bytes;
    }
    for (place, written) in written {
        let is_of = |user: &User| place == Place::default() || user.place == place;
        let left: u64 = users.iter().filter(|user| is_of(user)).map(User::left_in_cache).sum();
        if left == 0 {
            continue;
        }
        // More may be written than was left meanwhile: it was left before.
        let share = (written as f64 / left as f64).min(1.0);
        let divided = (left as f64 * share) as u64;
        for user in users.iter_mut() {
            if user.kernel_thread && user.place == place {
                user.writeback_bytes = (user.write_bytes as f64 * divided as f64 / written.max(1) as f64) as u64;
            } else if is_of(user) {
                user.writeback_bytes += (user.left_in_cache() as f64 * share) as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> Place {
        Place { container: name.into(), cgroup: name.into() }
    }

    fn process(name: &str, place: Place, disk: u64, files: u64) -> User {
        User { write_bytes: disk, fs_write_bytes: files, ..blank(Some(1), name.into(), place, false) }
    }

    fn kernel_thread(place: Place, disk: u64) -> User {
        User { write_bytes: disk, ..blank(Some(2), "kworker".into(), place, true) }
    }

    fn weights(mut users: Vec<User>) -> Vec<u64> {
        divide_writeback(&mut users);
        users.iter().map(User::weight).collect()
    }

    #[test]
    fn what_is_written_back_is_divided_among_those_who_left_it_in_the_cache() {
        let host = Place::default;
        let users = vec![
            process("buffered", host(), 0, 900),
            process("other", place("/c"), 0, 100),
            process("direct", host(), 400, 400),
            kernel_thread(host(), 500),
        ];
        assert_eq!(weights(users), [450, 50, 400, 0]);
    }

    #[test]
    fn what_is_written_back_for_a_container_is_of_its_processes() {
        let users = vec![
            process("in", place("/c"), 0, 100),
            process("out", Place::default(), 0, 1000),
            kernel_thread(place("/c"), 80),
        ];
        assert_eq!(weights(users), [80, 0, 0]);
    }

    #[test]
    fn what_was_left_in_the_cache_before_stays_with_the_thread_that_writes_it() {
        assert_eq!(weights(vec![process("p", place("/c"), 0, 100), kernel_thread(place("/c"), 500)]), [100, 400]);
        assert_eq!(weights(vec![kernel_thread(place("/c"), 500)]), [500]);
    }
}
