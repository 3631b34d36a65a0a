//! Deploys on real parts: engine, registry, proxy, agent, command line.

#![cfg(test)]

#[path = "deploy/abort.rs"]
mod abort;
#[path = "deploy/bad.rs"]
mod bad;
#[path = "deploy/calls.rs"]
mod calls;
#[path = "deploy/canary.rs"]
mod canary;
#[path = "deploy/changes.rs"]
mod changes;
#[path = "deploy/clock.rs"]
mod clock;
#[path = "deploy/crash.rs"]
mod crash;
#[path = "deploy/disk.rs"]
mod disk;
#[path = "deploy/engine.rs"]
mod engine;
#[path = "deploy/faults.rs"]
mod faults;
#[path = "deploy/github.rs"]
mod github;
#[path = "deploy/hooks.rs"]
mod hooks;
#[path = "deploy/http2.rs"]
mod http2;
#[path = "deploy/local.rs"]
mod local;
#[path = "deploy/people.rs"]
mod people;
#[path = "deploy/proxy.rs"]
mod proxy;
#[path = "deploy/registry.rs"]
mod registry;
#[path = "deploy/secrets.rs"]
mod secrets;
#[path = "deploy/several.rs"]
mod several;
#[path = "deploy/shapes.rs"]
mod shapes;
#[path = "deploy/stops.rs"]
mod stops;
#[path = "deploy/strategies.rs"]
mod strategies;
#[path = "deploy/traffic.rs"]
mod traffic;
#[path = "deploy/turns.rs"]
mod turns;
