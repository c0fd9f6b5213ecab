//! What holds for every request: who may ask, for how long, and what a browser may do with the answer.

use std::{net::IpAddr, time::Duration};

use axum::{
    extract::Request,
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{self, HeaderName},
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::time::timeout;

use super::error::Failure;
use crate::caller::{Caller, NOT_A_USER};

/// Longest time until an answer begins. Searches have a shorter one of their own.
const PATIENCE: Duration = Duration::from_secs(30);
/// No script at all, nothing from elsewhere; the flame graph may be framed.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; frame-src 'self'; form-action 'self'; \
                      base-uri 'none'; frame-ancestors 'self'";

pub(super) async fn guard(request: Request, next: Next) -> Response {
    let caller = request.extensions().get().cloned().unwrap_or(Caller::Local);
    let mut response = if caller == Caller::Local && !is_local(request.headers()) {
        let message = "the Host is not a loopback address: use http://127.0.0.1 or http://localhost";
        Failure::new(StatusCode::MISDIRECTED_REQUEST, "wrong_host", message).into_response()
    } else if !caller.may_call(request.uri().path()) {
        Failure::new(StatusCode::FORBIDDEN, "forbidden", NOT_A_USER).into_response()
    } else {
        match timeout(PATIENCE, next.run(request)).await {
            Ok(response) => response,
            Err(_) => Failure::new(StatusCode::GATEWAY_TIMEOUT, "deadline", "took too long").into_response(),
        }
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
