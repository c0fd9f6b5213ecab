//! Every call of both doors, with each role and with none. A call that is in no table is served to nobody, and a call that
//! is served is in the table: what the doors have is taken from their own descriptions.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures_util::future::join_all;
use galen_aggregator::access::{CALLS, Call, Need};
use galen_certificates::Subject;
use galen_runtime::access::Role;
use prost_reflect::DescriptorPool;
use serde_json::Value;
use tonic::Code;

use crate::{
    certificates::{Fleet, days},
    guarded::{Guarded, Way, bearer},
    support::{ask_bytes, http_get},
};

/// Somebody who makes every call.
struct Asker<'a> {
    way: Way<'a>,
    /// Whose token is shown.
    token: Option<Role>,
    /// What one who comes so may do.
    role: Option<Role>,
    /// Whether it may be an agent.
    streams: bool,
}

impl Asker<'_> {
    fn may(&self, need: Need) -> bool {
        match need {
            Need::Nothing => true,
            Need::Node => self.streams,
            Need::Metrics => self.role >= Some(Role::Read),
            Need::Role(role) => self.role >= Some(role),
        }
    }

    /// How it is refused: who is known is told that it is not for them.
    fn refusal(&self, need: Need) -> (Code, u16) {
        let is_certified = matches!(self.way, Way::Tls(_, Some(_)));
        if is_certified || (self.role.is_some() && need != Need::Node) {
            (Code::PermissionDenied, 403)
        } else {
            (Code::Unauthenticated, 401)
        }
    }
}

/// All methods that there are, by their descriptors.
fn methods() -> BTreeSet<String> {
    let described = [
        galen_proto::DESCRIPTORS,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let pools = described.map(|set| DescriptorPool::decode(set).unwrap());
    let services = pools.iter().flat_map(DescriptorPool::services);
    let methods = services.flat_map(|service| {
        let path = format!("/{}", service.full_name());
        service.methods().map(|method| format!("{path}/{}", method.name())).collect::<Vec<_>>()
    });
    methods.collect()
}

fn is_grpc(call: &Call) -> bool {
    call.method == "POST"
}

fn at_a_place(path: &str) -> String {
    let mut path = path.to_owned();
    for (name, value) in [("{node}", "web-1"), ("{epoch}", "0000000000c0ffee"), ("{seq}", "1"), ("{id}", "1")] {
        path = path.replace(name, value);
    }
    assert!(!path.contains('{'), "{path}: what is put there?");
    path
}

#[tokio::test]
async fn every_method_and_every_route_is_in_the_table_and_nothing_else_is() {
    let in_table: BTreeSet<String> = CALLS.iter().filter(|call| is_grpc(call)).map(|call| call.path.into()).collect();
    assert_eq!(in_table, methods());

    let dir = tempfile::tempdir().unwrap();
    let open = crate::support::Aggregator::start(dir.path()).await;
    let answer = http_get(open.addresses.http, "/api/openapi.json").await;
    let document: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    let routes: BTreeMap<&str, Vec<&str>> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(path, methods)| (path.as_str(), methods.as_object().unwrap().keys().map(String::as_str).collect()))
        .collect();
    for (path, methods) in &routes {
        for method in methods {
            let known = |call: &Call| call.path == *path && call.method.eq_ignore_ascii_case(method);
            assert!(CALLS.iter().any(known), "{method} {path} is not in the table");
        }
    }
    // What is not of the API is of the page, and there.
    for call in CALLS.iter().filter(|call| !is_grpc(call) && !routes.contains_key(call.path)) {
        let answer = http_get(open.addresses.http, &at_a_place(call.path)).await;
        assert!(!answer.contains("no_route"), "{}: {answer}", call.path);
    }
}

/// Makes every call, and looks whether it is refused as it should be.
async fn walk(guarded: &Guarded, asker: &Asker<'_>) {
    let token = asker.token.map(|role| guarded.token(role));
    let channel = guarded.channel(&asker.way).await;
    for call in CALLS {
        let (code, status) = asker.refusal(call.need);
        let says = format!("{} {} with {:?} as {:?}", call.method, call.path, asker.token, asker.role);
        if is_grpc(call) {
            let authorization = token.map(bearer);
            let asked = ask_bytes(channel.clone(), call.path, authorization.as_deref(), Bytes::new()).await;
            let answered = asked.err().map_or(Code::Ok, |status| status.code());
            if asker.may(call.need) {
                let refusals = [Code::Unauthenticated, Code::PermissionDenied, Code::Unimplemented];
                assert!(!refusals.contains(&answered), "{says}: {answered:?}");
            } else {
                assert_eq!(answered, code, "{says}");
            }
        } else {
            let head = guarded.get(&asker.way, &at_a_place(call.path), token).await;
            if asker.may(call.need) {
                assert!(![401, 403, 405].contains(&head.status), "{says}: {}", head.text);
            } else {
                assert_eq!(head.status, status, "{says}: {}", head.text);
            }
        }
    }
}

#[tokio::test]
async fn every_call_is_for_tokens_of_its_role_and_higher_ones_and_for_nobody_else() {
    let guarded = Guarded::start().await;
    for role in [None, Some(Role::Read), Some(Role::Operate), Some(Role::Admin)] {
        walk(&guarded, &Asker { way: Way::Plain, token: role, role, streams: true }).await;
    }
}

#[tokio::test]
async fn every_call_is_for_certificates_of_its_role_and_higher_ones_and_a_node_has_its_stream() {
    let fleet = Fleet::start().await;
    let guarded = Guarded::beside(&fleet).await;
    let certified = |subject| Way::Tls(&fleet, Some(fleet.files(subject, days(1))));
    let mut askers = Vec::new();
    for token in [None, Some(Role::Read), Some(Role::Operate), Some(Role::Admin)] {
        askers.push(Asker { way: Way::Tls(&fleet, None), token, role: token, streams: false });
    }
    // What was found on a node is good for nothing else, the token of an admin included.
    for token in [None, Some(Role::Admin)] {
        askers.push(Asker { way: certified(Subject::Node("web-1")), token, role: None, streams: true });
    }
    // The settings do not name the first.
    for (name, role) in [("ada", Role::Read), ("read", Role::Read), ("operate", Role::Operate), ("admin", Role::Admin)]
    {
        askers.push(Asker { way: certified(Subject::User(name)), token: None, role: Some(role), streams: false });
    }
    join_all(askers.iter().map(|asker| walk(&guarded, asker))).await;
}
