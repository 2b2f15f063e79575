//! What Berth decides, through the library's own door. The same on a real API server: `tests/admission`.

mod annotated;
mod beside_toolhive;
mod odd_reviews;
mod owned;
mod properties;
mod refusals;
mod world;
