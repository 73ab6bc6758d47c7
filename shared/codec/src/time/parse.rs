//! Reading dates and times from text.
