//! What the store has, asked the way everyone asks.

use std::{collections::HashMap, time::Duration};

use anyhow::{Context, Result, ensure};
use galen_proto::v1::{Event, EventKind, ListNodesRequest, Node, SearchEventsRequest};

use crate::{fleet::Query, wait};

/// All events that match, by the text of their id; an id that comes twice is an error.
pub async fn all(query: &mut Query, text: &str) -> Result<HashMap<String, Event>> {
    let mut found = HashMap::new();
    let mut page = String::new();
    loop {
        let request = SearchEventsRequest { query: text.to_owned(), limit: 1000, page, ..Default::default() };
        let answer = query.search_events(request).await?.into_inner();
        for event in answer.events {
            let id = event.id.as_ref().context("an event has an id")?.to_string();
            ensure!(found.insert(id.clone(), event).is_none(), "event {id} is in the store twice");
        }
        if answer.next_page.is_empty() {
            ensure!(answer.total as usize == found.len(), "{} counted, {} listed", answer.total, found.len());
            return Ok(found);
        }
        page = answer.next_page;
    }
}

/// The first event of a kind that matches, once it is there.
pub async fn first(query: &Query, text: &str, kind: EventKind, limit: Duration) -> Result<Event> {
    let name = kind.as_str_name().trim_start_matches("EVENT_KIND_").to_lowercase();
    let text = format!("({text}) AND kind:{name}");
    wait::until(&text, limit, || {
        let mut query = query.clone();
        let request = SearchEventsRequest { query: text.clone(), ascending: true, limit: 1, ..Default::default() };
        async move { Ok(query.search_events(request).await?.into_inner().events.pop()) }
    })
    .await
}

pub async fn node(query: &mut Query, name: &str) -> Result<Option<Node>> {
    let nodes = query.list_nodes(ListNodesRequest {}).await?.into_inner().nodes;
    Ok(nodes.into_iter().find(|node| node.name == name))
}
