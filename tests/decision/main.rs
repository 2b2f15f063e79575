//! What Berth decides, through the library's own door. The same on a real API server: `tests/admission`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test asserts, in its helpers too")]

mod annotated;
mod beside_toolhive;
mod built;
mod odd_reviews;
mod owned;
mod properties;
mod refusals;
mod slow;
mod world;
