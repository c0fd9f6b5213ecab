//! The streams of the agents: the gRPC service that agents call.
//!
//! A session checks what it is sent and hands batches to [`Ingest`]; it decodes no event. It never acknowledges
//! anything itself: what it sends is what the log's thread told its receipts. Whatever is wrong with one stream ends
//! that stream with its reason ([`Refusal`]) and touches no other.
//!
//! Bounded: agents ([`Seats`]), new sessions a second ([`Admission`]), bytes underway of each (it is not read from while they exceed its credit) and of all
//! (the queue of [`Ingest`]), answers that the agent does not read (the session ends), commands underway and waiting
//! ([`Orders`]).

mod admission;
mod commands;
mod metrics;
mod orders;
mod refusal;
mod seats;
mod stream;
mod validate;

use std::{pin::Pin, sync::Arc, time::Duration};

use galen_proto::v1::{AgentMessage, AggregatorMessage, agent_service_server::AgentService};
use galen_runtime::{OnEnd, Supervisor};
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

pub use admission::Admission;
pub use metrics::Metrics;
pub use orders::Orders;
pub use refusal::Refusal;
pub use seats::{Seat, Seats};
pub use validate::{Announced, Limits};

use crate::{
    caller::Caller,
    config::MIN_CREDIT,
    control::{self, Desired},
    ingest::Ingest,
    leaving::Leaving,
    listener::Peer,
    nodes::Nodes,
};

/// Answers that may wait for an agent to read them.
const OUTBOX: usize = 16;

/// What every session is told in its welcome, and held to.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Bytes that one agent may have underway.
    pub credit: u64,
    /// Bytes that all agents may have underway.
    pub memory: u64,
    pub limits: Limits,
    pub heartbeat: Duration,
    /// Longest time from the call to its hello.
    pub hello: Duration,
}

/// What the sessions share.
pub struct Sessions {
    pub ingest: Ingest,
    pub nodes: Arc<Nodes>,
    pub seats: Arc<Seats>,
    pub desired: Arc<Desired>,
    pub admission: Admission,
    pub leaving: Leaving,
    pub terms: Terms,
    pub metrics: Metrics,
    pub control_metrics: control::Metrics,
    pub supervisor: Supervisor,
}

impl Sessions {
    /// Whether a session may begin now.
    fn admit(&self) -> Result<(), Refusal> {
        if self.leaving.has_begun() {
            return Err(Refusal::ShuttingDown);
        }
        self.admission.ask().map_err(|again| Refusal::TooManyNew { again })
    }

    /// Credit of each agent, now.
    fn credit(&self) -> u64 {
        let agents = self.seats.count().max(1) as u64;
        (self.terms.memory / agents).clamp(MIN_CREDIT, self.terms.credit)
    }
}

/// The service.
#[derive(Clone)]
pub struct Service(pub Arc<Sessions>);

#[tonic::async_trait]
impl AgentService for Service {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<AggregatorMessage, Status>> + Send>>;

    /// Answers at once, because a client sees nothing of the call until it has the response's head.
    async fn session(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        if let Err(refusal) = self.0.admit() {
            self.0.metrics.ended.with_label_values(&[refusal.label()]).inc();
            return Err(Status::from(&refusal));
        }
        let (outbox, answers) = mpsc::channel::<stream::Answer>(OUTBOX);
        let sessions = Arc::clone(&self.0);
        let cut = request.extensions().get::<Peer>().map(Peer::cut);
        // Who is not known speaks for nobody.
        let caller = request.extensions().get().cloned().unwrap_or(Caller::Anonymous);
        let session = stream::run(sessions, request.into_inner(), outbox, caller, cut);
        self.0.supervisor.spawn("session", OnEnd::Ignore, session);
        let answers = ReceiverStream::new(answers).map(|answer| *answer);
        Ok(Response::new(Box::pin(answers)))
    }
}
