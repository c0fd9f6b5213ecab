//! Waiting for a condition instead of sleeping.

use std::{future::Future, time::Duration};

use anyhow::{Context, Result};
use tokio::time::{sleep, timeout};

const PAUSE: Duration = Duration::from_millis(20);

/// Asks until there is an answer; `what` and the last error tell why there was none within `limit`.
pub async fn until<T, F, Fut>(what: &str, limit: Duration, mut ask: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<T>>>,
{
    let mut last = None;
    let asking = async {
        loop {
            match ask().await {
                Ok(Some(answer)) => return answer,
                Ok(None) => last = None,
                Err(error) => last = Some(error),
            }
            sleep(PAUSE).await;
        }
    };
    match timeout(limit, asking).await {
        Ok(answer) => Ok(answer),
        Err(_) => match last {
            Some(error) => Err(error).context(format!("waited {limit:?} for {what}")),
            None => anyhow::bail!("waited {limit:?} for {what}"),
        },
    }
}
