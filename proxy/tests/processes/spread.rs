//! New sessions spread over the pods, whichever replica places them.

use std::collections::BTreeMap;

use http::StatusCode;
use libtest_mimic::Trial;
use tokio::task::JoinSet;

use crate::support::{Client, INITIALIZE};
use crate::trial;
use crate::world::{Replica, World};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("three_replicas_spread_3000_sessions_and_a_fourth_pod_joins", spread),
        trial("a_pod_that_fails_every_initialize_does_not_attract_all", failing),
    ]
}

/// Begins so many sessions with ten clients of each replica at once; gives how many each pod got, and how many failed.
async fn begin(replicas: &[Replica], count: usize) -> (BTreeMap<String, usize>, usize) {
    let mut clients = JoinSet::new();
    for replica in replicas {
        let address = replica.listen;
        for _ in 0..10 {
            let each = count / replicas.len() / 10;
            clients.spawn(async move {
                let mut client = Client::connect(address).await;
                let mut replies = Vec::with_capacity(each);
                for _ in 0..each {
                    let reply = client.post(None, INITIALIZE).await;
                    replies.push((reply.status, reply.body));
                }
                replies
            });
        }
    }
    let (mut pods, mut failed) = (BTreeMap::new(), 0);
    while let Some(replies) = clients.join_next().await {
        for (status, pod) in replies.unwrap() {
            match status {
                200 => *pods.entry(pod).or_default() += 1,
                _ => failed += 1,
            }
        }
    }
    (pods, failed)
}

async fn spread() {
    let mut world = World::new("spread", 3).await;
    let replicas = [world.replica(), world.replica(), world.replica()];
    let (pods, failed) = begin(&replicas, 3_000).await;
    assert_eq!((pods.len(), failed), (3, 0));
    assert!(pods.values().all(|count| (950..=1_050).contains(count)), "{pods:?}");
    world.add_pod(3).await;
    for replica in &replicas {
        replica.eventually("a session on the new pod", None, |reply| reply.body == "3").await;
    }
    let (pods, failed) = begin(&replicas, 300).await;
    assert_eq!(failed, 0);
    // A fair share would be a quarter; it catches up at about twice that.
    assert!((90..=225).contains(&pods["3"]), "{pods:?}");
}

async fn failing() {
    let world = World::new("failing", 3).await;
    *world.pods[&1].state.status.lock() = Some(StatusCode::INTERNAL_SERVER_ERROR);
    let replicas = [world.replica(), world.replica()];
    let (pods, failed) = begin(&replicas, 300).await;
    assert!(failed < 60, "{failed} of 300 were sent to a pod that fails");
    assert!(pods["0"] > 80 && pods["2"] > 80, "{pods:?}");
    *world.pods[&1].state.status.lock() = None;
    replicas[0].eventually("the pod that is well again", None, |reply| reply.body == "1").await;
}
