//! Our generator beside its peers: the same target, the same cores, turn by turn.

pub mod options;
pub mod run;
pub mod table;
pub mod tools;
