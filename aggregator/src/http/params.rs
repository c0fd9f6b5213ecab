//! Parameters of a request, with errors as the API gives them.

use axum::{
    extract::{FromRequestParts, Query, path::Path},
    http::request::Parts,
};
use galen_proto::{
    cloudevent::url_part,
    v1::{EventId, SearchEventsRequest},
};
use galen_store::query::parse_time;
use serde::{Deserialize, de::DeserializeOwned};
use utoipa::IntoParams;

use super::error::Failure;
use crate::ingest::now_unix_nanos;

/// Parameters behind the `?`.
pub(super) struct Params<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(params)) => Ok(Self(params)),
            Err(rejection) => Err(Failure::invalid(rejection.body_text())),
        }
    }
}

/// An event's id in the path.
pub(super) struct Id(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        match Path::<(String, String, String)>::from_request_parts(parts, state).await {
            Ok(Path((node, epoch, seq))) => Ok(Self(format!("{node}/{epoch}/{seq}"))),
            Err(rejection) => Err(Failure::invalid(rejection.body_text())),
        }
    }
}

/// Which events.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct Events {
    /// In the query language, such as `tracer:cpuidle AND data.user_percent:>80`. Empty: all events.
    pub(super) query: String,
    /// Observed at or after: RFC 3339, `2026-11-22`, `now-15m`, or nanoseconds since 1970.
    pub(super) since: String,
    /// Observed before: as `since`.
    pub(super) until: String,
    /// Most events in the answer, 50 unless given, at most 1000.
    #[param(value_type = u32)]
    pub(super) limit: String,
    /// Where the page begins: `next_page` of the answer before.
    pub(super) page: String,
    /// `desc` (newest first, unless given) or `asc`.
    pub(super) order: String,
    /// Fields to count values of, joined by commas, such as `tracer,node`. At most 8.
    pub(super) count_by: String,
}

/// Which node.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct OfNode {
    /// Its name. Empty: all nodes.
    pub(super) node: String,
}

impl Events {
    /// Whether less than all is asked for.
    pub(super) fn is_narrowed(&self) -> bool {
        !(self.query.trim().is_empty() && self.since.is_empty() && self.page.is_empty())
    }

    pub(super) fn request(&self) -> Result<SearchEventsRequest, Failure> {
        let now = now_unix_nanos();
        let moment = |name: &str, text: &str| match text {
            "" => Ok(None),
            text => parse_time(text, now).map(Some).ok_or_else(|| {
                Failure::invalid(format!("`{name}` is not a moment: write 2026-11-22T10:00:00Z or now-15m"))
            }),
        };
        let limit = match self.limit.as_str() {
            "" => 0,
            text => match text.parse() {
                Ok(limit) if limit > 0 => limit,
                _ => return Err(Failure::invalid("`limit` is a number from 1 to 1000")),
            },
        };
        let ascending = match self.order.as_str() {
            "" | "desc" => false,
            "asc" => true,
            _ => return Err(Failure::invalid("`order` is `asc` or `desc`")),
        };
        Ok(SearchEventsRequest {
            query: self.query.clone(),
            since_unix_nanos: moment("since", &self.since)?,
            until_unix_nanos: moment("until", &self.until)?,
            limit,
            page: self.page.clone(),
            ascending,
            count_by: self
                .count_by
                .split(',')
                .map(str::trim)
                .filter(|field| !field.is_empty())
                .map(Into::into)
                .collect(),
        })
    }
}

/// The path of an event below `/events/` or `/api/v1/events/`.
pub(super) fn event_path(id: &EventId) -> String {
    format!("{}/{:016x}/{}", url_part(&id.node), id.epoch, id.seq)
}
