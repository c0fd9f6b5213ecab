//! A server that asks for TLS, a certificate and a password, and lets its user do no more than is needed.

use std::{fs, path::PathBuf, process::Command};

use galen_services::{Server, redis_tls};

use super::*;

fn target(server: &Server) -> Target {
    let file = |name: &str| server.directory().join(name);
    Target {
        user: Some("galen".into()),
        password_file: Some(file("password")),
        ca_file: Some(file("ca.pem")),
        certificate_files: Some((file("client.pem"), file("client.key"))),
        ..Target::at(format!("rediss://{}", server.address()))
    }
}

fn replica(target: Target) -> Redis {
    Redis::new(target, "test", "a".into()).unwrap()
}

/// Why it gets no lease, other than by the machine's being busy.
async fn refusal(redis: &mut Redis) -> String {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match redis.ask(Request { demands: &[], tokens: 1, capacity: CAPACITY }).await {
            Err(error @ Error::Refused(_)) => return galen_runtime::Chain(&error).to_string(),
            answer => assert!(Instant::now() < deadline, "{answer:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// As an operator of Redis does it.
fn operate(server: &Server, command: &[&str]) {
    let file = |name: &str| server.directory().join(name);
    let mut cli = Command::new("redis-cli");
    cli.args(["-h", "127.0.0.1", "-p", &server.port().to_string(), "--tls", "--user", "operator"]);
    cli.args(["--pass", "let-galen-in", "--cacert"]).arg(file("ca.pem"));
    cli.arg("--cert").arg(file("client.pem")).arg("--key").arg(file("client.key"));
    let output = cli.args(command).output().unwrap();
    let answer = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && !answer.contains("ERR") && !answer.contains("NO"), "{command:?}: {answer}");
}

#[tokio::test]
async fn a_password_that_changes_while_it_runs_is_taken_from_its_file() {
    let server = redis_tls();
    let target = target(&server);
    let mut redis = replica(target.clone());
    assert_eq!(ask(&mut redis, &[], 1).await.tokens, 1);
    redis.leave().await;
    // Redis ends the connections of a user who may not come any more.
    operate(&server, &["ACL", "SETUSER", "galen", "resetpass", ">another"]);
    operate(&server, &["CLIENT", "KILL", "USER", "galen"]);
    // The connection that was ended says something else than the next one, which is not let in.
    let whys = [refusal(&mut redis).await, refusal(&mut redis).await];
    assert!(whys[1].contains("Password authentication failed") && !whys[1].contains("let-galen-in"), "{whys:?}");
    fs::write(target.password_file.unwrap(), "another\n").unwrap();
    assert_eq!(ask(&mut redis, &[], 1).await.alive, 1);
}

#[tokio::test]
async fn whoever_cannot_show_what_is_asked_for_or_is_not_trusted_gets_no_lease() {
    let server = redis_tls();
    let wrong = server.directory().join("wrong");
    fs::write(&wrong, "guess").unwrap();
    let good = target(&server);
    for target in [
        Target { password_file: Some(wrong), ..good.clone() },
        Target { user: None, password_file: None, ..good.clone() },
        Target { certificate_files: None, ..good.clone() },
        Target { ca_file: Some(stranger(&server)), ..good.clone() },
        Target::at(format!("redis://{}", server.address())),
    ] {
        refusal(&mut replica(target)).await;
    }
    ask(&mut replica(good), &[], 1).await;
}

/// The certificate of an authority that has signed nothing here.
fn stranger(server: &Server) -> PathBuf {
    let [key, certificate] = ["stranger.key", "stranger.pem"].map(|name| server.directory().join(name));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "9"]);
    openssl.args(["-subj", "/CN=stranger", "-keyout"]).arg(key).arg("-out").arg(&certificate);
    assert!(openssl.output().unwrap().status.success());
    certificate
}
