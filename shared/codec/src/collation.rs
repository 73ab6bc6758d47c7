//! Placeholder until this module's own engineer fills it.
