//! Names that are derived from a custom resource's: valid wherever its own is, and different for different resources.
//!
//! Each is the resource's name between its prefix and suffix. Where that is too long, has dots where Kubernetes takes
//! none, or could be the name of another resource's object, the name is cut and ends in a hash of the whole. What merely looks
//! like one that ends in a hash, as `web-7d9c5b8f6d` does, is no such name unless the hash is right, and stays as it is. The
//! controller builds by these names, and the webhook looks for them.

use ring::digest::{SHA256, digest as sha};
use serde_json::Value;

use super::is_dns_label;

/// A StatefulSet's pods carry its name and a hash in a label of 63 characters, and their own names in DNS.
const STATEFUL_SET_MAX: usize = 52;
/// What a Service, a label's value and a part of a DNS name may have.
const LABEL_MAX: usize = 63;
/// What any other name may have.
const NAME_MAX: usize = 253;

const HASH_CHARS: usize = 10;
/// Without vowels, and without digits that look like one, so that no word comes of it; as Kubernetes itself does.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

const PROXY_SUFFIX: &str = "-proxy";
const HEADLESS_SUFFIX: &str = "-headless";

/// The Deployment of either kind.
#[must_use]
pub fn deployment(cr: &str) -> String {
    // More would be taken, with a warning: pods are called by it, and their host names have no dots.
    derive("", cr, "", LABEL_MAX, Form::Label)
}

/// The StatefulSet of an MCPServer's pods.
#[must_use]
pub fn stateful_set(cr: &str) -> String {
    derive("", cr, "", STATEFUL_SET_MAX, Form::Label)
}

/// The Service that clients of an MCPServer connect to.
#[must_use]
pub fn proxy_service(cr: &str) -> String {
    derive("mcp-", cr, PROXY_SUFFIX, LABEL_MAX, Form::Label)
}

/// The Service that gives each pod of an MCPServer its DNS name, ready or not.
#[must_use]
pub fn headless_service(cr: &str) -> String {
    derive("mcp-", cr, HEADLESS_SUFFIX, LABEL_MAX, Form::Label)
}

/// The Service whose addresses are those of an MCPServer's ready pods.
#[must_use]
pub fn ready_service(cr: &str) -> String {
    // `mcp-` and a name with one of these suffixes is what the other two Services of a resource without it are called.
    let form = if [PROXY_SUFFIX, HEADLESS_SUFFIX].iter().any(|suffix| cr.ends_with(suffix)) {
        Form::Taken
    } else {
        Form::Label
    };
    derive("mcp-", cr, "", LABEL_MAX, form)
}

/// The ConfigMap with the RunConfig of an MCPServer.
#[must_use]
pub fn run_config(cr: &str) -> String {
    derive("", cr, "-runconfig", NAME_MAX, Form::Subdomain)
}

/// The Service of a VirtualMCPServer.
#[must_use]
pub fn vmcp_service(cr: &str) -> String {
    derive("vmcp-", cr, "", LABEL_MAX, Form::Label)
}

/// The ConfigMap of a VirtualMCPServer.
#[must_use]
pub fn vmcp_config(cr: &str) -> String {
    derive("", cr, "-vmcp-config", NAME_MAX, Form::Subdomain)
}

/// The name as the value of a label.
#[must_use]
pub(crate) fn label_value(cr: &str) -> String {
    derive("", cr, "", LABEL_MAX, Form::Subdomain)
}

/// 32 hexadecimal digits that stand for a value; the order of keys does not count.
pub(crate) fn digest(value: &Value) -> String {
    // Sorted here and not only by serde_json's own map, which any crate of the build could switch to insertion order.
    let mut sorted = value.clone();
    sorted.sort_all_objects();
    let hash = sha(&SHA256, sorted.to_string().as_bytes());
    hash.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// What a name has to be besides short enough.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    /// One part of a DNS name.
    Label,
    /// Parts joined by dots.
    Subdomain,
    /// Whatever it is, another object may be called so.
    Taken,
}

fn derive(prefix: &str, cr: &str, suffix: &str, max: usize, form: Form) -> String {
    let room = max.saturating_sub(prefix.len() + suffix.len());
    let fits = match form {
        Form::Label => is_dns_label(cr),
        Form::Subdomain => cr.split('.').all(is_dns_label),
        Form::Taken => false,
    };
    if fits && cr.len() <= room && !is_anothers(cr, room) {
        return format!("{prefix}{cr}{suffix}");
    }
    // Names of objects in a cluster need none of this but the cutting.
    let plain: String =
        cr.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    // What is cut has exactly the room that there is, by which it is told from what is not.
    let head: String = plain.trim_start_matches('-').chars().take(room.saturating_sub(HASH_CHARS + 1)).collect();
    let dash = if head.is_empty() { "" } else { "-" };
    format!("{prefix}{head}{dash}{}{suffix}", hash(cr))
}

fn hash(cr: &str) -> String {
    let hash = sha(&SHA256, cr.as_bytes());
    let hash =
        hash.as_ref().iter().take(HASH_CHARS).filter_map(|byte| ALPHABET.get(usize::from(*byte) % ALPHABET.len()));
    hash.map(|byte| char::from(*byte)).collect()
}

/// Dashes in a name up to which all names are tried that have dots in place of some: each doubles them.
const MOST_DASHES: usize = 8;

/// Whether a name may be what another resource's was made to: that one's, dots replaced by dashes, and its hash. Such a name
/// gets another hash.
fn is_anothers(cr: &str, room: usize) -> bool {
    let Some((head, tail)) = cr.rsplit_once('-') else { return false };
    if tail.len() != HASH_CHARS || !tail.bytes().all(|byte| ALPHABET.contains(&byte)) {
        return false;
    }
    let dashes = head.match_indices('-').count();
    // Of what is as long as what is cut, nobody knows the rest of the name.
    cr.len() == room || dashes > MOST_DASHES || (0..1 << dashes).any(|dots| hash(&with_dots(head, dots)) == tail)
}

/// The name with dots in place of those dashes whose bits are set.
fn with_dots(name: &str, dots: u32) -> String {
    let mut dashes = 0;
    let dot = |c: char| match c {
        '-' => {
            dashes += 1;
            if (dots >> (dashes - 1)) & 1 == 1 { '.' } else { '-' }
        }
        c => c,
    };
    name.chars().map(dot).collect()
}
