//! The pods that the kubelet is given.

use serde_json::{Value, json};

use crate::containerd::IMAGE;

const BURST: &str = "while :; do :; done";
const SLEEP: &str = "sleep 1000000";

/// A pod on the host's network, which needs no plugins.
pub(super) struct Pod {
    pub(super) namespace: &'static str,
    pub(super) name: &'static str,
    pub(super) label: (&'static str, &'static str),
    /// By name, what they run and what they may use.
    containers: &'static [(&'static str, &'static str, Resources)],
    init: &'static [(&'static str, &'static str, Option<&'static str>)],
}

#[derive(Clone, Copy)]
enum Resources {
    None,
    Limit,
    LimitedMemoryToo,
}

impl Pod {
    pub(super) fn manifest(&self) -> Value {
        let container = |name: &str, script: &str, resources: Resources| {
            let limits = match resources {
                Resources::None => json!({}),
                Resources::Limit => json!({ "limits": { "cpu": "100m" } }),
                Resources::LimitedMemoryToo => json!({ "limits": { "cpu": "100m", "memory": "64Mi" } }),
            };
            json!({
                "name": name, "image": IMAGE, "imagePullPolicy": "Never", "command": ["/bin/sh", "-c", script],
                "resources": limits,
            })
        };
        let containers: Vec<_> =
            self.containers.iter().map(|(name, script, res)| container(name, script, *res)).collect();
        let init = self.init.iter().map(|(name, script, restart)| {
            let mut init = container(name, script, Resources::None);
            if let Some(restart) = restart {
                init["restartPolicy"] = (*restart).into();
            }
            init
        });
        let init: Vec<_> = init.collect();
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": self.name, "namespace": self.namespace, "labels": { self.label.0: self.label.1 } },
            "spec": {
                "hostNetwork": true, "terminationGracePeriodSeconds": 1, "containers": containers,
                "initContainers": init,
            },
        })
    }

    /// The kubelet adds the node to the name of a pod from a file.
    pub(super) fn full_name(&self) -> String {
        format!("{}-node", self.name)
    }
}

pub(super) const CART: Pod = Pod {
    namespace: "shop",
    name: "cart",
    label: ("app", "cart"),
    containers: &[("till", BURST, Resources::Limit), ("proxy", SLEEP, Resources::None)],
    init: &[("prepare", "true", None), ("mesh", SLEEP, Some("Always"))],
};
pub(super) const VAULT: Pod = Pod {
    namespace: "shop",
    name: "vault",
    label: ("app", "vault"),
    containers: &[("safe", BURST, Resources::LimitedMemoryToo)],
    init: &[],
};
pub(super) const CRUNCH: Pod = Pod {
    namespace: "batch",
    name: "crunch",
    label: ("team", "science"),
    containers: &[("cruncher", BURST, Resources::None)],
    init: &[],
};
/// As the controller of DaemonSets labels them.
pub(super) const EXPORTER: Pod = Pod {
    namespace: "kube-system",
    name: "exporter",
    label: ("pod-template-generation", "1"),
    containers: &[("exporter", BURST, Resources::Limit)],
    init: &[],
};
pub(super) const PROBE: Pod = Pod {
    namespace: "monitoring",
    name: "probe",
    label: ("app", "probe"),
    containers: &[("probe", BURST, Resources::Limit)],
    init: &[],
};
