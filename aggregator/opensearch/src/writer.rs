//! Sends the events of a delivery, and ends when every one of them is done: there, there before, or aside.
//!
//! What is put off is sent again, those items alone, after a wait that grows; poison becomes a dead letter, which is
//! sent like any other document; a halt ends it with an error, and whoever fed it begins again from its last place.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use galen_log::Delivery;
use galen_runtime::{Backoff, Chain};
use tokio::task::spawn_blocking;
use tracing::warn;

use crate::{
    Client, Counters, Settings,
    bulk::{Kind, Lines, Request, Status},
    document::{self, Defect, Origin, Why},
    error::{Class, Error},
    judge::{Verdict, judge},
    names::Names,
    pace::Pace,
    tracers::Strangers,
};

/// Only what is judged is asked for, and no shard is waited for longer than this.
const PATH: &str = "/_bulk?filter_path=errors,items.*.status,items.*.error&timeout=10s";
/// Waits between tries.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// What a document has besides the event, as a rule, and the event in base64.
const GROWTH: usize = 4;

/// The way into OpenSearch. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    pub(crate) client: Client,
    pub(crate) names: Names,
    pub(crate) strangers: Arc<Strangers>,
    pub(crate) pace: Arc<Pace>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) bulk_bytes: usize,
}

/// The documents of a delivery.
struct Made {
    events: Vec<(Origin, Option<Defect>)>,
    aside: BTreeMap<usize, &'static str>,
    request: Request,
}

/// A delivery on its way.
struct Task<'a> {
    writer: &'a Writer,
    events: Vec<(Origin, Option<Defect>)>,
    /// The next one last.
    waiting: Vec<Request>,
    backoff: Backoff,
    /// Events that go aside, by place, and why.
    aside: BTreeMap<usize, &'static str>,
}

impl Writer {
    pub(crate) fn new(settings: &Settings, counters: Arc<Counters>) -> Result<Self, Error> {
        Ok(Self {
            client: Client::new(settings)?,
            names: Names::new(&*settings.prefix),
            strangers: Arc::default(),
            pace: Arc::new(Pace::new(settings.concurrency, settings.bulk_events)),
            counters,
            bulk_bytes: settings.bulk_bytes,
        })
    }

    pub(crate) async fn write(&self, delivery: Delivery) -> Result<(), Error> {
        let (names, strangers) = (self.names.clone(), Arc::clone(&self.strangers));
        let made = spawn_blocking(move || make(&delivery, &names, &strangers)).await;
        let Made { events, aside, request } = made.map_err(galen_log::Error::Interrupted)?;
        let mut waiting = request.divided(self.bulk_bytes);
        waiting.reverse();
        let backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let mut task = Task { writer: self, events, waiting, backoff, aside };
        while let Some(request) = task.waiting.pop() {
            task.send(request).await?;
        }
        Ok(())
    }
}

/// Makes the documents of a delivery.
fn make(delivery: &Delivery, names: &Names, strangers: &Strangers) -> Made {
    let origins = document::origins(delivery);
    let bytes: usize = origins.iter().map(|origin| origin.raw.len()).sum();
    let mut lines = Lines::with_capacity(bytes * GROWTH);
    let (mut events, mut aside) = (Vec::with_capacity(origins.len()), BTreeMap::new());
    for (place, origin) in origins.into_iter().enumerate() {
        let added = document::add(&mut lines, names, strangers, place, &origin);
        let defect = added.unwrap_or_else(|why| {
            document::add_dead(&mut lines, names, place, &origin, &why, true);
            aside.insert(place, why.reason);
            None
        });
        events.push((origin, defect));
    }
    Made { events, aside, request: lines.request() }
}

impl Task<'_> {
    /// Sends a request once, and puts back what is left of it.
    async fn send(&mut self, request: Request) -> Result<(), Error> {
        let Writer { client, pace, counters, .. } = self.writer;
        let answer = {
            let _leave = pace.leave().await;
            Counters::add(&counters.requests, 1);
            client.send_lines(PATH, request.body()).await
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                let reason = Chain(&error).to_string();
                if error.class() == Class::Halted {
                    counters.problem(true, reason);
                    return Err(error);
                }
                return self.put_off(request, reason).await;
            }
        };
        if answer.status == 200 {
            let read = request.read(&answer).map_err(|error| Chain(&error).to_string());
            return match read {
                Ok(statuses) => self.items(request, statuses).await,
                // Whatever answered, nobody says that anything is done.
                Err(reason) => self.put_off(request, reason).await,
            };
        }
        let (kind, reason) = answer.cause();
        let status = answer.status;
        match judge(status, &kind) {
            Verdict::Again | Verdict::Created | Verdict::Duplicate => {
                self.put_off(request, format!("{status} {reason}")).await
            }
            Verdict::Halt => Err(self.halt(status, reason)),
            // A request is refused as a whole for its size, or for one of its lines.
            Verdict::Divide | Verdict::Poison if request.items.len() > 1 => {
                self.waiting.extend(request.halves().into_iter().rev());
                Ok(())
            }
            Verdict::Divide | Verdict::Poison => self.aside(&request, 0, Why::refused(status, reason)),
        }
    }

    /// Judges each item of an answer.
    async fn items(&mut self, request: Request, statuses: Vec<Status>) -> Result<(), Error> {
        let counters = &self.writer.counters;
        let mut again = vec![false; request.items.len()];
        let mut reason = None;
        for (number, status) in statuses.into_iter().enumerate() {
            let item = &request.items[number];
            let cause = status.error.unwrap_or_default();
            match judge(status.status, &cause.kind) {
                Verdict::Created => self.count(item.kind, item.place),
                Verdict::Duplicate => Counters::add(&counters.duplicates, 1),
                Verdict::Again => {
                    again[number] = true;
                    reason.get_or_insert_with(|| format!("{} {}", status.status, cause.message()));
                }
                Verdict::Halt => return Err(self.halt(status.status, cause.message())),
                Verdict::Divide | Verdict::Poison => {
                    self.aside(&request, number, Why::refused(status.status, cause.message()))?;
                }
            }
        }
        let Some(reason) = reason else {
            self.writer.pace.taken();
            self.writer.counters.all_is_well();
            self.backoff.reset();
            return Ok(());
        };
        let left = request.only(|number| again[number]);
        self.put_off(left, reason).await
    }

    /// Puts a request back, and waits.
    async fn put_off(&mut self, request: Request, reason: String) -> Result<(), Error> {
        let Writer { pace, counters, .. } = self.writer;
        pace.put_off();
        Counters::add(&counters.failures, 1);
        Counters::add(&counters.repeated, request.items.len());
        let wait = self.backoff.next();
        warn!(reason, documents = request.items.len(), ?wait, "OpenSearch put documents off: they are sent again");
        counters.problem(false, format!("OpenSearch takes no events at the moment: {reason}"));
        self.waiting.push(request);
        tokio::time::sleep(wait).await;
        Ok(())
    }

    fn halt(&self, status: u16, reason: String) -> Error {
        let error = Error::Halted { status, reason };
        self.writer.counters.problem(true, error.to_string());
        error
    }

    /// Puts the event of an item aside, once.
    fn aside(&mut self, request: &Request, number: usize, why: Why) -> Result<(), Error> {
        let item = &request.items[number];
        let origin = &self.events[item.place].0;
        let with_bytes = match (item.kind, why.status) {
            (Kind::Event | Kind::Attachment, _) if self.aside.contains_key(&item.place) => return Ok(()),
            (Kind::Event | Kind::Attachment, _) => true,
            // Too large a second time: a remark is left of it, and its bytes are in the log alone.
            (Kind::DeadLetter, Some(413)) => false,
            // Somebody changed the index of the dead letters: there is no place to put anything aside.
            (Kind::DeadLetter | Kind::Remark, status) => {
                return Err(self.halt(status.unwrap_or_default(), why.message));
            }
        };
        self.aside.insert(item.place, why.reason);
        let mut lines = Lines::default();
        document::add_dead(&mut lines, &self.writer.names, item.place, origin, &why, with_bytes);
        self.waiting.push(lines.request());
        Ok(())
    }

    /// Counts what was created: what was there before was counted then.
    fn count(&self, kind: Kind, place: usize) {
        let (counters, (origin, defect)) = (&self.writer.counters, &self.events[place]);
        match (kind, defect) {
            (Kind::Attachment, _) => {}
            (Kind::Event, None) => Counters::add(&counters.events, 1),
            (Kind::Event, Some(Defect::Data)) => Counters::add(&counters.partly, 1),
            (Kind::Event, Some(Defect::Unreadable)) => Counters::add(&counters.unreadable, 1),
            (Kind::DeadLetter | Kind::Remark, _) => {
                let reason = self.aside.get(&place).copied().unwrap_or("unknown");
                counters.poisoned(&origin.id.node, reason);
                let remark = kind == Kind::Remark;
                warn!(event = %origin.id, reason, remark, "an event that OpenSearch refuses went to the dead letters");
            }
        }
    }
}
