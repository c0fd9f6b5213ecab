//! Every call of both doors and what it needs: the only place where that is said.
//!
//! A call is a method and a path: of gRPC as it comes, of HTTP as the router has it. What is not here is not served,
//! whoever asks, so a call that was forgotten is noticed by the first who tries it, and by the tests.

use galen_runtime::access::Role;

/// What a call needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing: whether the aggregator is well is for everybody.
    Nothing,
    /// The certificate of a node, or on loopback in plaintext nothing. Whose stream it is, is seen when its hello has come.
    Node,
    /// A user whose role is this one or higher.
    Role(Role),
    /// [`Role::Read`], unless the metrics are open.
    Metrics,
}

/// A call of one of the doors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    pub method: &'static str,
    pub path: &'static str,
    pub need: Need,
}

const READ: Need = Need::Role(Role::Read);
const OPERATE: Need = Need::Role(Role::Operate);
const ADMIN: Need = Need::Role(Role::Admin);

/// All of them.
pub const CALLS: &[Call] = &[
    grpc("/galen.v1.AgentService/Session", Need::Node),
    grpc("/galen.v1.ControlService/RecordNow", OPERATE),
    // It may change any setting of a tracer.
    grpc("/galen.v1.ControlService/ReloadSettings", ADMIN),
    grpc("/galen.v1.ControlService/SetTracer", OPERATE),
    grpc("/galen.v1.ControlService/TriggerTracer", OPERATE),
    grpc("/galen.v1.IncidentService/FollowIncidents", READ),
    grpc("/galen.v1.IncidentService/GetIncident", READ),
    grpc("/galen.v1.IncidentService/ListIncidents", READ),
    grpc("/galen.v1.QueryService/FollowEvents", READ),
    grpc("/galen.v1.QueryService/GetEvent", READ),
    grpc("/galen.v1.QueryService/GetLedger", READ),
    grpc("/galen.v1.QueryService/GetProfile", READ),
    grpc("/galen.v1.QueryService/GetStatus", READ),
    grpc("/galen.v1.QueryService/ListNodes", READ),
    grpc("/galen.v1.QueryService/SearchEvents", READ),
    grpc("/grpc.health.v1.Health/Check", Need::Nothing),
    grpc("/grpc.health.v1.Health/Watch", Need::Nothing),
    grpc("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", READ),
    grpc("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", READ),
    http("/", READ),
    http("/api/openapi.json", READ),
    http("/api/v1/events", READ),
    http("/api/v1/events/stream", READ),
    http("/api/v1/events/{node}/{epoch}/{seq}", READ),
    http("/api/v1/events/{node}/{epoch}/{seq}/flame.folded", READ),
    http("/api/v1/events/{node}/{epoch}/{seq}/flame.svg", READ),
    http("/api/v1/events/{node}/{epoch}/{seq}/profile.pb.gz", READ),
    http("/api/v1/incidents", READ),
    http("/api/v1/incidents/stream", READ),
    http("/api/v1/incidents/{id}", READ),
    http("/api/v1/ledger", READ),
    http("/api/v1/nodes", READ),
    http("/api/v1/status", READ),
    http("/events/{node}/{epoch}/{seq}", READ),
    http("/healthz", Need::Nothing),
    http("/incidents", READ),
    http("/incidents/{id}", READ),
    http("/ledger", READ),
    http("/metrics", Need::Metrics),
    http("/metrics/nodes", Need::Metrics),
    http("/readyz", Need::Nothing),
    http("/style.css", READ),
];

const fn grpc(path: &'static str, need: Need) -> Call {
    Call { method: "POST", path, need }
}

const fn http(path: &'static str, need: Need) -> Call {
    Call { method: "GET", path, need }
}

/// What a call needs; `None` if there is no such call.
pub(super) fn need(method: &str, path: &str) -> Option<Need> {
    // Whoever may have an answer may have its head.
    let method = if method == "HEAD" { "GET" } else { method };
    // Some tens: looking at them costs less than finding out where to look.
    CALLS.iter().find(|call| call.path == path && call.method == method).map(|call| call.need)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_is_there_once_and_nothing_else_is() {
        for call in CALLS {
            assert_eq!(CALLS.iter().filter(|other| other.path == call.path).count(), 1, "{}", call.path);
            assert_eq!(need(call.method, call.path), Some(call.need));
        }
        for (method, path) in [
            ("GET", "/galen.v1.ControlService/SetTracer"),
            ("POST", "/galen.v1.ControlService/SetTracer/"),
            ("POST", "/galen.v1.ControlService/settracer"),
            ("POST", "/api/v1/events"),
            ("GET", "/api/v1/events/"),
            ("", ""),
        ] {
            assert_eq!(need(method, path), None, "{method} {path}");
        }
        assert_eq!(need("HEAD", "/"), Some(READ));
    }

    #[test]
    fn whatever_is_not_named_as_a_question_changes_something_and_takes_more_than_reading() {
        let questions = ["Check", "Follow", "Get", "List", "Search", "ServerReflectionInfo", "Watch"];
        for call in CALLS.iter().filter(|call| call.method == "POST" && call.need != Need::Node) {
            let name = call.path.rsplit('/').next().unwrap();
            let asks = questions.iter().any(|question| name.starts_with(question));
            let changes = matches!(call.need, Need::Role(Role::Operate | Role::Admin));
            assert_ne!(asks, changes, "{}", call.path);
        }
    }
}
