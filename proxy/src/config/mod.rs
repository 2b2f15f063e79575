//! The configuration: RunConfig file, flags, and what comes of both.

mod flags;
pub mod generation;
mod reload;
mod run_config;
mod settings;

pub use flags::Flags;
pub use generation::GENERATION_ENV;
pub use reload::{Reloader, Update};
pub use run_config::{
    HeadlessRouting, HeadlessService, RunConfig, RunConfigError, SCHEMA_VERSION, ScalingConfig, SessionRedis,
};
pub use settings::{
    DEFAULT_SESSION_CACHE_SIZE, DEFAULT_SESSION_TTL, Environment, PASSWORD_ENV, Routing, SessionStoreSettings,
    Settings, SettingsError,
};
