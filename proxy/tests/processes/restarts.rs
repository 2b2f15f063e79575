//! All replicas end at once, and start again.

use libtest_mimic::Trial;

use crate::load::Load;
use crate::trial;
use crate::world::{World, blocking, is_later};

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("killed_and_started_again_in_the_middle_of_200_sessions", killed)]
}

async fn killed() {
    let world = World::new("killed", 3).await;
    let mut replicas = [world.replica(), world.replica()];
    let mut sessions = Vec::new();
    for replica in &replicas {
        sessions.extend(replica.sessions(100).await);
    }
    let mut load = Load::new();
    for (number, some) in sessions.chunks(25).enumerate() {
        // A connection may break, since its replica is killed; and one that starts may not know yet.
        load.call(replicas[number % 2].listen, some, |reply| reply.is_none_or(is_later));
    }
    load.go_on(200).await;
    blocking(|| {
        for replica in &mut replicas {
            replica.process.kill().unwrap();
        }
        for replica in &mut replicas {
            replica.restart();
        }
    });
    load.go_on(200).await;
    load.end().await;
    for replica in &replicas {
        let mut client = replica.client().await;
        for session in &sessions {
            session.check(&client.post(Some(&session.id), crate::support::CALL).await);
        }
    }
    assert_eq!(world.living(), 200);
}
