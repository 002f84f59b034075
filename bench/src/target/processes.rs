//! One process for each loopback address: how the target passes the descriptor limit.
