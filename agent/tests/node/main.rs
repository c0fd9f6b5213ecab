//! The agent on the machine it runs on: real cgroups, BPF programs, containers and kills. As root.

mod binary;
mod cpuidle;
mod docker;
mod example;
mod framework;
mod host_memory;
mod oom;
mod support;
