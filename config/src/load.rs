//! File, environment and flags, in this order; what comes later wins.

use std::path::Path;

use crate::draft::{Draft, Given};
use crate::error::{Errors, Mistake, Place};
use crate::file;
use crate::key::{KEYS, environment_name};
use crate::section::Config;
use crate::suggest::nearest;

impl Config {
    /// Reads `file` (none: no file is read), then the variables `CORALLINE_*` of `env`, then `sets`
    /// of the form `key=value`. `HOME` of `env` stands for a leading `~` in paths.
    ///
    /// # Errors
    /// Everything that is wrong, one line each. When the file is not TOML, its other lines are not
    /// judged.
    pub fn load(
        file: Option<&Path>,
        env: impl IntoIterator<Item = (String, String)>,
        sets: &[String],
    ) -> Result<Config, Errors> {
        let mut draft = Draft::default();
        if let Some(path) = file {
            file::read(path, &mut draft);
        }
        // The order of an environment means nothing; that of the errors should not change.
        let mut env: Vec<(String, String)> = env.into_iter().collect();
        env.sort();
        for (name, value) in &env {
            read_variable(name, value, &mut draft);
        }
        for set in sets {
            read_flag(set, &mut draft);
        }
        let home = env.iter().find(|(name, _)| name == "HOME").map(|(_, value)| value.as_str());
        draft.finish(home)
    }
}

/// The environment of this process, for [`Config::load`]: the only place that reads it.
#[must_use]
pub fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .map(|(name, value)| {
            (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
        })
        .filter(|(name, _)| name == "HOME" || name.starts_with(PREFIX))
        .collect()
}

const PREFIX: &str = "CORALLINE_";

fn read_variable(name: &str, value: &str, draft: &mut Draft) {
    if !name.starts_with(PREFIX) || set_by_kubernetes(name, value) {
        return;
    }
    let place = Place::Environment(name.into());
    if let Some(key) = KEYS.iter().find(|key| environment_name(key.name) == name) {
        return draft.assign(key, Given::untyped(key, value, place));
    }
    let known: Vec<String> = KEYS.iter().map(|key| environment_name(key.name)).collect();
    let message = match nearest(name, known.iter().map(String::as_str)) {
        Some(near) => format!("no such variable; did you mean {near}?"),
        None => "no such variable; `coralline config reference` lists the keys".into(),
    };
    draft.mistakes.push(Mistake { place, key: String::new(), message });
}

/// A cluster with a service called `coralline` puts variables of these forms into every container,
/// and they must not keep a node from starting.
fn set_by_kubernetes(name: &str, value: &str) -> bool {
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.contains("_PORT_")
        || (name.ends_with("_PORT") && value.contains("://"))
}

fn read_flag(set: &str, draft: &mut Draft) {
    let Some((name, value)) = set.split_once('=') else {
        return draft.mistakes.push(Mistake {
            place: Place::Flag,
            key: set.into(),
            message: "expected KEY=VALUE such as http.listen=127.0.0.1:8080".into(),
        });
    };
    let name = name.trim();
    if let Some(key) = KEYS.iter().find(|key| key.name == name) {
        return draft.assign(key, Given::untyped(key, value.trim(), Place::Flag));
    }
    let message = match nearest(name, KEYS.iter().map(|key| key.name)) {
        Some(near) => format!("no such key; did you mean {near}?"),
        None => "no such key; `coralline config reference` lists them all".into(),
    };
    draft.mistakes.push(Mistake { place: Place::Flag, key: name.into(), message });
}
