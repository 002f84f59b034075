//! The scale scenario: so many MCP sessions at once, what each costs, and how fast they come.

pub mod conntrack;
pub mod driven;
pub mod options;
pub mod report;
pub mod run;
