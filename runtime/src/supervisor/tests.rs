use std::sync::mpsc::sync_channel;

use super::*;

const DEADLINE: Duration = Duration::from_secs(5);

fn backoff() -> Backoff {
    Backoff::new(Duration::from_secs(1), Duration::from_secs(60))
}

#[tokio::test(start_paused = true)]
async fn drain_waits_for_tasks_that_end_in_time() {
    let supervisor = Supervisor::new();
    let token = supervisor.token();
    supervisor.spawn("slow", OnEnd::Ignore, async move {
        token.cancelled().await;
        tokio::time::sleep(DEADLINE / 2).await;
        Ok(())
    });
    assert_eq!(supervisor.stats().alive, 1);
    assert_eq!(supervisor.drain(DEADLINE).await, Drained::Complete);
}

#[tokio::test(start_paused = true)]
async fn drain_names_and_aborts_what_does_not_end() {
    let supervisor = Supervisor::new();
    supervisor.spawn("stuck", OnEnd::Ignore, std::future::pending());
    supervisor.spawn("quick", OnEnd::Ignore, async { Ok(()) });
    let handle = supervisor.clone();
    assert_eq!(supervisor.drain(DEADLINE).await, Drained::TimedOut { names: vec!["stuck".into()] });
    handle.shared.all_ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_counted_and_touches_no_other() {
    let supervisor = Supervisor::new();
    let token = supervisor.token();
    supervisor.spawn("other", OnEnd::Ignore, async move {
        token.cancelled().await;
        Ok(())
    });
    supervisor.spawn("bad", OnEnd::Ignore, async { panic!("on purpose") });
    while supervisor.stats().panics == 0 {
        tokio::task::yield_now().await;
    }
    assert!(!supervisor.token().is_cancelled());
    assert_eq!(supervisor.stats().alive, 1);
    assert_eq!(supervisor.drain(DEADLINE).await, Drained::Complete);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_task_that_carries_the_process_shuts_it_down() {
    let supervisor = Supervisor::new();
    supervisor.spawn("listener", OnEnd::Shutdown, async { Err("address in use".into()) });
    supervisor.token().cancelled().await;
    assert_eq!(supervisor.ended().unwrap().to_string(), "`listener` failed: address in use");
    assert_eq!(supervisor.drain(DEADLINE).await, Drained::Complete);
}

#[tokio::test(start_paused = true)]
async fn an_end_after_the_shutdown_began_is_not_its_reason() {
    let supervisor = Supervisor::new();
    let token = supervisor.token();
    supervisor.spawn("listener", OnEnd::Shutdown, async move {
        token.cancelled().await;
        Ok(())
    });
    let handle = supervisor.clone();
    assert_eq!(supervisor.drain(DEADLINE).await, Drained::Complete);
    assert!(handle.ended().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_failed_or_panicked_run_is_restarted_until_it_succeeds() {
    let supervisor = Supervisor::new();
    let mut runs = 0;
    supervisor.spawn_restarting("fragile", backoff(), move || {
        runs += 1;
        let run = runs;
        async move {
            match run {
                1 => Err("first".into()),
                2 => panic!("second"),
                _ => Ok(()),
            }
        }
    });
    supervisor.shared.all_ended().await;
    assert_eq!(supervisor.stats(), Stats { alive: 0, panics: 1, failures: 1, restarts: 2 });
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_a_run_is_made_is_restarted_too() {
    let supervisor = Supervisor::new();
    let mut runs = 0;
    supervisor.spawn_restarting("fragile", backoff(), move || {
        runs += 1;
        assert!(runs > 1, "on purpose");
        async { Ok(()) }
    });
    supervisor.shared.all_ended().await;
    assert_eq!(supervisor.stats(), Stats { alive: 0, panics: 1, failures: 0, restarts: 1 });
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_the_wait_for_a_restart() {
    let supervisor = Supervisor::new();
    let hour = Duration::from_secs(3600);
    supervisor.spawn_restarting("fragile", Backoff::new(hour, hour), || async { Err("always".into()) });
    while supervisor.stats().failures == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(supervisor.drain(Duration::from_millis(1)).await, Drained::Complete);
}

#[tokio::test]
async fn drain_joins_threads_and_survives_their_panic() {
    let supervisor = Supervisor::new();
    let (go, wait) = sync_channel::<()>(1);
    supervisor.thread("reader", move || {
        let _ = wait.recv();
    });
    supervisor.thread("bad", || panic!("on purpose"));
    let handle = supervisor.clone();
    let token = supervisor.token();
    supervisor.spawn("closer", OnEnd::Ignore, async move {
        token.cancelled().await;
        drop(go);
        Ok(())
    });
    assert_eq!(supervisor.drain(Duration::from_secs(60)).await, Drained::Complete);
    assert_eq!(handle.stats(), Stats { alive: 0, panics: 1, failures: 0, restarts: 0 });
}

#[tokio::test(start_paused = true)]
async fn drain_names_a_thread_that_does_not_end() {
    let supervisor = Supervisor::new();
    let (_go, wait) = sync_channel::<()>(1);
    supervisor.thread("stuck", move || {
        let _ = wait.recv();
    });
    assert_eq!(supervisor.drain(DEADLINE).await, Drained::TimedOut { names: vec!["stuck".into()] });
}
