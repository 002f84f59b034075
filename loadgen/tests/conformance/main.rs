//! The program against servers that others wrote, with exact accounting: how many sessions were
//! opened, kept and answered, and why each failure failed, held against the server's own counts.
//!
//! `basics` is the one to run first. What a test needs and does not find (python3, a network for
//! pip, another binary of this workspace) makes it skip loudly, and fail where `CI=true`. Each test
//! adds its rows to the table `conformance.md` in the target directory's `tmp`.

#[path = "../support/certs.rs"]
mod certs;
#[path = "../support/server.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod small;
#[path = "../support/venv.rs"]
mod venv;

mod awkward;
mod basics;
mod checks;
mod faults;
mod harness;
mod hostile;
mod hostile_streams;
mod hostile_tls;
mod python;
mod rmcp;
mod run;
mod size;
mod streams;
mod transport;
mod villain;
