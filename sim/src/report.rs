//! Figures of a run, what they must be, and how they are printed.

use std::fmt;

/// One measured number.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// What it is, unit last.
    pub name: String,
    /// How much it is.
    pub value: f64,
}

/// All that came of one run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// In the order in which they were measured.
    pub figures: Vec<Figure>,
    /// Lines of `series,x,y` for plots.
    pub points: Vec<Point>,
    /// Invariants that were broken.
    pub violations: Vec<String>,
    /// SHA-1 of all that happened in the last world of the run.
    pub digest: String,
    /// How much happened in it.
    pub events: u64,
}

/// One point of a plot.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Which line it is on.
    pub series: &'static str,
    /// Where: a time, a rank or a percentile.
    pub x: f64,
    /// How much.
    pub y: f64,
}

/// A bound that a scenario sets.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// The figure's name.
    pub figure: String,
    /// No less than this.
    pub at_least: Option<f64>,
    /// No more than this.
    pub at_most: Option<f64>,
}

impl Report {
    /// Adds a figure.
    pub fn figure(&mut self, name: impl Into<String>, value: f64) {
        self.figures.push(Figure { name: name.into(), value });
    }

    /// Adds a point.
    pub fn point(&mut self, series: &'static str, x: f64, y: f64) {
        self.points.push(Point { series, x, y });
    }

    /// A figure by its name.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<f64> {
        self.figures.iter().find(|figure| figure.name == name).map(|figure| figure.value)
    }
}

impl Check {
    /// Whether a value is within the bounds. What was not measured is not.
    #[must_use]
    pub fn holds(&self, value: f64) -> bool {
        !value.is_nan()
            && self.at_least.is_none_or(|least| value >= least)
            && self.at_most.is_none_or(|most| value <= most)
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.at_least, self.at_most) {
            (Some(least), Some(most)) => write!(f, "{least} to {most}"),
            (Some(least), None) => write!(f, ">= {least}"),
            (None, Some(most)) => write!(f, "<= {most}"),
            (None, None) => write!(f, "any"),
        }
    }
}

/// Reports of one scenario from several seeds, side by side.
#[derive(Debug)]
pub struct Table<'a> {
    /// What must hold.
    pub checks: &'a [Check],
    /// One report a seed.
    pub reports: &'a [Report],
}

impl Table<'_> {
    /// Names of the checks that fail, by the index of the report.
    #[must_use]
    pub fn failures(&self) -> Vec<(usize, String)> {
        let mut failures = Vec::new();
        for (at, report) in self.reports.iter().enumerate() {
            let fails =
                |check: &&Check| !check.holds(report.value(&check.figure).unwrap_or(f64::NAN));
            let names = self.checks.iter().filter(fails).map(|check| check.figure.clone());
            failures.extend(names.chain(report.violations.iter().cloned()).map(|name| (at, name)));
        }
        failures
    }
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.reports.first() else { return Ok(()) };
        let width = first.figures.iter().map(|figure| figure.name.len()).max().unwrap_or(0);
        writeln!(
            f,
            "{:width$} {:>10} {:>10} {:>10}  to reach",
            "figure", "median", "least", "most"
        )?;
        for Figure { name, .. } in &first.figures {
            let mut values: Vec<_> = self.reports.iter().filter_map(|r| r.value(name)).collect();
            values.sort_by(f64::total_cmp);
            let (least, most) = (values[0], values[values.len() - 1]);
            let median = values[values.len() / 2];
            write!(f, "{name:width$} {median:>10.3} {least:>10.3} {most:>10.3}")?;
            for check in self.checks.iter().filter(|check| check.figure == *name) {
                let all = check.holds(least) && check.holds(most);
                write!(f, "  {check} {}", if all { "ok" } else { "MISSED" })?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_needs_its_figure() {
        let check = Check { figure: "a".into(), at_least: Some(1.0), at_most: None };
        let mut report = Report::default();
        let failures = |report: &Report| {
            let (checks, reports) = (std::slice::from_ref(&check), std::slice::from_ref(report));
            Table { checks, reports }.failures()
        };
        assert_eq!(failures(&report), [(0, "a".into())], "not measured");
        report.figure("a", f64::NAN);
        assert_eq!(failures(&report).len(), 1, "no number");
        report.figures.clear();
        report.figure("a", 1.0);
        assert!(failures(&report).is_empty());
        report.violations.push("b".into());
        assert_eq!(failures(&report), [(0, "b".into())]);
    }
}
