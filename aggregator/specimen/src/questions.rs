//! Queries that every store answers alike.

use galen_proto::v1::{Event, Severity};

use crate::{NOW, SECOND, event};

/// The events that are asked for, numbered from 1.
pub fn events() -> Vec<Event> {
    let mut events = vec![
        event("cpuidle", NOW, r#"{"user_percent":97.5,"pid":1200,"deep":{"list":[1,2,30]},"comm":"kworker/0:1"}"#),
        event("cpuidle", NOW + SECOND, r#"{"user_percent":80,"ok":true,"comm":"Java VM"}"#),
        event("memburst", NOW + 2 * SECOND, r#"{"user_percent":12,"dotted.key":"x","huge":18446744073709551615}"#),
        event("oom", NOW + 3 * SECOND, ""),
    ];
    events[2].run_id = "0194-run".into();
    events[3].container = None;
    events[3].severity = Severity::Critical.into();
    events[3].summary = "Out of memory: killed mysqld (pid 77)".into();
    events
}

/// Each query, and the numbers of the events that it finds.
pub fn queries() -> impl Iterator<Item = (&'static str, Vec<u64>)> {
    let lines = include_str!("../queries.txt").lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| {
        let (seqs, query) = line.split_once('|').unwrap();
        (query.trim(), seqs.split_whitespace().map(|seq| seq.parse().unwrap()).collect())
    })
}
