//! The admin port.

use std::net::SocketAddr;

use serde_json::json;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::client::{Answer, Protocol, read_answer};
use crate::fixture::{Fixture, review, review_bytes};

pub(crate) async fn get(address: SocketAddr, path: &str) -> std::io::Result<Answer> {
    let mut stream = BufReader::new(TcpStream::connect(address).await?);
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await?;
    read_answer(&mut stream).await
}

#[tokio::test]
async fn ready_is_told_with_what_is_missing() {
    let fixture = Fixture::start().await;
    let ready = async || {
        let answer = get(fixture.admin, "/readyz").await.unwrap();
        (answer.status, answer.text())
    };
    assert_eq!(ready().await, (200, "ok\n".to_owned()));
    let pending = fixture.readiness.wait_for("the cache");
    assert_eq!(ready().await, (503, "waiting for the cache\n".to_owned()));
    pending.done();
    assert_eq!(ready().await.0, 200);
    fixture.readiness.drain();
    let (status, text) = ready().await;
    assert!(status == 503 && text.contains("draining"), "{status} {text}");
    assert_eq!(get(fixture.admin, "/livez").await.unwrap().status, 200, "a process that drains is alive");
    assert_eq!(get(fixture.admin, "/nowhere").await.unwrap().status, 404);
}

#[tokio::test]
async fn metrics_count_reviews_and_know_no_users_words() {
    let fixture = Fixture::start().await;
    let mut connection = fixture.client.connect(Protocol::Http2).await.unwrap();
    for _ in 0..3 {
        connection.request("POST", "/validate", &review_bytes()).await.unwrap();
    }
    let mut hostile = review();
    for field in ["name", "namespace", "operation"] {
        hostile["request"][field] = json!("hostile\"} 1\n");
    }
    hostile["request"]["kind"] = json!({"group": "hostile", "version": "hostile", "kind": "hostile"});
    connection.request("POST", "/validate", hostile.to_string().as_bytes()).await.unwrap();
    connection.request("POST", "/hostile", b"hostile").await.unwrap();
    connection.request("HOSTILE", "/mutate", b"hostile").await.unwrap();
    let answer = get(fixture.admin, "/metrics").await.unwrap();
    let text = answer.text();
    assert!(answer.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    for line in [
        "berth_admission_reviews_total{webhook=\"validate\",kind=\"Deployment\",operation=\"CREATE\",\
         verdict=\"allowed\",code=\"\"} 3",
        "berth_admission_duration_seconds_count{webhook=\"validate\"} 4",
        "berth_rejected_requests_total{status=\"404\"} 1",
        "berth_rejected_requests_total{status=\"405\"} 1",
    ] {
        assert!(text.lines().any(|known| known == line), "no {line} in\n{text}");
    }
    assert!(text.contains("kind=\"other\",operation=\"UNKNOWN\""), "{text}");
    assert!(!text.to_lowercase().contains("hostile"), "{text}");
    let expiry = text.lines().find_map(|line| line.strip_prefix("berth_tls_certificate_not_after_timestamp_seconds "));
    assert!(expiry.unwrap().parse::<f64>().unwrap() > 1.7e9, "{text}");
    assert!(text.ends_with("# EOF\n"));
}
