//! The command line itself: flags, commands, help texts and what is said about a mistake.

pub mod command;
pub mod flag;
pub mod help;
pub mod parse;
pub mod suggest;
