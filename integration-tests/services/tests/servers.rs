//! The servers that other tests rely on: they start, keep their data through a kill, and end with their value.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::TcpStream;

use galen_services::{Server, kafka, opensearch, redis};

fn survives_a_kill(server: Server) {
    let address = server.address();
    assert!(TcpStream::connect(&address).is_ok());
    server.kill();
    assert!(TcpStream::connect(&address).is_err());
    server.restart();
    assert!(TcpStream::connect(&address).is_ok());
    drop(server);
    assert!(TcpStream::connect(&address).is_err());
}

#[test]
fn a_broker_is_there_again_after_a_kill() {
    survives_a_kill(kafka());
}

#[test]
fn a_search_engine_is_there_again_after_a_kill() {
    survives_a_kill(opensearch());
}

#[test]
fn a_store_in_memory_is_there_again_after_a_kill() {
    survives_a_kill(redis());
}
