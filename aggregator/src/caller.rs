//! Who is at the other end of a connection, as its handshake showed. What they may ask is for [`crate::access`] to say.
//!
//! A [`Caller`] is an extension of every request.

use galen_runtime::tls::Identity;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Caller {
    /// On this machine, in plaintext.
    Local,
    /// Behind TLS, without a certificate.
    Anonymous,
    Certified(Identity),
}

impl Caller {
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
    fn a_node_speaks_for_itself_alone() {
        let node = Caller::Certified(Identity::Node("web-1".into()));
        let user = Caller::Certified(Identity::User("ada".into()));
        assert_eq!(node.speaks_for("web-1"), Ok(()));
        assert_eq!(node.speaks_for("web-2"), Err("node `web-1`".into()));
        assert!(user.speaks_for("ada").is_err() && Caller::Anonymous.speaks_for("web-1").is_err());
    }
}
