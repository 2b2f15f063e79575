//! What stands in the store for a session.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::id::PathTag;
use super::pin::Pin;
use crate::pods::{Naming, PodId};

/// The version that is written. Records of another version are not read: a newer proxy may mean another thing.
const VERSION: u32 = 1;

/// Longer ones are not looked at. Ours have about 200 bytes.
const MAX_BYTES: usize = 4096;

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    v: u32,
    /// Names the set of sessions per pod, where it is counted.
    pod: String,
    backend_url: String,
    path: String,
    /// Unix time in seconds. For people.
    pinned_at: u64,
}

/// The record of a pin; `None` where no such pod can be named.
pub(super) fn write(naming: &Naming, pin: Pin) -> Option<String> {
    let pinned_at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let record = Record {
        v: VERSION,
        pod: naming.label(pin.pod)?,
        backend_url: naming.url(pin.pod)?,
        path: pin.path.to_hex(),
        pinned_at,
    };
    serde_json::to_string(&record).ok()
}

/// What stands before and after the path in the records of a pod that are written now; `None` where no such pod can be
/// named.
pub(super) fn around_path(naming: &Naming, pod: PodId) -> Option<(String, String)> {
    const NAME: &str = "\"path\":\"";
    let path = PathTag::default();
    let text = write(naming, Pin { pod, path })?;
    // No value can hold the field's name with its quotes.
    let (before, rest) = text.split_once(NAME)?;
    Some((format!("{before}{NAME}"), rest.strip_prefix(&path.to_hex())?.to_owned()))
}

/// The pin that a record states.
///
/// # Errors
/// Why it is not to be followed: truncated, of another version, or naming something that is no pod of this server.
pub(super) fn read(naming: &Naming, text: &[u8]) -> Result<Pin, &'static str> {
    if text.len() > MAX_BYTES {
        return Err("too long");
    }
    let record: Record = serde_json::from_slice(text).map_err(|_| "not a record")?;
    if record.v != VERSION {
        return Err("of another version");
    }
    let pod = naming.parse_url(&record.backend_url).ok_or("its backend_url names no pod of this server")?;
    if naming.label(pod).as_deref() != Some(&record.pod) {
        return Err("its pod and its backend_url disagree");
    }
    let path = PathTag::from_hex(&record.path).ok_or("its path is none")?;
    Ok(Pin { pod, path })
}

/// What a record says, unchecked: for people, never for routing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Name of the pod.
    pub pod: String,
    /// Where it is.
    pub backend_url: String,
    /// Unix time in seconds.
    pub pinned_at: u64,
}

/// Reads a record of any server; `None` where it is none, or holds what could deceive a terminal.
pub(super) fn show(text: &[u8]) -> Option<Shown> {
    let record: Record = serde_json::from_slice(text.get(..text.len().min(MAX_BYTES))?).ok()?;
    let plain = [&record.pod, &record.backend_url].iter().all(|text| text.chars().all(|c| c.is_ascii_graphic()));
    let Record { pod, backend_url, pinned_at, .. } = record;
    plain.then_some(Shown { pod, backend_url, pinned_at })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pods::StatefulSetNaming;

    fn naming() -> Naming {
        Naming::StatefulSet(StatefulSetNaming::web())
    }

    #[test]
    fn hostile_records_are_not_followed() {
        let good = write(&naming(), Pin { pod: PodId(1), path: PathTag(7) }).unwrap();
        for (from, to) in [
            ("web-1.mcp", "web-1.evil"),
            (":8080", ":8080@evil.example:80"),
            ("http://", "http://user@"),
            ("\"v\":1", "\"v\":2"),
            ("\"pod\":\"web-1\"", "\"pod\":\"web-2\""),
            ("00000007", "+0000007"),
            ("{", ""),
        ] {
            let bad = good.replace(from, to);
            assert_ne!(bad, good, "{from}");
            assert!(read(&naming(), bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(read(&naming(), &good.as_bytes()[..good.len() - 1]).is_err());
        assert!(read(&naming(), format!("{good}{}", " ".repeat(MAX_BYTES)).as_bytes()).is_err());
        let with_more = good.replace('{', "{\"added\":\"later\",");
        assert!(read(&naming(), with_more.as_bytes()).is_ok(), "unknown fields are no harm");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(pod: u16, path: u32) {
            let pin = Pin { pod: PodId(pod), path: PathTag(path) };
            let text = write(&naming(), pin).unwrap();
            prop_assert_eq!(read(&naming(), text.as_bytes()), Ok(pin));
            let (before, after) = around_path(&naming(), pin.pod).unwrap();
            let text = format!("{before}{}{after}", pin.path.to_hex());
            prop_assert_eq!(read(&naming(), text.as_bytes()), Ok(pin));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&naming(), &bytes);
        }

        #[test]
        fn a_broken_record_names_no_other_pod(at in 0..200usize, byte: u8) {
            let pin = Pin { pod: PodId(1), path: PathTag(7) };
            let mut text = write(&naming(), pin).unwrap().into_bytes();
            let at = at % text.len();
            text[at] = byte;
            if let Ok(read) = read(&naming(), &text) {
                prop_assert_eq!(read.pod, pin.pod);
            }
        }
    }
}
