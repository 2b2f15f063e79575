//! The little of JSON-RPC that decides about a session.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

/// A single message, as far as it is looked at.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    method: Option<Cow<'a, str>>,
}

/// What a body says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// The request's id as it was written, when it is a number or a string.
    pub id: Option<String>,
    /// Whether it asks for a new session.
    pub is_initialize: bool,
}

/// Reads a whole body. What is no single JSON-RPC message is no call.
#[must_use]
pub fn read(body: &[u8]) -> Call {
    let Ok(message) = serde_json::from_slice::<Message<'_>>(body) else { return Call::default() };
    let id = message.id.map(RawValue::get).filter(|id| !id.starts_with(['{', '[', 't', 'f', 'n']));
    Call { id: id.map(str::to_owned), is_initialize: message.method.as_deref() == Some("initialize") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_initialize_is_told_from_everything_else() {
        let call = read(br#" {"jsonrpc":"2.0","id": 7 ,"method":"initialize","params":{"method":"x"}}"#);
        assert_eq!(call, Call { id: Some("7".into()), is_initialize: true });
        let call = read(br#"{"id":"a\"b","method":"tools/call","params":{"method":"initialize"}}"#);
        assert_eq!(call, Call { id: Some(r#""a\"b""#.into()), is_initialize: false });
        assert!(read(br#"{"method":"init\u0069alize"}"#).is_initialize);
    }

    #[test]
    fn malformed_bodies_are_no_calls() {
        for body in ["", "{", "[]", "7", r#"{"method":7}"#, r#"[{"method":"initialize"}]"#, "\u{0}", r#"{"id":1}x"#] {
            assert_eq!(read(body.as_bytes()), Call::default(), "{body}");
        }
        for id in ["null", "{}", "[1]", "true"] {
            assert_eq!(read(format!(r#"{{"id":{id},"method":"x"}}"#).as_bytes()).id, None, "{id}");
        }
    }

    proptest! {
        #[test]
        fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..100), json in "[{\\[]\"(id|method)\":\\PC{0,20}[}\\]]") {
            let _ = (read(&body), read(json.as_bytes()));
        }

        /// Whatever a client calls a request, the answer carries it in a form that reads back as the same.
        #[test]
        fn an_id_is_given_back_as_it_was_written(text: String, number: i64, initialize: bool) {
            for id in [serde_json::Value::from(text), serde_json::Value::from(number)] {
                let method = if initialize { "initialize" } else { "ping" };
                let call = read(serde_json::json!({"method": method, "id": id}).to_string().as_bytes());
                prop_assert_eq!(call.is_initialize, initialize);
                prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&call.id.unwrap()).unwrap(), id);
            }
        }
    }
}
