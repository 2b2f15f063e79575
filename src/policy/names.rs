//! The names that users see: annotations, environment variables, groups, containers.

// What the proxy reads is named once, there.
pub use berth_proxy::config::{DEFAULT_SESSION_CACHE_SIZE, DEFAULT_SESSION_TTL, GENERATION_ENV, PASSWORD_ENV};

/// The API group of ToolHive's custom resources.
pub const TOOLHIVE_GROUP: &str = "toolhive.stacklok.dev";
/// The versions of [`TOOLHIVE_GROUP`] that Berth reads, the preferred one first.
pub const TOOLHIVE_VERSIONS: [&str; 2] = ["v1beta1", "v1alpha1"];

/// Prefix of every annotation that Berth reads or writes.
pub const ANNOTATION_PREFIX: &str = "berth.dev/";
/// Opts a workload in (`enabled`) or out (`disabled`).
pub const INJECT: &str = "berth.dev/inject";
/// Desired replica count.
pub const REPLICAS: &str = "berth.dev/replicas";
/// `memory` or `redis`.
pub const SESSION_PROVIDER: &str = "berth.dev/session-provider";
/// Where the session store is: `host:port` or a Redis URL.
pub const SESSION_ADDRESS: &str = "berth.dev/session-address";
/// Number of the Redis database.
pub const SESSION_DB: &str = "berth.dev/session-db";
/// Prefix of the session store's keys.
pub const SESSION_KEY_PREFIX: &str = "berth.dev/session-key-prefix";
/// `NAME/KEY` of the Secret entry that holds the Redis password.
pub const SESSION_PASSWORD_SECRET: &str = "berth.dev/session-password-secret";
/// MCP transport of the server.
pub const TRANSPORT: &str = "berth.dev/transport";
/// Seconds that pods get to end.
pub const GRACE_PERIOD: &str = "berth.dev/termination-grace-period-seconds";
/// Name of the container that holds the sessions.
pub const CONTAINER: &str = "berth.dev/container";
/// Sessions that a proxy keeps in its local cache.
pub const SESSION_CACHE_SIZE: &str = "berth.dev/session-cache-size";
/// How long an unused session lives.
pub const SESSION_TTL: &str = "berth.dev/session-ttl";
/// Berth's own record of the env entries that it added, as `CONTAINER/NAME`, comma separated.
pub const INJECTED_ENV: &str = "berth.dev/injected-env";

/// Which controller a custom resource is for.
pub const CLASS: &str = "berth.dev/class";
/// The value of [`CLASS`] that asks for Berth's controller.
pub const CLASS_BERTH: &str = "berth";
/// The controller's memory of the spec that it stamped, on the workloads that it builds.
pub const STAMPED_SPEC: &str = "berth.dev/stamped-spec";
/// The controller's memory of the default image that it built a Deployment with.
pub const DEFAULT_IMAGE: &str = "berth.dev/default-image";
/// The controller's memory of the pull policy that went with [`DEFAULT_IMAGE`]; empty where it left that to the API server.
pub const DEFAULT_PULL_POLICY: &str = "berth.dev/default-pull-policy";
/// The controller's memory of what it applied, as a hash, on everything that it builds.
pub const APPLIED: &str = "berth.dev/applied";

/// On the pods of an MCPServer's proxy, which default session storage they were made for, as a hash.
pub const DEFAULT_STORAGE: &str = "berth.dev/default-session-storage";
/// On the pods of a VirtualMCPServer, what their configuration was when they were made.
pub const CONFIG_CHECKSUM: &str = "berth.dev/config-checksum";

/// The annotations that mean something on a workload.
pub const ON_WORKLOADS: [&str; 17] = [
    INJECT,
    REPLICAS,
    SESSION_PROVIDER,
    SESSION_ADDRESS,
    SESSION_DB,
    SESSION_KEY_PREFIX,
    SESSION_PASSWORD_SECRET,
    TRANSPORT,
    GRACE_PERIOD,
    CONTAINER,
    SESSION_CACHE_SIZE,
    SESSION_TTL,
    INJECTED_ENV,
    STAMPED_SPEC,
    DEFAULT_IMAGE,
    DEFAULT_PULL_POLICY,
    APPLIED,
];
/// The annotations that mean something on a custom resource.
pub const ON_CUSTOM_RESOURCES: [&str; 4] = [CLASS, GRACE_PERIOD, SESSION_CACHE_SIZE, SESSION_TTL];

/// kubectl's annotation on pods that names the container meant when none is named.
pub const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";
/// Pod-template annotation that carries the generation stamp.
pub const STAMP: &str = "toolhive.stacklok.dev/mcpserver-generation";
/// Downward-API path of [`STAMP`].
pub const STAMP_FIELD_PATH: &str = "metadata.annotations['toolhive.stacklok.dev/mcpserver-generation']";
/// The environment variables that Berth writes.
pub const OWN_ENV: [&str; 2] = [PASSWORD_ENV, GENERATION_ENV];

/// Container of an MCPServer's Deployment: the session proxy.
pub const TOOLHIVE_CONTAINER: &str = "toolhive";
/// Container of a VirtualMCPServer's Deployment.
pub const VMCP_CONTAINER: &str = "vmcp";
/// Field manager of ToolHive's operator.
pub const THV_OPERATOR: &str = "thv-operator";
/// Every field manager of ToolHive: what one of them writes is ToolHive's.
pub const TOOLHIVE_MANAGERS: [&str; 2] = [THV_OPERATOR, "toolhive-container-manager"];

/// Grace period where neither policy nor template names one; Kubernetes' own default.
pub const DEFAULT_GRACE_PERIOD_SECONDS: i64 = 30;
