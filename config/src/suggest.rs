//! The known name that somebody most likely meant.

/// The nearest of the known names, if any is near enough to be worth telling.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let last = |name: &str| name.rsplit('.').next().map(str::to_owned);
    known
        .map(|candidate| {
            // A right key in the wrong section is as near as two typing errors.
            let moved = if last(name) == last(candidate) { 2 } else { usize::MAX };
            (distance(name, candidate).min(moved), candidate)
        })
        .min()
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(2))
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance: letters to add, drop or replace.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KEYS;

    #[test]
    fn suggestions() {
        let check = |name: &str, expect: Option<&str>| {
            assert_eq!(nearest(name, KEYS.iter().map(|key| key.name)), expect, "{name:?}");
        };
        check("http.listne", Some("http.listen"));
        check("htp.listen", Some("http.listen"));
        check("suffx", Some("suffix"));
        check("cache.mem", Some("cache.memory"));
        check("seeds", Some("overlay.seeds"));
        check("origin.memory", Some("cache.memory"));
        check("completely.different", None);
    }

    #[test]
    fn distances() {
        let check = |a: &str, b: &str, expect: usize| assert_eq!(distance(a, b), expect, "{a} {b}");
        check("", "", 0);
        check("", "abc", 3);
        check("kitten", "sitting", 3);
        check("listne", "listen", 2);
    }
}
