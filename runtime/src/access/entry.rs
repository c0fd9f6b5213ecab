//! A line of the file of tokens: name, role and digest, with white space between them.
//!
//! ```text
//! grafana  read   6b0d…
//! ada      admin  91c4…
//! ```

use std::{fmt, str::FromStr};

use super::{Digest, NotADigestError, ParseRoleError, Role, Token};

/// Longest name, in bytes.
const MAX_NAME: usize = 64;

/// Whose token it is, and what it is good for. A name may have several, while one takes over from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    name: String,
    role: Role,
    digest: Digest,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseEntryError {
    #[error("write a name, a role and the SHA-256 of a token, with spaces between them")]
    Shape,
    #[error("`{0}` is not a name: letters, digits, `.`, `_`, `-` and `@` are allowed, 1 to {MAX_NAME} of them")]
    Name(String),
    #[error(transparent)]
    Role(#[from] ParseRoleError),
    #[error(transparent)]
    Digest(#[from] NotADigestError),
    #[error("this is a token itself, where only its SHA-256 belongs: replace the token")]
    Token,
}

impl Entry {
    /// # Errors
    /// The name is none.
    pub fn new(name: &str, role: Role, digest: Digest) -> Result<Self, ParseEntryError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte);
        if !(1..=MAX_NAME).contains(&name.len()) || !name.bytes().all(allowed) {
            return Err(ParseEntryError::Name(name.to_owned()));
        }
        Ok(Self { name: name.to_owned(), role, digest })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn role(&self) -> Role {
        self.role
    }

    pub fn digest(&self) -> Digest {
        self.digest
    }
}

impl FromStr for Entry {
    type Err = ParseEntryError;

    fn from_str(line: &str) -> Result<Self, ParseEntryError> {
        if Token::is_in(line) {
            return Err(ParseEntryError::Token);
        }
        let mut words = line.split_whitespace();
        let (Some(name), Some(role), Some(digest), None) = (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(ParseEntryError::Shape);
        };
        Self::new(name, role.parse()?, digest.parse()?)
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.name, self.role, self.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let digest = Token::random().unwrap().digest();
        let entry = Entry::new("ada@example", Role::Operate, digest).unwrap();
        assert_eq!(entry.to_string().parse(), Ok(entry.clone()));
        assert_eq!(format!("  ada@example\toperate   {digest} ").parse(), Ok(entry));
    }

    #[test]
    fn what_is_wrong_with_a_line_is_said() {
        let token = Token::random().unwrap();
        let digest = token.digest();
        for (line, says) in [
            ("ada read".to_owned(), "a name, a role and the SHA-256"),
            (format!("ada read {digest} more"), "a name, a role and the SHA-256"),
            (format!("a/b read {digest}"), "`a/b` is not a name"),
            (format!("{} read {digest}", "a".repeat(65)), "is not a name"),
            (format!("ada Read {digest}"), "`Read` is not a role"),
            (format!("ada read {}", &digest.to_string()[1..]), "64 hex digits"),
            (format!("ada read {}", token.reveal()), "a token itself"),
        ] {
            let error = line.parse::<Entry>().unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains(token.reveal()), "{line}: {error}");
        }
    }
}
