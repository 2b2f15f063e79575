//! The configuration: RunConfig file, flags, and what comes of both.
