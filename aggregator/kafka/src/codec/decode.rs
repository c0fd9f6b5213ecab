//! From Kafka's records back to the log's: consecutive events of a queue are one record again, parts are joined.
//!
//! Bounded: of events whose parts have not all come, [`MAX_OPEN`] events and [`MAX_OPEN_BYTES`] are kept; one too many,
//! or one that [`MAX_DISTANCE`] records have overtaken, is given up and counted: whoever wrote it did not come to its
//! end, and its agent sent it again.
//!
//! What is larger than a record of the log may be is put aside: counted, and its number told as a loss. Our own writer
//! puts it among the dead letters.

use std::{
    collections::HashMap,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    str,
};

use bytes::Bytes;
use galen_log::{MAX_EVENTS_BYTES, Place};
use galen_proto::{
    MAX_NODE_NAME,
    v1::{LogRecord, Loss, LossReason, Position, Range as Numbers},
};
use prost::Message as _;
use rdkafka::{
    Timestamp,
    message::{Headers, Message},
};

use super::{CUT, EVENT, ID, LOSSES, MAX_PARTS, PART, PARTS, TOLD, TYPE};

const MAX_OPEN: usize = 256;
const MAX_OPEN_BYTES: usize = 256 << 20;
const MAX_DISTANCE: u64 = 100_000;
/// Events that a record of the log takes at most.
const MAX_EVENTS: usize = 1024;

/// What was passed over, and why.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Records that are not ours, or not as described, and events that are too large for the log.
    pub unreadable: u64,
    /// Events whose parts never came, and parts whose event never came.
    pub incomplete: u64,
}

/// Takes records one by one, in their order within each partition.
#[derive(Debug, Default)]
pub(crate) struct Joiner {
    records: Vec<LogRecord>,
    events: usize,
    bytes: usize,
    open: HashMap<(i32, String), Open>,
    open_bytes: usize,
    /// Behind the newest record of each partition since the last [`Joiner::take`].
    seen: HashMap<i32, u64>,
    stats: Stats,
}

/// An event of which parts are to come.
#[derive(Debug)]
struct Open {
    offset: u64,
    rest: Bytes,
    cut: usize,
    parts: Vec<Option<Bytes>>,
    received_unix_nanos: i64,
    told: Option<LogRecord>,
}

/// The headers of a record that matter for reading it.
#[derive(Default)]
struct Fields<'a> {
    id: &'a str,
    kind: &'a str,
    event: Option<&'a [u8]>,
    told: Option<LogRecord>,
    parts: Option<usize>,
    cut: Option<usize>,
    part: Option<(usize, usize)>,
}

/// The identity in a header.
struct Id<'a> {
    node: &'a str,
    epoch: u64,
    seq: u64,
}

impl Joiner {
    /// Events that are ready to be taken.
    pub(crate) fn events(&self) -> usize {
        self.events
    }

    /// Bytes of events that are ready to be taken.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    pub(crate) fn stats(&self) -> Stats {
        self.stats
    }

    /// The records, each with where its partition goes on behind it and those before it, and where the partitions go on
    /// behind all of them. Both stand before the first event whose parts had not all come by then: those that a disk has
    /// of the records may be the first ones alone.
    pub(crate) fn take(&mut self) -> (Vec<LogRecord>, Place) {
        let records = std::mem::take(&mut self.records);
        (self.events, self.bytes) = (0, 0);
        let mut place: Vec<(i32, u64)> = std::mem::take(&mut self.seen).into_iter().collect();
        place.iter_mut().for_each(|(partition, next)| *next = (*next).min(self.oldest_open(*partition)));
        place.sort_unstable();
        (records, Place(place))
    }

    /// Forgets what was not taken of a partition, because somebody else reads it now.
    pub(crate) fn forget(&mut self, partition: i32) {
        self.records.retain(|record| record.position.is_none_or(|position| position.partition != partition));
        self.seen.remove(&partition);
        self.open.retain(|(of, _), _| *of != partition);
        self.open_bytes = self.open.values().map(Open::bytes).sum();
    }

    pub(crate) fn add(&mut self, message: &impl Message) {
        let (partition, offset) = (message.partition(), message.offset().max(0).unsigned_abs());
        self.seen.insert(partition, offset + 1);
        if self.read(message, partition, offset).is_none() {
            self.stats.unreadable += 1;
            tracing::warn!(partition, offset, "a record in Kafka is not as it should be: passed over");
        }
        self.give_up(partition, offset);
    }

    /// Passes over a record that is known, and says so. One of several that make up an event is read all the same: the
    /// others may not be known.
    pub(crate) fn pass_over(&mut self, message: &impl Message) -> bool {
        let is_whole = Fields::of(message).is_none_or(|fields| fields.parts.is_none() && fields.part.is_none());
        if is_whole {
            self.seen.insert(message.partition(), message.offset().max(0).unsigned_abs() + 1);
        }
        is_whole
    }

    /// `None` for what cannot be read.
    fn read(&mut self, message: &impl Message, partition: i32, offset: u64) -> Option<()> {
        let fields = Fields::of(message)?;
        let received_unix_nanos = match message.timestamp() {
            Timestamp::CreateTime(millis) | Timestamp::LogAppendTime(millis) => millis.saturating_mul(1_000_000),
            Timestamp::NotAvailable => 0,
        };
        let position = Some(self.behind(partition, offset));
        if fields.kind == LOSSES {
            let payload = message.payload().filter(|payload| payload.len() <= MAX_EVENTS_BYTES)?;
            let record = LogRecord::decode(payload).ok()?;
            (record.events.is_empty() && !record.node.is_empty()).then_some(())?;
            self.records.push(LogRecord { received_unix_nanos, position, ..record });
        } else if let Some(part) = fields.part {
            let event = fields.id.rsplit_once('#')?.0;
            self.part((partition, offset), event, part, message.payload().unwrap_or_default());
        } else if fields.kind.starts_with("io.galen.event.") {
            let id = Id::parse(fields.id)?;
            let event = fields.event.or(message.payload()).unwrap_or_default();
            match fields.parts {
                None => {
                    let event = fits(event.len()).then(|| Bytes::copy_from_slice(event));
                    self.event(&id, event, received_unix_nanos, position);
                    self.tell(fields.told);
                }
                Some(parts) => {
                    let event = Bytes::copy_from_slice(event);
                    let cut = fields.cut.filter(|cut| *cut <= event.len())?;
                    let (parts, told) = (vec![None; parts], fields.told);
                    let open = Open { offset, rest: event, cut, parts, received_unix_nanos, told };
                    self.open_bytes += open.bytes();
                    // Its writer began anew.
                    if let Some(before) = self.open.insert((partition, fields.id.to_owned()), open) {
                        self.open_bytes -= before.bytes();
                    }
                }
            }
        }
        Some(())
    }

    /// `None`: it is too large.
    fn event(&mut self, id: &Id<'_>, event: Option<Bytes>, received_unix_nanos: i64, position: Option<Position>) {
        let Some(event) = event else { return self.put_aside(id, received_unix_nanos, position) };
        self.events += 1;
        self.bytes += event.len();
        if let Some(last) = self.records.last_mut()
            && (last.node.as_str(), last.epoch) == (id.node, id.epoch)
            && last.first_seq + last.events.len() as u64 == id.seq
            && last.position.map(|position| position.partition) == position.map(|position| position.partition)
            && (1..MAX_EVENTS).contains(&last.events.len())
            // Of all records, hence of the last one.
            && fits(self.bytes)
        {
            last.events.push(event);
            last.position = position;
            return;
        }
        self.records.push(LogRecord {
            node: id.node.to_owned(),
            epoch: id.epoch,
            first_seq: id.seq,
            events: vec![event],
            received_unix_nanos,
            position,
            ..LogRecord::default()
        });
    }

    fn put_aside(&mut self, id: &Id<'_>, received_unix_nanos: i64, position: Option<Position>) {
        tracing::warn!(node = id.node, seq = id.seq, "an event in Kafka is too large for the log: put aside");
        self.stats.unreadable += 1;
        let range = Some(Numbers { first: id.seq, last: id.seq });
        self.records.push(LogRecord {
            node: id.node.to_owned(),
            epoch: id.epoch,
            lost: vec![Loss { range, reason: LossReason::Quarantined as i32, ..Loss::default() }],
            received_unix_nanos,
            position,
            ..LogRecord::default()
        });
    }

    /// What a node told with the last event.
    fn tell(&mut self, told: Option<LogRecord>) {
        if let (Some(told), Some(last)) = (told, self.records.last_mut()) {
            (last.next_seq, last.account) = (told.next_seq, told.account);
        }
    }

    fn part(&mut self, place: (i32, u64), event: &str, (number, of): (usize, usize), part: &[u8]) {
        let (partition, offset) = place;
        let key = (partition, event.to_owned());
        let Some(open) = self.open.get_mut(&key).filter(|open| open.parts.len() == of) else {
            self.stats.incomplete += 1;
            return;
        };
        if open.parts[number - 1].is_none() {
            self.open_bytes += part.len();
            open.parts[number - 1] = Some(Bytes::copy_from_slice(part));
        }
        if open.parts.iter().any(Option::is_none) {
            return;
        }
        if let Some(open) = self.open.remove(&key) {
            self.open_bytes -= open.bytes();
            let position = self.behind(partition, offset);
            if let Some(id) = Id::parse(event) {
                let event = fits(open.bytes()).then(|| open.join());
                self.event(&id, event, open.received_unix_nanos, Some(position));
                self.tell(open.told);
            }
        }
    }

    /// Where a partition goes on when the record at `offset` was read.
    fn behind(&self, partition: i32, offset: u64) -> Position {
        Position { partition, next: self.oldest_open(partition).min(offset + 1) }
    }

    fn oldest_open(&self, partition: i32) -> u64 {
        let of_partition = self.open.iter().filter(|((of, _), _)| *of == partition);
        of_partition.map(|(_, open)| open.offset).min().unwrap_or(u64::MAX)
    }

    /// Lets go of what will hardly be complete any more.
    fn give_up(&mut self, partition: i32, offset: u64) {
        while !self.open.is_empty() {
            let too_many = self.open.len() > MAX_OPEN || self.open_bytes > MAX_OPEN_BYTES;
            let oldest = self
                .open
                .iter()
                .filter(|((of, _), open)| too_many || (*of == partition && open.offset + MAX_DISTANCE < offset))
                .min_by_key(|(_, open)| open.offset)
                .map(|(key, _)| key.clone());
            let Some(key) = oldest else { return };
            tracing::warn!(id = key.1, partition, "not all parts of an event came: it is passed over");
            self.stats.incomplete += 1;
            self.open_bytes -= self.open.remove(&key).map_or(0, |open| open.bytes());
        }
    }
}

/// Whether a record of the log takes events of so many bytes.
fn fits(bytes: usize) -> bool {
    bytes <= MAX_EVENTS_BYTES
}

impl Open {
    fn bytes(&self) -> usize {
        self.rest.len() + self.parts.iter().flatten().map(Bytes::len).sum::<usize>()
    }

    fn join(&self) -> Bytes {
        let mut event = Vec::with_capacity(self.bytes());
        event.extend_from_slice(&self.rest[..self.cut]);
        self.parts.iter().flatten().for_each(|part| event.extend_from_slice(part));
        event.extend_from_slice(&self.rest[self.cut..]);
        event.into()
    }
}

impl<'a> Fields<'a> {
    /// `None` if a header is not as it should be.
    fn of(message: &'a impl Message) -> Option<Self> {
        // The client panics at a header whose name is not UTF-8, and anyone who may write to the topic can send one.
        catch_unwind(AssertUnwindSafe(|| Self::read(message))).ok().flatten()
    }

    fn read(message: &'a impl Message) -> Option<Self> {
        let mut fields = Self::default();
        let Some(headers) = message.headers() else { return Some(fields) };
        for place in 0..headers.count() {
            let header = headers.get(place);
            let value = header.value.unwrap_or_default();
            let text = || str::from_utf8(value).ok();
            let count = |range: Range<usize>| text()?.parse().ok().filter(|count| range.contains(count));
            match header.key {
                ID => fields.id = text()?,
                TYPE => fields.kind = text()?,
                EVENT => fields.event = Some(value),
                TOLD => fields.told = Some(LogRecord::decode(value).ok()?),
                PARTS => fields.parts = Some(count(1..MAX_PARTS + 1)?),
                CUT => fields.cut = Some(count(0..usize::MAX)?),
                PART => {
                    let (number, of) = text()?.split_once('/')?;
                    let (number, of) = (number.parse().ok()?, of.parse().ok()?);
                    (1 <= number && number <= of && of <= MAX_PARTS).then_some(())?;
                    fields.part = Some((number, of));
                }
                _ => {}
            }
        }
        Some(fields)
    }
}

impl<'a> Id<'a> {
    /// As `galen_proto` reads it, without a copy of the name.
    fn parse(text: &'a str) -> Option<Self> {
        let (rest, seq) = text.rsplit_once('/')?;
        let (node, epoch) = rest.rsplit_once('/')?;
        let seq = seq.parse().ok().filter(|seq| *seq > 0)?;
        let is_epoch = epoch.len() == 16 && epoch.bytes().all(|byte| byte.is_ascii_hexdigit());
        (is_epoch && (1..=MAX_NODE_NAME).contains(&node.len())).then_some(())?;
        Some(Self { node, epoch: u64::from_str_radix(epoch, 16).ok()?, seq })
    }
}
