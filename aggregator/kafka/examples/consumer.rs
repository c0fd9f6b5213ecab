//! Prints the events of Galen from Kafka, a line each, as a program of your own could read them.
//!
//! An event may be in the topic twice, with the same `ce_id`: this one remembers the last ids and says how many it left
//! out. Records of attachments are passed over by their type alone; see docs/kafka.md for what else there is.
//!
//! `cargo run -p galen-kafka --example consumer -- --brokers 127.0.0.1:9092 --group my-program`

use std::{
    collections::{HashSet, VecDeque},
    io::{Write, stdout},
    str,
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::Parser;
use galen_proto::v1::Event;
use prost::Message as _;
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, CommitMode, Consumer},
    message::{BorrowedMessage, Headers, Message},
};

/// Ids that are remembered. Copies lie close together, so that a few suffice.
const REMEMBERED: usize = 100_000;

#[derive(Parser)]
struct Arguments {
    #[arg(long)]
    brokers: String,
    #[arg(long, default_value = "galen.events")]
    topic: String,
    /// Programs of the same group share the events, and go on where the group was.
    #[arg(long)]
    group: String,
    /// End after so many seconds without an event. By default it goes on for ever.
    #[arg(long)]
    until_idle_for: Option<u64>,
}

/// The last ids.
#[derive(Default)]
struct Seen {
    ids: HashSet<String>,
    order: VecDeque<String>,
    duplicates: u64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &arguments.brokers)
        .set("group.id", &arguments.group)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .create()?;
    consumer.subscribe(&[&arguments.topic])?;
    let (mut seen, mut events, mut last) = (Seen::default(), 0_u64, Instant::now());
    loop {
        match consumer.poll(Duration::from_millis(200)).transpose()? {
            Some(record) => {
                last = Instant::now();
                if let Some(line) = line(&record, &mut seen) {
                    events += 1;
                    writeln!(stdout(), "{line}")?;
                }
                // Behind the effect, which is the line: what is not committed comes again.
                consumer.commit_message(&record, CommitMode::Async)?;
            }
            None if arguments.until_idle_for.is_some_and(|limit| last.elapsed().as_secs() >= limit) => break,
            None => {}
        }
    }
    writeln!(stdout(), "{events} events, {} duplicates left out", seen.duplicates)?;
    Ok(())
}

/// What is printed for a record; nothing for one that is no event, or that came before.
fn line(record: &BorrowedMessage<'_>, seen: &mut Seen) -> Option<String> {
    let kind = header(record, "ce_type")?;
    if !kind.starts_with("io.galen.event.") || kind.ends_with(".attachment") {
        return None;
    }
    let id = header(record, "ce_id")?;
    if !seen.is_new(id) {
        return None;
    }
    let time = header(record, "ce_time").unwrap_or_default();
    let payload = record.payload().unwrap_or_default();
    let what = if header(record, "content-type") == Some("application/json") {
        String::from_utf8_lossy(payload).into_owned()
    } else {
        // What others wrote there must not keep it from going on.
        Event::decode(payload).map_or_else(|error| format!("cannot be read: {error}"), |event| event.summary)
    };
    Some(format!("{time} {id} {kind}: {what}"))
}

fn header<'a>(record: &'a BorrowedMessage<'_>, key: &str) -> Option<&'a str> {
    let headers = record.headers()?;
    let found = headers.iter().find(|header| header.key == key)?;
    str::from_utf8(found.value?).ok()
}

impl Seen {
    fn is_new(&mut self, id: &str) -> bool {
        if !self.ids.insert(id.to_owned()) {
            self.duplicates += 1;
            return false;
        }
        self.order.push_back(id.to_owned());
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}
