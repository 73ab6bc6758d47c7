//! SQL dumps: the rows of INSERT and REPLACE statements as Dumpling, mydumper and mysqldump write them.
//! Owns the lexing of statements, reading a range of a file in bounded memory, and cutting a file, also
//! inside of a statement. Everything but rows is skipped: nothing of a data file is ever executed.
//!
//! The flow: [`lex`] knows tokens in a slice, [`statement`] the heads of statements and their rows, the
//! reader moves a window over the file. A statement may be longer than memory; a row may not.

mod lex;
mod reader;
mod statement;

pub use lex::SqlProblem;
pub use reader::{SqlReader, plan_statements, tables_in};
