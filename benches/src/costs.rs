//! What each kind of guard and dispatch costs, what verification costs, and how large translations are.
//!
//! Kinds are measured by `programs/costs.c`, which runs one of them in a loop: [`kinds`] is the table of them, [`listing`]
//! counts the instructions that a kind is made of before and after translation, [`starts`] runs programs with and
//! without verification, [`report`] writes the tables. The command is `costs`.

pub mod kinds;
pub mod listing;
pub mod report;
pub mod starts;
