//! Which events are one incident, and what is counted of them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use galen_incidents::{Kept, Limits, Silence, State, save};
use galen_proto::{
    pprof::{Line, Location, Profile, Sample},
    v1::{Event, EventKind, Severity},
};
use prost::Message;
use support::{Feed, KERNEL, NOW, SECOND, Stack, event, limits, lone_trigger};

const SHOP: &str = "reg/shop/web:1.41";
const SHOP_NEWER: &str = "reg/shop/web:1.42";

/// Sums up carts, on Linux 5.10, built with one compiler.
const CART: [Stack<'static>; 2] = [
    (
        &[
            ("_start", "/usr/bin/web"),
            ("__libc_start_main", "/usr/lib/x86_64-linux-gnu/libc-2.31.so"),
            ("main", "/usr/bin/web"),
            ("serve", "/usr/bin/web"),
            ("cart_total.isra.0", "/usr/bin/web"),
            ("entry_SYSCALL_64_after_hwframe", KERNEL),
            ("do_syscall_64", KERNEL),
            ("__x64_sys_getdents64", KERNEL),
            ("iterate_dir", KERNEL),
        ],
        80,
    ),
    (&[("_start", "/usr/bin/web"), ("main", "/usr/bin/web"), ("serve", "/usr/bin/web"), ("log", "/usr/bin/web")], 20),
];
/// The same on Linux 6.12 of another architecture, built with another compiler.
const CART_ELSEWHERE: [Stack<'static>; 2] = [
    (
        &[
            ("_start", "/srv/releases/42/web"),
            ("__libc_start_call_main", "/lib/libc.so.6"),
            ("main", "/srv/releases/42/web"),
            ("serve.llvm.1234", "/srv/releases/42/web"),
            ("cart_total", "/srv/releases/42/web"),
            ("el0t_64_sync", KERNEL),
            ("el0t_64_sync_handler", KERNEL),
            ("el0_svc", KERNEL),
            ("do_el0_svc", KERNEL),
            ("invoke_syscall.constprop.0", KERNEL),
            ("__arm64_sys_getdents64", KERNEL),
            ("iterate_dir", KERNEL),
        ],
        7,
    ),
    (&[("main", "/srv/releases/42/web"), ("idle", "/srv/releases/42/web")], 1),
];
const SEARCH: [Stack<'static>; 1] = [(
    &[("_start", "/usr/bin/web"), ("main", "/usr/bin/web"), ("serve", "/usr/bin/web"), ("search", "/usr/bin/web")],
    9,
)];

fn trigger(run: &str) -> Event {
    event(EventKind::Trigger, run, SHOP, &[])
}

fn capture(run: &str, stacks: &[Stack<'_>]) -> Event {
    event(EventKind::Capture, run, SHOP, stacks)
}

#[test]
fn one_cause_on_two_kernels_and_builds_is_one_incident_and_another_cause_is_another() {
    let mut feed = Feed::new(limits());
    feed.take("a", NOW, &capture("1", &CART));
    feed.take("b", NOW, &event(EventKind::Capture, "2", SHOP_NEWER, &CART_ELSEWHERE));
    feed.take("c", NOW + 1, &capture("3", &SEARCH));
    feed.take("d", NOW + 2, &event(EventKind::Capture, "4", "reg/other:1", &CART));
    let found: Vec<_> = feed.incidents().iter().map(|one| (one.tally.runs, one.nodes().0)).collect();
    assert_eq!(found, [(2, 2), (1, 1), (1, 1)]);
    let cart = feed.incidents()[0];
    assert_eq!(cart.frames, ["iterate_dir", "sys_getdents64", "web!cart_total", "web!serve"]);
    assert_eq!(cart.workload, "reg/shop/web");
}

#[test]
fn a_trigger_and_its_capture_are_one_run_whichever_comes_first() {
    for capture_first in [false, true] {
        let mut feed = Feed::new(limits());
        let mut events = [trigger("1"), capture("1", &CART)];
        if capture_first {
            events.reverse();
        }
        for event in &events {
            feed.take("a", NOW, event);
        }
        let [one] = feed.incidents()[..] else { panic!("{:?}", feed.incidents()) };
        let tally = one.tally;
        assert_eq!((tally.runs, tally.presumed, tally.events, tally.captures), (1, 0, 2, 1), "{capture_first}");
        assert_eq!((one.nodes(), one.containers()), ((1, false), (1, false)));
        assert!(!one.frames.is_empty());
    }
}

#[test]
fn an_incident_is_there_with_its_first_trigger_and_keeps_its_id_when_the_cause_is_told() {
    let mut feed = Feed::new(limits());
    feed.take("a", NOW, &trigger("1"));
    let id = feed.incidents()[0].id.clone();
    assert!(feed.incidents()[0].frames.is_empty());
    feed.take("b", NOW, &trigger("2"));
    feed.take("b", NOW, &capture("2", &CART));
    let [one] = feed.incidents()[..] else { panic!("{:?}", feed.incidents()) };
    assert_eq!((&one.id, one.tally.runs, one.tally.presumed), (&id, 2, 1));
    assert!(!one.frames.is_empty());
}

#[test]
fn a_run_that_tells_another_cause_moves_with_all_that_was_counted_of_it() {
    let mut feed = Feed::new(limits());
    feed.take("a", NOW, &capture("0", &CART));
    feed.take("a", NOW, &trigger("1"));
    feed.take("b", NOW, &trigger("2"));
    assert_eq!(feed.incidents()[0].tally.presumed, 2);
    feed.take("b", NOW + 1, &capture("2", &SEARCH));
    let [cart, search] = feed.incidents()[..] else { panic!("{:?}", feed.incidents()) };
    assert_eq!((cart.tally.runs, cart.tally.presumed, cart.tally.events, cart.nodes().0), (2, 1, 2, 1));
    assert_eq!((search.tally.runs, search.tally.presumed, search.tally.events, search.nodes().0), (1, 0, 2, 1));
    feed.adds_up();
}

#[test]
fn a_storm_of_a_thousand_nodes_is_one_incident_and_the_rare_one_beneath_is_another() {
    const NODES: u64 = 1000;
    let mut feed = Feed::new(limits());
    for round in 0..4 {
        let now = NOW + round * SECOND;
        let run = |node: u64| format!("{round}-{node}");
        // All triggers come before the first capture, and most runs are never captured.
        for node in 0..NODES {
            let event = if node % 10 == 0 { trigger(&run(node)) } else { lone_trigger(&run(node), SHOP) };
            feed.take(&format!("node-{node}"), now, &event);
        }
        if round == 2 {
            feed.take("node-7", now, &trigger("rare"));
            feed.take("node-7", now, &capture("rare", &SEARCH));
        }
        for node in (0..NODES).step_by(10) {
            let stacks = if node % 20 == 0 { &CART } else { &CART_ELSEWHERE };
            feed.take(&format!("node-{node}"), now, &capture(&run(node), stacks));
        }
    }
    let [common, rare] = feed.incidents()[..] else { panic!("{} incidents", feed.incidents().len()) };
    let tally = common.tally;
    assert_eq!((tally.runs, tally.presumed, tally.events, tally.captures), (4000, 3600, 4400, 400));
    assert_eq!((common.nodes(), common.containers()), ((NODES, false), (NODES, false)));
    assert_eq!((rare.tally.runs, rare.tally.events, rare.nodes().0), (1, 2, 1));
    assert_eq!(common.exemplars.len(), 4);
    feed.adds_up();
}

#[test]
fn silence_closes_an_incident_and_what_comes_then_is_another() {
    let mut feed = Feed::new(limits());
    let silence = feed.kept.table().silence();
    feed.take("a", NOW, &capture("1", &CART));
    let state = |feed: &Feed, at: i64| feed.incidents()[0].state(NOW + at, silence);
    assert_eq!(state(&feed, 300 * SECOND), State::Open);
    assert_eq!(state(&feed, 300 * SECOND + 1), State::Quiet);
    feed.take("b", NOW + 3600 * SECOND, &capture("2", &CART));
    assert_eq!(feed.incidents().len(), 1);
    feed.take("b", NOW + 7201 * SECOND, &capture("3", &CART));
    let [first, second] = feed.incidents()[..] else { panic!("{:?}", feed.incidents()) };
    assert_eq!((first.tally.runs, second.tally.runs), (2, 1));
    assert_eq!(first.print, second.print);
    assert_ne!(first.id, second.id);
    assert_eq!(first.state(NOW + 7201 * SECOND, silence), State::Closed);
}

#[test]
fn the_worst_event_gives_the_severity_and_events_without_a_run_are_runs() {
    let mut feed = Feed::new(limits());
    let kill = |severity: Severity| Event {
        tracer: "oom".into(),
        severity: severity.into(),
        data: r#"{"victim":{"name":"java"}}"#.into(),
        ..event(EventKind::Event, "same", SHOP, &[])
    };
    feed.take("a", NOW, &kill(Severity::Warning));
    feed.take("a", NOW, &kill(Severity::Critical));
    feed.take("a", NOW, &kill(Severity::Info));
    let [one] = feed.incidents()[..] else { panic!("{:?}", feed.incidents()) };
    assert_eq!((one.tally.runs, one.severity), (3, Severity::Critical as i32));
    assert_eq!(one.frames, ["[java]"]);
}

#[test]
fn a_profile_that_is_broken_or_unpacks_without_end_tells_no_cause_and_its_event_is_counted() {
    let mut bomb = GzEncoder::new(Vec::new(), Compression::fast());
    bomb.write_all(&vec![0; 17 << 20]).unwrap();
    let astray = Profile {
        sample: vec![Sample { location_id: vec![1, 7], value: vec![-1], ..Sample::default() }],
        location: vec![Location {
            id: 1,
            line: vec![Line { function_id: 9, ..Line::default() }],
            ..Location::default()
        }],
        ..Profile::default()
    };
    let profiles = [bomb.finish().unwrap(), b"\x1f\x8bno".to_vec(), astray.encode_to_vec(), vec![0xff; 9]];
    let mut feed = Feed::new(limits());
    for (content, encoding) in profiles.into_iter().zip(["gzip", "gzip", "", ""]) {
        let mut event = capture("1", &CART);
        event.attachments[0].content = content.into();
        event.attachments[0].encoding = encoding.into();
        feed.take("a", NOW, &Event { run_id: String::new(), ..event });
    }
    let [one] = feed.incidents()[..] else { panic!("{:?}", feed.incidents()) };
    assert_eq!((one.tally.events, one.frames.len()), (4, 0));
}

#[test]
fn what_finds_no_room_is_pushed_out_and_counted() {
    let mut feed = Feed::new(Limits { max: 2, ..limits() });
    for (n, image) in ["a", "b", "a", "c", "d"].into_iter().enumerate() {
        feed.take("node", NOW + n as i64, &event(EventKind::Capture, &n.to_string(), image, &CART));
    }
    let totals = feed.kept.table().totals();
    assert_eq!((totals.overflow.incidents, totals.overflow.runs, totals.past.incidents), (2, 3, 0));
    feed.take("node", NOW + 9000 * SECOND, &capture("9", &CART));
    let totals = feed.kept.table().totals();
    assert_eq!((totals.overflow.incidents, totals.past.incidents), (2, 1));
    feed.adds_up();
}

#[test]
fn a_run_that_speaks_again_after_its_incident_was_pushed_out_is_not_counted_again() {
    let mut feed = Feed::new(Limits { max: 1, ..limits() });
    feed.take("a", NOW, &trigger("1"));
    feed.take("b", NOW, &event(EventKind::Capture, "2", "other", &SEARCH));
    feed.take("a", NOW, &capture("1", &CART));
    let totals = feed.kept.table().totals();
    assert_eq!((totals.runs, totals.overflow.runs, totals.overflow.events), (2, 1, 2));
    feed.adds_up();
}

#[test]
fn what_was_saved_goes_on_as_if_nothing_had_happened_and_damage_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("incidents");
    let silence = Silence { quiet: SECOND, closed: 2 * SECOND };
    let limits = Limits { max: 40, memory: 1 << 20, silence };
    let mut feed = Feed::new(limits);
    for n in 0..400_i64 {
        let (run, image) = (format!("{}", n / 2), format!("image-{}", n * n % 97 / 2));
        let stacks = if n % 3 == 0 { &CART[..] } else { &SEARCH };
        let event = match n % 4 {
            0 => event(EventKind::Trigger, &run, &image, &[]),
            1 | 2 => event(EventKind::Capture, &run, &image, stacks),
            _ => lone_trigger(&run, &image),
        };
        feed.take(&format!("node-{}", n % 7), NOW + n * SECOND / 10, &event);
        if n % 50 == 0 {
            let encoded = feed.kept.encoded();
            save(&path, &encoded).unwrap();
            feed.kept = Kept::open(&path, limits).unwrap();
            assert_eq!(feed.kept.encoded(), encoded);
            feed.adds_up();
        }
    }
    let mut damaged = feed.kept.encoded();
    *damaged.last_mut().unwrap() ^= 1;
    save(&path, &damaged).unwrap();
    assert_eq!(Kept::open(&path, limits).unwrap().next(), 0);
}
