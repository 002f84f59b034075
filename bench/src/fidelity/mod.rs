//! How near to their time requests leave: beside a bare sleeper, and beside other open-loop tools.

pub mod options;
pub mod peers;
pub mod run;
