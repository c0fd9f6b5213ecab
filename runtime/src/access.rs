//! What the aggregator knows its users by, as it and the command have it: roles, tokens, and the file of tokens.
//!
//! - [`Role`]: what one may do; a higher one may do what a lower one may.
//! - [`Token`]: a secret that its bearer shows. It is random, so its SHA-256 may be kept and compared without more ado.
//! - [`Entry`]: a line of the file that the aggregator reads: a name, a role, and the digest of a token.

mod entry;
mod role;
mod token;

pub use entry::{Entry, ParseEntryError};
pub use role::{ParseRoleError, Role};
pub use token::{Digest, NotADigestError, NotATokenError, RandomError, Token};
