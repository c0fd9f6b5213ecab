//! Questions about events, nodes and the aggregator: one implementation behind two doors, gRPC and HTTP.
//!
//! Events are found in an [`Archive`], whichever it is.

mod error;
mod service;

use std::sync::Arc;

use bytes::Bytes;
use galen_log::Log;
use galen_proto::{
    PROFILE_AFTER, PROFILE_BEFORE,
    v1::{
        Attachment, Event, EventId, EventKind, FieldCounts, GetLedgerResponse, GetProfileResponse, GetStatusResponse,
        Node, ProfileFormat, ProfilePart, SearchEventsRequest, SearchEventsResponse, ValueCount,
    },
};
use galen_store::{MAX_COUNTS, MAX_LIMIT, Query};
use prometheus::proto::MetricFamily;
use tokio::task::spawn_blocking;

pub use error::{Class, Error};
pub use service::Service;

use crate::{
    Parts,
    archive::{Archive, Follow, Question},
    control::Desired,
    flame::{self, Difference, Stacks},
    ingest::{self, now_unix_nanos},
    kafka::Kafka,
    nodes::{Nodes, Shard, TooMany},
};

/// Events of a page, unless asked otherwise.
pub const DEFAULT_LIMIT: usize = 50;
/// Events of a run that are looked at.
const MAX_RUN: usize = 50;

/// What answers are made from. Clones share it.
#[derive(Clone)]
pub struct Queries(Arc<Sources>);

/// The parts that know the answers.
pub struct Sources {
    pub archive: Arc<dyn Archive>,
    pub log: Arc<dyn Log>,
    pub kafka: Option<Kafka>,
    pub nodes: Arc<Nodes>,
    pub desired: Arc<Desired>,
    pub ingest: ingest::Metrics,
    pub started_unix_nanos: i64,
}

impl Queries {
    pub fn new(parts: &Parts, archive: Arc<dyn Archive>) -> Self {
        Self(Arc::new(Sources {
            archive,
            log: Arc::clone(&parts.log),
            kafka: parts.kafka.clone(),
            nodes: Arc::clone(&parts.nodes),
            desired: Arc::clone(&parts.desired),
            ingest: parts.ingest_metrics.clone(),
            started_unix_nanos: parts.started_unix_nanos,
        }))
    }

    /// Events that match, a page at a time.
    ///
    /// # Errors
    /// If the request is wrong, or cannot be answered now.
    pub async fn search(&self, request: SearchEventsRequest) -> Result<SearchEventsResponse, Error> {
        let limit = match request.limit as usize {
            0 => DEFAULT_LIMIT,
            limit if limit <= MAX_LIMIT => limit,
            _ => return Err(Error::Invalid(format!("`limit` is at most {MAX_LIMIT}"))),
        };
        if request.count_by.len() > MAX_COUNTS {
            return Err(Error::Invalid(format!("`count_by` has at most {MAX_COUNTS} fields")));
        }
        if let (Some(since), Some(until)) = (request.since_unix_nanos, request.until_unix_nanos)
            && since >= until
        {
            return Err(Error::Invalid("nothing lies between `since` and `until`: `since` must be earlier".into()));
        }
        let query = Query::parse(&request.query, now_unix_nanos()).map_err(galen_store::Error::from)?;
        let question = Question {
            query,
            since: request.since_unix_nanos,
            until: request.until_unix_nanos,
            ascending: request.ascending,
            limit,
            page: Some(request.page).filter(|page| !page.is_empty()),
            count_by: request.count_by,
        };
        let found = self.0.archive.search(question).await?;
        let value = |(value, count)| ValueCount { value, count };
        let counts = found
            .counts
            .into_iter()
            .map(|tally| FieldCounts { field: tally.field, values: tally.values.into_iter().map(value).collect() });
        Ok(SearchEventsResponse {
            counts: counts.collect(),
            events: found.events,
            total: found.total,
            next_page: found.next.unwrap_or_default(),
        })
    }

    /// One event with its attachments.
    ///
    /// # Errors
    /// If the id is wrong, or the store does not have it.
    pub async fn event(&self, id: &str) -> Result<Event, Error> {
        let parsed: EventId =
            id.parse().map_err(|error: galen_proto::ParseEventIdError| Error::Invalid(error.to_string()))?;
        let event = self.0.archive.get(parsed).await?;
        event.ok_or_else(|| Error::NotFound(format!("the store has no event `{id}`")))
    }

    /// The events of a run of a tracer, oldest first.
    ///
    /// # Errors
    /// If the store cannot answer.
    pub async fn run(&self, event: &Event) -> Result<Vec<Event>, Error> {
        if event.run_id.is_empty() {
            return Ok(vec![event.clone()]);
        }
        let node = event.id.as_ref().map(|id| id.node.as_str()).unwrap_or_default();
        let request = SearchEventsRequest {
            query: format!("run_id:{} AND node:{}", quoted(&event.run_id), quoted(node)),
            limit: MAX_RUN as u32,
            ascending: true,
            ..SearchEventsRequest::default()
        };
        Ok(self.search(request).await?.events)
    }

    /// Events as they are stored, from now on.
    ///
    /// # Errors
    /// If the query is wrong, or too many follow already.
    pub fn follow(&self, query: &str) -> Result<Follow, Error> {
        let query = Query::parse(query, now_unix_nanos()).map_err(galen_store::Error::from)?;
        self.0.archive.follow(query)
    }

    /// The stacks of an event's profile, the one that tells most; for a trigger, of the capture of the same run.
    ///
    /// # Errors
    /// If there is no profile, or it cannot be read.
    pub async fn stacks(&self, event: &Event) -> Result<(Event, Stacks), Error> {
        let owner = self.profile_owner(event.clone()).await?;
        spawn_blocking(move || {
            let stacks = flame::stacks(part(&owner, ProfilePart::Unspecified)?)?;
            Ok((owner, stacks))
        })
        .await?
    }

    /// A part of the profile of an event in a format; for a trigger, of the capture of the same run.
    ///
    /// # Errors
    /// If there is no such profile, or it cannot be read.
    pub async fn profile(
        &self,
        id: &str,
        format: ProfileFormat,
        wanted: ProfilePart,
    ) -> Result<GetProfileResponse, Error> {
        let owner = self.profile_owner(self.event(id).await?).await?;
        let (media_type, content) = spawn_blocking(move || render(&owner, format, wanted)).await??;
        Ok(GetProfileResponse { media_type: media_type.into(), content })
    }

    /// Every node that was heard of.
    pub fn nodes(&self) -> Vec<Node> {
        let mut nodes = self.0.nodes.list();
        for node in &mut nodes {
            node.desired = self.0.desired.of(&node.name).told();
        }
        nodes
    }

    /// What became of all that was observed; of one node, unless `node` is empty.
    ///
    /// # Errors
    /// If the node was never heard of.
    pub fn ledger(&self, node: &str) -> Result<GetLedgerResponse, Error> {
        let mut ledger = self.0.nodes.ledger((!node.is_empty()).then_some(node));
        if ledger.nodes.is_empty() && !node.is_empty() {
            return Err(Error::NotFound(format!("node `{node}` was never heard of")));
        }
        let mirror = self.0.kafka.as_ref().and_then(|kafka| kafka.mirror.as_ref());
        ledger.uncopied_records = mirror.map_or(0, |mirror| mirror.stats().lag);
        Ok(ledger)
    }

    /// Figures of each agent of a shard.
    ///
    /// # Errors
    /// There are more than an answer may have.
    pub fn node_figures(&self, shard: Shard) -> Result<Vec<MetricFamily>, TooMany> {
        self.0.nodes.node_figures(shard)
    }

    /// How the aggregator is.
    ///
    /// # Errors
    /// If the store cannot be looked at.
    pub async fn status(&self) -> Result<GetStatusResponse, Error> {
        let sources = &self.0;
        let state = sources.archive.state().await?;
        let (bounds, fleet) = (sources.log.bounds(), sources.nodes.fleet());
        let mut problems = state.problems;
        if let Some(why) = sources.ingest.log_available.refusal() {
            problems.insert(0, format!("the log takes no events: {why}"));
        }
        problems.extend(sources.kafka.iter().flat_map(Kafka::problems));
        if fleet.unbalanced > 0 {
            problems.push(format!(
                "{} observations of {} nodes are unaccounted for: see the ledger",
                fleet.unaccounted, fleet.unbalanced
            ));
        }
        Ok(GetStatusResponse {
            version: env!("CARGO_PKG_VERSION").into(),
            started_unix_nanos: sources.started_unix_nanos,
            agents_connected: u32::try_from(fleet.connected).unwrap_or(u32::MAX),
            log_next_offset: bounds.next,
            log_first_offset: bounds.first,
            log_bytes: bounds.bytes,
            store_next_offset: state.next_offset,
            store_events: state.events,
            store_bytes: state.bytes,
            received: sources.ingest.received_events.get(),
            duplicates: sources.ingest.deduplicated_events.get(),
            stored: state.stored,
            quarantined: state.quarantined,
            lost: fleet.lost,
            problems,
        })
    }

    /// Whether Kafka can be reached, where it is the log.
    ///
    /// # Errors
    /// Says that it cannot.
    pub fn ready(&self) -> Result<(), Error> {
        if let Some(why) = self.0.kafka.as_ref().and_then(|kafka| kafka.writer.away()) {
            return Err(Error::Unavailable(format!("Kafka cannot be reached: {why}").into()));
        }
        Ok(())
    }

    /// Why answers do not have what is new, one line each. Agents need not know.
    pub fn behind(&self) -> Vec<String> {
        let mirror = self.0.kafka.iter().flat_map(Kafka::behind);
        mirror.chain(self.0.archive.behind()).collect()
    }

    /// The event that has the profile: this one, or another of its run.
    async fn profile_owner(&self, event: Event) -> Result<Event, Error> {
        if flame::attachment(&event).is_some() {
            return Ok(event);
        }
        let missing = || Error::NotFound("the event has no profile, nor has another of its run yet".into());
        if event.kind() != EventKind::Trigger {
            return Err(missing());
        }
        let run = self.run(&event).await?;
        let owner = run.into_iter().find(|other| flame::attachment(other).is_some()).ok_or_else(missing)?;
        self.event(&owner.id.unwrap_or_default().to_string()).await
    }
}

/// What a flame graph is called.
fn title(event: &Event) -> String {
    let place = match &event.container {
        Some(container) if !container.name.is_empty() => container.name.clone(),
        _ => event.id.as_ref().map(|id| id.node.clone()).unwrap_or_default(),
    };
    format!("{} in {place}", event.tracer)
}

/// Text as a phrase of a query.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn part(owner: &Event, part: ProfilePart) -> Result<&Attachment, Error> {
    let (found, missing) = match part {
        ProfilePart::Before => (flame::named(owner, PROFILE_BEFORE), "the event has no profile of the seconds before"),
        // Captures of older agents have this one only, by another name.
        ProfilePart::After => {
            let after = flame::named(owner, PROFILE_AFTER).or_else(|| flame::attachment(owner));
            (after, "the event has no profile")
        }
        ProfilePart::Unspecified | ProfilePart::Difference => (flame::telling(owner), "the event has no profile"),
    };
    found.ok_or_else(|| Error::NotFound(missing.into()))
}

fn render(owner: &Event, format: ProfileFormat, wanted: ProfilePart) -> Result<(&'static str, Bytes), Error> {
    const FOLDED: &str = "text/plain; charset=utf-8";
    const SVG: &str = "image/svg+xml";
    let stacks = |wanted| Ok::<_, Error>(flame::stacks(part(owner, wanted)?)?);
    if wanted == ProfilePart::Difference {
        let difference = Difference::of(&stacks(ProfilePart::Before)?, &stacks(ProfilePart::After)?);
        return match format {
            ProfileFormat::Folded => Ok((FOLDED, difference.folded().into())),
            ProfileFormat::Svg => Ok((SVG, flame::draw_difference(&difference, &title(owner))?.into())),
            _ => Err(Error::Invalid("a difference is SVG or folded text".into())),
        };
    }
    match format {
        ProfileFormat::Unspecified => Err(Error::Invalid("`format` is missing".into())),
        ProfileFormat::Pprof => Ok(("application/gzip", flame::packed(part(owner, wanted)?)?)),
        ProfileFormat::Folded => Ok((FOLDED, stacks(wanted)?.folded().into())),
        ProfileFormat::Svg => Ok((SVG, flame::draw(&stacks(wanted)?, &title(owner))?.into())),
    }
}
