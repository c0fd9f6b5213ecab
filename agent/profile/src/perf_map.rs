//! `/tmp/perf-<pid>.map`: names of code that a runtime made, in the form that Node.js, Java agents and others write.
//!
//! Each line is `START SIZE name`, the numbers in hexadecimal. The file only grows, and code moves: of two lines for one
//! address the later one holds.

use std::{borrow::Cow, fs, io::Read, ops::Range};

use crate::inside;

/// Beyond this the file is not read on: a map of that size has more code than can be hot.
const MAX_BYTES: u64 = 8 << 20;
/// What this many functions leave of the file is not read either: its lines may be of a few bytes.
const MAX_FUNCTIONS: usize = 1 << 17;

#[derive(Debug, Default)]
pub(crate) struct PerfMap {
    text: Vec<u8>,
    entries: Vec<Entry>,
    /// Size of the file when it was read.
    size: u64,
}

#[derive(Debug)]
struct Entry {
    start: u64,
    end: u64,
    name: Range<usize>,
}

impl PerfMap {
    /// Reads the file of a process again if it has grown; by how much, in bytes.
    pub(crate) fn refresh(&mut self, pid: u32) -> u64 {
        let Some(file) = inside::open(pid, &format!("/tmp/perf-{}.map", own_pid(pid))) else { return 0 };
        let size = file.metadata().map_or(0, |metadata| metadata.len().min(MAX_BYTES));
        if size <= self.size {
            return 0;
        }
        let grown = size - self.size;
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        if file.take(size).read_to_end(&mut bytes).is_ok() {
            *self = Self::parse(bytes);
            self.size = size;
        }
        grown
    }

    pub(crate) fn name(&self, address: u64) -> Option<Cow<'_, str>> {
        let after = self.entries.partition_point(|entry| entry.start <= address);
        let entry = self.entries[..after].last().filter(|entry| address < entry.end)?;
        Some(String::from_utf8_lossy(&self.text[entry.name.clone()]))
    }

    fn parse(text: Vec<u8>) -> Self {
        let mut entries = Vec::new();
        let mut at = 0;
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            at += line.len();
            if entries.len() == MAX_FUNCTIONS {
                break;
            }
            let behind = at - (line.len() - line.trim_ascii_end().len());
            let mut fields = line.trim_ascii_end().splitn(3, |byte| *byte == b' ');
            let mut number = || {
                let digits = str::from_utf8(fields.next()?).ok()?;
                u64::from_str_radix(digits.trim_start_matches("0x"), 16).ok()
            };
            let (Some(start), Some(size)) = (number(), number()) else { continue };
            let Some(name) = fields.next() else { continue };
            entries.push(Entry { start, end: start.saturating_add(size), name: behind - name.len()..behind });
        }
        // Stable, so that of equal starts the later line is the last.
        entries.sort_by_key(|entry| entry.start);
        Self { text, entries, size: 0 }
    }
}

/// The number that a process has in its own pid namespace.
fn own_pid(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    line.and_then(|numbers| numbers.split_whitespace().last()?.parse().ok()).unwrap_or(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_line_for_an_address_holds() {
        let map = PerfMap::parse(b"1000 10 old one\nnonsense\n2000 8 other\n1000 20 new one\n".to_vec());
        assert_eq!(map.name(0x1000).as_deref(), Some("new one"));
        assert_eq!(map.name(0x101f).as_deref(), Some("new one"));
        assert_eq!(map.name(0x1020), None);
        assert_eq!(map.name(0x2007).as_deref(), Some("other"));
        assert_eq!(map.name(0xfff), None);
    }

    #[test]
    fn functions_beyond_the_limit_are_left_out() {
        let mut text = b"1 1 a\n".repeat(MAX_FUNCTIONS);
        text.extend_from_slice(b"5000 10 late\n");
        assert_eq!(PerfMap::parse(text).name(0x5000), None);
    }

    #[test]
    fn a_pipe_in_place_of_the_map_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert!(inside::open(std::process::id(), pipe.to_str().unwrap()).is_none());
        assert!(inside::open(std::process::id(), "/dev/null").is_none());
    }

    #[test]
    fn map_of_a_running_process_is_read_and_read_again_when_it_grows() {
        let pid = std::process::id();
        assert_eq!(own_pid(pid), pid);
        let path = format!("/tmp/perf-{pid}.map");
        fs::write(&path, "1000 10 first\n").unwrap();
        let mut map = PerfMap::default();
        map.refresh(pid);
        let first = map.name(0x1000).map(Cow::into_owned);
        fs::write(&path, "1000 10 first\n3000 10 second\n").unwrap();
        map.refresh(pid);
        let second = map.name(0x3000).map(Cow::into_owned);
        fs::remove_file(&path).unwrap();
        assert_eq!((first.as_deref(), second.as_deref()), (Some("first"), Some("second")));
    }
}
