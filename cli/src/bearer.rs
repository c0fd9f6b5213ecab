//! The token that goes with each call. It comes from a file, never from an argument, which everybody on the machine may
//! read.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use galen_runtime::access::Token;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::Interceptor,
};

use crate::error::Error;

/// Longest file, in bytes: a token with what editors put around it.
const MAX_FILE: u64 = 1 << 10;
/// What everybody may do with a file.
const EVERYBODY: u32 = 0o007;

/// Lays the token on each call, if there is one.
#[derive(Debug, Clone)]
pub(crate) struct Bearer(Option<MetadataValue<Ascii>>);

impl Bearer {
    /// Reads the token from `file`.
    pub(crate) fn of(file: Option<&Path>) -> Result<Self, Error> {
        let Some(path) = file else { return Ok(Self(None)) };
        let token = read(path)?;
        let value = MetadataValue::try_from(format!("Bearer {}", token.reveal()));
        // Letters and digits always are such a value.
        let mut value = value.map_err(|error| failed(path, io::Error::other(error)))?;
        value.set_sensitive(true);
        Ok(Self(Some(value)))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

fn read(path: &Path) -> Result<Token, Error> {
    let mut file = File::open(path).map_err(|source| failed(path, source))?;
    let mode = file.metadata().map_err(|source| failed(path, source))?.permissions().mode();
    if mode & EVERYBODY != 0 {
        return Err(Error::TokenExposed { path: path.to_owned() });
    }
    let mut text = String::new();
    Read::by_ref(&mut file).take(MAX_FILE).read_to_string(&mut text).map_err(|source| failed(path, source))?;
    text.trim().parse().map_err(|source| Error::Token { path: path.to_owned(), source })
}

fn failed(path: &Path, source: io::Error) -> Error {
    Error::TokenFile { path: path.to_owned(), source }
}
