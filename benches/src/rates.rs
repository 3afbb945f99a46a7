//! Rates of servers and programs, natively and under Endo in turn.
//!
//! All variants of a server run at the same time, and the client visits one after the other: seconds apart, so that what
//! the machine does besides meets all of them. Client and server share the machine's processors, so the rate alone tells the
//! sum of both; what a request costs the server in CPU time is told beside it.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use endo_testing::{Server, children, endo_binary, guests_directory, run_to_end};

use crate::measure::{Variant, median};
use crate::services::{Place, Service};
use crate::workloads::Scale;

/// What came of the rounds of one variant.
#[derive(Clone, Debug, Default)]
pub struct Rates {
    /// Requests a second, one figure a round.
    pub rates: Vec<f64>,
    /// CPU seconds of the server a request.
    pub costs: Vec<f64>,
    /// Why there is nothing, if it failed.
    pub failure: Option<String>,
}

impl Rates {
    /// The median rate.
    pub fn rate(&self) -> f64 {
        median(self.rates.iter().copied())
    }

    /// The median cost.
    pub fn cost(&self) -> f64 {
        median(self.costs.iter().copied())
    }
}

/// One service with the rates of every variant; native is the first.
#[derive(Debug)]
pub struct RateRow {
    /// The service.
    pub service: Service,
    /// What was measured, in the order of the variants.
    pub rates: Vec<Rates>,
}

/// Measures every variant in every round, one after the other.
pub fn measure(
    service: &Service,
    variants: &[Variant],
    scale: Scale,
    rounds: usize,
) -> anyhow::Result<RateRow> {
    let mut runs = Vec::new();
    for (index, variant) in variants.iter().enumerate() {
        let place = Place::prepare(&guests_directory().join(format!("rates-{index}")))?;
        runs.push(Run::start(service, variant, place));
    }
    let mut rates = vec![Rates::default(); variants.len()];
    // The first visit finds out which code there is to translate.
    for round in 0..=rounds {
        for (run, rates) in runs.iter().zip(&mut rates).filter(|(_, rates)| rates.failure.is_none()) {
            match run.visit(scale) {
                Ok(_) if round == 0 && !service.server.is_empty() => {}
                Ok((rate, cost)) => {
                    rates.rates.push(rate);
                    rates.costs.push(cost);
                }
                Err(error) => rates.failure = Some(format!("{error:#}")),
            }
        }
    }
    Ok(RateRow { service: *service, rates })
}

/// A variant of a service.
struct Run<'a> {
    service: &'a Service,
    variant: &'a Variant,
    place: Place,
    server: Option<Server>,
}

impl<'a> Run<'a> {
    fn start(service: &'a Service, variant: &'a Variant, place: Place) -> Self {
        let mut run = Run { service, variant, place, server: None };
        if !service.server.is_empty() {
            let port = run.place.port;
            let server = Server::start(run.command(service.server, variant, Scale::Full));
            run.server = Some(server.ready_when(|| TcpStream::connect(("127.0.0.1", port)).is_ok()));
        }
        run
    }

    fn command(&self, line: &str, variant: &Variant, scale: Scale) -> Command {
        let (seconds, count) = if scale == Scale::Full { ("2", "100000") } else { ("1", "20000") };
        let line = line
            .replace("{port}", &self.place.port.to_string())
            .replace("{tls}", &self.place.tls.to_string())
            .replace("{seconds}", seconds)
            .replace("{count}", count);
        let mut words: Vec<PathBuf> = Vec::new();
        if let Variant::Endo(options) = variant {
            words.extend([endo_binary(), "run".into()]);
            words.extend(options.split_whitespace().map(PathBuf::from));
            words.push("--".into());
        }
        words.extend(line.split_whitespace().map(PathBuf::from));
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir(&self.place.directory).env_clear();
        command.envs([("PATH", "/usr/bin:/bin"), ("LC_ALL", "C")]);
        command
    }

    /// Has the client ask for a while: requests a second, and what one costs.
    fn visit(&self, scale: Scale) -> anyhow::Result<(f64, f64)> {
        let variant = if self.server.is_some() { &Variant::Native } else { self.variant };
        let mut command = self.command(self.service.client, variant, scale);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let used = || self.server.as_ref().map_or(Duration::ZERO, |server| cpu_of_tree(server.id()));
        let (start, before) = (Instant::now(), used());
        let ended =
            run_to_end(&mut command, None, Some(Duration::from_secs(60))).context("run the client")?;
        let (wall, served) = (start.elapsed(), used().saturating_sub(before));
        let text = String::from_utf8_lossy(&ended.stdout);
        ensure!(!ended.timed_out && ended.status.success(), "{}: {text}", ended.status);
        let figure = self.service.figure.find(&text).with_context(|| format!("no figure in `{text}`"))?;
        let cpu = if self.server.is_some() { served } else { ended.usage.cpu() };
        // A client that tells a rate tells it exactly; one that tells a count was given its time.
        Ok((figure, cpu.as_secs_f64() / (figure * wall.as_secs_f64())))
    }
}

/// What a process and its descendants have used of the processor.
fn cpu_of_tree(process: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let nanoseconds: u64 = tasks
        .filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|text| text.split_whitespace().next()?.parse::<u64>().ok())
        .sum();
    children(process).into_iter().map(cpu_of_tree).sum::<Duration>() + Duration::from_nanos(nanoseconds)
}

/// A table in Markdown.
pub fn table(rows: &[RateRow], variants: &[Variant]) -> String {
    let mut text = String::new();
    if rows.is_empty() {
        return text;
    }
    let heads: String =
        variants[1..].iter().map(|variant| format!(" {} | CPU time a request |", variant.name())).collect();
    let lines = " --- | --- |".repeat(variants.len() - 1);
    let _ = writeln!(
        text,
        "\n| Rates relative to native | native, a second |{heads} target |\n| --- | --- |{lines} --- |"
    );
    for row in rows {
        let native = &row.rates[0];
        let _ = write!(text, "| {} | {:.0} |", row.service.name, native.rate());
        for rates in &row.rates[1..] {
            match native.failure.as_ref().or(rates.failure.as_ref()) {
                Some(failure) => {
                    let _ = write!(text, " {failure} | |");
                }
                None => {
                    let ratio = rates.rate() / native.rate();
                    let mark = if ratio < row.service.target { " (!)" } else { "" };
                    let _ = write!(text, " {ratio:.2}{mark} | {:.2} |", rates.cost() / native.cost());
                }
            }
        }
        let _ = writeln!(text, " {:.2} |", row.service.target);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::ALL;

    #[test]
    fn a_rate_below_its_target_is_marked_and_costs_are_compared() {
        let rates = |rate, cost| Rates { rates: vec![rate], costs: vec![cost], failure: None };
        let row = |ours| RateRow { service: ALL[0], rates: vec![rates(1000.0, 1.0), rates(ours, 1.5)] };
        let variants = [Variant::Native, Variant::Endo("--x".to_owned())];
        let text = table(&[row(840.0), row(860.0)], &variants);
        assert!(text.contains("| nginx, 4 KiB | 1000 | 0.84 (!) | 1.50 | 0.85 |"), "{text}");
        assert!(text.contains("| 0.86 | 1.50 | 0.85 |"), "{text}");
    }
}
