//! Questions about events, answered by OpenSearch.
//!
//! - Order is by observed time, then by receipt, node and number, all of which belong to the event: a page ends at a
//!   place that later events cannot move.
//! - An answer has a limit in events and in bytes: first is found which events it holds and how large they are, then
//!   those that fit are read.
//! - All shards answer, or there is no answer: nothing is left out silently.

mod answer;
mod figures;
mod question;

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use galen_proto::v1::{Event, EventId};
use galen_store::{DEADLINE, MAX_BYTES, MAX_LIMIT, Tally, countable, unreadable};
use opensearch::http::Method;
use parking_lot::Mutex;
use prost::Message;
use serde_json::{Value as Json, json};

use crate::{Client, Settings, client::Answer, error::Error, names::Names};
use answer::{Document, Documents, Hit, Searched, tally};
use question::{body, page};

pub use figures::{Aside, Size};
pub use question::Search;

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// Their attachments carry no content.
    pub events: Vec<Event>,
    /// Events that match, on all pages.
    pub total: u64,
    pub next: Option<String>,
    /// In the order asked for.
    pub counts: Vec<Tally>,
}

/// Clones share the connections.
#[derive(Debug, Clone)]
pub struct Archive {
    settings: Arc<Settings>,
    client: Arc<Mutex<Client>>,
    names: Names,
}

impl Archive {
    /// # Errors
    /// If a file that the settings name cannot be used.
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        Ok(Self {
            settings: Arc::new(settings.clone()),
            client: Arc::new(Mutex::new(Client::new(settings)?)),
            names: Names::new(&*settings.prefix),
        })
    }

    /// Finds events.
    ///
    /// # Errors
    /// If the request is wrong, or OpenSearch does not answer, or not in full.
    pub async fn search(&self, search: &Search<'_>) -> Result<Found, Error> {
        let limit = search.limit.min(MAX_LIMIT);
        let fields: Vec<_> = search.count_by.iter().map(|field| countable(field)).collect::<Result<_, _>>()?;
        // One more than the page holds, to know whether there is a next one.
        let size = if limit == 0 { 0 } else { limit + 1 };
        let answer = self.ask(&body(search, size, &fields)?).await?;
        let mut hits = answer.hits.hits;
        let mut more = hits.len() > limit;
        hits.truncate(limit);
        let mut bytes = 0;
        let fitting = hits.iter().take_while(|hit| {
            bytes += hit.fields.bytes.first().copied().unwrap_or_default();
            bytes <= MAX_BYTES
        });
        let fitting = fitting.count().max(1).min(hits.len());
        more |= fitting < hits.len();
        hits.truncate(fitting);
        let next = hits.last().filter(|_| more).map(|hit| page(&hit.sort));
        let counts = fields.iter().zip(search.count_by).enumerate();
        let counts = counts.map(|(number, (_, field))| tally(field, answer.aggregations.get(&number.to_string())));
        Ok(Found { counts: counts.collect(), events: self.events(hits).await?, total: answer.hits.total.value, next })
    }

    /// One event, with its attachments and its identity.
    ///
    /// # Errors
    /// If OpenSearch does not answer.
    pub async fn get(&self, id: &EventId) -> Result<Option<Event>, Error> {
        let text = id.to_string();
        let body = json!({ "query": { "ids": { "values": [text] } }, "size": 1, "_source": false });
        let answer = self.ask(&body).await?;
        let Some(mut event) = self.events(answer.hits.hits).await?.pop() else { return Ok(None) };
        if !event.attachments.is_empty() {
            let index = self.names.attachments(&event);
            let ids = (0..event.attachments.len()).map(|number| (index.clone(), format!("{text}/{number}")));
            let contents = self.documents(ids.collect(), &["content"]).await?;
            for (attachment, content) in event.attachments.iter_mut().zip(contents) {
                // Gone already, as the event will be.
                let Some(source) = content._source else { continue };
                attachment.content = decode(&source.content, &content._id)?;
            }
        }
        Ok(Some(event))
    }

    /// Where we are not let in, the files that the settings name are read anew: somebody may have replaced them.
    async fn send(
        &self,
        action: &'static str,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<Answer, Error> {
        let client = self.client.lock().clone();
        match client.ask(action, method, path, body.clone()).await {
            Err(Error::Tls { .. } | Error::Credentials { .. }) => {
                let client = Client::new(&self.settings)?;
                *self.client.lock() = client.clone();
                client.ask(action, method, path, body).await
            }
            answer => answer,
        }
    }

    async fn ask(&self, body: &Json) -> Result<Searched, Error> {
        const ACTION: &str = "search";
        let path = format!(
            "/{}/_search?ignore_unavailable=true&allow_no_indices=true&allow_partial_search_results=false\
             &filter_path=timed_out,hits.total.value,hits.hits._index,hits.hits._id,hits.hits.sort,hits.hits.fields,\
             hits.hits._source,aggregations",
            self.names.all_events()
        );
        let answer = self.send(ACTION, Method::Post, &path, Some(Bytes::from(body.to_string()))).await?;
        let searched: Searched = answer.read(ACTION)?;
        if searched.timed_out { Err(Error::Deadline(DEADLINE.as_secs())) } else { Ok(searched) }
    }

    /// Reads what was found.
    async fn events(&self, hits: Vec<Hit>) -> Result<Vec<Event>, Error> {
        let ids = hits.into_iter().map(|hit| (hit._index, hit._id)).collect();
        let documents = self.documents(ids, &["event", "received", "defect"]).await?;
        // What retention deleted meanwhile is gone.
        let found = documents.into_iter().filter_map(|document| Some((document._id, document._source?)));
        found
            .map(|(id, source)| {
                let raw = decode(&source.event, &id)?;
                let event = Event::decode(raw);
                let mut event = event.unwrap_or_else(|_| unreadable(source.received, source.defect.as_deref()));
                event.id = id.parse().ok();
                Ok(event)
            })
            .collect()
    }

    async fn documents(&self, ids: Vec<(String, String)>, fields: &[&str]) -> Result<Vec<Document>, Error> {
        const ACTION: &str = "read events";
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let docs: Vec<_> =
            ids.iter().map(|(index, id)| json!({ "_index": index, "_id": id, "_source": fields })).collect();
        let path = "/_mget?filter_path=docs._id,docs._source";
        let body = Bytes::from(json!({ "docs": docs }).to_string());
        let answer = self.send(ACTION, Method::Post, path, Some(body)).await?;
        Ok(answer.read::<Documents>(ACTION)?.docs)
    }
}

fn decode(text: &str, id: &str) -> Result<Bytes, Error> {
    STANDARD.decode(text).map(Bytes::from).map_err(|source| Error::Content { id: id.to_owned(), source })
}
