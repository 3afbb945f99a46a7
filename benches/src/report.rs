//! Tables of what was measured, for people and for programs.

use std::fmt::Write as _;

use crate::measure::{Samples, Variant, median};
use crate::workloads::{HIGHEST, HIGHEST_MEAN, Kind, MOST_RESIDENT, Workload};

/// One workload with the samples of every variant; native is the first.
#[derive(Debug)]
pub struct Row {
    /// The workload.
    pub workload: Workload,
    /// What was measured, in the order of the variants.
    pub samples: Vec<Samples>,
}

impl Row {
    /// The cost of a variant relative to the native one.
    pub fn ratio(&self, variant: usize) -> Option<f64> {
        let ratio = self.samples[variant].cost() / self.samples[0].cost();
        ratio.is_finite().then_some(ratio)
    }

    /// Seconds over native of a figure.
    fn over(&self, variant: usize, figure: impl Fn(&endo_testing::Usage) -> f64) -> f64 {
        self.samples[variant].median_of(&figure) - self.samples[0].median_of(&figure)
    }
}

/// The geometric mean of the ratios of the programs that compute.
pub fn geometric_mean(rows: &[Row], variant: usize) -> Option<(f64, usize)> {
    let logarithms: Vec<f64> = rows
        .iter()
        .filter(|row| matches!(row.workload.kind, Kind::Compute | Kind::Throughput))
        .filter_map(|row| row.ratio(variant).map(f64::ln))
        .collect();
    let count = logarithms.len();
    (count > 0).then(|| ((logarithms.iter().sum::<f64>() / count as f64).exp(), count))
}

/// Tables in Markdown, which are plain enough for a terminal too.
pub fn tables(rows: &[Row], variants: &[Variant]) -> String {
    let mut text = String::new();
    let others = || (1..variants.len()).map(|index| (index, variants[index].name()));
    for (title, is_in) in [
        ("System calls", (|kind| kind == Kind::Calls) as fn(Kind) -> bool),
        ("Signals", |kind| kind == Kind::Signals),
        ("Processes and memory", |kind| kind == Kind::Processes),
        ("Programs that compute", |kind| matches!(kind, Kind::Compute | Kind::Throughput)),
    ] {
        let chosen: Vec<&Row> = rows.iter().filter(|row| is_in(row.workload.kind)).collect();
        if chosen.is_empty() {
            continue;
        }
        let heads: String = others().map(|(_, name)| format!(" {name} | ± |")).collect();
        let lines = " --- | --- |".repeat(variants.len() - 1);
        let _ =
            writeln!(text, "| {title} | native, s | ± |{heads} target |\n| --- | --- | --- |{lines} --- |");
        for row in chosen {
            let native = &row.samples[0];
            let cost = match row.workload.kind {
                Kind::Throughput => "per unit".to_owned(),
                _ => format!("{:.3}", native.cost()),
            };
            let _ = write!(text, "| {} | {cost} | {:.1} % |", row.workload.name, native.spread() * 100.0);
            for (index, _) in others() {
                text += &ratio_cells(row, index);
            }
            let _ = writeln!(text, " {} |", row.workload.target.map_or("".to_owned(), |t| format!("{t:.2}")));
        }
        text.push('\n');
    }
    for (index, name) in others() {
        if let Some((mean, count)) = geometric_mean(rows, index) {
            let verdict = if mean <= HIGHEST_MEAN { "met" } else { "missed" };
            let _ = writeln!(
                text,
                "{name}: geometric mean of {count} programs {mean:.3} (target {HIGHEST_MEAN}: {verdict})"
            );
            let above: Vec<String> = rows
                .iter()
                .filter(|row| matches!(row.workload.kind, Kind::Compute | Kind::Throughput))
                .filter_map(|row| Some((row.workload.name, row.ratio(index)?)))
                .filter(|&(_, ratio)| ratio > HIGHEST)
                .map(|(name, ratio)| format!("{name} {ratio:.2}"))
                .collect();
            if !above.is_empty() {
                let _ = writeln!(text, "{name}: above {HIGHEST}: {}", above.join(", "));
            }
        }
    }
    text + &start_table(rows, variants)
}

fn ratio_cells(row: &Row, variant: usize) -> String {
    match (row.ratio(variant), &row.samples[variant].failure) {
        (_, Some(failure)) => format!(" {failure} | |"),
        (Some(ratio), None) => {
            let limit = row.workload.target.unwrap_or(HIGHEST);
            let mark = if ratio > limit { " (!)" } else { "" };
            format!(" {ratio:.2}{mark} | {:.1} % |", row.samples[variant].spread() * 100.0)
        }
        (None, None) => " not measured | |".to_owned(),
    }
}

fn start_table(rows: &[Row], variants: &[Variant]) -> String {
    let starts: Vec<&Row> = rows.iter().filter(|row| row.workload.kind == Kind::Start).collect();
    let mut text = String::new();
    if starts.is_empty() {
        return text;
    }
    text += "\n| Start | native, ms | variant | wall over native, ms | CPU over native, ms | target | resident over native, MiB |\n\
             | --- | --- | --- | --- | --- | --- | --- |\n";
    for row in starts {
        for (index, variant) in variants.iter().enumerate().skip(1) {
            let name = row.workload.name;
            if let Some(failure) = &row.samples[index].failure {
                let _ = writeln!(text, "| {name} | | {} | {failure} | | | |", variant.name());
                continue;
            }
            let native = row.samples[0].median_of(|usage| usage.wall.as_secs_f64()) * 1e3;
            let wall = row.over(index, |usage| usage.wall.as_secs_f64()) * 1e3;
            let cpu = row.over(index, |usage| usage.cpu().as_secs_f64()) * 1e3;
            let resident = median(row.samples[index].resident.iter().copied())
                - median(row.samples[0].resident.iter().copied());
            let (late, target) = match row.workload.target {
                Some(target) if wall > target => (" (!)", format!("{target}")),
                Some(target) => ("", format!("{target}")),
                None => ("", String::new()),
            };
            let large = if resident > MOST_RESIDENT as f64 { " (!)" } else { "" };
            let _ = writeln!(
                text,
                "| {name} | {native:.2} | {} | {wall:.2}{late} | {cpu:.2} | {target} | {:.1}{large} |",
                variant.name(),
                resident / f64::from(1 << 20)
            );
        }
    }
    text
}

/// The same for programs, with every sample.
pub fn json(rows: &[Row], variants: &[Variant]) -> String {
    let list = |figures: &mut dyn Iterator<Item = f64>| {
        figures.map(|figure| format!("{figure:.9}")).collect::<Vec<_>>().join(", ")
    };
    let mut items = Vec::new();
    for row in rows {
        for (variant, samples) in variants.iter().zip(&row.samples) {
            items.push(format!(
                "  {{\"workload\": {:?}, \"kind\": \"{:?}\", \"target\": {}, \"variant\": {:?}, \"failure\": {}, \
                 \"cost_s\": [{}], \"wall_s\": [{}], \"user_s\": [{}], \"system_s\": [{}], \"resident_bytes\": [{}]}}",
                row.workload.name,
                row.workload.kind,
                row.workload.target.map_or("null".to_owned(), |target| target.to_string()),
                variant.name(),
                samples.failure.as_ref().map_or("null".to_owned(), |failure| format!("{failure:?}")),
                list(&mut samples.costs.iter().copied()),
                list(&mut samples.usages.iter().map(|usage| usage.wall.as_secs_f64())),
                list(&mut samples.usages.iter().map(|usage| usage.user.as_secs_f64())),
                list(&mut samples.usages.iter().map(|usage| usage.system.as_secs_f64())),
                list(&mut samples.resident.iter().copied()),
            ));
        }
    }
    format!("[\n{}\n]\n", items.join(",\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workloads::ALL;

    fn row(native: f64, ours: f64) -> Row {
        let workload = *ALL.iter().find(|workload| workload.kind == Kind::Compute).unwrap();
        let samples = [native, ours].map(|cost| Samples { costs: vec![cost], ..Samples::default() });
        Row { workload, samples: samples.to_vec() }
    }

    #[test]
    fn the_geometric_mean_is_that_of_the_ratios() {
        let (mean, count) = geometric_mean(&[row(1.0, 2.0), row(4.0, 2.0)], 1).unwrap();
        assert!((mean - 1.0).abs() < 1e-12);
        assert_eq!(count, 2);
    }

    #[test]
    fn a_ratio_above_its_target_is_marked() {
        let variants = [Variant::Native, Variant::Endo("--backend sfi".to_owned())];
        assert!(tables(&[row(1.0, 1.5)], &variants).contains("1.50 (!)"));
        assert!(tables(&[row(1.0, 1.01)], &variants).contains(" 1.01 |"));
    }

    #[test]
    fn at_least_25_programs_compute() {
        let count = ALL.iter().filter(|workload| workload.kind == Kind::Compute).count();
        assert!(count >= 25);
    }
}
