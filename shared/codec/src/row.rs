//! Row values.
