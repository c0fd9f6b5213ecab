//! What `append` gives back: the event's number once it is on the disk, or why it has none.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::sync::oneshot;

use crate::Rejected;

/// Identity of an event within its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventPosition {
    pub epoch: u64,
    pub seq: u64,
}

/// Resolves when the event is durable, or will never be. Dropping it changes nothing for the event.
#[derive(Debug)]
pub struct Receipt(Inner);

#[derive(Debug)]
enum Inner {
    Rejected(Rejected),
    Waiting(oneshot::Receiver<Result<EventPosition, Rejected>>),
}

impl Receipt {
    pub(crate) fn waiting(answer: oneshot::Receiver<Result<EventPosition, Rejected>>) -> Self {
        Self(Inner::Waiting(answer))
    }

    pub(crate) fn rejected(why: Rejected) -> Self {
        Self(Inner::Rejected(why))
    }

    /// Blocks the thread. Not for asynchronous code.
    pub fn wait(self) -> Result<EventPosition, Rejected> {
        match self.0 {
            Inner::Rejected(why) => Err(why),
            Inner::Waiting(answer) => answer.blocking_recv().unwrap_or(Err(Rejected::Closed)),
        }
    }
}

impl Future for Receipt {
    type Output = Result<EventPosition, Rejected>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Inner::Rejected(why) => Poll::Ready(Err(*why)),
            Inner::Waiting(answer) => Pin::new(answer).poll(context).map(|a| a.unwrap_or(Err(Rejected::Closed))),
        }
    }
}
