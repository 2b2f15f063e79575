//! Sessions that clients name themselves.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use tokio::task::JoinSet;

use crate::support::Client;
use crate::trial;
use crate::world::{BOUND, World};

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("first_requests_of_one_cookie_over_two_replicas_go_to_one_pod", race)]
}

async fn race() {
    let mut world = World::new("claims", 3).await;
    world.arguments.push("--session-cookie=SID".to_owned());
    let replicas = [world.replica(), world.replica()];
    for replica in &replicas {
        // As long as the store is in doubt, nothing is placed.
        let cookie = [("Cookie", "SID=first")];
        let begun = Instant::now();
        while replica.client().await.request("GET", "/app", &cookie, "").await.status != 200 {
            assert!(begun.elapsed() < BOUND, "never placed");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let mut pods = BTreeSet::new();
    for number in 0..20 {
        let mut clients = JoinSet::new();
        for client in 0..8 {
            let address = replicas[client % 2].listen;
            clients.spawn(async move {
                let cookie = format!("a=b; SID=mine-{number}");
                let begun = Instant::now();
                loop {
                    let reply = Client::connect(address).await.request("GET", "/app", &[("Cookie", &cookie)], "").await;
                    // The store may be late on a busy machine, which costs a client no more than to ask again.
                    if reply.status != 503 || reply.header("retry-after").is_none() || begun.elapsed() > BOUND {
                        return reply;
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            });
        }
        let replies = clients.join_all().await;
        let answered: BTreeSet<_> = replies.iter().map(|reply| (reply.status, reply.body.clone())).collect();
        assert!(answered.len() == 1 && answered.iter().all(|(status, _)| *status == 200), "{answered:?}");
        pods.extend(answered);
    }
    assert!(pods.len() > 1, "all cookies are on one pod: {pods:?}");
}
