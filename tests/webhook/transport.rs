//! What is spoken, what is turned away, and how.

use serde_json::json;

use crate::client::{Client, Protocol};
use crate::fixture::{Fixture, review, review_bytes};

const MIB: usize = 1024 * 1024;

#[tokio::test]
async fn tls_1_2_and_1_3_with_http_2_preferred() {
    let fixture = Fixture::start().await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let client = Client::with_versions(fixture.tls.authority.pem(), fixture.address, &[version]);
        for (offered, agreed) in
            [(&[&b"http/1.1"[..], b"h2"][..], Some(&b"h2"[..])), (&[b"http/1.1"], Some(b"http/1.1")), (&[], None)]
        {
            let stream = client.tls(offered).await.unwrap();
            let session = stream.get_ref().1;
            assert_eq!(session.protocol_version(), Some(version.version));
            assert_eq!(session.alpn_protocol(), agreed, "of {offered:?}");
        }
        for protocol in Protocol::BOTH {
            let answer = client.once(protocol, "POST", "/mutate", &review_bytes()).await;
            assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
        }
    }
}

#[tokio::test]
async fn a_review_is_answered_in_its_own_version() {
    let fixture = Fixture::start().await;
    for protocol in Protocol::BOTH {
        let mut connection = fixture.client.connect(protocol).await.unwrap();
        for (version, path) in [("v1", "/mutate"), ("v1beta1", "/validate?timeout=5s"), ("v1", "/validate")] {
            let mut review = review();
            review["apiVersion"] = json!(format!("admission.k8s.io/{version}"));
            let answer = connection.request("POST", path, review.to_string().as_bytes()).await.unwrap();
            let expected = json!({"apiVersion": format!("admission.k8s.io/{version}"), "kind": "AdmissionReview",
                "response": {"uid": "0815", "allowed": true}});
            assert_eq!(serde_json::from_slice::<serde_json::Value>(&answer.body).unwrap(), expected);
        }
    }
}

#[tokio::test]
async fn what_is_no_review_is_turned_away_with_a_sentence() {
    let fixture = Fixture::start().await;
    let no_uid = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {}}).to_string();
    for protocol in Protocol::BOTH {
        for (method, path, body, status, part) in [
            ("POST", "/mutate", "", 400, "no AdmissionReview"),
            ("POST", "/mutate", "hello", 400, "no AdmissionReview"),
            ("POST", "/validate", "{}", 400, "send an AdmissionReview"),
            ("POST", "/validate", no_uid.as_str(), 400, "no request with a uid"),
            ("GET", "/mutate", "", 405, "POST an AdmissionReview"),
            ("PUT", "/validate", "{}", 405, "POST an AdmissionReview"),
            ("POST", "/", "{}", 404, "/mutate and /validate"),
            ("GET", "/metrics", "", 404, "/mutate and /validate"),
        ] {
            let answer = fixture.client.once(protocol, method, path, body.as_bytes()).await;
            assert_eq!(answer.status, status, "{protocol:?} {method} {path} {body}");
            assert!(answer.text().contains(part), "{protocol:?} {method} {path} {body}: {}", answer.text());
            assert_eq!(answer.header("allow"), (status == 405).then_some("POST"));
        }
    }
}

#[tokio::test]
async fn eight_mebibytes_are_read_and_one_byte_more_is_not() {
    let fixture = Fixture::start().await;
    let mut review = review();
    review["padding"] = json!("");
    let padding = 8 * MIB - review.to_string().len();
    for protocol in Protocol::BOTH {
        for (extra, status) in [(0, 200), (1, 413), (4 * MIB, 413)] {
            review["padding"] = json!("x".repeat(padding + extra));
            let body = review.to_string().into_bytes();
            assert_eq!(body.len(), 8 * MIB + extra);
            let answer = fixture.client.once(protocol, "POST", "/mutate", &body).await;
            assert_eq!(answer.status, status, "{protocol:?} {extra}");
            match status {
                413 => assert!(answer.text().contains("larger than 8388608 bytes"), "{}", answer.text()),
                _ => assert_eq!(answer.response()["allowed"], json!(true)),
            }
        }
    }
}
