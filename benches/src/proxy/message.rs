//! Requests as MCP clients send them, and as much of answers as a load has to see.

use crate::Result;

/// Bytes of a request's body.
pub(crate) const REQUEST_BODY: usize = 128;

/// A `tools/list` of a session, or the `initialize` that makes one.
pub(crate) fn post(session: Option<&str>) -> Vec<u8> {
    let method = if session.is_some() { "tools/list" } else { "initialize" };
    let fixed = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{"_meta":{{"padding":""}}}}}}"#);
    let padding = "x".repeat(REQUEST_BODY.saturating_sub(fixed.len()));
    let body = fixed.replace(r#""padding":"""#, &format!(r#""padding":"{padding}""#));
    head("POST", session, &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()), &body)
}

/// Opens a session's stream of events.
pub(crate) fn get(session: &str) -> Vec<u8> {
    head("GET", Some(session), "", "")
}

fn head(method: &str, session: Option<&str>, more: &str, body: &str) -> Vec<u8> {
    let session = session.map(|id| format!("Mcp-Session-Id: {id}\r\n")).unwrap_or_default();
    format!(
        "{method} /mcp HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: berth-bench\r\n\
         Accept: application/json, text/event-stream\r\nMcp-Protocol-Version: 2025-11-25\r\n{session}{more}\r\n{body}"
    )
    .into_bytes()
}

/// A complete answer.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) session: &'a str,
    pub(crate) body: &'a str,
}

/// The answer in `text`, once it is complete. Anything but a 200 with a length is an error.
pub(crate) fn read(text: &[u8]) -> Result<Option<Answer<'_>>> {
    let Some(end) = text.windows(4).position(|end| end == b"\r\n\r\n") else { return Ok(None) };
    let head = str::from_utf8(&text[..end])?;
    if !head.starts_with("HTTP/1.1 200 ") {
        return Err(format!("the answer is {}", String::from_utf8_lossy(text)).into());
    }
    let length: usize = field(head, "content-length").ok_or("an answer has no Content-Length")?.parse()?;
    let Some(body) = text.get(end + 4..end + 4 + length) else { return Ok(None) };
    Ok(Some(Answer { session: field(head, "mcp-session-id").unwrap_or_default(), body: str::from_utf8(body)? }))
}

/// The value of a header.
pub(crate) fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
    lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_size_that_the_tables_state() {
        for session in [None, Some("0123456789abcdef0123456789abcdef")] {
            let text = String::from_utf8(post(session)).unwrap();
            let (_, body) = text.split_once("\r\n\r\n").unwrap();
            assert_eq!(body.len(), REQUEST_BODY, "{text}");
            serde_json::from_str::<serde_json::Value>(body).unwrap();
        }
    }

    #[test]
    fn an_answer_is_read_when_it_is_complete() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nmcp-session-id: s\r\n\r\n{}";
        for end in 0..whole.len() {
            assert!(read(&whole[..end]).unwrap().is_none(), "{end}");
        }
        let answer = read(whole).unwrap().unwrap();
        assert_eq!((answer.session, answer.body), ("s", "{}"));
        assert!(read(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").is_err());
    }
}
