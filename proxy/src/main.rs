//! `berth-proxy`; everything is in the library.

fn main() {}
