//! What can go wrong in the store, and what a caller may do about it.

use std::{io, path::PathBuf};

use crate::{partition::Name, query};

/// What a caller may do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The request is wrong: change it.
    Invalid,
    /// Try again, later or with less.
    Retryable,
    /// The disk or an index is at fault.
    Internal,
}

/// Why the store refused or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of the store could not be read or written.
    #[error("failed to {action} `{path}`")]
    Io {
        /// What was tried: a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// An index refused an operation.
    #[error("failed to {action} index `{index}`")]
    Index {
        /// What was tried: a verb.
        action: &'static str,
        /// Name of the index.
        index: String,
        /// What the engine said.
        #[source]
        source: tantivy::TantivyError,
    },
    /// An index in memory refused an operation.
    #[error("failed to look through events in memory")]
    Sample(#[source] tantivy::TantivyError),
    /// Something kept in an index, or with it, is not what was written.
    #[error("index `{index}` is damaged: {what}")]
    Damaged {
        /// Name of the index.
        index: String,
        /// What is wrong with it.
        what: String,
    },
    /// The query cannot be read.
    #[error(transparent)]
    Query(#[from] query::Error),
    /// The page does not come from an answer of this store.
    #[error("`{0}` is not a page: take it from the answer before, unchanged")]
    Page(String),
    /// A field was to be counted that cannot be.
    #[error("values of `{0}` cannot be counted: {1}")]
    Count(String, &'static str),
    /// The query ran for too long.
    #[error("the query took longer than {0} s: narrow its time range or its terms")]
    Deadline(u64),
    /// A test asked for this fault.
    #[error("injected fault")]
    Injected,
}

impl Error {
    /// What a caller may do about it.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Query(_) | Self::Page(_) | Self::Count(..) => Class::Invalid,
            Self::Deadline(_) => Class::Retryable,
            Self::Io { .. } | Self::Index { .. } | Self::Sample(_) | Self::Damaged { .. } | Self::Injected => {
                Class::Internal
            }
        }
    }

    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn index(action: &'static str, index: Name) -> impl FnOnce(tantivy::TantivyError) -> Self {
        let index = index.to_string();
        move |source| Self::Index { action, index, source }
    }
}
