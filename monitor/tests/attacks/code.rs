//! Code that changes once it has been looked at.

use endo_testing::Guest;

use crate::session::{is_always_confined, program};

#[test]
fn code_that_changes_behind_its_back_stays_confined() {
    is_always_confined(&Guest::new(program("alias.c")), 8);
}
