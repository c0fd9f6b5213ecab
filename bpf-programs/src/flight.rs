//! `flight`: samples of what runs, always, in segments that are overwritten. Its reader is `galen-profile`.

use crate::{
    bytes::{BadRecord, Fields},
    cpu_profile::{MAX_DEPTH, Sample},
    layout,
};

/// The compiled program.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/flight.o"));

/// Segments of a CPU.
pub const SEGMENTS: usize = layout::FLIGHT_SEGMENTS;

/// Value of map `segments`.
pub type Segment = [u64; layout::FLIGHT__SEGMENT__SIZE / 8];
/// Value of map `cpus`.
pub type CpuState = [u64; layout::FLIGHT__CPU__SIZE / 8];
/// Value of map `ancestries`: the cgroup itself, its parent, and so on; 0 behind the root.
pub type Ancestry = [u64; MAX_DEPTH];

const _: () = assert!(size_of::<Ancestry>() == layout::FLIGHT__ANCESTRY__SIZE);
const _: () = assert!(layout::FLIGHT__SEGMENT__RECORDS + layout::FLIGHT_SEGMENT_BYTES == layout::FLIGHT__SEGMENT__SIZE);

/// How far the writing of a CPU is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpu {
    /// Of its newest segment.
    pub sequence: u64,
    /// Time of the last record that was overwritten; 0: none was.
    pub forgotten: u64,
    /// Ticks that found a task running.
    pub ticks: u64,
    pub samples: u64,
}

impl Cpu {
    #[must_use]
    pub fn of(state: &CpuState) -> Self {
        Self {
            sequence: state[layout::FLIGHT__CPU__SEQUENCE / 8],
            forgotten: state[layout::FLIGHT__CPU__FORGOTTEN / 8],
            ticks: state[layout::FLIGHT__CPU__TICKS / 8],
            samples: state[layout::FLIGHT__CPU__SAMPLES / 8],
        }
    }
}

/// Which segment of its CPU it is, by the count of [`Cpu::sequence`].
#[must_use]
pub fn sequence(segment: &Segment) -> u64 {
    segment[layout::FLIGHT__SEGMENT__SEQUENCE / 8]
}

/// Time of the last record; 0 if there is none.
#[must_use]
pub fn last(segment: &Segment) -> u64 {
    segment[layout::FLIGHT__SEGMENT__LAST / 8]
}

/// The records, as bytes in memory order; [`records`] takes them apart.
#[must_use]
pub fn bytes(segment: &Segment) -> Vec<u8> {
    let used = usize::try_from(segment[layout::FLIGHT__SEGMENT__USED / 8]).unwrap_or(usize::MAX);
    let used = used.min(layout::FLIGHT_SEGMENT_BYTES);
    let mut bytes: Vec<u8> = segment[layout::FLIGHT__SEGMENT__RECORDS / 8..]
        .iter()
        .take(used.div_ceil(8))
        .flat_map(|word| word.to_ne_bytes())
        .collect();
    bytes.truncate(used);
    bytes
}

/// The records of [`bytes`], oldest first. What follows a bad one cannot be found.
pub fn records(mut bytes: &[u8]) -> impl Iterator<Item = Result<Sample<'_>, BadRecord>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let parsed = Sample::parse(bytes);
        bytes = parsed.as_ref().map_or(&[], |sample| &bytes[sample.bytes()..]);
        Some(parsed)
    })
}

/// A program image that is sampled: what of [`Sample`] tells it from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Image {
    pub address_space: u64,
    pub tgid: u32,
}

impl Image {
    /// # Errors
    /// The record is too short.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadRecord> {
        let fields = Fields::new("flight_image", bytes, layout::FLIGHT__IMAGE__SIZE)?;
        let tgid = fields.u64(layout::FLIGHT__IMAGE__TGID);
        Ok(Self {
            address_space: fields.u64(layout::FLIGHT__IMAGE__ADDRESS_SPACE),
            // The kernel's process ids have 22 bits.
            tgid: u32::try_from(tgid).unwrap_or(u32::MAX),
        })
    }
}
