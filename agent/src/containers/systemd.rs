//! Systemd units: `…/name.service` and `…/name.scope`.
//!
//! A user's manager (`user@1000.service`) runs units of its own below it, so there the inner unit is the owner; what
//! else is below a unit belongs to it.

use std::time::Duration;

use futures_util::future::BoxFuture;

use super::{Answer, Claim, Runtime};
use crate::cgroup::ancestry;

pub struct Systemd;

impl Runtime for Systemd {
    fn name(&self) -> &'static str {
        "systemd"
    }

    fn claim<'a>(&self, path: &'a str) -> Option<Claim<'a>> {
        let units: Vec<&str> = ancestry(path).filter(|path| is_unit(name(path))).collect();
        // Outermost first; a user's manager only if nothing of its own is inside.
        let owner = units.iter().rev().find(|path| !is_manager(name(path))).or(units.last())?;
        Some(Claim { name: name(owner), ..Claim::of(owner) })
    }

    fn describe<'a>(&'a self, _: Claim<'a>, _: Duration) -> BoxFuture<'a, Answer> {
        // The path says it all.
        Box::pin(std::future::ready(Answer::Absent))
    }
}

/// Whether `path` is that of a user's manager, whose children are worth looking at.
pub(super) fn is_user_manager(path: &str) -> bool {
    is_manager(name(path))
}

fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

fn is_unit(name: &str) -> bool {
    name.ends_with(".service") || name.ends_with(".scope")
}

fn is_manager(name: &str) -> bool {
    name.starts_with("user@") && name.ends_with(".service")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_belongs_to_its_outermost_unit_but_for_user_managers() {
        let cases = [
            ("/system.slice/nginx.service", Some("/system.slice/nginx.service")),
            ("/system.slice/nginx.service/worker", Some("/system.slice/nginx.service")),
            ("/init.scope", Some("/init.scope")),
            ("/system.slice/vm.service/inner.service", Some("/system.slice/vm.service")),
            ("/user.slice/user-1.slice/user@1.service", Some("/user.slice/user-1.slice/user@1.service")),
            (
                "/user.slice/user-1.slice/user@1.service/app.slice/a.service/x",
                Some("/user.slice/user-1.slice/user@1.service/app.slice/a.service"),
            ),
            ("/system.slice", None),
            ("/", None),
        ];
        for (path, owner) in cases {
            assert_eq!(Systemd.claim(path).map(|claim| claim.cgroup), owner, "{path}");
        }
        assert_eq!(Systemd.claim("/system.slice/nginx.service/worker").map(|claim| claim.name), Some("nginx.service"));
    }
}
