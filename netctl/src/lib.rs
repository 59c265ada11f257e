//! The operator's tool for CNI networks: what runtimes do with them, done by hand and seen step by step.
//!
//! [`conf`], [`cache`] and [`runtime`] are libcni's job; [`target`] understands how people name a container;
//! [`verb`] has one module a verb of the command line, and [`cli`] the command line itself. [`bpf`] watches packets,
//! [`trace`] follows one, and [`agent`] does so on every node.

pub mod agent;
pub mod bpf;
pub mod cache;
pub mod capture;
pub mod cli;
pub mod commands;
pub mod conf;
pub mod doctor;
pub mod drops;
pub mod exit;
pub mod facts;
pub mod gojson;
pub mod graph;
pub mod knock;
pub mod lookup;
pub mod netns;
pub mod output;
pub mod packet;
pub mod paths;
pub mod progress;
pub mod reach;
pub mod repair;
pub mod report;
pub mod runtime;
pub mod target;
pub mod term;
pub mod throughput;
pub mod trace;
pub mod verb;
