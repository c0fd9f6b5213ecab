//! Workloads that cut, rewrite or forge the files that their code is in, while captures run. They need root.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking and says when it is skipped")]

#[allow(dead_code, reason = "each test program uses a part of it")]
mod support;

use std::{
    fs::{File, OpenOptions},
    io::Write,
    os::{fd::OwnedFd, unix::fs::FileExt},
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use galen_profile::{Cancel, Profile, Request, Sampler, Scope, Settings};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::inotify,
};
use support::{Cgroup, Load, any, sampler};

/// Behind it there are only the symbols, which no program loads.
const LOADED: u64 = 2 << 20;

/// Its symbols take megabytes, so that reading them takes a while.
fn library(folder: &Path) -> std::path::PathBuf {
    let (source, library) = (folder.join("library.s"), folder.join("library.so"));
    let mut text = String::from(
        ".text\n.globl galen_library_loop\n.type galen_library_loop, %function\ngalen_library_loop:\n1:\n.rept 1000\nnop\n.endr\n",
    );
    text += if cfg!(target_arch = "x86_64") { "jmp 1b\n" } else { "b 1b\n" };
    text += ".size galen_library_loop, .-galen_library_loop\n.macro filler\n.type galen_filler_\\@, %function\n\
             galen_filler_\\@: nop\n.size galen_filler_\\@, .-galen_filler_\\@\n.endm\n\
             .rept 300000\nfiller\n.endr\n.section .note.GNU-stack,\"\"\n";
    std::fs::write(&source, text).unwrap();
    let built = Command::new("cc").args(["-shared", "-nostdlib", "-o"]).arg(&library).arg(&source).status();
    assert!(built.is_ok_and(|status| status.success()), "cannot assemble a library with cc");
    library
}

/// Cuts a file as soon as somebody opens or reads it, and makes it whole when nobody does.
struct Cutter {
    file: File,
    bytes: Vec<u8>,
    looks: OwnedFd,
}

impl Cutter {
    fn of(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        assert!(bytes.len() as u64 > 2 * LOADED);
        let file = OpenOptions::new().write(true).open(path).unwrap();
        let looks = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).unwrap();
        inotify::add_watch(&looks, path, inotify::WatchFlags::OPEN | inotify::WatchFlags::ACCESS).unwrap();
        Self { file, bytes, looks }
    }

    /// How many times it was cut.
    fn cut_until(&self, done: &AtomicBool) -> u32 {
        let (mut cuts, mut is_whole) = (0, true);
        let quiet = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        while !done.load(Ordering::Relaxed) {
            let mut waited = [PollFd::new(&self.looks, PollFlags::IN)];
            let looked = poll(&mut waited, Some(&quiet)).unwrap() > 0;
            if looked {
                while rustix::io::read(&self.looks, &mut [0_u8; 4096]).is_ok() {}
            }
            if looked && is_whole {
                self.file.set_len(LOADED).unwrap();
                cuts += 1;
            } else if !looked && !is_whole {
                self.make_whole();
            }
            is_whole = !looked;
        }
        self.make_whole();
        cuts
    }

    fn make_whole(&self) {
        self.file.write_all_at(&self.bytes[LOADED as usize..], LOADED).unwrap();
    }
}

fn brief(sampler: &Sampler, cgroup: &Cgroup) -> Profile {
    let request = Request { scope: Scope::Cgroups(vec![cgroup.target()]), duration: Duration::from_millis(500) };
    sampler.capture(&request, &Cancel::new().unwrap()).unwrap()
}

fn names(profile: &Profile) -> Vec<&str> {
    profile.summary.hottest_functions.iter().map(|function| function.name.as_str()).collect()
}

#[test]
fn a_library_that_is_cut_while_it_is_read_does_not_end_the_captures_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let library = library(folder.path());
    let cgroup = Cgroup::below(&any());
    let _others = Load::start("spin", &cgroup);
    let _load = Load::with(&["library".as_ref(), library.as_os_str()], &cgroup);
    let sampler = sampler(&Settings::default());
    let whole = brief(&sampler, &cgroup);
    assert!(names(&whole).contains(&"galen_library_loop"), "{:#?}", whole.summary);

    let cutter = Cutter::of(&library);
    let done = AtomicBool::new(false);
    let cuts = std::thread::scope(|scope| {
        let cuts = scope.spawn(|| cutter.cut_until(&done));
        let profiles: Vec<_> = (0..5).map(|_| brief(&sampler, &cgroup)).collect();
        done.store(true, Ordering::Relaxed);
        for profile in &profiles {
            assert!(names(profile).contains(&"galen_hot_loop"), "{:#?}", profile.summary);
        }
        cuts.join().unwrap()
    });
    assert!(cuts > 0);

    let whole = brief(&sampler, &cgroup);
    assert!(names(&whole).contains(&"galen_library_loop"), "{:#?}", whole.summary);
}

/// A header that promises tables of the largest size, in a file that has room for them and takes none.
fn forged(path: &Path) {
    let mut file = File::create(path).unwrap();
    let mut bytes = vec![0; 4096];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, b"\x7fELF\x02\x01\x01");
    put(16, &3_u16.to_le_bytes());
    put(20, &1_u32.to_le_bytes());
    // The program headers, then the section headers.
    put(32, &64_u64.to_le_bytes());
    put(40, &1024_u64.to_le_bytes());
    put(52, &[64, 0, 56, 0, 1, 0, 64, 0, 3, 0, 2, 0]);
    // The first segment loads all of the file.
    put(64, &1_u32.to_le_bytes());
    put(64 + 32, &u64::MAX.to_le_bytes());
    put(64 + 40, &u64::MAX.to_le_bytes());
    // Symbols without end, and their names.
    let table = 1024 + 64;
    put(table + 4, &2_u32.to_le_bytes());
    put(table + 32, &(1_u64 << 42).to_le_bytes());
    put(table + 40, &2_u32.to_le_bytes());
    put(table + 64 + 4, &3_u32.to_le_bytes());
    put(table + 64 + 24, &u64::MAX.to_le_bytes());
    put(table + 64 + 32, &u64::MAX.to_le_bytes());
    file.write_all(&bytes).unwrap();
    // A jump to itself.
    let code: &[u8] = if cfg!(target_arch = "x86_64") { &[0xeb, 0xfe] } else { &[0x00, 0x00, 0x00, 0x14] };
    file.write_all(code).unwrap();
    file.set_len(1 << 43).unwrap();
}

#[test]
fn a_forged_program_has_no_names_and_costs_others_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("forged");
    forged(&file);
    let cgroup = Cgroup::below(&any());
    let _others = Load::start("spin", &cgroup);
    let _load = Load::with(&["mapped".as_ref(), file.as_os_str()], &cgroup);
    let profile = brief(&sampler(&Settings::default()), &cgroup);
    let names = names(&profile);
    assert!(names.contains(&"galen_hot_loop"), "{:#?}", profile.summary);
    assert!(names.contains(&"forged+0x1000"), "{:#?}", profile.summary);
}

#[test]
fn a_pipe_in_place_of_a_map_of_made_code_is_not_waited_for() {
    let cgroup = Cgroup::below(&any());
    let load = Load::start("made", &cgroup);
    let map = format!("/tmp/perf-{}.map", load.pid());
    let deadline = Instant::now() + Duration::from_secs(20);
    while !Path::new(&map).exists() {
        assert!(Instant::now() < deadline, "no {map}");
        std::thread::yield_now();
    }
    std::fs::remove_file(&map).unwrap();
    assert!(Command::new("mkfifo").arg(&map).status().unwrap().success());
    let profile = brief(&sampler(&Settings::default()), &cgroup);
    std::fs::remove_file(&map).unwrap();
    assert!(names(&profile).contains(&"[code made at run time]"), "{:#?}", profile.summary);
}
