//! Compiled encoders and decoders of a table.

/// A value of the encoder's hot path.
pub enum Cell {}
