//! A node, as it is kept: there may be tens of thousands.

use bytes::Bytes;
use galen_proto::v1::{Node, TracerStatus};
use prost::Message;

#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    /// Without its tracers.
    pub(super) node: Node,
    pub(super) said: Said,
}

/// What a node said of its tracers: a `Node` with nothing else, encoded, which is a quarter of what it takes otherwise.
#[derive(Debug, Clone, Default)]
pub(super) struct Said(Bytes);

impl Known {
    /// Boxed, because a table has room for more than it holds.
    pub(super) fn new(node: Node) -> Box<Self> {
        Box::new(Self { node, said: Said::default() })
    }

    pub(super) fn whole(self) -> Node {
        Node { tracers: self.said.tracers(), ..self.node }
    }
}

impl Said {
    pub(super) fn new(tracers: Vec<TracerStatus>) -> Self {
        Self(Node { tracers, ..Node::default() }.encode_to_vec().into())
    }

    pub(super) fn tracers(&self) -> Vec<TracerStatus> {
        // It was encoded here.
        Node::decode(&*self.0).map(|node| node.tracers).unwrap_or_default()
    }
}
