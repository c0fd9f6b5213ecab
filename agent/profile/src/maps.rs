//! `/proc/<pid>/maps`: which file, or what else, is at an address of a process.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
};

/// Executable mappings of a process; those behind are left out. Even browsers have hundreds.
const MAX_MAPPINGS: usize = 4096;
/// A process may have 65,530 mappings, of paths that are as long as it likes.
const MAX_BYTES: u64 = 16 << 20;
/// A longer path opens nothing.
const MAX_LINE_BYTES: u64 = 4096 + 128;

/// An executable mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mapping {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Where in the file `start` is.
    pub(crate) offset: u64,
    pub(crate) what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    File {
        /// Major number in the upper half, minor in the lower.
        device: u64,
        inode: u64,
        /// As seen by the process, in its mount namespace.
        path: String,
    },
    /// `[vdso]` and the like.
    Special(String),
    /// Memory without a file: code that was made at run time.
    Anonymous,
}

/// The executable mappings of a process, in the order of their addresses.
///
/// # Errors
/// The process is gone, or may not be looked at.
pub(crate) fn read(pid: u32) -> io::Result<Vec<Mapping>> {
    // A process that is gone but not yet waited for has an empty file.
    parse_all(BufReader::new(File::open(format!("/proc/{pid}/maps"))?.take(MAX_BYTES)))
}

/// The mapping that has an address.
pub(crate) fn find(mappings: &[Mapping], address: u64) -> Option<&Mapping> {
    let after = mappings.partition_point(|mapping| mapping.start <= address);
    let mapping = mappings.get(after.checked_sub(1)?)?;
    (address < mapping.end).then_some(mapping)
}

fn parse_all(mut text: impl BufRead) -> io::Result<Vec<Mapping>> {
    let mut mappings = Vec::new();
    let mut line = Vec::new();
    while mappings.len() < MAX_MAPPINGS {
        line.clear();
        if text.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if line.pop() == Some(b'\n') {
            mappings.extend(parse(&String::from_utf8_lossy(&line)));
        } else {
            text.skip_until(b'\n')?;
        }
    }
    Ok(mappings)
}

fn parse(line: &str) -> Option<Mapping> {
    let mut fields = line.splitn(6, ' ');
    let (start, end) = fields.next()?.split_once('-')?;
    if fields.next()?.as_bytes().get(2) != Some(&b'x') {
        return None;
    }
    let offset = u64::from_str_radix(fields.next()?, 16).ok()?;
    let (major, minor) = fields.next()?.split_once(':')?;
    let device = u64::from_str_radix(major, 16).ok()? << 32 | u64::from_str_radix(minor, 16).ok()?;
    let inode: u64 = fields.next()?.parse().ok()?;
    let path = fields.next().unwrap_or_default().trim_start();
    let what = match (inode, path) {
        (0, "") => What::Anonymous,
        (0, path) if path.starts_with("[anon") => What::Anonymous,
        (0, path) => What::Special(path.to_owned()),
        (inode, path) => What::File { device, inode, path: path.strip_suffix(" (deleted)").unwrap_or(path).to_owned() },
    };
    Some(Mapping { start: u64::from_str_radix(start, 16).ok()?, end: u64::from_str_radix(end, 16).ok()?, offset, what })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_executable_mappings_are_kept() {
        let text = "\
558e5f1d2000-558e5f1d4000 r--p 00000000 fe:00 1835                       /usr/bin/cat
558e5f1d4000-558e5f1d9000 r-xp 00002000 fe:00 1835                       /usr/bin/a cat (deleted)
7f3dc0000000-7f3dc0021000 r-xp 00000000 00:00 0
7fff84d6f000-7fff84d71000 r-xp 00000000 00:00 0                          [vdso]";
        let found = parse_all(format!("{text}\n").as_bytes()).unwrap();
        assert_eq!(found.len(), 3);
        assert_eq!(found[0].offset, 0x2000);
        assert_eq!(found[0].what, What::File { device: 0xfe << 32, inode: 1835, path: "/usr/bin/a cat".to_owned() });
        assert_eq!(found[1].what, What::Anonymous);
        assert_eq!(found[2].what, What::Special("[vdso]".to_owned()));
        assert_eq!(find(&found, 0x558e_5f1d_8fff), Some(&found[0]));
        assert_eq!(find(&found, 0x558e_5f1d_9000), None);
        assert_eq!(find(&found, 0), None);
    }

    #[test]
    fn paths_and_mappings_beyond_the_limit_are_left_out() {
        let line = |path: &str| format!("1000-2000 r-xp 00000000 fe:00 1 {path}\n");
        let text = line(&"long/".repeat(2000)) + &line("/short");
        assert_eq!(parse_all(text.as_bytes()).unwrap().len(), 1);
        let text = line("/short").repeat(MAX_MAPPINGS + 1);
        assert_eq!(parse_all(text.as_bytes()).unwrap().len(), MAX_MAPPINGS);
    }

    #[test]
    fn own_code_is_found() {
        let mappings = read(std::process::id()).unwrap();
        let here = own_code_is_found as *const () as u64;
        assert!(matches!(find(&mappings, here).unwrap().what, What::File { .. }));
    }
}
