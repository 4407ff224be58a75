//! A configuration that is being put together, with where each key was last said.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::check;
use crate::error::{Errors, Mistake, Place};
use crate::key::{Key, Shape};
use crate::section::{Config, Site};

#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(crate) config: Config,
    pub(crate) mistakes: Vec<Mistake>,
    /// Where each key that was said was last said.
    places: BTreeMap<&'static str, Place>,
    /// Keys that were said but not understood; checks that involve them would mislead.
    failed: BTreeSet<&'static str>,
    /// Beside `config.sites`, one for one.
    site_places: Vec<Place>,
}

/// A value as it was given.
pub(crate) struct Given {
    pub(crate) place: Place,
    pub(crate) words: Vec<Word>,
    /// What was found where a list was due.
    pub(crate) wrong_shape: Option<String>,
}

/// One word of a value.
pub(crate) struct Word {
    pub(crate) text: String,
    /// As an error shows it.
    pub(crate) found: String,
    /// Whether it has the TOML type that the key wants.
    pub(crate) right_type: bool,
    pub(crate) place: Place,
}

impl Draft {
    pub(crate) fn assign(&mut self, key: &Key<Config>, given: Given) {
        let place = given.place.clone();
        match given.assign(key, &mut self.config) {
            Ok(()) => {
                self.places.insert(key.name, place);
            }
            Err(mistake) => {
                self.failed.insert(key.name);
                self.mistakes.push(mistake);
            }
        }
    }

    pub(crate) fn add_site(&mut self, site: Site, place: Place) {
        self.config.sites.push(site);
        self.site_places.push(place);
    }

    /// Expands `~`, checks what concerns several keys, and gives the result or all mistakes.
    pub(crate) fn finish(mut self, home: Option<&str>) -> Result<Config, Errors> {
        self.expand_paths(home);
        for conflict in check::conflicts(&self.config) {
            if !conflict.keys.iter().any(|key| self.failed.contains(key)) {
                let blamed = *conflict.keys.first().expect("a conflict names at least one key");
                self.blame(blamed, conflict.message);
            }
        }
        for (index, message) in check::site_conflicts(&self.config) {
            let place = self.site_places.get(index).cloned().unwrap_or(Place::Default);
            self.mistakes.push(Mistake { place, key: "site.host".into(), message });
        }
        if self.mistakes.is_empty() { Ok(self.config) } else { Err(Errors::new(self.mistakes)) }
    }

    fn blame(&mut self, key: &str, message: String) {
        let place = self.places.get(key).cloned().unwrap_or(Place::Default);
        self.mistakes.push(Mistake { place, key: key.into(), message });
    }

    fn expand_paths(&mut self, home: Option<&str>) {
        let config = &mut self.config;
        let paths = [
            ("state_dir", Some(&mut config.state_dir)),
            ("https.certificate", config.https.certificate.as_mut()),
            ("https.key", config.https.key.as_mut()),
            ("overlay.as_database", config.overlay.as_database.as_mut()),
            ("origin.ca_file", config.origin.ca_file.as_mut()),
        ];
        let mut homeless = Vec::new();
        for (key, path) in paths {
            if let Some((path, rest)) =
                path.and_then(|p| p.strip_prefix("~").map(Path::to_owned).ok().map(|r| (p, r)))
            {
                match home.filter(|home| !home.is_empty()) {
                    Some(home) => *path = PathBuf::from(home).join(rest),
                    None => homeless.push((key, path.display().to_string())),
                }
            }
        }
        for (key, path) in homeless {
            self.blame(
                key,
                format!("expected a full path since HOME is not set, found \"{path}\""),
            );
        }
    }
}

impl Given {
    /// A value from a place without types, where a list is written with commas.
    pub(crate) fn untyped<T>(key: &Key<T>, text: &str, place: Place) -> Self {
        let word = |text: &str| Word {
            text: text.into(),
            found: excerpt(text),
            right_type: true,
            place: place.clone(),
        };
        let words = match key.shape {
            Shape::List if text.trim().is_empty() => Vec::new(),
            Shape::List => text.split(',').map(str::trim).map(word).collect(),
            Shape::Text | Shape::Number => vec![word(text)],
        };
        Self { words, wrong_shape: None, place }
    }

    /// Puts the value into its field, or says what is wrong with it.
    pub(crate) fn assign<T>(self, key: &Key<T>, to: &mut T) -> Result<(), Mistake> {
        let mistake = |place: &Place, expected: &str, found: &str| Mistake {
            place: place.clone(),
            key: key.name.into(),
            message: format!("expected {expected}, found {found}"),
        };
        if let Some(found) = &self.wrong_shape {
            return Err(mistake(&self.place, "a list such as [\"...\", \"...\"]", found));
        }
        let texts: Vec<String> = self.words.iter().map(|word| word.text.clone()).collect();
        let wrong_type = self.words.iter().find(|word| !word.right_type);
        match ((key.set)(to, &texts), wrong_type) {
            (Ok(()), None) => Ok(()),
            (Err(mismatch), _) => {
                let word = self.words.get(mismatch.at).expect("a mismatch is at one of the words");
                Err(mistake(&word.place, &mismatch.expected, &word.found))
            }
            (Ok(()), Some(word)) => {
                let expected = match key.shape {
                    Shape::Number => "a whole number without quotes",
                    Shape::Text | Shape::List => "a text in quotes",
                };
                Err(mistake(&word.place, expected, &word.found))
            }
        }
    }
}

/// A text in quotes, cut so that a mistake stays on one line.
pub(crate) fn excerpt(text: &str) -> String {
    const LONGEST: usize = 60;
    let cut: String = text.chars().take(LONGEST).collect();
    let dots = if cut.len() < text.len() { "..." } else { "" };
    // Debug escapes line ends and control characters, which a terminal must not get.
    format!("{cut:?}{dots}")
}
