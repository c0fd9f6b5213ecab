//! The agent on the machine it runs on: real cgroups, BPF programs, containers and kills. As root.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking, and says what it skips")]

mod binary;
mod containerd;
mod cpuidle;
mod cpusys;
mod daemon;
#[path = "../../../bpf-programs/tests/support/mod.rs"]
mod disks;
mod dload;
mod docker;
mod example;
mod framework;
mod hostile_sockets;
mod iotracer;
mod kubelet;
mod memburst;
mod oom;
mod podman;
mod reload;
mod storm;
mod support;
mod waitrate;
