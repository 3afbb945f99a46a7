//! The tables of costs, in Markdown.

use std::fmt::Write as _;

use super::kinds::{CYCLE, Cost, Group};
use super::starts::Start;

/// Nanoseconds of a cycle, if one was measured: natively, an addition that waits for the one before.
pub fn cycle(costs: &[(&str, Cost)]) -> Option<f64> {
    costs.iter().find(|(name, _)| *name == CYCLE).map(|(_, cost)| cost.native)
}

/// One table for each group.
pub fn kinds(costs: &[(&str, Cost)]) -> String {
    let cycle = cycle(costs);
    let mut text = String::new();
    for (group, title) in [(Group::Guard, "Guards"), (Group::Dispatch, "Dispatch")] {
        let chosen: Vec<&Cost> =
            costs.iter().map(|(_, cost)| cost).filter(|cost| cost.group == group).collect();
        if chosen.is_empty() {
            continue;
        }
        let _ = writeln!(
            text,
            "| {title}, an operation | native, ns | Endo, ns | more, ns | more, cycles | instructions at the site, guest → emitted |\n\
             | --- | --- | --- | --- | --- | --- |"
        );
        for cost in chosen {
            let more = cost.ours - cost.native;
            let cycles = cycle.map_or(String::new(), |cycle| signed(more / cycle, 1));
            let _ = writeln!(
                text,
                "| {} | {:.2} | {:.2} | {} | {cycles} | {} → {} |",
                cost.what,
                cost.native,
                cost.ours,
                signed(more, 2),
                number(cost.count.guest),
                number(cost.count.emitted)
            );
        }
        text.push('\n');
    }
    text
}

/// The table of programs.
pub fn starts(starts: &[Start]) -> String {
    let mut text = String::from(
        "| Translation | native, CPU ms | verified | not verified | instructions translated | verification, ns an instruction | all over native, ns an instruction \
         | share of verification | cache bytes a guest byte |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for start in starts {
        let _ = writeln!(
            text,
            "| {} | {:.1} | {:.1} | {:.1} | {} | {:.0} | {:.0} | {:.0} % | {:.2} |",
            start.name,
            start.native * 1e3,
            start.verified * 1e3,
            start.unverified * 1e3,
            start.figures.instructions,
            start.verification(),
            start.over_native(),
            start.share() * 100.0,
            start.figures.expansion()
        );
    }
    text
}

/// With its sign, unless it is zero when rounded.
fn signed(figure: f64, digits: usize) -> String {
    let text = format!("{figure:+.digits$}");
    if text[1..].bytes().all(|byte| matches!(byte, b'0' | b'.')) { text[1..].to_owned() } else { text }
}

fn number(figure: f64) -> String {
    let text = format!("{figure:.1}");
    text.strip_suffix(".0").unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::costs::listing::Count;

    fn cost(group: Group, native: f64, ours: f64) -> Cost {
        Cost { what: "something", group, native, ours, count: Count { guest: 1.0, emitted: 2.5 } }
    }

    #[test]
    fn cycles_are_those_of_the_dependent_addition() {
        let costs = [(CYCLE, cost(Group::Guard, 0.25, 0.25)), ("x", cost(Group::Dispatch, 1.0, 1.5))];
        let text = kinds(&costs);
        assert!(text.contains("| something | 0.25 | 0.25 | 0.00 | 0.0 | 1 → 2.5 |"), "{text}");
        assert!(text.contains("| something | 1.00 | 1.50 | +0.50 | +2.0 | 1 → 2.5 |"), "{text}");
    }

    #[test]
    fn without_a_cycle_there_are_no_cycles() {
        assert!(kinds(&[("x", cost(Group::Guard, 1.0, 0.9))]).contains("| -0.10 |  |"));
    }

    #[test]
    fn a_sign_is_not_given_to_nothing() {
        assert_eq!([signed(-0.001, 2), signed(0.26, 1), signed(-1.0, 1)], ["0.00", "+0.3", "-1.0"]);
    }
}
