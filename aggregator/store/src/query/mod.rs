//! The query language: that of OpenSearch's `query_string`, as far as events need it.
//!
//! ```text
//! tracer:cpuidle AND data.user_percent:>80
//! severity:>=warning -container.namespace:kube-system
//! data.score:[50 TO 90} OR summary:"out of memory"
//! container.name:web-* AND _exists_:container.pod AND time:>now-1h
//! burst
//! ```
//! Words side by side must all match, as with `default_operator: AND`: answers are ordered by time, so "any of them"
//! would be of little use. A word without a field is looked for in the summary and in the names of tracer, node, host,
//! container, pod and namespace. Text is parsed here, with positions for the errors, and compiled against the schema;
//! length, terms and nesting are bounded. A store that is not this one makes its own of [`Query::expression`].

mod column;
pub(crate) mod compile;
pub(crate) mod fields;
mod parse;
mod time;

use std::{fmt, time::Instant};

pub(crate) use column::is_late;
pub use compile::{severities, whole_days};
pub use fields::{Kind, Target, known_fields, resolve};
pub use parse::{Bound, Expression, Name, Value, Wild};
pub use time::parse as parse_time;

/// Longest query, in bytes.
pub const MAX_LENGTH: usize = 4096;
/// Most terms of a query.
pub const MAX_TERMS: usize = 64;

/// A query that can be run.
pub struct Query {
    text: String,
    expression: parse::Expression,
    now: i64,
}

impl Query {
    /// Reads a query; empty text matches everything. `now` is what `now` means in it, in nanoseconds since 1970-01-01
    /// UTC.
    ///
    /// # Errors
    /// Says what is wrong, and where.
    pub fn parse(text: &str, now: i64) -> Result<Self, Error> {
        let expression = parse::parse(text)?;
        let query = Self { text: text.to_owned(), expression, now };
        // Only what can be compiled is a query.
        query.compile(Instant::now())?;
        Ok(query)
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it says.
    #[must_use]
    pub fn expression(&self) -> &Expression {
        &self.expression
    }

    /// What `now` means in it, in nanoseconds since 1970-01-01 UTC.
    #[must_use]
    pub fn now(&self) -> i64 {
        self.now
    }

    /// For a search that has until `end`: whatever takes its time before the first match obeys that too.
    pub(crate) fn compile(&self, end: Instant) -> Result<Box<dyn tantivy::query::Query>, Error> {
        compile::Compiler { now: self.now, end }.compile(&self.expression)
    }
}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Query({:?})", self.text)
    }
}

/// What is wrong with a query, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at character {at}: {message}")]
pub struct Error {
    /// Position of the culprit, in characters, counted from 1.
    pub at: usize,
    /// What is wrong with it.
    pub message: String,
}

impl Error {
    pub(crate) fn new(at: usize, message: impl Into<String>) -> Self {
        Self { at, message: message.into() }
    }
}
