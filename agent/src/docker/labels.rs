//! The labels by which Cutover knows its own containers and its network.
//!
//! What carries none of them is somebody else's and is left alone. They are
//! part of what is on disk at users' hosts: a name here never changes.

/// The app of a container. A container without it is not ours.
pub const APP: &str = "cutover.app";
/// The deploy that started it.
pub const DEPLOY: &str = "cutover.deploy";
/// The release it runs, as `v7`.
pub const RELEASE: &str = "cutover.release";
/// Its slot, `blue` or `green`.
pub const SLOT: &str = "cutover.slot";
/// Its number among the containers of the release, from 0.
pub const REPLICA: &str = "cutover.replica";
/// Its image, as `repository@sha256:…`.
pub const IMAGE: &str = "cutover.image";
/// Where the app listens inside it.
pub const PORT: &str = "cutover.port";
/// What it speaks there, `http1` or `h2c`. Containers without it speak HTTP/1.1.
pub const PROTOCOL: &str = "cutover.protocol";
/// The address in our network that it was made with, where it keeps one for as long
/// as it is there.
pub const ADDRESS: &str = "cutover.address";
/// Whether its image's own HEALTHCHECK runs: `ignore` or `require`. Containers
/// without it were made when it always ran.
pub const HEALTH: &str = "cutover.health";
/// The value of [`HEALTH`] where it is switched off.
pub const IGNORE: &str = "ignore";
/// The value of [`HEALTH`] where it runs and must be good.
pub const REQUIRE: &str = "require";
/// The place in a deploy of a hook; what carries it is no container of a release.
pub const HOOK: &str = "cutover.hook";
/// On the network that all containers of all apps are in. A network without
/// it is not ours.
pub const NETWORK: &str = "cutover.network";
