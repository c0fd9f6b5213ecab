//! Where a token is in a request: in the header `authorization`, and nowhere else.
//!
//! What is in a query ends in logs, histories and links, and what is in a cookie is sent by a browser that a page
//! elsewhere led here. So a token that comes there is not looked at, and its bearer is told.

use axum::http::{HeaderMap, header};
use galen_runtime::access::Token;

use super::Refusal;

const SCHEME: &str = "bearer ";
/// Parameters of a query that others take tokens in.
const PARAMETERS: [&str; 3] = ["access_token", "authorization", "token"];

/// The token of a request, if it has one.
pub(super) fn token(headers: &HeaderMap, query: Option<&str>) -> Result<Option<Token>, Refusal> {
    if query.is_some_and(has_token) {
        return Err(Refusal::WrongPlace("in the query"));
    }
    // Other programs of a machine have cookies of their own, so only what is a token counts.
    let mut cookies = headers.get_all(header::COOKIE).iter();
    if cookies.any(|cookie| Token::is_in(&String::from_utf8_lossy(cookie.as_bytes()))) {
        return Err(Refusal::WrongPlace("in a cookie"));
    }
    let mut shown = headers.get_all(header::AUTHORIZATION).iter();
    let Some(first) = shown.next() else { return Ok(None) };
    let text = first.to_str().ok().filter(|_| shown.next().is_none()).ok_or(Refusal::Malformed)?;
    let (scheme, token) = text.split_at_checked(SCHEME.len()).ok_or(Refusal::Malformed)?;
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return Err(Refusal::Malformed);
    }
    token.trim().parse().map(Some).map_err(|_| Refusal::Malformed)
}

fn has_token(query: &str) -> bool {
    let name = |parameter: &str| parameter.split('=').next().unwrap_or_default().to_ascii_lowercase();
    Token::is_in(query) || query.split('&').any(|parameter| PARAMETERS.contains(&name(parameter).as_str()))
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn found(headers: &[(HeaderName, &str)], query: Option<&str>) -> Result<Option<String>, Refusal> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, HeaderValue::from_str(value).unwrap());
        }
        Ok(token(&map, query)?.map(|token| token.reveal().to_owned()))
    }

    #[test]
    fn a_token_is_taken_from_its_header_and_from_nowhere_else() {
        let token = Token::random().unwrap();
        let text = token.reveal();
        let (own, cookie) = (header::AUTHORIZATION, header::COOKIE);
        assert_eq!(found(&[], None), Ok(None));
        for scheme in ["Bearer", "bearer", "BEARER"] {
            let header = format!("{scheme} {text}");
            assert_eq!(found(&[(own.clone(), &header)], Some("query=tracer:oom")), Ok(Some(text.to_owned())));
        }
        let header = format!("Bearer {text}");
        for query in [format!("query=x&a={text}"), "access_token=x".into(), "a=b&Token=x".into()] {
            assert_eq!(found(&[(own.clone(), &header)], Some(&query)), Err(Refusal::WrongPlace("in the query")));
        }
        let in_cookie = found(&[(cookie.clone(), &format!("a=b; session={text}"))], None);
        assert_eq!(in_cookie, Err(Refusal::WrongPlace("in a cookie")));
        assert_eq!(found(&[(cookie, "token=of-another-program")], None), Ok(None));
    }

    #[test]
    fn whatever_else_is_in_the_header_is_malformed() {
        let token = Token::random().unwrap();
        let text = token.reveal();
        for wrong in ["", "Bearer", "Bearer ", "Bearer x", text, &format!("Basic {text}"), &format!("Bearer {text}0")] {
            assert_eq!(found(&[(header::AUTHORIZATION, wrong)], None), Err(Refusal::Malformed), "{wrong}");
        }
        let right = format!("Bearer {text}");
        let twice = [(header::AUTHORIZATION, right.as_str()), (header::AUTHORIZATION, right.as_str())];
        assert_eq!(found(&twice, None), Err(Refusal::Malformed));
    }
}
