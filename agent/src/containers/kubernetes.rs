//! Kubernetes: pods and their containers, by the paths that the kubelet and the runtimes give them, described through
//! [CRI](super::cri).
//!
//! | Driver | Pod | Container below it |
//! |---|---|---|
//! | cgroupfs | `…/kubepods[/burstable\|/besteffort]/pod<uid>` | `<id>`, `crio-<id>` |
//! | systemd | `…/[…-]kubepods[-burstable\|-besteffort]-pod<uid>.slice`, `_` for `-` in the uid | `cri-containerd-<id>.scope`, `crio-<id>.scope`, `docker-<id>.scope` |
//! | neither | | `kubepods[…]-pod<uid>.slice:cri-containerd:<id>`, wherever (systemd's names, given to a runtime without it) |
//!
//! What comes before them is of no account: nodes that are containers themselves have their own path there. The quality
//! of service is in the path only.

use std::{path::PathBuf, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};

use super::{
    Answer, Claim, Daemon, Metrics, Qos, Runtime, container_id, cri, first_known, is_id, outermost, runtime_of,
};
use crate::cgroup::ancestry;

/// How the names of containers begin that are in no pod's cgroup; below `/k8s.io` they are bare ids.
const ALONE: [&str; 2] = ["cri-containerd", "crio"];
const ALONE_BARE: [&str; 3] = ["cri-containerd", "crio", ""];

pub struct Kubernetes {
    daemons: Vec<Daemon>,
}

impl Kubernetes {
    /// Does not connect yet.
    pub fn new(sockets: &[PathBuf], metrics: &Metrics) -> Self {
        Self { daemons: sockets.iter().map(|socket| Daemon::new("cri", socket, metrics)).collect() }
    }
}

impl Runtime for Kubernetes {
    fn name(&self) -> &'static str {
        "kubernetes"
    }

    fn claim<'a>(&self, path: &'a str) -> Option<Claim<'a>> {
        // Innermost first: a container, or the pod itself; then what a client of the runtime made without the kubelet.
        let of_pod = ancestry(path).find_map(container).or_else(|| pod(path));
        of_pod.or_else(|| outermost(path, if path.starts_with("/k8s.io/") { &ALONE_BARE } else { &ALONE }))
    }

    fn describe<'a>(&'a self, claim: Claim<'a>, patience: Duration) -> BoxFuture<'a, Answer> {
        let ask = |daemon: &'a Daemon| daemon.ask(patience, cri::describe(daemon.socket(), claim)).boxed();
        first_known(self.daemons.iter().map(ask).collect()).boxed()
    }
}

/// Whether the cgroup only leads to pods.
pub(super) fn leads_to_pods(path: &str) -> bool {
    path.rsplit('/').any(is_root) || path.ends_with("/kubelet")
}

fn container(path: &str) -> Option<Claim<'_>> {
    let (parent, name) = path.rsplit_once('/')?;
    if let Some((slice, rest)) = name.split_once(':') {
        let (runtime, id) = rest.split_once(':')?;
        let (pod_uid, qos) = slice_of_pod(slice)?;
        return is_id(id).then(|| claim(path, id, runtime_of(runtime), pod_uid, qos));
    }
    let (prefix, id) = container_id(name)?;
    let pod = pod(parent)?;
    Some(claim(path, id, runtime_of(prefix), pod.pod_uid, pod.qos?))
}

fn pod(path: &str) -> Option<Claim<'_>> {
    let (parent, name) = path.rsplit_once('/')?;
    let (pod_uid, qos) = slice_of_pod(name).or_else(|| directory_of_pod(parent, name))?;
    Some(Claim { group: true, ..claim(path, "", "kubernetes", pod_uid, qos) })
}

fn claim<'a>(cgroup: &'a str, id: &'a str, runtime: &'static str, pod_uid: &'a str, qos: Qos) -> Claim<'a> {
    Claim { id, runtime, pod_uid, qos: Some(qos), ..Claim::of(cgroup) }
}

/// By systemd's driver: `kubepods-burstable-pod<uid>.slice`.
fn slice_of_pod(name: &str) -> Option<(&str, Qos)> {
    let (groups, uid) = name.strip_suffix(".slice")?.rsplit_once("-pod")?;
    let (_, qos) = groups.rsplit_once("kubepods")?;
    Some((uid, qos_of(qos.strip_prefix('-').unwrap_or(qos))?)).filter(|(uid, _)| !uid.is_empty())
}

/// By the driver cgroupfs: `pod<uid>` below `kubepods` or one of its two groups.
fn directory_of_pod<'a>(parent: &str, name: &'a str) -> Option<(&'a str, Qos)> {
    let uid = name.strip_prefix("pod").filter(|uid| !uid.is_empty())?;
    let (above, group) = parent.rsplit_once('/')?;
    if is_root(group) {
        return Some((uid, Qos::Guaranteed));
    }
    let qos = qos_of(group).filter(|_| above.rsplit('/').next().is_some_and(is_root))?;
    Some((uid, qos))
}

/// The group of the pods: `kubepods`, `kubepods.slice`, `kubelet-kubepods.slice`.
fn is_root(name: &str) -> bool {
    let name = name.strip_suffix(".slice").unwrap_or(name);
    name.strip_suffix("kubepods").is_some_and(|above| above.is_empty() || above.ends_with('-'))
}

fn qos_of(group: &str) -> Option<Qos> {
    match group {
        "" => Some(Qos::Guaranteed),
        "burstable" => Some(Qos::Burstable),
        "besteffort" => Some(Qos::BestEffort),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4f1c0a3b5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708";
    const UID: &str = "8a1b9c7e-1234-4d5e-8f90-aabbccddeeff";

    fn claimed(path: &str) -> Option<Claim<'_>> {
        Kubernetes { daemons: Vec::new() }.claim(path)
    }

    #[test]
    fn containers_of_pods_are_told_by_every_form_of_their_path() {
        let slice = UID.replace('-', "_");
        let cases = [
            (format!("/kubepods/burstable/pod{UID}/{ID}"), "", Qos::Burstable),
            (format!("/kubepods/besteffort/pod{UID}/{ID}"), "", Qos::BestEffort),
            (format!("/kubepods/pod{UID}/{ID}"), "", Qos::Guaranteed),
            (format!("/kubepods/burstable/pod{UID}/crio-{ID}"), "cri-o", Qos::Burstable),
            (
                format!(
                    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{slice}.slice/cri-containerd-{ID}.scope"
                ),
                "containerd",
                Qos::Burstable,
            ),
            (format!("/kubepods.slice/kubepods-pod{slice}.slice/crio-{ID}.scope"), "cri-o", Qos::Guaranteed),
            (
                format!(
                    "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{slice}.slice/docker-{ID}.scope"
                ),
                "docker",
                Qos::BestEffort,
            ),
            (
                format!("/system.slice/containerd.service/kubepods-burstable-pod{slice}.slice:cri-containerd:{ID}"),
                "containerd",
                Qos::Burstable,
            ),
            // Nodes that are containers: cgroup version 1, and version 2 with a namespace of their own.
            (format!("/docker/{ID}/kubelet/kubepods/burstable/pod{UID}/{ID}"), "", Qos::Burstable),
            (
                format!(
                    "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod{slice}.slice/cri-containerd-{ID}.scope"
                ),
                "containerd",
                Qos::Burstable,
            ),
        ];
        for (path, runtime, qos) in cases {
            for below in ["", "/container", "/init.scope/worker"] {
                let inner = format!("{path}{below}");
                let claim = claimed(&inner).unwrap_or_else(|| panic!("nobody claims {inner}"));
                assert_eq!((claim.cgroup, claim.id, claim.runtime), (path.as_str(), ID, runtime), "{inner}");
                assert_eq!((claim.uid().as_ref(), claim.qos, claim.group), (UID, Some(qos), false), "{inner}");
            }
        }
    }

    #[test]
    fn a_pod_is_a_group_with_a_name() {
        let slice = UID.replace('-', "_");
        for path in [
            format!("/kubepods/burstable/pod{UID}"),
            format!("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{slice}.slice"),
        ] {
            let claim = claimed(&path).unwrap();
            assert_eq!((claim.cgroup, claim.id, claim.uid().as_ref()), (path.as_str(), "", UID));
            assert_eq!((claim.qos, claim.group), (Some(Qos::Burstable), true));
        }
        // A pod from a file of the kubelet has a hash for its uid.
        let hash = "c0ffee00c0ffee00c0ffee00c0ffee00";
        assert_eq!(claimed(&format!("/kubepods/pod{hash}")).unwrap().uid(), hash);
    }

    #[test]
    fn what_is_no_pod_is_not_claimed() {
        let slice = UID.replace('-', "_");
        for path in [
            "/".into(),
            "/kubepods".into(),
            "/kubepods/burstable".into(),
            "/kubepods/pod".into(),
            "/kubepods.slice/kubepods-burstable.slice".into(),
            "/kubepods.slice/kubepods-pod.slice".into(),
            format!("/docker/{ID}"),
            format!("/batch/pod{UID}/{ID}"),
            format!("/kubepods/burstable/pod{UID}/not-an-id"),
            format!("/kubepods.slice/kubepods-pod{slice}.slice/crio-conmon-{ID}.scope"),
            format!("/kubepods/elsewhere/pod{UID}/{ID}"),
        ] {
            assert_eq!(claimed(&path).map(|claim| claim.id), None, "{path}");
        }
    }
}
