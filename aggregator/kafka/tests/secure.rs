//! A real broker that asks for TLS, a certificate and a password: with the right ones it takes events, and what is wrong
//! is named, with the file that it is in.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{fs, path::Path, time::Instant};

use galen_kafka::{Config, Settings, Writer};
use galen_log::Append;
use galen_runtime::{Chain, Supervisor};
use galen_services::{Server, kafka_tls};
use support::{PATIENCE, Replica, has_all, render, settings, topic};

fn secure(kafka: &Server, mechanism: &str, change: impl FnOnce(&mut Config)) -> Settings {
    settings(kafka, &mechanism.to_lowercase(), |config| {
        let file = |name| kafka.directory().join(name);
        config.tls.enabled = true;
        config.tls.ca_file = file("ca.pem");
        config.tls.certificate_file = file("client.pem");
        config.tls.key_file = file("client.key");
        config.sasl.mechanism = mechanism.into();
        config.sasl.user = "galen".into();
        config.sasl.password_file = file("password");
        change(config);
    })
}

/// What keeps it from starting.
fn error(settings: &Settings) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let opened = match Writer::open(settings, &Supervisor::new(), render) {
            Err(error) => return Chain(&error).to_string(),
            Ok((_, opened)) => opened.map_err(|error| Chain(&error).to_string()),
        };
        // A broker that is busy may not have answered in time: then it waits for it.
        assert!(opened.is_err() && Instant::now() < deadline, "it starts: {opened:?}");
    }
}

fn name(path: &Path) -> String {
    format!("`{}`", path.display())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_broker_asks_for_is_shown_and_what_is_wrong_is_named() {
    let kafka = kafka_tls();
    let brokers = kafka.brokers();
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let settings = secure(&kafka, mechanism, |_| {});
        let mut replica = Replica::open(&settings);
        replica.hello("web-1", 1);
        replica.append("web-1", 1, 20).unwrap();
        has_all(&topic(&settings, "web-1", 20).await, "web-1", 20);
        replica.close();
    }

    let wrong = kafka.directory().join("wrong");
    fs::write(&wrong, "guessed").unwrap();
    for mechanism in ["PLAIN", "SCRAM-SHA-512"] {
        let said = error(&secure(&kafka, mechanism, |config| config.sasl.password_file = wrong.clone()));
        for part in [&brokers, "`galen`", &name(&wrong), "`kafka.sasl.password_file`", "uthentication failed"] {
            assert!(said.contains(part), "{said}");
        }
    }

    // Another authority: the client's certificate as well as a stranger.
    let stranger = kafka.directory().join("client.pem");
    let said = error(&secure(&kafka, "PLAIN", |config| config.tls.ca_file = stranger.clone()));
    for part in [&brokers, &name(&stranger), "`kafka.tls.ca_file`", "certificate verify failed"] {
        assert!(said.contains(part), "{said}");
    }
    let said = error(&secure(&kafka, "PLAIN", |config| config.tls.ca_file = Default::default()));
    assert!(said.contains("those of the system") && said.contains("`kafka.tls.ca_file` is not set"), "{said}");
}

/// What a secret is for may be mended while it waits: files are read anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_is_mended_while_it_waits_is_taken() {
    let kafka = kafka_tls();
    let password = kafka.directory().join("mended");
    fs::write(&password, "guessed").unwrap();
    let settings = secure(&kafka, "SCRAM-SHA-512", |config| config.sasl.password_file = password.clone());
    kafka.stop();
    let (mut replica, _) = Replica::waiting(&settings);
    kafka.restart();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let said = Chain(&replica.writer.reopen().unwrap_err()).to_string();
        if said.contains(&name(&password)) {
            break;
        }
        assert!(Instant::now() < deadline, "{said}");
    }
    assert!(replica.writer.gauge().away().unwrap().contains("uthentication failed"));
    fs::copy(kafka.directory().join("password"), &password).unwrap();
    replica.reopened();
    assert_eq!(replica.writer.gauge().away(), None);
    replica.hello("web-1", 1);
    replica.append("web-1", 1, 5).unwrap();
    replica.close();
}
