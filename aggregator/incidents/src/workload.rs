//! Whom an event concerns, by a name that all copies of a workload share.
//!
//! | Where | Name |
//! |---|---|
//! | a pod | `namespace/owner`: the pod's name without what its controller added |
//! | a container with an image | the image without tag and digest |
//! | a systemd unit | its name, without the instance of a template or the number of a scope |
//! | anything else that has a name | that, with numbers as `*` |
//! | the whole machine | `host` |

use galen_proto::v1::Container;

/// Longest name, in characters.
const MAX_NAME: usize = 256;
/// What the names that Kubernetes makes up consist of.
const MADE_UP: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

pub(crate) fn workload(container: Option<&Container>) -> String {
    let Some(container) = container else { return "host".into() };
    let name = if !container.pod.is_empty() {
        format!("{}/{}", container.namespace, owner(&container.pod))
    } else if !container.image.is_empty() {
        image(&container.image).to_owned()
    } else if container.runtime == "systemd" {
        unit(&container.name)
    } else {
        uncounted(if container.name.is_empty() { &container.cgroup } else { &container.name })
    };
    if name.is_empty() { "host".into() } else { name.chars().take(MAX_NAME).collect() }
}

/// `web` of `web-5d9f7c6b8-x2x4z` (a Deployment), `web-x2x4z` (a DaemonSet) and `web-0` (a StatefulSet), `backup` of
/// `backup-28345670-x2x4z` (a CronJob).
fn owner(pod: &str) -> &str {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let made_up = |part: &str| part.bytes().all(|byte| MADE_UP.contains(&byte));
    match pod.rsplit_once('-') {
        Some((head, last)) if last.len() == 5 && made_up(last) => match head.rsplit_once('-') {
            Some((owner, hash)) if (6..=10).contains(&hash.len()) && (made_up(hash) || digits(hash)) => owner,
            _ => head,
        },
        Some((head, last)) if digits(last) => head,
        _ => pod,
    }
}

/// The colon of a port stands before a slash, that of a tag behind the last one.
fn image(image: &str) -> &str {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    }
}

fn unit(name: &str) -> String {
    if name.ends_with(".scope") {
        return uncounted(name);
    }
    match (name.split_once('@'), name.rsplit_once('.')) {
        (Some((template, _)), Some((_, kind))) => format!("{template}@.{kind}"),
        _ => name.to_owned(),
    }
}

/// Numbers, and ids of 12 or more hexadecimal digits, become `*`.
fn uncounted(name: &str) -> String {
    let mut kept = String::new();
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        let hex = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let length = if hex >= 12 { hex } else { digits };
        if length > 0 {
            kept.push('*');
            rest = &rest[length..];
        } else {
            kept.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_of_one_owner_are_one_workload() {
        for (pod, expected) in [
            ("web-5d9f7c6b8-x2x4z", "web"),
            ("node-exporter-x2x4z", "node-exporter"),
            ("cart-0", "cart"),
            ("backup-28345670-x2x4z", "backup"),
            ("kube-apiserver-alpha", "kube-apiserver-alpha"),
            ("web", "web"),
        ] {
            assert_eq!(owner(pod), expected, "{pod}");
        }
    }

    #[test]
    fn images_units_and_cgroups_have_no_numbers() {
        let image = |image: &str| workload(Some(&Container { image: image.into(), ..Container::default() }));
        for text in ["reg:5000/shop/web:1.42", "reg:5000/shop/web@sha256:00ff", "reg:5000/shop/web"] {
            assert_eq!(image(text), "reg:5000/shop/web");
        }
        let named = |runtime: &str, name: &str| {
            workload(Some(&Container { runtime: runtime.into(), name: name.into(), ..Container::default() }))
        };
        assert_eq!(named("systemd", "postgresql@14-main.service"), "postgresql@.service");
        assert_eq!(named("systemd", "nginx2.service"), "nginx2.service");
        assert_eq!(named("systemd", "session-17.scope"), "session-*.scope");
        assert_eq!(named("cgroup", "/jobs/batch-12/deadbeefdeadbeef"), "/jobs/batch-*/*");
        assert_eq!(named("cgroup", ""), "host");
        assert_eq!(workload(None), "host");
    }
}
