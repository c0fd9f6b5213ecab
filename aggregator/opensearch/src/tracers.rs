//! Which tracers may have indices.
//!
//! An index is named after its events' tracer whether this version knows it or not, so that every version writes an event
//! to the same place. Those that are known may always have theirs; of others, which an agent may have made up, a number
//! is let in. What comes after them is not written to another index, which would be a second place: it goes aside.
//!
//! Counted are tracers that have indices, as was seen last, and those that were let in since. Replicas do not know of
//! each other until they look, so together they may let in more.

use std::collections::BTreeSet;

use parking_lot::Mutex;

use crate::{fields::TRACERS, names::OTHER};

/// Tracers that are not known here and may have indices.
const MAX_STRANGERS: usize = 16;

/// Those that are not known here.
#[derive(Debug, Default)]
pub(crate) struct Strangers(Mutex<BTreeSet<String>>);

impl Strangers {
    /// Takes note of all tracers that have indices.
    pub(crate) fn see<'a>(&self, tracers: impl IntoIterator<Item = &'a str>) {
        let strangers = tracers.into_iter().filter(|tracer| !is_known(tracer));
        *self.0.lock() = strangers.map(str::to_owned).collect();
    }

    /// Whether a tracer may have indices: it is given as it is named in them.
    pub(crate) fn admit(&self, tracer: &str) -> bool {
        if is_known(tracer) {
            return true;
        }
        let mut strangers = self.0.lock();
        strangers.contains(tracer) || (strangers.len() < MAX_STRANGERS && strangers.insert(tracer.to_owned()))
    }
}

fn is_known(tracer: &str) -> bool {
    tracer == OTHER || TRACERS.iter().any(|(name, _)| *name == tracer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_let_in_while_there_is_room_and_known_tracers_always() {
        let strangers = Strangers::default();
        strangers.see(["mine", "oom"]);
        let admitted = (0..100).filter(|n| strangers.admit(&format!("made_up_{n}"))).count();
        assert_eq!(admitted, MAX_STRANGERS - 1);
        assert!(["mine", "made_up_0", "oom", "cpuidle", OTHER].iter().all(|tracer| strangers.admit(tracer)));
        // Retention took the indices of the rest.
        strangers.see(["mine"]);
        assert!(strangers.admit("made_up_99"));
    }

    #[test]
    fn every_tracer_of_the_agent_is_known() {
        let tracers = concat!(env!("CARGO_MANIFEST_DIR"), "/../../agent/src/tracers");
        for entry in std::fs::read_dir(tracers).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            assert!(!entry.path().is_dir() || is_known(&name), "`{name}` is missing in TRACERS");
        }
    }
}
