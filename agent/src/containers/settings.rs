//! `[containers]`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Filter, InvalidRule, Rule};

/// Who is asked what a container is, and which containers events are wanted of.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Raw {
    /// Socket of docker's API.
    pub docker_socket: PathBuf,
    /// Socket of podman's API, the one that is compatible with docker's.
    pub podman_socket: PathBuf,
    /// Sockets of runtimes that serve Kubernetes by its Container Runtime Interface. Those that are there are asked.
    pub cri_sockets: Vec<PathBuf>,
    /// Rules, of which a container must match one if there are any: tables such as `{ namespace = "shop" }` of `name`,
    /// `namespace`, `pod`, `image`, `runtime`, `labels` (regular expressions for the whole text), `qos` (`Guaranteed`,
    /// `Burstable`, `BestEffort`), `cgroup` (a regular expression that is found in the path), or a text for the last.
    pub include: Vec<Rule>,
    /// Rules of which a container must match none.
    pub exclude: Vec<Rule>,
}

impl Default for Raw {
    fn default() -> Self {
        let cri_sockets =
            ["/run/containerd/containerd.sock", "/run/crio/crio.sock", "/run/k3s/containerd/containerd.sock"];
        Self {
            docker_socket: "/var/run/docker.sock".into(),
            podman_socket: "/run/podman/podman.sock".into(),
            cri_sockets: cri_sockets.map(PathBuf::from).into(),
            include: Vec::new(),
            exclude: Vec::new(),
        }
    }
}

/// Validated.
#[derive(Debug, Clone)]
pub struct Settings {
    pub docker_socket: PathBuf,
    pub podman_socket: PathBuf,
    pub cri_sockets: Vec<PathBuf>,
    pub filter: Filter,
}

/// What is wrong with the section.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    #[error("`{key}` is `{path}`: a socket has an absolute path")]
    Relative { key: &'static str, path: String },
    #[error(transparent)]
    Rule(#[from] InvalidRule),
}

impl TryFrom<Raw> for Settings {
    type Error = Invalid;

    fn try_from(raw: Raw) -> Result<Self, Invalid> {
        let single = [("docker_socket", &raw.docker_socket), ("podman_socket", &raw.podman_socket)];
        let sockets = single.into_iter().chain(raw.cri_sockets.iter().map(|socket| ("cri_sockets", socket)));
        if let Some((key, path)) = sockets.into_iter().find(|(_, socket)| !socket.is_absolute()) {
            return Err(Invalid::Relative { key, path: path.display().to_string() });
        }
        let filter = Filter::new(&raw.include, &raw.exclude)?;
        let Raw { docker_socket, podman_socket, cri_sockets, .. } = raw;
        Ok(Self { docker_socket, podman_socket, cri_sockets, filter })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_without_an_absolute_path_is_refused_by_its_key() {
        assert!(Settings::try_from(Raw::default()).is_ok());
        let raw = Raw { cri_sockets: vec!["run/containerd.sock".into()], ..Raw::default() };
        let error = Settings::try_from(raw).unwrap_err().to_string();
        assert_eq!(error, "`cri_sockets` is `run/containerd.sock`: a socket has an absolute path");
    }
}
