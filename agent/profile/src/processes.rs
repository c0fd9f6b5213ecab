//! What the processes that were sampled have mapped, and which code a frame of them is in.
//!
//! Mappings are read when a process is first seen, and again when an address is in none of them: at most once a drain
//! where the CPU itself was there, at most once a second where a caller was, which may as well be nonsense. All files of
//! the mappings are opened then, because a frame may come with a build id alone, of a process that has ended: any
//! process that had the file names it. Bounded: full of processes, it forgets them all and reads anew; what was not
//! sampled for a minute is let go, so that files and mounts are not held.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use galen_bpf::{cpu_profile::UserFrame, flight::Image};

pub(crate) use crate::files::CodeFile;
use crate::{
    files::Files,
    maps::{self, Mapping, What},
    perf_map::PerfMap,
};

/// Processes whose mappings are kept.
const MAX_PROCESSES: usize = 1024;
/// Names of code made at run time, of all processes together; what is beyond has no names.
const MAX_MADE_CODE_BYTES: u64 = 16 << 20;
/// How long a process is remembered that is not sampled any more: longer than the flight recorder looks back.
const REMEMBERED: Duration = Duration::from_secs(60);

const SECOND: Duration = Duration::from_secs(1);

/// Where code is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    Kernel(u64),
    File {
        file: Arc<CodeFile>,
        /// From the begin of the file.
        offset: u64,
    },
    /// `[vdso]` and the like, or a function that a runtime made and named.
    Named(Arc<str>),
    /// Code made at run time.
    Anonymous,
    /// In none of the mappings of the process.
    Unknown,
    /// The process ended before its mappings were read.
    Gone,
}

#[derive(Debug)]
pub(crate) struct Processes {
    known: HashMap<Image, Process>,
    files: Files,
    made_code_bytes: u64,
    now: Instant,
    drain: u64,
    /// The last drain of the second before this one.
    patient_drain: u64,
    second: Option<Instant>,
    swept: Instant,
}

#[derive(Debug)]
struct Process {
    mappings: Vec<Mapping>,
    /// The drain in which they were last read.
    read: u64,
    made_code: PerfMap,
    /// The drain in which that was last looked at.
    made_code_read: u64,
    /// When it was last sampled.
    seen: Instant,
}

impl Default for Processes {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            known: HashMap::new(),
            files: Files::default(),
            made_code_bytes: 0,
            now,
            drain: 0,
            patient_drain: 0,
            second: None,
            swept: now,
        }
    }
}

impl Processes {
    /// A new drain of the ring begins: what was not found before may be looked for once more.
    pub(crate) fn next_drain(&mut self) {
        self.now = Instant::now();
        if self.second.is_none_or(|begin| self.now - begin >= SECOND) {
            self.second = Some(self.now);
            self.patient_drain = self.drain;
        }
        self.drain += 1;
    }

    /// `depth` is 0 where the CPU was, and counts the callers from there.
    pub(crate) fn find(&mut self, image: Image, frame: UserFrame, depth: usize) -> Place {
        match frame {
            UserFrame::Address(address) => self.find_address(image, address, depth),
            UserFrame::InFile { build_id, offset } => {
                let mut file = self.files.seen(&build_id);
                if file.is_none() && self.is_stale(image, depth) {
                    self.look(image);
                    file = self.files.seen(&build_id);
                } else if let Some(process) = self.known.get_mut(&image) {
                    process.seen = self.now;
                }
                let file = file.or_else(|| self.files.unseen(build_id));
                file.map_or(Place::Gone, |file| Place::File { file, offset })
            }
        }
    }

    /// Reads what a process has mapped. What is known of one that has ended meanwhile stays.
    pub(crate) fn look(&mut self, image: Image) {
        let Self { drain, now, .. } = *self;
        let process = self.process(image);
        (process.read, process.seen) = (drain, now);
        let Ok(mappings) = maps::read(image.tgid) else { return };
        if mappings.is_empty() {
            return;
        }
        for mapping in &mappings {
            self.files.of_mapping(image.tgid, mapping);
        }
        self.process(image).mappings = mappings;
    }

    /// Whether there may be something to let go of.
    pub(crate) fn is_due(&self) -> bool {
        !self.known.is_empty() && self.swept.elapsed() >= REMEMBERED / 4
    }

    /// Lets go of what was not sampled for a while.
    pub(crate) fn sweep(&mut self) {
        if !self.is_due() {
            return;
        }
        self.now = Instant::now();
        self.swept = self.now;
        self.known.retain(|_, process| self.now - process.seen < REMEMBERED);
        self.files.keep(self.known.values().flat_map(|process| &process.mappings));
        if self.known.is_empty() {
            self.made_code_bytes = 0;
        }
    }

    fn find_address(&mut self, image: Image, address: u64, depth: usize) -> Place {
        let at = |process: &Process| maps::find(&process.mappings, address).cloned();
        let mut mapping = at(self.process(image));
        if mapping.is_none() && self.is_stale(image, depth) {
            self.look(image);
            mapping = at(self.process(image));
        }
        let Self { drain, now, .. } = *self;
        let room = self.made_code_bytes < MAX_MADE_CODE_BYTES;
        let process = self.process(image);
        process.seen = now;
        let Some(mapping) = mapping else {
            return if process.mappings.is_empty() { Place::Gone } else { Place::Unknown };
        };
        match &mapping.what {
            What::Anonymous => {
                let mut grown = 0;
                if process.made_code_read < drain && room && process.made_code.name(address).is_none() {
                    process.made_code_read = drain;
                    grown = process.made_code.refresh(image.tgid);
                }
                let place =
                    process.made_code.name(address).map_or(Place::Anonymous, |name| Place::Named(Arc::from(name)));
                self.made_code_bytes += grown;
                place
            }
            What::Special(name) => Place::Named(name.as_str().into()),
            What::File { .. } => match self.files.of_mapping(image.tgid, &mapping) {
                Some(file) => Place::File { file, offset: address - mapping.start + mapping.offset },
                None => Place::Unknown,
            },
        }
    }

    fn is_stale(&mut self, image: Image, depth: usize) -> bool {
        let Self { drain, patient_drain, .. } = *self;
        let read = self.process(image).read;
        if depth == 0 { read < drain } else { read <= patient_drain }
    }

    fn process(&mut self, image: Image) -> &mut Process {
        if self.known.len() >= MAX_PROCESSES && !self.known.contains_key(&image) {
            self.known.clear();
            self.made_code_bytes = 0;
        }
        self.known.entry(image).or_insert_with(|| Process {
            mappings: Vec::new(),
            read: 0,
            made_code: PerfMap::default(),
            made_code_read: 0,
            seen: self.now,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(tgid: u32) -> Image {
        Image { tgid, address_space: 1 }
    }

    #[test]
    fn own_code_is_found_with_its_file() {
        let mut processes = Processes::default();
        processes.next_drain();
        let own = image(std::process::id());
        let here = own_code_is_found_with_its_file as *const () as u64;
        let Place::File { file, offset } = processes.find(own, UserFrame::Address(here), 0) else {
            panic!("not in a file")
        };
        assert_eq!(file.path, std::env::current_exe().unwrap().to_str().unwrap());
        assert!(file.handle.is_some());
        assert!(offset > 0);
        assert_eq!(processes.find(own, UserFrame::Address(1), 0), Place::Unknown);
    }

    #[test]
    fn a_build_id_is_found_for_a_process_that_has_ended() {
        let mut processes = Processes::default();
        processes.next_drain();
        processes.look(image(std::process::id()));
        let build_id = own_build_id(&mut processes);
        let Place::File { file, offset } =
            processes.find(image(u32::MAX), UserFrame::InFile { build_id, offset: 7 }, 0)
        else {
            panic!("not in a file")
        };
        assert_eq!((file.path.as_str(), offset), (std::env::current_exe().unwrap().to_str().unwrap(), 7));
    }

    #[test]
    fn a_build_id_that_nobody_has_stands_for_its_file() {
        let mut processes = Processes::default();
        processes.next_drain();
        let frame = |offset| UserFrame::InFile { build_id: [9; 20], offset };
        let mut find = |offset| match processes.find(image(u32::MAX), frame(offset), 0) {
            Place::File { file, .. } => file,
            place => panic!("{place:?}"),
        };
        let (one, other) = (find(1), find(2));
        assert_eq!(one, other);
        assert!(one.is_unseen());
    }

    #[test]
    fn a_process_that_never_was_is_gone() {
        let mut processes = Processes::default();
        processes.next_drain();
        assert_eq!(processes.find(image(u32::MAX), UserFrame::Address(0x1000), 0), Place::Gone);
    }

    #[test]
    fn what_was_not_sampled_for_long_is_let_go() {
        let mut processes = Processes::default();
        processes.next_drain();
        processes.look(image(std::process::id()));
        let build_id = own_build_id(&mut processes);
        let Some(long_ago) = Instant::now().checked_sub(REMEMBERED) else { return };
        processes.swept = long_ago;
        processes.sweep();
        assert!(processes.files.seen(&build_id).is_some());
        processes.swept = long_ago;
        processes.known.values_mut().for_each(|process| process.seen = long_ago);
        processes.sweep();
        assert!(processes.known.is_empty() && processes.files.seen(&build_id).is_none());
    }

    fn own_build_id(processes: &mut Processes) -> galen_bpf::cpu_profile::BuildId {
        let here = own_build_id as *const () as u64;
        match processes.find(image(std::process::id()), UserFrame::Address(here), 0) {
            Place::File { file, .. } => file.build_id,
            place => panic!("{place:?}"),
        }
    }
}
