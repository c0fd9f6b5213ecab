//! A container runtime, and what comes of asking one or several.

use std::time::Duration;

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};

use super::{Claim, Description};

/// A container runtime, or whatever else owns cgroups.
pub trait Runtime: Send + Sync {
    /// As events name it, unless the path or the daemon says better.
    fn name(&self) -> &'static str;

    /// The owner of the cgroup `path`, if it is one of this runtime's, or lies in one.
    fn claim<'a>(&self, path: &'a str) -> Option<Claim<'a>>;

    /// What the runtime knows of what it claimed, if it says so soon.
    fn describe<'a>(&'a self, claim: Claim<'a>, patience: Duration) -> BoxFuture<'a, Answer>;
}

/// What came of asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Known(Description),
    /// The daemon knows no such container.
    Unknown,
    /// There is no daemon, or nothing to ask.
    Absent,
    /// The daemon failed, or is left alone for a while because it did.
    Unanswered,
}

/// As the runtime answers, with its name where that says more than the path.
pub(super) fn ask<'a>(runtime: &'a dyn Runtime, claim: Claim<'a>, patience: Duration) -> BoxFuture<'a, Answer> {
    Box::pin(async move {
        let mut answer = runtime.describe(claim, patience).await;
        if let Answer::Known(description) = &mut answer
            && description.runtime.is_empty()
            && claim.runtime.is_empty()
        {
            description.runtime = runtime.name().into();
        }
        answer
    })
}

/// The first that is known; otherwise "unknown" only if all who were there said so.
pub(super) async fn first_known(mut asked: FuturesUnordered<BoxFuture<'_, Answer>>) -> Answer {
    let mut best = Answer::Absent;
    while let Some(answer) = asked.next().await {
        match (&answer, &best) {
            (Answer::Known(_), _) => return answer,
            (Answer::Unanswered, _) | (Answer::Unknown, Answer::Absent) => best = answer,
            _ => {}
        }
    }
    best
}
