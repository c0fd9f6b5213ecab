//! The script, on a real server.

mod tls;

use galen_services::redis as server;

use super::*;

const CAPACITY: f64 = 400.0;

fn replica(server: &galen_services::Server, name: &str) -> Redis {
    Redis::new(Target::at(format!("redis://{}", server.address())), "test", name.into()).unwrap()
}

/// Until Redis answers; on a busy machine not every answer comes in time.
async fn ask(redis: &mut Redis, demands: &[Demand], tokens: u64) -> Answer {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match redis.ask(Request { demands, tokens, capacity: CAPACITY }).await {
            Ok(answer) => return answer,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn only_a_server_on_this_machine_is_talked_to_in_clear() {
    for url in
        ["redis://127.0.0.1:6379", "redis://localhost", "redis://[::1]:1/2", "unix:///run/r.sock", "rediss://10.0.0.1"]
    {
        assert!(Target::at(url).check().is_ok(), "{url}");
    }
    for url in ["redis://10.0.0.1", "redis://example.org:6379", "redis://localhost.example.org"] {
        assert!(matches!(Target::at(url).check(), Err(Error::Exposed { .. })), "{url}");
    }
    assert!(matches!(Target::at("http://127.0.0.1").check(), Err(Error::Url { .. })));
    assert!(matches!(Target::at("rediss://10.0.0.1/#insecure").check(), Err(Error::Unchecked { .. })));
    let trusting = Target { ca_file: Some("ca.pem".into()), ..Target::at("redis://127.0.0.1") };
    assert!(matches!(trusting.check(), Err(Error::InClear { .. })));
}

#[test]
fn a_password_in_the_address_is_refused_and_not_repeated() {
    for url in ["redis://galen:secret@127.0.0.1", "rediss://:secret@10.0.0.1:6379/0", "http://a:secret@10.0.0.1"] {
        let error = galen_runtime::Chain(&Target::at(url).check().unwrap_err()).to_string();
        assert!(!error.contains("secret") && error.contains(".0.0.1"), "{error}");
    }
    assert!(matches!(Target::at("redis://galen@127.0.0.1").check(), Err(Error::Login { .. })));
}

#[test]
fn a_file_that_is_not_there_or_not_pem_is_named_at_the_start() {
    let target = Target { password_file: Some("/nowhere/password".into()), ..Target::at("redis://127.0.0.1") };
    let error = Redis::new(target, "test", "a".into()).err().unwrap();
    assert!(error.to_string().contains("/nowhere/password"), "{error}");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key.pem");
    std::fs::write(&file, "no key").unwrap();
    let target = Target { certificate_files: Some((file.clone(), file)), ..Target::at("rediss://127.0.0.1") };
    assert!(matches!(Redis::new(target, "test", "a".into()), Err(Error::Certificates(_))));
}

#[tokio::test]
async fn whoever_asks_however_often_no_more_is_given_than_comes_up() {
    let server = server();
    let mut replicas: Vec<_> = ["a", "b", "c"].map(|name| replica(&server, name)).into();
    let (began, mut given, mut asked) = (Instant::now(), 0, 0);
    while given < 4 * CAPACITY as u64 {
        let one = &mut replicas[asked % 3];
        given += ask(one, &[], if asked % 2 == 0 { 1_000_000 } else { 7 }).await.tokens;
        asked += 1;
        let most = CAPACITY * (began.elapsed().as_secs_f64() + PERIOD.as_secs_f64());
        assert!(given as f64 <= most, "{given} of {most}");
    }
}

#[tokio::test]
async fn replicas_hear_of_each_other_and_of_who_is_silent_or_gone() {
    let server = server();
    let (mut a, mut b) = (replica(&server, "a"), replica(&server, "b"));
    let demands = [("cpuidle".to_owned(), "shop".to_owned(), 12.5, 3)];
    let alone = ask(&mut a, &demands, 0).await;
    assert_eq!((alone.alive, alone.silent, alone.others.len()), (1, 0, 0));
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut second = ask(&mut b, &[], 0).await;
    while second.alive < 2 {
        // An answer was so slow that the other had become silent.
        assert!(Instant::now() < deadline, "{second:?}");
        ask(&mut a, &demands, 0).await;
        second = ask(&mut b, &[], 0).await;
    }
    assert_eq!(second.others, [demands.to_vec()]);
    let mut answer = ask(&mut a, &[], 0).await;
    while answer.silent == 0 {
        assert!(Instant::now() < deadline, "{answer:?}");
        answer = ask(&mut a, &[], 0).await;
    }
    assert_eq!((answer.alive, answer.others.len()), (1, 0));
    while answer.silent > 0 {
        assert!(Instant::now() < deadline, "{answer:?}");
        b.leave().await;
        answer = ask(&mut a, &[], 0).await;
    }
    // A version of Galen that says it in another way, and one that is none.
    let mut raw = a.connection.clone().unwrap();
    for (name, value) in [("later", "9999999999999999 {}"), ("broken", "?")] {
        redis::cmd("HSET").arg(&a.keys[1]).arg(name).arg(value).exec_async(&mut raw).await.unwrap();
    }
    assert_eq!(ask(&mut a, &[], 0).await.alive, 1, "what makes no sense is forgotten");
}

#[tokio::test]
async fn keys_end_by_themselves() {
    let server = server();
    let mut a = replica(&server, "a");
    ask(&mut a, &[], 1).await;
    let mut raw = a.connection.clone().unwrap();
    for key in &a.keys {
        let left: i64 = redis::cmd("PTTL").arg(key).query_async(&mut raw).await.unwrap();
        assert!(left > 0 && left <= FORGET.as_millis() as i64, "{key}: {left} ms");
    }
}
