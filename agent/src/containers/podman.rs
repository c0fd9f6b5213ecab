//! Podman: cgroups by their path, names, images and labels from the [Engine API](super::engine) of its service.
//!
//! The path is `/libpod_parent/libpod-<id>` with the cgroupfs driver and `machine.slice/libpod-<id>.scope` with
//! systemd's, in a slice of the user's manager for containers that are not root's; a pod lies between. The service is
//! socket activated and often not enabled: without it, and for containers of other users, the id is all that is known.

use std::{path::Path, time::Duration};

use futures_util::future::BoxFuture;

use super::{Answer, Claim, Daemon, Metrics, Runtime, engine, outermost};

pub struct Podman {
    daemon: Daemon,
}

impl Podman {
    /// Does not connect yet.
    pub fn new(socket: &Path, metrics: &Metrics) -> Self {
        Self { daemon: Daemon::new("podman", socket, metrics) }
    }
}

impl Runtime for Podman {
    fn name(&self) -> &'static str {
        "podman"
    }

    fn claim<'a>(&self, path: &'a str) -> Option<Claim<'a>> {
        outermost(path, &["libpod"])
    }

    fn describe<'a>(&'a self, claim: Claim<'a>, patience: Duration) -> BoxFuture<'a, Answer> {
        Box::pin(self.daemon.ask(patience, engine::inspect(self.daemon.socket(), claim.id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4f1c0a3b5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708";

    #[test]
    fn containers_are_told_by_every_form_of_their_path() {
        let podman = Podman::new("/nonexistent".as_ref(), &Metrics::new().unwrap());
        for path in [
            format!("/libpod_parent/libpod-{ID}"),
            format!("/libpod_parent/{ID}/libpod-{ID}"),
            format!("/machine.slice/libpod-{ID}.scope"),
            format!("/machine.slice/machine-libpod_pod_{ID}.slice/libpod-{ID}.scope"),
            format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope"),
        ] {
            for below in ["", "/container"] {
                let inner = format!("{path}{below}");
                let claim = podman.claim(&inner).unwrap();
                assert_eq!((claim.cgroup, claim.id), (path.as_str(), ID), "{inner}");
            }
        }
        for path in
            [format!("/machine.slice/libpod-conmon-{ID}.scope"), format!("/docker/{ID}"), "/libpod_parent".into()]
        {
            assert_eq!(podman.claim(&path), None, "{path}");
        }
    }
}
