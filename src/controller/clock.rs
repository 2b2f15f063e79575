//! Times as the API server writes them.

use k8s_openapi::jiff::Timestamp;

/// Now, in whole seconds, as conditions have it.
pub(super) fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Now, in microseconds, as Events have it.
pub(super) fn now_micros() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}
