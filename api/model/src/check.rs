//! What is wrong between resources.
