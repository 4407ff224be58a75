//! A scenario: a world, a workload, troubles over time, and what must come of it; a TOML file.

use std::time::Duration;

use coralline_config::{Config, Rules};
use serde::Deserialize;

use crate::matrix::Matrix;
use crate::report::{Check, Report};
use crate::trouble::Trouble;
use crate::workload::{self, Workload};
use crate::world::{Plan, World};

/// The whole file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it shows, in a sentence.
    pub about: String,
    /// The world before the workload.
    pub world: Setting,
    /// Constants of the index that are not the defaults, as they stand in `[overlay]`.
    #[serde(default, rename = "rules")]
    pub changes: toml::Table,
    /// What is done and measured.
    pub workload: Workload,
    /// What goes wrong, from the start of the workload on.
    #[serde(default, rename = "trouble")]
    pub troubles: Vec<Scheduled>,
    /// What must come of it.
    #[serde(default, rename = "check")]
    pub checks: Vec<Check>,
}

/// The world before the workload.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// How many nodes.
    pub nodes: usize,
    /// Whether they stand on the hosts of a matrix, where one is given.
    #[serde(default)]
    pub matrix: bool,
    /// Milliseconds between the starts of one node and the next.
    #[serde(default = "join_every_ms")]
    pub join_every_ms: u64,
    /// Seconds between the last start and the workload.
    #[serde(default = "settle_s")]
    pub settle_s: u64,
    /// Round-trip bounds of the clusters, nearest first.
    #[serde(default)]
    pub levels_ms: Vec<u64>,
    /// The share of datagrams lost.
    #[serde(default)]
    pub loss: f64,
}

/// A trouble and when it begins.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct Scheduled {
    /// Seconds after the start of the workload.
    #[serde(default)]
    pub at_s: u64,
    /// What happens.
    #[serde(flatten)]
    pub trouble: Trouble,
}

const fn join_every_ms() -> u64 {
    10
}

const fn settle_s() -> u64 {
    60
}

impl Scenario {
    /// Reads a file's text.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let scenario: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        scenario.rules()?;
        if scenario.world.nodes == 0 {
            return Err("world.nodes: a world has at least one node".into());
        }
        Ok(scenario)
    }

    /// The constants of the index, read as an operator's are.
    fn rules(&self) -> Result<Rules, String> {
        let word = |value: &toml::Value| value.as_str().map_or(value.to_string(), str::to_owned);
        let set = |(key, value): (&String, _)| format!("overlay.{key}={}", word(value));
        let sets: Vec<_> = self.changes.iter().map(set).chain(["state_dir=/".to_owned()]).collect();
        let config = Config::load(None, [], &sets).map_err(|errors| errors.to_string())?;
        Ok(config.overlay.rules)
    }

    /// Lets it happen; equal arguments give equal reports.
    #[must_use]
    pub fn run(&self, seed: u64, matrix: Option<&Matrix>) -> Report {
        workload::run(self, seed, matrix)
    }

    /// The world, all nodes started, before the workload and its troubles.
    pub(crate) fn world(&self, seed: u64, matrix: Option<&Matrix>) -> World {
        self.world_of(&self.world.levels_ms, seed, matrix)
    }

    /// The same with other levels.
    pub(crate) fn world_of(&self, levels: &[u64], seed: u64, matrix: Option<&Matrix>) -> World {
        let Setting { nodes, loss, join_every_ms, settle_s, .. } = self.world;
        let join_every = Duration::from_millis(join_every_ms);
        let levels = levels.iter().map(|ms| Duration::from_millis(*ms)).collect();
        let rules = self.rules().expect("they were read before");
        let plan = Plan { nodes, seed, loss, join_every, levels, rules, ..Plan::default() };
        let mut world = World::on(plan, matrix.filter(|_| self.world.matrix).cloned());
        let joining = join_every * u32::try_from(nodes).unwrap_or(u32::MAX);
        world.run(joining + Duration::from_secs(settle_s));
        world
    }

    /// Announces the troubles to a world whose workload begins now.
    pub(crate) fn trouble(&self, world: &mut World) {
        for Scheduled { at_s, trouble } in &self.troubles {
            world.trouble(Duration::from_secs(*at_s), *trouble);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_named() {
        let check = |text: &str, expect: &str| {
            let error = Scenario::parse(text).unwrap_err();
            assert!(error.contains(expect), "{error}");
        };
        let world = "about = \"\"\n[workload]\nkind = \"idle\"\nminutes = 1\n[world]\nnodes = ";
        check(&format!("{world}0\n"), "at least one node");
        check(&format!("{world}5\nlose = 1\n"), "lose");
        check(&format!("{world}5\n[[trouble]]\ncause = \"rain\"\n"), "rain");
        check(&format!("{world}5\n[rules]\nhop_bits = 9\n"), "from 1 to 8");
        check(&format!("{world}5\n[rules]\nhop_bit = 1\n"), "overlay.hop_bits?");
        check("about = \"\"\n[world]\nnodes = 5\n[workload]\nkind = \"sleep\"\n", "sleep");
        let text = format!("{world}5\n[[trouble]]\nat_s = 3\ncause = \"loss\"\nshare = 0.1\n");
        let scenario = Scenario::parse(&text).unwrap();
        assert_eq!(scenario.rules(), Ok(Rules::default()));
        let text = format!("{text}[rules]\nmax_ttl = \"5m\"\nbeta = 3\n");
        let rules = Scenario::parse(&text).unwrap().rules().unwrap();
        let max_ttl = Duration::from_secs(300);
        assert_eq!(rules, Rules { max_ttl, beta: 3, ..Rules::default() });
        let trouble = Trouble::Loss { share: 0.1 };
        assert_eq!(scenario.troubles, [Scheduled { at_s: 3, trouble }]);
    }
}
