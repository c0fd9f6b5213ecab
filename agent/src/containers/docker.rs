//! Docker: cgroups by their path, names, images and labels from its API on the unix socket.
//!
//! The path is `/docker/<id>` with the cgroupfs driver and `…/docker-<id>.scope` with systemd's, below whatever parent
//! the daemon or the container was given. The storage driver plays no part. After a failure the daemon is left alone
//! for [`QUIET`], so that one that hangs is not piled up on.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use bollard::ClientVersion;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Claim, Description, Runtime, outermost};

/// Hex digits of a container's id.
const ID_LENGTH: usize = 64;
/// How long a daemon that failed is not asked again.
const QUIET: Duration = Duration::from_secs(10);
/// Of a request, in seconds; the caller's deadline is shorter.
const TIMEOUT_SECONDS: u64 = 5;
/// Asked in the words of the oldest API that current daemons speak, until they say which they speak.
const FIRST_VERSION: ClientVersion = ClientVersion { major_version: 1, minor_version: 44 };

pub struct Docker {
    socket: PathBuf,
    quiet_until: Mutex<Option<Instant>>,
}

impl Docker {
    /// Does not connect yet.
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.into(), quiet_until: Mutex::new(None) }
    }

    async fn inspect(&self, id: &str) -> Result<Option<Description>, bollard::errors::Error> {
        let socket = self.socket.to_string_lossy();
        let docker = bollard::Docker::connect_with_unix(&socket, TIMEOUT_SECONDS, &FIRST_VERSION)?;
        let docker = docker.negotiate_version().await?;
        let inspected = match docker.inspect_container(id, None).await {
            Ok(inspected) => inspected,
            Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let config = inspected.config.unwrap_or_default();
        Ok(Some(Description {
            name: inspected.name.unwrap_or_default().trim_start_matches('/').to_owned(),
            image: config.image.unwrap_or_default(),
            labels: config.labels.unwrap_or_default(),
        }))
    }
}

impl Runtime for Docker {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn claim<'a>(&self, path: &'a str) -> Option<Claim<'a>> {
        let cgroup = outermost(path, |name| id_of(name).is_some())?;
        let id = id_of(cgroup.rsplit('/').next()?)?;
        // Below the pods of Kubernetes bare ids are those of its own runtime.
        (!path.starts_with("/kubepods")).then_some(Claim { cgroup, id, name: "" })
    }

    fn describe<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Option<Description>> {
        Box::pin(async move {
            if self.quiet_until.lock().is_some_and(|until| Instant::now() < until) {
                return None;
            }
            let mut unanswered = Unanswered { docker: self, answered: false };
            match self.inspect(id).await {
                Ok(description) => {
                    unanswered.answered = true;
                    description
                }
                Err(error) => {
                    tracing::debug!(%error, id, "docker did not describe the container");
                    None
                }
            }
        })
    }
}

/// A call that failed, or hung until the caller's deadline dropped it.
struct Unanswered<'a> {
    docker: &'a Docker,
    answered: bool,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if !self.answered {
            *self.docker.quiet_until.lock() = Some(Instant::now() + QUIET);
        }
    }
}

/// The id in the last component of a path.
fn id_of(name: &str) -> Option<&str> {
    let id = name.strip_prefix("docker-").and_then(|rest| rest.strip_suffix(".scope")).unwrap_or(name);
    (id.len() == ID_LENGTH && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(id)
}
