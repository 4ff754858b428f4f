//! Version 1 seen from inside: what the outer face of the engine does not let a test say or look at.

mod informational;
mod proposals;
mod responder_lifetime;
mod resuming;
