//! `[limits]` and `[logging]` as they are written.

use schemars::JsonSchema;

use super::Size;

/// What a container may take of the host.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Limits {
    /// Memory and swap together. From `6MiB`.
    #[schemars(extend("examples" = ["512MiB"]))]
    pub memory: Option<Size>,
    /// Cores, with at most three decimals.
    #[schemars(extend("examples" = [1.5]), range(min = 0.01, max = 4096))]
    pub cpus: Option<f64>,
    /// Processes and threads.
    #[schemars(extend("examples" = [200]), range(min = 1, max = 4_194_304))]
    pub pids: Option<u32>,
    /// The kernel's limits of each process, by their names in `man setrlimit`.
    pub ulimits: Option<Ulimits>,
}

/// The kernel's limits of each process: one number, `"unlimited"`, or
/// `{ soft = …, hard = … }`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Ulimits {
    /// Bytes of a core dump.
    pub core: Option<Ulimit>,
    /// Seconds of processor time.
    pub cpu: Option<Ulimit>,
    /// Bytes of its data.
    pub data: Option<Ulimit>,
    /// Bytes of a file that it writes.
    pub fsize: Option<Ulimit>,
    /// Locks of files.
    pub locks: Option<Ulimit>,
    /// Bytes that it keeps in memory.
    pub memlock: Option<Ulimit>,
    /// Bytes in message queues.
    pub msgqueue: Option<Ulimit>,
    /// How far it may raise its own priority.
    pub nice: Option<Ulimit>,
    /// Open files and connections.
    #[schemars(extend("examples" = [65536]))]
    pub nofile: Option<Ulimit>,
    /// Processes of its user.
    pub nproc: Option<Ulimit>,
    /// Bytes of memory in use; Linux takes no notice of it.
    pub rss: Option<Ulimit>,
    /// Its priority under real-time scheduling.
    pub rtprio: Option<Ulimit>,
    /// Microseconds without a pause under real-time scheduling.
    pub rttime: Option<Ulimit>,
    /// Signals that wait.
    pub sigpending: Option<Ulimit>,
    /// Bytes of its stack.
    pub stack: Option<Ulimit>,
}

/// One limit.
#[derive(JsonSchema)]
#[schemars(title = "limit", untagged)]
pub enum Ulimit {
    /// What is in force, and what it may be raised to.
    Both(#[schemars(range(max = 9_223_372_036_854_775_807_u64))] u64),
    /// No limit.
    Unlimited(#[schemars(extend("const" = "unlimited"))] String),
    /// Each of the two.
    Each(Soft),
}

/// A limit in force, and what it may be raised to.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Soft {
    /// What is in force.
    #[schemars(extend("examples" = [1024]))]
    pub soft: Bound,
    /// What the process may raise it to.
    #[schemars(extend("examples" = [65536]))]
    pub hard: Bound,
}

/// A number, or none.
#[derive(JsonSchema)]
#[schemars(title = "limit", untagged)]
pub enum Bound {
    /// The limit.
    Number(#[schemars(range(max = 9_223_372_036_854_775_807_u64))] u64),
    /// No limit.
    Unlimited(#[schemars(extend("const" = "unlimited"))] String),
}

/// How much of a container's output the engine keeps.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Logging {
    /// Of one file; then the next is begun. From `4KiB` to `64GiB`.
    #[schemars(extend("default" = "10MB"))]
    pub max_size: Option<Size>,
    /// How many files are kept.
    #[schemars(extend("default" = 3), range(min = 1, max = 100))]
    pub max_files: Option<u16>,
}
