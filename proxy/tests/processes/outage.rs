//! The Redis goes, in all ways it can, under load.

use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_test_cluster::Sentinel;
use libtest_mimic::Trial;

use crate::load::Load;
use crate::support::INITIALIZE;
use crate::trial;
use crate::world::{Replica, Session, World, blocking, is_later, until};

/// Within which a client hears that its session cannot be told of. A second, and what a busy machine adds.
const SOON: Duration = Duration::from_secs(3);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("redis_stopped", || async {
            let scene = Scene::new("stopped").await;
            scene
                .play(|world| world.redis().kill().unwrap(), Some(|world: &mut World| world.redis().run().unwrap()))
                .await;
        }),
        trial("redis_hung", || async {
            let scene = Scene::new("hung").await;
            scene
                .play(|world| world.redis().hang().unwrap(), Some(|world: &mut World| world.redis().wake().unwrap()))
                .await;
        }),
        trial("redis_restarted_empty", || async {
            let scene = Scene::new("emptied").await;
            let restart = |world: &mut World| {
                world.redis().kill().unwrap();
                world.redis().run().unwrap();
            };
            scene.play(restart, None::<fn(&mut World)>).await;
        }),
        trial("redis_fails_over_by_sentinel", failover),
    ]
}

/// Two replicas with sessions of their own, which are called all the time.
struct Scene {
    world: World,
    replicas: [Replica; 2],
    /// Sessions that each replica has in its cache, and the other does not.
    sessions: [Vec<Session>; 2],
    load: Load,
}

impl Scene {
    async fn new(name: &str) -> Self {
        Self::of(World::new(name, 2).await).await
    }

    async fn of(world: World) -> Self {
        let replicas = [world.replica(), world.replica()];
        let sessions = [replicas[0].sessions(20).await, replicas[1].sessions(20).await];
        replicas[0].settle().await;
        replicas[1].settle().await;
        let mut load = Load::new();
        for (replica, sessions) in replicas.iter().zip(&sessions) {
            for some in sessions.chunks(10) {
                // What a replica has in its cache goes on without an error, whatever happens.
                load.call(replica.listen, some, |_| false);
            }
        }
        load.go_on(100).await;
        Self { world, replicas, sessions, load }
    }

    /// Stops the store, looks at what clients see meanwhile, lets it go on, and waits until all is well.
    async fn play(mut self, stop: impl FnOnce(&mut World), restore: Option<impl FnOnce(&mut World)>) {
        blocking(|| stop(&mut self.world));
        let refused = restore.is_some();
        if let Some(restore) = restore {
            self.look_at_the_outage().await;
            blocking(|| restore(&mut self.world));
        }
        self.recover(refused).await;
    }

    async fn look_at_the_outage(&mut self) {
        let [one, two] = &self.replicas;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(2) {
            let asked = Instant::now();
            let reply = two.call(&self.sessions[0][0]).await;
            assert!(is_later(&reply), "unknown to this replica: {reply:?}");
            assert!(asked.elapsed() < SOON, "{:?}", asked.elapsed());
        }
        for replica in [one, two] {
            let reply = replica.post(None, INITIALIZE).await;
            assert!(is_later(&reply), "{reply:?}");
        }
        // The old transport has no answer left to give but the end of its stream.
        let mut stream = one.client().await;
        stream.ask("GET", "/sse", &[], "").await;
        assert_eq!(stream.head().await.unwrap().status, 200);
        let first = stream.chunk().await;
        assert!(first.is_err(), "shown, and not stored: {first:?}");
        assert_eq!(one.metrics().metric("berth_proxy_events_total", &[("event", "stream_unpinned")]), 1.0);
        self.load.go_on(100).await;
    }

    /// Without a restart of a replica, everything works again; and until then nobody is told that a session ended which
    /// a replica still has.
    async fn recover(self, refused: bool) {
        let [one, two] = &self.replicas;
        let others = self.sessions[0].iter().map(|session| (two, session));
        for (replica, session) in others.chain(self.sessions[1].iter().map(|session| (one, session))) {
            let reply = replica
                .eventually("a session of another replica", Some(&session.id), |reply| {
                    assert!(reply.status == 200 || is_later(reply), "{session:?}: {reply:?}");
                    reply.status == 200
                })
                .await;
            session.check(&reply);
        }
        for (replica, other) in [(one, two), (two, one)] {
            let reply = replica.eventually("a new session", None, |reply| reply.status == 200).await;
            let session = Session { id: reply.session(), pod: reply.body };
            session.check(&other.call(&session).await);
            replica.settle().await;
        }
        self.load.go_on(100).await;
        let Self { world, replicas, load, .. } = self;
        load.end().await;
        // 40 of the scene, and the two of the end: whatever was refused meanwhile was taken back.
        if refused {
            until("no orphan on a server", || world.living() == 42).await;
        }
        drop(replicas);
    }
}

async fn failover() {
    let mut sentinel = blocking(|| Sentinel::start().unwrap());
    let mut world = World::without_store("failover", 2).await;
    world.store = Some(format!("redis+sentinel://{}/mymaster", sentinel.address()));
    let scene = Scene::of(world).await;
    let seen = Arc::clone(&scene.load.seen);
    blocking(|| sentinel.fail_over().unwrap());
    assert!(seen.calls() > 0);
    scene.recover(false).await;
}
