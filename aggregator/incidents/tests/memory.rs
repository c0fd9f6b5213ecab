//! The cap on memory, with the fingerprints of a million causes thrown at it. Alone in its process, to be measured.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use galen_incidents::{Fingerprint, Limits, Observation, Silence, Table};
use galen_proto::v1::{EventId, EventKind};

const CAP: usize = 16 << 20;
const CAUSES: u64 = 1_000_000;

fn observation(n: u64) -> Observation {
    let frames = vec![format!("web!function_{n}"), "web!serve".into()];
    Observation {
        id: EventId { node: format!("node-{}", n % 1000), epoch: 7, seq: n },
        tracer: "cpuidle".into(),
        workload: "shop/web".into(),
        print: Fingerprint::of("cpuidle", "shop/web", &frames),
        family: Fingerprint::of("cpuidle", "shop/web", &[]),
        frames,
        kind: EventKind::Capture,
        severity: 2,
        run: Some(n),
        is_all: false,
        container: Some(format!("web-{}", n % 5000)),
        summary: "CPU burst in web: 97 % of 2 CPUs, user 91 % over 5 s".into(),
        received: n as i64,
        observed: n as i64,
    }
}

fn resident() -> u64 {
    procfs::process::Process::myself().unwrap().statm().unwrap().resident * rustix::param::page_size() as u64
}

#[test]
fn a_million_causes_stay_within_the_cap_and_those_without_room_are_counted() {
    let silence = Silence { quiet: i64::MAX, closed: i64::MAX };
    let mut table = Table::new(Limits { max: usize::MAX, memory: CAP, silence });
    let before = resident();
    for n in 0..CAUSES {
        table.join(&observation(n));
        assert!(table.bytes() <= CAP, "{} bytes after {n}", table.bytes());
    }
    let grown = resident().saturating_sub(before);
    let (totals, kept) = (table.totals(), table.changed_since(0).count() as u64);
    assert_eq!((totals.runs, totals.events, totals.opened), (CAUSES, CAUSES, CAUSES));
    assert_eq!(kept + totals.overflow.incidents, CAUSES);
    assert!(kept > 1000, "{kept}");
    // The count in bytes is an estimate: the allocator has its own view of what is free.
    assert!(grown < CAP as u64 * 3 / 2, "{grown} bytes resident for a cap of {CAP}");
}
