//! Decisions of the gate: what is looked at first, and what counts for whom.

use std::fs;

use axum::{body::Body, http::header};
use galen_runtime::access::{Entry, Token};
use prometheus::core::Collector;
use tempfile::{TempDir, tempdir};

use super::*;
use crate::metrics::Registry;

const EVENTS: &str = "/api/v1/events";
const SET_TRACER: &str = "/galen.v1.ControlService/SetTracer";
const SESSION: &str = "/galen.v1.AgentService/Session";

struct Scratch {
    gate: Gate,
    /// Of a user who may read.
    token: Token,
    _dir: TempDir,
}

impl Scratch {
    fn new(open_metrics: bool) -> Self {
        let (dir, token) = (tempdir().unwrap(), Token::random().unwrap());
        let path = dir.path().join("tokens");
        fs::write(&path, Entry::new("grafana", Role::Read, token.digest()).unwrap().to_string()).unwrap();
        let metrics = Metrics::register(&Registry::default()).unwrap();
        let gate = Gate {
            asks: true,
            tokens: Some(Arc::new(Tokens::load(path, metrics.reload_errors.clone()).unwrap())),
            users: BTreeMap::from([("ada".into(), Role::Admin)]),
            open_metrics,
            attempts: Attempts::new(3, metrics.untracked.clone()),
            metrics,
        };
        Self { gate, token, _dir: dir }
    }

    fn decide(&self, caller: &Caller, path: &str, authorization: Option<&str>) -> Result<Option<User>, Refusal> {
        let mut request = Request::builder().method(if path.contains(".v1.") { "POST" } else { "GET" }).uri(path);
        if let Some(value) = authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        let request = request.body(Body::empty()).unwrap();
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let decided = self.gate.decide(caller, address, path, &request);
        decided.inspect_err(|refusal| self.gate.told(refusal, address, path))
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.token.reveal())
    }
}

fn user(name: &str) -> Caller {
    Caller::Certified(Identity::User(name.into()))
}

fn node() -> Caller {
    Caller::Certified(Identity::Node("web-1".into()))
}

#[test]
fn a_token_decides_alone_where_it_is_shown() {
    let scratch = Scratch::new(false);
    let bearer = scratch.bearer();
    let as_ada = scratch.decide(&user("ada"), SET_TRACER, None).unwrap().unwrap();
    assert_eq!(as_ada, User { name: "ada".into(), role: Role::Admin, by: By::Certificate });
    let lower = scratch.decide(&user("ada"), SET_TRACER, Some(&bearer)).unwrap_err();
    assert_eq!(lower, Refusal::TooLow { name: "grafana".into(), has: Role::Read, takes: Role::Operate });
    let wrong = format!("Bearer {}", Token::random().unwrap().reveal());
    assert_eq!(scratch.decide(&user("ada"), EVENTS, Some(&wrong)), Err(Refusal::UnknownToken));
    let unlisted = scratch.decide(&user("bob"), EVENTS, None).unwrap().unwrap();
    assert_eq!((unlisted.name.as_str(), unlisted.role), ("bob", Role::Read));
}

#[test]
fn what_is_found_on_a_node_is_good_for_its_stream_alone() {
    let scratch = Scratch::new(false);
    let bearer = scratch.bearer();
    assert_eq!(scratch.decide(&node(), SESSION, None), Ok(None));
    assert_eq!(scratch.decide(&node(), "/healthz", None), Ok(None));
    for authorization in [None, Some(bearer.as_str())] {
        assert_eq!(scratch.decide(&node(), EVENTS, authorization), Err(Refusal::NotAUser));
    }
    assert_eq!(scratch.decide(&user("ada"), SESSION, None), Err(Refusal::NotANode));
    assert_eq!(scratch.decide(&Caller::Anonymous, SESSION, Some(&bearer)), Err(Refusal::NoCredentials));
    // A certificate of another kind says nothing, so a token may.
    let other = Caller::Certified(Identity::Unnamed);
    assert_eq!(scratch.decide(&other, EVENTS, None), Err(Refusal::NotAUser));
    assert!(scratch.decide(&other, EVENTS, Some(&bearer)).is_ok());
}

#[tokio::test(start_paused = true)]
async fn who_is_refused_too_often_is_not_looked_at_and_others_are_not_concerned() {
    let scratch = Scratch::new(false);
    let (here, bearer) = (Caller::Anonymous, scratch.bearer());
    for _ in 0..3 {
        assert_eq!(scratch.decide(&here, EVENTS, None), Err(Refusal::NoCredentials));
    }
    // The right token is not looked at, either.
    assert!(matches!(scratch.decide(&here, EVENTS, Some(&bearer)), Err(Refusal::TooMany(_))));
    for (caller, path) in [(&here, "/readyz"), (&user("ada"), EVENTS), (&node(), SESSION), (&Caller::Local, SESSION)] {
        assert!(scratch.decide(caller, path, None).is_ok(), "{caller:?} {path}");
    }
    tokio::time::advance(std::time::Duration::from_secs(60)).await;
    assert!(scratch.decide(&here, EVENTS, Some(&bearer)).is_ok());
    let counted = |reason| scratch.gate.metrics.refused.with_label_values(&[reason]).get();
    assert_eq!((counted("no_credentials"), counted("too_many")), (3, 1));
}

#[test]
fn a_call_that_is_not_in_the_table_is_nobodys() {
    let scratch = Scratch::new(false);
    for path in ["/nothing", "/galen.v1.ControlService/DropEverything"] {
        assert_eq!(scratch.decide(&user("ada"), path, None), Err(Refusal::Unknown));
    }
    assert_eq!(scratch.gate.metrics.refused.collect()[0].get_metric().len(), 0);
}

#[test]
fn metrics_are_for_readers_unless_they_are_open() {
    for open in [false, true] {
        let scratch = Scratch::new(open);
        for path in ["/metrics", "/metrics/nodes"] {
            assert_eq!(scratch.decide(&Caller::Anonymous, path, None).is_ok(), open, "{path}");
        }
        assert!(scratch.decide(&Caller::Anonymous, EVENTS, None).is_err());
    }
}

#[test]
fn where_nothing_is_configured_whoever_is_here_may_do_all() {
    let scratch = Scratch::new(false);
    let gate = Gate { asks: false, tokens: None, ..scratch.gate };
    let scratch = Scratch { gate, ..scratch };
    let local = scratch.decide(&Caller::Local, SET_TRACER, Some("Basic of another program")).unwrap().unwrap();
    assert_eq!(local, User { name: "local".into(), role: Role::Admin, by: By::Loopback });
    assert_eq!(scratch.decide(&Caller::Local, SESSION, None), Ok(None));
}

#[test]
fn users_are_named_only_where_there_are_certificates() {
    let users = BTreeMap::from([("ada".to_owned(), Role::Admin)]);
    let config = Config { users, ..Config::default() };
    assert!(config.clone().check(false).unwrap_err().to_string().contains("access.users"));
    assert_eq!(config.check(true).unwrap().users["ada"], Role::Admin);
}
