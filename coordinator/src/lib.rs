//! thunderhead-coordinator.
