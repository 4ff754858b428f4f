//! The shared-memory region: the only bridge between the control plane and the data plane.

pub mod records;
