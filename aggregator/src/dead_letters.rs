//! `galen-aggregator dead-letters`: of Kafka and of OpenSearch, whichever are configured.

use anyhow::{Context, Result, ensure};
use galen_aggregator::{Settings, http};
use galen_kafka::DeadLetter;
use galen_opensearch::DeadLetters;

use crate::arguments::DeadLettersCommand;

/// What the command prints.
pub(crate) fn run(command: &DeadLettersCommand, settings: &Settings) -> Result<String> {
    let (kafka, opensearch) = (settings.kafka.as_ref(), settings.opensearch.as_ref());
    ensure!(
        kafka.is_some() || opensearch.is_some(),
        "neither `kafka.brokers` nor `opensearch.urls` is set: there are no dead letters without them"
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("failed to start the runtime")?;
    let opensearch = opensearch.map(DeadLetters::new).transpose()?;
    match command {
        DeadLettersCommand::List => {
            let mut lines = String::new();
            if let Some(kafka) = kafka {
                DeadLetter::each(kafka, |letter| {
                    let received = http::moment(letter.received_unix_millis.saturating_mul(1_000_000));
                    lines += &line(&letter.id, &received, letter.event.len() as u64, &letter.reason);
                    Ok(())
                })?;
            }
            if let Some(opensearch) = &opensearch {
                runtime.block_on(opensearch.each(|letter| {
                    lines += &line(&letter.id, &http::moment(letter.received), letter.bytes, &letter.message);
                }))?;
            }
            Ok(lines)
        }
        DeadLettersCommand::Replay => {
            let (mut written, mut left) = (0, 0);
            if let Some(kafka) = kafka {
                let replayed = DeadLetter::replay(kafka, http::json)?;
                (written, left) = (replayed.written, replayed.left);
            }
            if let Some(opensearch) = &opensearch {
                let replayed = runtime.block_on(opensearch.replay())?;
                written += replayed.written;
                left += replayed.left;
            }
            Ok(format!("{written} written again, {left} left\n"))
        }
    }
}

fn line(id: &str, received: &str, bytes: u64, reason: &str) -> String {
    format!("{id} {received} {bytes} bytes: {reason}\n")
}
