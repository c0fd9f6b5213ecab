//! Deletes what is older than it is to be kept: whole days, and of the undated what was received long ago.
//!
//! Only indices whose names were made here are touched.

use std::time::Duration;

use bytes::Bytes;
use opensearch::http::Method;
use serde::Deserialize;
use serde_json::json;
use time::OffsetDateTime;
use tracing::{debug, info};

use crate::{Counters, error::Error, writer::Writer};

#[derive(Debug, Deserialize)]
struct Listed {
    index: String,
}

/// Lists indices, and takes note of the tracers that have some.
pub(crate) async fn list(writer: &Writer) -> Result<Vec<String>, Error> {
    const ACTION: &str = "list indices";
    let Writer { client, names, strangers, .. } = writer;
    let path = format!("/_cat/indices/{},{}?format=json&h=index", names.all_events(), names.all_attachments());
    let listed: Vec<Listed> = client.ask(ACTION, Method::Get, &path, None).await?.read(ACTION)?;
    strangers.see(listed.iter().filter_map(|listed| names.parse(&listed.index)?.tracer));
    Ok(listed.into_iter().map(|listed| listed.index).collect())
}

/// Deletes what is older than `retention` at `now`.
pub(crate) async fn sweep(writer: &Writer, retention: Duration, now: OffsetDateTime) -> Result<(), Error> {
    let Writer { client, names, counters, .. } = writer;
    let days = retention.div_duration_f64(Duration::from_secs(86_400)).ceil() as i64;
    let mut undated = Vec::new();
    for index in list(writer).await? {
        let Some(ours) = names.parse(&index) else { continue };
        let Some(day) = ours.day else {
            undated.push(index);
            continue;
        };
        if (now.date() - day).whole_days() > days {
            let path = format!("/{index}?ignore_unavailable=true");
            client.ask("delete an index", Method::Delete, &path, None).await?;
            Counters::add(&counters.dropped, 1);
            info!(index, "an index that is older than is kept was deleted");
        }
    }
    if !undated.is_empty() {
        let before = (now - retention).unix_timestamp_nanos();
        let query =
            json!({ "query": { "range": { "received": { "lt": i64::try_from(before).unwrap_or(i64::MIN) } } } });
        let path = format!("/{}/_delete_by_query?conflicts=proceed&ignore_unavailable=true", undated.join(","));
        let body = Bytes::from(query.to_string());
        // A server may lack this.
        if let Err(error) = client.ask("delete documents", Method::Post, &path, Some(body)).await {
            debug!(%error, "undated events were not looked through");
        }
    }
    Ok(())
}
