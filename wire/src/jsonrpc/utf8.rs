//! UTF-8
