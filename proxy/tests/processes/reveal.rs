//! Nothing of a session is shown before its pin is written.

use std::sync::Arc;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;

use crate::support::{CALL, Client, INITIALIZE};
use crate::trial;
use crate::world::{Session, World, blocking, until};

/// How long Redis takes no writes.
const PAUSE: Duration = Duration::from_millis(2_000);

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("a_session_is_known_everywhere_the_moment_it_is_shown", shown)]
}

async fn shown() {
    let mut world = World::new("shown", 2).await;
    let [one, two] = [world.replica(), world.replica()];
    let known = one.initialize().await;
    known.check(&two.call(&known).await);
    two.settle().await;
    let mut stream = one.client().await;
    let mut second = one.client().await;
    let holder = Arc::clone(&world.pods[&known.pod.parse().unwrap()].state);
    *holder.another.lock() = Some("another".to_owned());
    let begun = Instant::now();
    blocking(|| world.redis().command(&format!("CLIENT PAUSE {} WRITE", PAUSE.as_millis())).unwrap());

    // A response to `initialize`, an `endpoint` event, and a second id in a pinned session's response.
    let initialize = async {
        let reply = one.post(None, INITIALIZE).await;
        (begun.elapsed(), two.post(Some(&reply.session()), CALL).await, reply.body)
    };
    let endpoint = async {
        stream.ask("GET", "/sse", &[], "").await;
        stream.head().await.unwrap();
        let event = stream.chunk().await.unwrap().unwrap();
        let shown = begun.elapsed();
        let target = event.split("data: ").nth(1).unwrap().trim().to_owned();
        (shown, two.client().await.request("POST", &target, &[], CALL).await)
    };
    let another = async {
        let reply = second.post(Some(&known.id), CALL).await;
        (begun.elapsed(), reply.session(), two.post(Some("another"), CALL).await)
    };
    let meanwhile = async {
        // The other id goes with the next answer of this session, which is to be the one above.
        until("another id, given out", || holder.another.lock().is_none()).await;
        // What is pinned goes on, here and there, until shortly before the end of the pause.
        let mut clients = [Client::connect(one.listen).await, Client::connect(two.listen).await];
        while begun.elapsed() < PAUSE.mul_f32(0.7) {
            for client in &mut clients {
                known.check(&client.post(Some(&known.id), CALL).await);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let (initialize, endpoint, another, ()) = tokio::join!(initialize, endpoint, another, meanwhile);
    for shown in [initialize.0, endpoint.0, another.0] {
        assert!(shown >= PAUSE.mul_f32(0.9), "shown after {shown:?}, before writes were let through");
    }
    assert_eq!((initialize.1.status, &initialize.1.body), (200, &initialize.2));
    assert_eq!(endpoint.1.status, 202);
    assert_eq!(another.1, "another");
    Session { id: another.1, pod: known.pod.clone() }.check(&another.2);
}
