//! Replicas are replaced one by one, behind a balancer that asks once a second whether they are ready.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use berth_test_cluster::{Balancer, http_get};
use libtest_mimic::Trial;

use crate::load::{Load, Seen};
use crate::support::{CALL, Client, INITIALIZE};
use crate::trial;
use crate::world::{BOUND, Session, World, blocking, until};

/// How often the balancer looks.
const LOOK: Duration = Duration::from_secs(1);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("replaced_under_load_without_a_failed_request", replaced),
        trial("a_second_signal_ends_a_replica_at_once", impatient),
    ]
}

async fn impatient() {
    let mut world = World::without_store("impatient", 1).await;
    world.arguments = ["--lame-duck=5m", "--threads=1"].map(str::to_owned).to_vec();
    let mut replica = world.replica();
    blocking(|| replica.process.signal("TERM").unwrap());
    let unready = || http_get(replica.admin, "/readyz").is_ok_and(|answer| answer.status == 503);
    until("a replica that is not ready any more", unready).await;
    assert_eq!(replica.post(None, INITIALIZE).await.status, 200, "everything is still served");
    assert_eq!(blocking(|| replica.process.stop(BOUND).unwrap()).code(), Some(0));
}

async fn replaced() {
    let mut world = World::new("replaced", 2).await;
    world.arguments = ["--lame-duck=4s", "--drain-timeout=1s", "--threads=2"].map(str::to_owned).to_vec();
    let mut replicas = [world.replica(), world.replica()];
    let servers: Vec<_> = replicas.iter().map(|replica| (replica.listen, replica.admin)).collect();
    let balancer = blocking(|| Balancer::looking_every(LOOK, &servers).unwrap());
    let sessions = replicas[0].sessions(24).await;
    let mut load = Load::new();
    for some in sessions.chunks(3) {
        load.call(balancer.address(), some, |_| false);
    }
    for _ in 0..2 {
        load.spawn(|seen| come_and_go(balancer.address(), seen));
    }
    let mut streams = Vec::new();
    for session in &sessions[..4] {
        streams.push(tokio::spawn(follow(balancer.address(), session.clone(), Arc::clone(&load.seen))));
    }
    for replica in &mut replicas {
        load.go_on(50).await;
        let status = blocking(|| replica.process.stop(BOUND).unwrap());
        assert_eq!(status.code(), Some(0), "{}", replica.process.log_tail());
        blocking(|| replica.restart());
        // Time for the balancer to see it.
        tokio::time::sleep(LOOK * 2).await;
    }
    load.go_on(50).await;
    let seen = Arc::clone(&load.seen);
    load.end().await;
    let mut ends = 0;
    for stream in streams {
        ends += stream.await.unwrap();
    }
    assert!(ends >= 4, "each stream had to move at least once: {ends}");
    assert!(seen.calls() > 300, "{}", seen.calls());
}

/// Sessions that begin and end meanwhile.
async fn come_and_go(address: SocketAddr, seen: Arc<Seen>) {
    while !seen.has_ended() {
        // One connection a message, as a client without keep-alive.
        let one = async |session: Option<&str>, body: &str| {
            let reply = Client::try_connect(address).await?.try_post(session, body).await?;
            if reply.status == 200 { Ok(reply) } else { Err(std::io::Error::other(format!("{reply:?}"))) }
        };
        let life = async {
            let reply = one(None, INITIALIZE).await?;
            let (id, pod) = (reply.session(), reply.body);
            for _ in 0..3 {
                let reply = one(Some(&id), CALL).await?;
                assert_eq!(reply.body, pod);
            }
            Ok::<_, std::io::Error>(())
        };
        if let Err(error) = life.await {
            seen.note(format!("a new session: {error}"));
        }
        seen.calls.fetch_add(4, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Follows a stream of numbered events, and resumes it where it ended. Gives how often it did.
async fn follow(address: SocketAddr, session: Session, seen: Arc<Seen>) -> usize {
    let (mut last, mut ends) = (0, 0);
    while !seen.has_ended() {
        let mut client = Client::connect(address).await;
        let (id, after) = (session.id.clone(), last.to_string());
        client.ask("GET", "/ticks", &[("Mcp-Session-Id", &id), ("Last-Event-ID", &after)], "").await;
        let head = client.head().await.unwrap();
        assert_eq!(head.status, 200, "{head:?}");
        let mut text = String::new();
        loop {
            match client.chunk().await {
                Ok(Some(chunk)) => text.push_str(&chunk),
                Ok(None) => break,
                Err(error) => {
                    seen.note(format!("a stream broke after {last}: {error}"));
                    return ends;
                }
            }
            while let Some((event, rest)) = text.split_once("\n\n") {
                last += 1;
                assert_eq!(event, format!("id: {last}\ndata: {last}"));
                text = rest.to_owned();
            }
            if seen.has_ended() {
                return ends;
            }
        }
        assert_eq!(text, "", "it ended in the middle of an event");
        ends += 1;
    }
    ends
}
