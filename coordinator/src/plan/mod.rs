//! From what the user has to what will be done: chunks from files, ranges from runs. Decides, and does
//! no work itself.

pub mod ranges;
