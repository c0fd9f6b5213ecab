//! What can go wrong: something that the machine refuses.

use std::io;

#[derive(Debug, thiserror::Error)]
#[error("failed to {what}")]
pub struct Error {
    what: String,
    #[source]
    source: io::Error,
}

pub(crate) trait Context<T> {
    fn to(self, what: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn to(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error { what: what(), source: source.into() })
    }
}
