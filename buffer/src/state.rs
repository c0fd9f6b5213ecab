//! The state file: what a buffer knows beside its segments.
//!
//! `<dir>/state` is replaced as a whole: written to `state.tmp`, synced, renamed, the directory synced. Its first line is
//! `galen-buffer 1 ` and the crc32c of the rest in eight hex digits; the rest is one JSON object:
//!
//! - `clean`: the buffer was closed in order, so that the last epoch may go on;
//! - `epochs`, oldest first, each with `id` (hex), `first_unacked`, `next_seq` (exact if `sealed` or `clean`, else a lower
//!   bound), `uncompared` (numbers from here on were given without contact to the aggregator; null if there was none
//!   such), `sealed` (no event will be added), `losses` (`first`, `last`, `reason`), `counters` (`reason`, `tracer`,
//!   `count`, `settled`: up to where the aggregator has it), and `observed` (what came in and was numbered or counted; a
//!   lower bound as `next_seq` is; null if an earlier version wrote it).
//!
//! Ranges and counters are in the file before the segment that they stand for is gone. Acknowledgements get there within
//! a second or so: after a crash some events are offered again.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

use serde::{Deserialize, Serialize};

use crate::{
    error::{self, Error},
    loss::{Ranges, SavedCounter},
    segment::sync_dir,
};

const MAGIC: &str = "galen-buffer 1 ";
const FILE: &str = "state";

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) clean: bool,
    pub(crate) epochs: Vec<EpochState>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct EpochState {
    #[serde(with = "hex")]
    pub(crate) id: u64,
    pub(crate) first_unacked: u64,
    pub(crate) next_seq: u64,
    #[serde(default)]
    pub(crate) uncompared: Option<u64>,
    pub(crate) sealed: bool,
    pub(crate) losses: Ranges,
    pub(crate) counters: Vec<SavedCounter>,
    #[serde(default)]
    pub(crate) observed: Option<u64>,
}

/// What stands in the directory.
#[derive(Debug, PartialEq)]
pub(crate) enum Loaded {
    Missing,
    Damaged(&'static str),
    State(State),
}

impl State {
    pub(crate) fn load(dir: &Path) -> Result<Loaded, Error> {
        let path = dir.join(FILE);
        match fs::read(&path) {
            Ok(bytes) => Ok(parse(&bytes).map_or_else(Loaded::Damaged, Loaded::State)),
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(Loaded::Missing),
            Err(source) => Err(error::io("read", path)(source)),
        }
    }

    pub(crate) fn store(&self, dir: &Path) -> io::Result<()> {
        let body = serde_json::to_vec(self)?;
        let tmp = dir.join("state.tmp");
        let mut file = File::create(&tmp)?;
        writeln!(file, "{MAGIC}{:08x}", crc32c::crc32c(&body))?;
        file.write_all(&body)?;
        file.sync_all()?;
        fs::rename(&tmp, dir.join(FILE))?;
        sync_dir(dir)
    }

    /// Moves a file that cannot be used out of the way.
    pub(crate) fn set_aside(dir: &Path) -> io::Result<()> {
        fs::rename(dir.join(FILE), dir.join("state.damaged"))
    }
}

fn parse(bytes: &[u8]) -> Result<State, &'static str> {
    let split = bytes.iter().position(|b| *b == b'\n').ok_or("it has no first line")?;
    let (head, body) = (&bytes[..split], &bytes[split + 1..]);
    let crc = std::str::from_utf8(head)
        .ok()
        .and_then(|head| head.strip_prefix(MAGIC))
        .and_then(|crc| u32::from_str_radix(crc, 16).ok())
        .ok_or("its first line is of another format")?;
    if crc32c::crc32c(body) != crc {
        return Err("its checksum does not match");
    }
    serde_json::from_slice(body).map_err(|_| "its content does not have the form of a state")
}

mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(id: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format!("{id:016x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        let text = String::deserialize(from)?;
        u64::from_str_radix(&text, 16).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::{Counters, LossReasonCode};

    fn example() -> State {
        let mut losses = Ranges::default();
        losses.declare(3, 5, LossReasonCode::BUFFER_FULL);
        let mut counters = Counters::default();
        counters.add(LossReasonCode::QUEUE_FULL, "oom", 7);
        let epoch = EpochState {
            id: u64::MAX - 1,
            first_unacked: 3,
            next_seq: 9,
            uncompared: Some(7),
            sealed: false,
            losses,
            counters: counters.save(),
            observed: Some(15),
        };
        State { clean: true, epochs: vec![epoch] }
    }

    #[test]
    fn the_state_comes_back_as_it_was_stored() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(State::load(dir.path()).unwrap(), Loaded::Missing);
        example().store(dir.path()).unwrap();
        assert_eq!(State::load(dir.path()).unwrap(), Loaded::State(example()));
    }

    #[test]
    fn a_state_with_a_flipped_byte_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        example().store(dir.path()).unwrap();
        let good = fs::read(dir.path().join(FILE)).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x04;
            fs::write(dir.path().join(FILE), &bad).unwrap();
            assert!(matches!(State::load(dir.path()).unwrap(), Loaded::Damaged(_)), "byte {at}");
        }
    }
}
