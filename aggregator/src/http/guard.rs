//! What holds for every request: who may ask, for how long, and what a browser may do with the answer.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use axum::{
    extract::{ConnectInfo, MatchedPath, Request},
    http::{
        HeaderMap, HeaderValue, Method, StatusCode,
        header::{self, HeaderName},
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use hyper::body::Body as _;
use tokio::time::timeout;

use super::error::{Failure, no_method};
use crate::{
    access::{Access, Refusal},
    caller::Caller,
};

/// Longest time until an answer begins. Searches have a shorter one of their own.
const PATIENCE: Duration = Duration::from_secs(30);
/// No script at all, nothing from elsewhere; the flame graph may be framed.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; frame-src 'self'; form-action 'self'; \
                      base-uri 'none'; frame-ancestors 'self'";

pub(super) async fn guard(access: Access, mut request: Request, next: Next) -> Response {
    let mut response = match refused(&access, &mut request) {
        Some(refused) => refused,
        None => match timeout(PATIENCE, next.run(request)).await {
            Ok(response) => response,
            Err(_) => Failure::new(StatusCode::GATEWAY_TIMEOUT, "deadline", "took too long").into_response(),
        },
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// The answer to a request that may not go on. Of it the head is looked at, and nothing behind it.
fn refused(access: &Access, request: &mut Request) -> Option<Response> {
    let caller = request.extensions().get().cloned().unwrap_or(Caller::Local);
    if caller == Caller::Local && !is_local(request.headers()) {
        let message = "the Host is not a loopback address: use http://127.0.0.1 or http://localhost";
        return Some(Failure::new(StatusCode::MISDIRECTED_REQUEST, "wrong_host", message).into_response());
    }
    if !request.body().is_end_stream() {
        let message = "nothing is taken behind the head of a request";
        return Some(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "body", message).into_response());
    }
    // What has no route is answered by nothing but an error.
    let path = request.extensions().get::<MatchedPath>().cloned()?;
    let address = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| address.ip());
    match access.admit(&caller, address, path.as_str(), request) {
        Ok(user) => {
            if let Some(user) = user {
                request.extensions_mut().insert(user);
            }
            None
        }
        Err(Refusal::Unknown) if request.method() != Method::GET => Some(no_method().into_response()),
        Err(refusal) => Some(answer(&refusal)),
    }
}

fn answer(refusal: &Refusal) -> Response {
    let (status, code) = refusal.http();
    let mut response = Failure::new(status, code, refusal.to_string()).into_response();
    if let Refusal::TooMany(wait) = refusal {
        response.headers_mut().insert(header::RETRY_AFTER, wait.as_secs().max(1).into());
    }
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// A name that someone else gave to this machine must not do, or any web page could read what is here. With TLS the
/// browser looks at the name itself.
fn is_local(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else { return true };
    let Ok(host) = host.to_str() else { return false };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_local() {
        for (host, local) in [
            ("127.0.0.1:7401", true),
            ("localhost", true),
            ("LOCALHOST:1", true),
            ("[::1]:7401", true),
            ("evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("10.0.0.1", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static(host))]);
            assert_eq!(is_local(&headers), local, "{host}");
        }
    }
}
