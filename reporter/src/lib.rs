//! The reporter: it drives a whole run (preflight, cluster, phases) and makes the report of it.
//!
//! The driving half (`cli`, `run`, `cluster`, `generator`, `folder`) ends in a results folder; the
//! reporting half reads that folder and nothing else.
#![forbid(unsafe_code)]

pub mod analysis;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod exit;
pub mod folder;
pub mod generator;
pub mod preflight;
pub mod report;
pub mod results;
pub mod run;
pub mod swarm;
pub mod tools;
pub mod verdict;
