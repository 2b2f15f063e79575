//! New sessions spread over the pods, whichever replica places them.

use std::sync::Arc;
use std::time::Instant;

use berth_proxy::place::{Placed, Placements};
use berth_proxy::pods::PodId;
use berth_proxy::session::{PathTag, PinMode, PinOutcome};
use berth_test_cluster::Redis;
use parking_lot::Mutex;

use crate::world::Replica;

#[test]
fn three_replicas_at_once_spread_sessions_within_five_percent() {
    const EACH: usize = 1000;
    const AT_ONCE: usize = 20;
    let redis = Redis::start().unwrap();
    let replicas = [0, 1, 2].map(|_| Replica::on(&redis));
    let pods = [PodId(0), PodId(1), PodId(2)];
    std::thread::scope(|scope| {
        for (number, replica) in replicas.iter().enumerate() {
            scope.spawn(move || {
                let placements = Arc::new(Mutex::new(Placements::default()));
                let tasks: Vec<_> = (0..AT_ONCE)
                    .map(|task| {
                        let (placements, sessions) = (Arc::clone(&placements), Arc::clone(&replica.sessions));
                        async move {
                            for turn in 0..EACH / AT_ONCE {
                                let key = sessions.key(format!("{number}-{task}-{turn}").as_bytes());
                                // Another number for each, as even as chance.
                                let chance = u64::from_str_radix(&key.to_hex()[..16], 16).unwrap();
                                let pod = placements
                                    .lock()
                                    .place(&pods, &sessions.counts(), Instant::now(), chance)
                                    .expect("a pod");
                                let pinned = sessions.pin(&key, pod, PathTag::default(), PinMode::First).await;
                                assert_eq!(pinned, PinOutcome::Pinned);
                                placements.lock().ended(pod, Placed::Pinned, Instant::now());
                            }
                        }
                    })
                    .collect();
                replica.wait(async {
                    let tasks: Vec<_> = tasks.into_iter().map(tokio::spawn).collect();
                    for task in tasks {
                        task.await.expect("a task that ends well");
                    }
                });
            });
        }
    });
    let counts = Replica::on(&redis).sessions.counts();
    let spread = pods.map(|pod| counts.of(pod));
    assert_eq!(spread.iter().sum::<u32>(), 3000);
    assert!(spread.iter().all(|count| (950..=1050).contains(count)), "{spread:?}");
}
