//! What the tests of this folder share: small servers, and the generator as a process.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod generator;
pub mod server;
