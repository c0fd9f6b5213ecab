//! Docker: cgroups by their path, names, images and labels from the [Engine API](super::engine).
//!
//! The path is `/docker/<id>` with the cgroupfs driver and `…/docker-<id>.scope` with systemd's, below whatever parent
//! the daemon or the container was given. The storage driver plays no part. What runs in a container that runs
//! containers belongs to the outer one: this daemon does not know the inner ones.

use std::{path::Path, time::Duration};

use futures_util::future::BoxFuture;

use super::{Answer, Claim, Daemon, Metrics, Runtime, engine, outermost};

pub struct Docker {
    daemon: Daemon,
}

impl Docker {
    /// Does not connect yet.
    pub fn new(socket: &Path, metrics: &Metrics) -> Self {
        Self { daemon: Daemon::new("docker", socket, metrics) }
    }
}

impl Runtime for Docker {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn claim<'a>(&self, path: &'a str) -> Option<Claim<'a>> {
        outermost(path, &["docker", ""])
    }

    fn describe<'a>(&'a self, claim: Claim<'a>, patience: Duration) -> BoxFuture<'a, Answer> {
        Box::pin(self.daemon.ask(patience, engine::inspect(self.daemon.socket(), claim.id)))
    }
}
