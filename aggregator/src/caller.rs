//! Who makes a request, as both doors know it, and what is theirs to ask.
//!
//! A [`Caller`] is an extension of every request. There is one rule so far: of those with a certificate users ask and
//! command, and a node has its stream, so that what is taken from one node neither reads of the fleet nor changes it.

use galen_runtime::tls::Identity;

/// What the stream of an agent is called under.
const STREAMS: &str = "/galen.v1.AgentService/";
/// What is said where a request may not go on.
pub(crate) const NOT_A_USER: &str = "the certificate is not one of a user, who alone may ask this";
/// Whoever gets in may ask whether the aggregator is well.
const HEALTH: [&str; 3] = ["/grpc.health.v1.Health/", "/healthz", "/readyz"];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Caller {
    /// On this machine, in plaintext.
    Local,
    /// Behind TLS, without a certificate.
    Anonymous,
    Certified(Identity),
}

impl Caller {
    /// Whether a request for `path` may go on. Whose stream it is, is seen when its hello has come.
    pub(crate) fn may_call(&self, path: &str) -> bool {
        !matches!(self, Self::Certified(Identity::Node(_) | Identity::Unnamed))
            || path.starts_with(STREAMS)
            || HEALTH.iter().any(|health| path.starts_with(health))
    }

    /// Whether it may speak for `node`; if not, who it is.
    pub(crate) fn speaks_for(&self, node: &str) -> Result<(), String> {
        match self {
            Self::Local => Ok(()),
            Self::Certified(Identity::Node(name)) if name == node => Ok(()),
            Self::Certified(Identity::Node(name)) => Err(format!("node `{name}`")),
            Self::Certified(Identity::User(name)) => Err(format!("user `{name}`")),
            Self::Certified(Identity::Unnamed) | Self::Anonymous => Err("nobody that is known here".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_its_stream_and_nothing_else() {
        let node = Caller::Certified(Identity::Node("web-1".into()));
        let user = Caller::Certified(Identity::User("ada".into()));
        for (path, of_a_node) in [
            ("/galen.v1.AgentService/Session", true),
            ("/grpc.health.v1.Health/Check", true),
            ("/galen.v1.ControlService/SetTracer", false),
            ("/galen.v1.QueryService/Search", false),
            ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", false),
            ("/api/v1/events", false),
            ("/readyz", true),
            ("/", false),
        ] {
            assert_eq!(node.may_call(path), of_a_node, "{path}");
            assert_eq!(Caller::Certified(Identity::Unnamed).may_call(path), of_a_node, "{path}");
            assert!(user.may_call(path) && Caller::Local.may_call(path), "{path}");
        }
        assert_eq!(node.speaks_for("web-1"), Ok(()));
        assert_eq!(node.speaks_for("web-2"), Err("node `web-1`".into()));
        assert!(user.speaks_for("ada").is_err() && Caller::Anonymous.speaks_for("web-1").is_err());
    }
}
