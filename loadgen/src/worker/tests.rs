//! The worker on a simulated ring.
