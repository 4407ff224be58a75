//! `coralline-sim`: worlds from seeds, what happened in them as a table.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Parser, value_parser};
use coralline_sim::{Check, Matrix, Plan, Report, Scenario, Table, World, measure};

/// Runs the index among many simulated nodes and prints what it did. The same arguments print the
/// same, times of this machine apart.
#[derive(Debug, Parser)]
struct Arguments {
    /// A scenario file; without one, puts, gets and races in a calm world
    #[arg(long)]
    scenario: Option<PathBuf>,
    /// What all chance is drawn from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds to run, from that one on; the table shows median, least and most
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u64).range(1..=1_000), requires = "scenario")]
    seeds: u64,
    /// Round trips between hosts in milliseconds, a row a host, perhaps compressed by gzip; without
    /// it nodes live in a synthetic world
    #[arg(long, requires = "scenario")]
    matrix: Option<PathBuf>,
    /// Write lines of `seed,series,x,y` for plots into this file
    #[arg(long, requires = "scenario")]
    csv: Option<PathBuf>,
    #[command(flatten)]
    calm: Calm,
}

/// The world without a scenario.
#[derive(Debug, Args)]
struct Calm {
    /// How many nodes there are
    #[arg(long, default_value_t = 1_000, value_parser = value_parser!(u32).range(2..=1_000_000), conflicts_with = "scenario")]
    nodes: u32,
    /// The share of datagrams that is lost, 0 to 1
    #[arg(long, default_value_t = 0.0, value_parser = share, conflicts_with = "scenario")]
    loss: f64,
    /// How many keys are put, got and raced for
    #[arg(long, default_value_t = 1_000, conflicts_with = "scenario")]
    keys: usize,
}

/// Figures of this machine, which a scenario may bound too.
const WALL: &str = "wall time, s";
const RESIDENT: &str = "peak resident memory, KiB a node";

/// A check has failed.
const FAILED: u8 = 1;
/// `EX_DATAERR` of sysexits: a file cannot be understood.
const DATA_ERROR: u8 = 65;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.scenario {
        None => calm(arguments.seed, &arguments.calm).map_err(|error| error.to_string()),
        Some(path) => scenario(path, &arguments),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(error) => {
            _ = writeln!(io::stderr(), "coralline-sim: {error}");
            ExitCode::from(DATA_ERROR)
        }
    }
}

fn scenario(path: &PathBuf, arguments: &Arguments) -> Result<bool, String> {
    let name = path.display();
    let text = fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
    let scenario = Scenario::parse(&text).map_err(|error| format!("{name}: {error}"))?;
    let open =
        |path: &PathBuf| Matrix::open(path).map_err(|error| format!("{}: {error}", path.display()));
    let matrix = arguments.matrix.as_ref().map(open).transpose()?;
    let seeds: Vec<_> = (0..arguments.seeds).map(|at| arguments.seed.wrapping_add(at)).collect();
    let mut reports = Vec::new();
    for seed in &seeds {
        let report = measured(&scenario, *seed, matrix.as_ref());
        if seeds.len() > 1 {
            _ = writeln!(io::stderr(), "seed {seed}: digest {}", report.digest);
        }
        reports.push(report);
    }
    if let Some(path) = &arguments.csv {
        fs::write(path, csv(&seeds, &reports)).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    let checks = &scenario.checks;
    let table = Table { checks, reports: &reports };
    let place = match (&arguments.matrix, scenario.world.matrix) {
        (Some(path), true) => format!("round trips of {}", path.display()),
        _ => "a synthetic world".into(),
    };
    let mut out = io::stdout();
    let Report { digest, events, .. } = &reports[reports.len() - 1];
    let mut failures = String::new();
    for (at, what) in table.failures() {
        let matrix = arguments.matrix.as_ref().map(|path| format!(" --matrix {}", path.display()));
        let (seed, matrix) = (seeds[at], matrix.unwrap_or_default());
        failures += &format!(
            "seed {seed} fails: {what}\n  replay: coralline-sim --scenario {name} --seed {seed}{matrix}\n"
        );
    }
    let nodes = scenario.world.nodes;
    write!(out, "{}\n{nodes} nodes, {place}, {} seeds\n\n", scenario.about, seeds.len())
        .and_then(|()| write!(out, "{table}\nevents {events}\ndigest {digest}\n{failures}"))
        .map_err(|error| error.to_string())?;
    Ok(failures.is_empty())
}

/// Runs it, and measures this machine if the scenario bounds that.
#[expect(clippy::disallowed_methods, reason = "this is the program: it may look at the clock")]
fn measured(scenario: &Scenario, seed: u64, matrix: Option<&Matrix>) -> Report {
    let (start, before) = (Instant::now(), peak_kib());
    let mut report = scenario.run(seed, matrix);
    let bounds = |name| scenario.checks.iter().any(|Check { figure, .. }| figure == name);
    if bounds(WALL) {
        report.figure(WALL, start.elapsed().as_secs_f64());
    }
    if bounds(RESIDENT) {
        let nodes = u32::try_from(scenario.world.nodes).unwrap_or(u32::MAX);
        let kib = before.zip(peak_kib()).map_or(f64::NAN, |(before, after)| after - before);
        report.figure(RESIDENT, kib / f64::from(nodes));
    }
    report
}

/// The most memory that this process has had resident, where the system tells it.
fn peak_kib() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

fn csv(seeds: &[u64], reports: &[Report]) -> String {
    let points = seeds.iter().zip(reports).flat_map(|(seed, report)| {
        report.points.iter().map(move |p| format!("{seed},\"{}\",{},{}\n", p.series, p.x, p.y))
    });
    std::iter::once("seed,series,x,y\n".into()).chain(points).collect()
}

fn calm(seed: u64, calm: &Calm) -> io::Result<bool> {
    let Calm { nodes, loss, keys } = *calm;
    let nodes = usize::try_from(nodes).expect("32 bits fit into a usize");
    let join_every = Duration::from_millis(10);
    let mut world = World::new(Plan { nodes, seed, loss, join_every, ..Plan::default() });
    world.run(join_every * calm.nodes);
    world.run(Duration::from_secs(60));
    let joined = (0..nodes).filter_map(|at| world.directory(at)).filter(|d| d.joined).count();
    let idle = measure::idle_rate(&mut world, nodes, Duration::from_secs(60));
    let mut out = io::stdout();
    writeln!(out, "query    made   good-% p50-ms  p95-ms  p99-ms hops-50 hops-99")?;
    writeln!(out, "put    {}", measure::puts(&mut world, "sim", keys))?;
    writeln!(out, "get    {}", measure::gets(&mut world, "sim", keys))?;
    writeln!(out, "race 2 {}", measure::races(&mut world, "race", keys, 2))?;
    writeln!(out, "joined {joined} of {nodes}")?;
    writeln!(out, "idle   {idle} octets a node a second, sent, before Noise and UDP framing")?;
    writeln!(out, "events {}", world.events())?;
    writeln!(out, "digest {}", world.digest())?;
    Ok(world.violations().is_empty())
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("expected a number from 0 to 1".into()),
    }
}
