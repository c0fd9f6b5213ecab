//! Who a request is from.

use galen_runtime::access::Role;
use serde::Serialize;

/// Somebody who was let in. It is an extension of every request that needs a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub role: Role,
    pub by: By,
}

/// What the name rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    Token,
    Certificate,
    /// On this machine, where nothing is asked for.
    Loopback,
}

impl User {
    /// Whoever is on this machine, as long as nothing else is asked of anybody.
    pub(super) fn local() -> Self {
        Self { name: "local".into(), role: Role::Admin, by: By::Loopback }
    }
}
