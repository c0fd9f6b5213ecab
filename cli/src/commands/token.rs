//! `galen token create`: a token for a user, and the line that makes the aggregator know it.
//!
//! The token is written nowhere: what is kept of it, at the aggregator, is its SHA-256.

use std::io::{self, Write};

use galen_runtime::access::{Entry, Token};

use crate::{
    arguments::{TokenCreate, TokensChange},
    error::Error,
};

pub(crate) fn run(change: TokensChange) -> Result<(), Error> {
    match change {
        TokensChange::Create(TokenCreate { name, role }) => {
            let token = Token::random()?;
            let entry = Entry::new(&name, role, token.digest())?;
            let told = format!(
                "# the token of {name}, shown only now: for a file that {name} alone may read\n{}\n\n\
                 # the line for the file that `access.tokens_file` of aggregator.toml names\n{entry}\n",
                token.reveal(),
            );
            Ok(io::stdout().write_all(told.as_bytes())?)
        }
    }
}
