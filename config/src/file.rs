//! The file: TOML, with the line of everything that is wrong in it.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::draft::{Draft, Given, Word};
use crate::error::{Mistake, Place};
use crate::key::{KEYS, Key, SECTIONS, SITE_KEYS, Shape};
use crate::limits::MAX_FILE_BYTES;
use crate::section::Site;
use crate::suggest::nearest;

/// Reads the file into the draft; what is wrong ends among its mistakes, in the order of lines.
pub(crate) fn read(path: &Path, draft: &mut Draft) {
    match text_of(path) {
        Ok(text) => read_text(path, &text, draft),
        Err(reason) => draft.mistakes.push(Mistake {
            place: Place::File { path: path.into(), line: 0 },
            key: String::new(),
            message: reason,
        }),
    }
}

pub(crate) fn read_text(path: &Path, text: &str, draft: &mut Draft) {
    let mut reader = Reader { path, text, draft };
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let message = error.message().replace('\n', "; ");
        reader.mistake(&error.span().unwrap_or(0..0), "", message);
    }
    // What was recovered around a syntax error may not be what was meant: only that is told.
    if errors.is_empty() {
        reader.table("", document.get_ref());
    }
    draft.mistakes.sort_by_key(|mistake| match mistake.place {
        Place::File { line, .. } => line,
        _ => 0,
    });
}

fn text_of(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("is larger than {MAX_FILE_BYTES} bytes, so not a configuration"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = line_at(error.as_bytes(), valid);
        format!("line {line} is not UTF-8 text")
    })
}

/// Lines count from 1.
fn line_at(text: &[u8], offset: usize) -> usize {
    1 + text.iter().take(offset).filter(|byte| **byte == b'\n').count()
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    draft: &'a mut Draft,
}

impl Reader<'_> {
    fn place(&self, span: &Range<usize>) -> Place {
        Place::File { path: self.path.into(), line: line_at(self.text.as_bytes(), span.start) }
    }

    fn mistake(&mut self, span: &Range<usize>, key: &str, message: String) {
        let place = self.place(span);
        self.draft.mistakes.push(Mistake { place, key: key.into(), message });
    }

    /// All keys of a table; `prefix` is empty at the top, else it ends with a dot.
    fn table(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (word, value) in table {
            let name = format!("{prefix}{}", word.get_ref());
            if let Some(key) = KEYS.iter().find(|key| key.name == name) {
                let given = self.given(key, value);
                self.draft.assign(key, given);
            } else if name == "site" {
                self.sites(value);
            } else if let Some(inner) = section(&name, value.get_ref()) {
                self.table(&format!("{name}."), inner);
            } else if SECTIONS.iter().any(|(section, _)| *section == name) {
                let found = found(value.get_ref());
                let message = format!("expected a section [{name}], found {found}");
                self.mistake(&value.span(), &name, message);
            } else {
                let message = unknown(&name, KEYS.iter().map(|key| key.name));
                self.mistake(&word.span(), &name, message);
            }
        }
    }

    fn sites(&mut self, value: &Spanned<DeValue<'_>>) {
        let Some(array) = value.get_ref().as_array() else {
            let message = format!("expected [[site]] sections, found {}", found(value.get_ref()));
            return self.mistake(&value.span(), "site", message);
        };
        for site in array.iter() {
            match site.get_ref().as_table() {
                Some(table) => self.site(&site.span(), table),
                None => {
                    let message = format!("expected a table, found {}", found(site.get_ref()));
                    self.mistake(&site.span(), "site", message);
                }
            }
        }
    }

    fn site(&mut self, span: &Range<usize>, table: &DeTable<'_>) {
        let mut site = Site { host: String::new(), origin: String::new() };
        let before = self.draft.mistakes.len();
        for (word, value) in table {
            let name = format!("site.{}", word.get_ref());
            if let Some(key) = SITE_KEYS.iter().find(|key| key.name == name) {
                let given = self.given(key, value);
                if let Err(mistake) = given.assign(key, &mut site) {
                    self.draft.mistakes.push(mistake);
                }
            } else {
                let message = unknown(&name, SITE_KEYS.iter().map(|key| key.name));
                self.mistake(&word.span(), &name, message);
            }
        }
        for key in SITE_KEYS {
            let word = key.name.trim_start_matches("site.");
            if !table.contains_key(word) {
                self.mistake(span, key.name, "missing from this [[site]]".into());
            }
        }
        if self.draft.mistakes.len() == before {
            let place = self.place(span);
            self.draft.add_site(site, place);
        }
    }

    /// The value as words; a wrong TOML type stays visible in `wrong_shape`.
    fn given<T>(&self, key: &Key<T>, value: &Spanned<DeValue<'_>>) -> Given {
        let place = self.place(&value.span());
        let words = match (key.shape, value.get_ref()) {
            (Shape::List, DeValue::Array(items)) => {
                items.iter().map(|item| self.word(item, Shape::Text)).collect()
            }
            (Shape::List, other) => {
                return Given { place, words: Vec::new(), wrong_shape: Some(found(other)) };
            }
            (shape, _) => vec![self.word(value, shape)],
        };
        Given { place, words, wrong_shape: None }
    }

    fn word(&self, value: &Spanned<DeValue<'_>>, shape: Shape) -> Word {
        let found = found(value.get_ref());
        let (text, right) = match value.get_ref() {
            DeValue::String(text) => (text.to_string(), shape == Shape::Text),
            DeValue::Integer(number) => (number.to_string(), shape == Shape::Number),
            _ => (String::new(), false),
        };
        Word { text, found, right_type: right, place: self.place(&value.span()) }
    }
}

/// The inner table of a section, or of a misspelt one, whose keys are then told one by one.
fn section<'a, 'i>(name: &str, value: &'a DeValue<'i>) -> Option<&'a DeTable<'i>> {
    let known = SECTIONS.iter().any(|(section, _)| *section == name);
    value.as_table().filter(|table| known || !table.is_empty())
}

fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    match nearest(name, known) {
        Some(near) => format!("no such key; did you mean {near}?"),
        None => "no such key; `coralline config reference` lists them all".into(),
    }
}

/// A value in words for an error, short whatever it is.
fn found(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => crate::draft::excerpt(text),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(truth) => truth.to_string(),
        DeValue::Datetime(_) => "a date".into(),
        DeValue::Array(_) => "a list".into(),
        DeValue::Table(_) => "a table".into(),
    }
}
