//! Leases from Redis: one script (`lease.lua`), which reads no clock but that of the server.
//!
//! Two keys, `{<prefix>:limits}:pool` and `{<prefix>:limits}:replicas`, both with a time to live and nothing in them that
//! cannot be lost: a Redis that was flushed, restarted or replaced begins with a full pool of one chunk. A connection
//! that failed, or whose answer did not come in time, is closed, and another made after [`RETRY`]: an answer that comes
//! late is never taken for that of a later question.

mod target;

use std::{future::Future, io, path::PathBuf, pin::Pin, time::Duration};

use redis::{AsyncConnectionConfig, RedisError, Script, aio::MultiplexedConnection};
use tokio::time::{Instant, timeout};

pub use self::target::Target;
use crate::{FORGET, PERIOD, SILENT, shares::Demand};

/// After a failure, until the next connection is tried.
const RETRY: Duration = Duration::from_secs(1);
/// For a connection. It is made over several turns where one is not enough.
const CONNECT: Duration = Duration::from_secs(2);
/// For an answer.
const PATIENCE: Duration = PERIOD.checked_div(2).expect("two is not zero");

/// Why there is no lease from Redis.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "`{url}` is not the address of a Redis server, write it as rediss://redis-1:6379 or redis://127.0.0.1:6379"
    )]
    Url {
        url: String,
        #[source]
        source: RedisError,
    },
    #[error("`{url}` is not on loopback, and plaintext is allowed there only: with TLS it begins with rediss://")]
    Exposed { url: String },
    #[error(
        "the user and the password of `{url}` do not belong in the address: there is a setting, and a file, for them"
    )]
    Login { url: String },
    #[error("`{url}` asks for TLS without looking at the server's certificate")]
    Unchecked { url: String },
    #[error("certificates are set, and `{url}` is plaintext: with TLS it begins with rediss://")]
    InClear { url: String },
    #[error("failed to read `{}`", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the certificates for Redis cannot be used: PEM is expected")]
    Certificates(#[source] RedisError),
    #[error("Redis refused")]
    Refused(#[from] RedisError),
    #[error("no answer of Redis in time: within {} ms, or {} s for a connection", PATIENCE.as_millis(), CONNECT.as_secs())]
    Slow,
    #[error("Redis failed a moment ago")]
    Resting,
}

/// One replica's way to the tokens of all.
pub struct Redis {
    target: Target,
    script: Script,
    name: String,
    keys: [String; 2],
    connection: Option<MultiplexedConnection>,
    connecting: Option<Connecting>,
    rests_until: Option<Instant>,
}

/// A connection that is being made, whenever it is waited for.
type Connecting = Pin<Box<dyn Future<Output = Result<MultiplexedConnection, Error>> + Send>>;

/// What is asked for.
pub(crate) struct Request<'a> {
    pub(crate) demands: &'a [Demand],
    pub(crate) tokens: u64,
    pub(crate) capacity: f64,
}

/// What there is.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) tokens: u64,
    /// Replicas that ask, this one with them.
    pub(crate) alive: u32,
    /// Replicas that asked lately, and may be cut off.
    pub(crate) silent: u32,
    /// What the others want. Of a version of Galen that says it in another way: nothing.
    pub(crate) others: Vec<Vec<Demand>>,
}

impl Redis {
    /// Connects when it is first asked. `name`: of this replica, unlike that of any other.
    ///
    /// # Errors
    /// The address cannot be used, or a file that it needs.
    pub fn new(target: Target, prefix: &str, name: String) -> Result<Self, Error> {
        target.client()?;
        let keys = ["pool", "replicas"].map(|key| format!("{{{prefix}:limits}}:{key}"));
        let script = Script::new(include_str!("lease.lua"));
        Ok(Self { target, script, name, keys, connection: None, connecting: None, rests_until: None })
    }

    pub(crate) async fn ask(&mut self, request: Request<'_>) -> Result<Answer, Error> {
        if self.rests_until.is_some_and(|until| Instant::now() < until) {
            return Err(Error::Resting);
        }
        let answer = timeout(PATIENCE, self.exchange(request)).await.unwrap_or(Err(Error::Slow));
        self.rests_until = None;
        if answer.is_err() && self.connecting.is_none() {
            self.rests_until = Some(Instant::now() + RETRY);
            self.connection = None;
        }
        answer
    }

    /// Takes leave: what was kept back for this replica is given to the others.
    pub(crate) async fn leave(&mut self) {
        let Some(connection) = &mut self.connection else { return };
        let mut command = redis::cmd("HDEL");
        command.arg(&self.keys[1]).arg(&self.name);
        if !matches!(timeout(PATIENCE, command.query_async::<()>(connection)).await, Ok(Ok(()))) {
            tracing::debug!("Redis was not told that this replica ends: it will be forgotten");
        }
    }

    async fn exchange(&mut self, request: Request<'_>) -> Result<Answer, Error> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => {
                let made = self.connecting.get_or_insert_with(|| Box::pin(connect(self.target.clone()))).await;
                self.connecting = None;
                self.connection.insert(made?)
            }
        };
        let said = serde_json::to_string(request.demands).unwrap_or_default();
        let (tokens, alive, silent, others): (u64, u32, u32, Vec<Vec<u8>>) = self
            .script
            .key(&self.keys[0])
            .key(&self.keys[1])
            .arg(&self.name)
            .arg(said)
            .arg(request.tokens)
            .arg(request.capacity)
            .arg(micros(PERIOD))
            .arg(micros(SILENT))
            .arg(micros(FORGET))
            .invoke_async(connection)
            .await?;
        let others = others.iter().map(|said| serde_json::from_slice(said).unwrap_or_default()).collect();
        Ok(Answer { tokens: tokens.min(request.tokens), alive: alive.max(1), silent, others })
    }
}

async fn connect(target: Target) -> Result<MultiplexedConnection, Error> {
    // What is waited for is bounded here, and in each question.
    let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    let client = target.client()?;
    let connection = timeout(CONNECT, client.get_multiplexed_async_connection_with_config(&config)).await;
    Ok(connection.map_err(|_| Error::Slow)??)
}

fn micros(time: Duration) -> u64 {
    time.as_micros() as u64
}

#[cfg(test)]
mod tests;
