//! The secret itself: `galen_` and 64 hex digits, 256 bits that nobody can guess.
//!
//! It has one form, so that it is found where it should not be: in a query, in a cookie, in a file of digests, or by what
//! scans repositories for secrets. It is never shown by `Debug`.

use std::{fmt, str::FromStr};

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest, rand};

const PREFIX: &str = "galen_";
/// Of a token and of a digest.
const BYTES: usize = 32;
const DIGITS: usize = 2 * BYTES;

/// What a bearer shows.
#[derive(Clone)]
pub struct Token(String);

/// SHA-256 of a token's text. It is compared in a time that tells nothing.
#[derive(Debug, Clone, Copy)]
pub struct Digest([u8; BYTES]);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a token is `galen_` and 64 hex digits")]
pub struct NotATokenError;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system has no random numbers")]
pub struct RandomError;

impl Token {
    /// A new one.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn random() -> Result<Self, RandomError> {
        let mut bytes = [0; BYTES];
        rand::fill(&mut bytes).map_err(|_| RandomError)?;
        Ok(Self(format!("{PREFIX}{}", Digest(bytes))))
    }

    /// For its bearer; for nobody else.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    pub fn digest(&self) -> Digest {
        let mut bytes = [0; BYTES];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, self.0.as_bytes()).as_ref());
        Digest(bytes)
    }

    /// Whether there is one in `text`.
    pub fn is_in(text: &str) -> bool {
        text.match_indices(PREFIX).any(|(at, _)| {
            let rest = &text.as_bytes()[at + PREFIX.len()..];
            rest.len() >= DIGITS && rest[..DIGITS].iter().all(u8::is_ascii_hexdigit)
        })
    }
}

impl FromStr for Token {
    type Err = NotATokenError;

    fn from_str(text: &str) -> Result<Self, NotATokenError> {
        let digits = text.strip_prefix(PREFIX).ok_or(NotATokenError)?;
        let is_token = digits.len() == DIGITS && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if is_token { Ok(Self(text.to_owned())) } else { Err(NotATokenError) }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for Digest {}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Digest {
    type Err = NotADigestError;

    fn from_str(text: &str) -> Result<Self, NotADigestError> {
        if text.len() != DIGITS || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NotADigestError);
        }
        let mut bytes = [0; BYTES];
        for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| NotADigestError)?;
        }
        Ok(Self(bytes))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a digest is 64 hex digits")]
pub struct NotADigestError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_new_each_time_and_known_by_its_sha_256() {
        let (one, other) = (Token::random().unwrap(), Token::random().unwrap());
        assert_ne!(one.reveal(), other.reveal());
        assert_ne!(one.digest(), other.digest());
        let again: Token = one.reveal().parse().unwrap();
        assert_eq!(again.digest(), one.digest());
        assert_eq!(one.digest().to_string().parse(), Ok(one.digest()));
        // As `sha256sum` has it.
        let token: Token = format!("galen_{}", "0".repeat(64)).parse().unwrap();
        assert_eq!(token.digest().to_string(), ZEROS);
        assert_eq!(format!("{token:?}"), "Token");
    }

    const ZEROS: &str = "970cff2f1d08fd651661c8a882cb00da10027719e6af94b62550e6cead06a1fd";

    #[test]
    fn what_has_not_its_form_is_no_token() {
        let token = Token::random().unwrap();
        let text = token.reveal();
        for wrong in ["", "galen_", &text[1..], &text[..69], &format!("{text}0"), &text.to_uppercase()] {
            assert!(wrong.parse::<Token>().is_err(), "{wrong}");
        }
        for wrong in ["", text, &"g".repeat(64), &"é".repeat(32)] {
            assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn it_is_found_wherever_it_is() {
        let token = Token::random().unwrap();
        let text = token.reveal();
        for around in [format!("a={text}"), format!("galen_{text}"), format!("x; b={text}; c=d"), text.to_owned()] {
            assert!(Token::is_in(&around), "{around}");
        }
        for other in ["", "galen_", "galen_agent", "query=galen_agent%20AND%20é", &text[..69]] {
            assert!(!Token::is_in(other), "{other}");
        }
    }
}
