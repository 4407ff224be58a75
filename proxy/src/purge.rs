//! What was purged, and when: a table of rules, no search through what is stored.
//!
//! A rule says that whatever was generated before its time is stale (soft) or gone (hard). It binds what
//! is stored now as well as what arrives later and is older: a transfer that was under way, a copy that a
//! peer still has. So a purge takes the same time whatever the cache holds, and nothing brings an object
//! back. A rule is forgotten once nothing so old can be left.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use crate::limits::{MAX_PURGE_OCTETS, MAX_PURGES};
use crate::message::Stored;
use crate::scope::{Scope, group_name, tags};

// The first octet of a rule's key.
const GROUP: u8 = b'g';
const HOST: u8 = b'h';
const PREFIX: u8 = b'p';
const TAG: u8 = b't';
const URI: u8 = b'u';

fn key_of(scope: &Scope) -> Vec<u8> {
    match scope {
        Scope::Uri(name) => key(URI, name),
        Scope::Prefix(name) => key(PREFIX, name),
        Scope::Host(name) => key(HOST, name),
        Scope::Tag(name) => key(TAG, name),
        Scope::Group(name) => key(GROUP, name),
    }
}

/// The inverse of [`key_of`].
fn scope_of(key: &[u8]) -> Option<Scope> {
    let (kind, name) = key.split_first()?;
    let name = String::from_utf8(name.to_vec()).ok()?;
    Some(match *kind {
        URI => Scope::Uri(name),
        PREFIX => Scope::Prefix(name),
        HOST => Scope::Host(name),
        TAG => Scope::Tag(name),
        GROUP => Scope::Group(name),
        _ => return None,
    })
}

fn key(kind: u8, name: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + name.len());
    key.push(kind);
    key.extend_from_slice(name.as_bytes());
    key
}

/// How much of it a purge takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Force {
    /// It must be validated before it is used, and may stand in for a failing origin.
    Soft,
    /// It is not used again.
    Hard,
}

/// What the rules leave of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// All: it was not purged.
    Untouched,
    /// It counts as stale.
    Stale,
    /// Nothing.
    Gone,
}

/// There is no room for another rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// The rules.
#[derive(Debug, Default)]
pub(crate) struct Purges {
    table: RwLock<Table>,
}

#[derive(Debug, Default)]
struct Table {
    rules: BTreeMap<Vec<u8>, Rule>,
    /// Of all keys.
    octets: usize,
    /// The latest rule of all, and of those by tag: what was generated later is not looked up.
    latest: Option<SystemTime>,
    latest_tag: Option<SystemTime>,
}

/// The latest purges of one scope.
#[derive(Debug, Clone, Copy, Default)]
struct Rule {
    soft: Option<SystemTime>,
    hard: Option<SystemTime>,
}

impl Rule {
    fn verdict(&self, generated: SystemTime) -> Verdict {
        let hit = |time: Option<SystemTime>| time.is_some_and(|time| generated <= time);
        if hit(self.hard) {
            Verdict::Gone
        } else if hit(self.soft) {
            Verdict::Stale
        } else {
            Verdict::Untouched
        }
    }
}

impl Purges {
    /// Purges what was generated until `now`.
    ///
    /// # Errors
    /// [`Full`]; a scope that has a rule already is never refused.
    pub(crate) fn add(&self, scope: &Scope, force: Force, now: SystemTime) -> Result<(), Full> {
        let key = key_of(scope);
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if !table.rules.contains_key(&key) {
            let octets = table.octets + key.len();
            if table.rules.len() >= MAX_PURGES || octets > MAX_PURGE_OCTETS {
                return Err(Full);
            }
            table.octets = octets;
        }
        let rule = table.rules.entry(key).or_default();
        match force {
            Force::Soft => rule.soft = rule.soft.max(Some(now)),
            Force::Hard => rule.hard = rule.hard.max(Some(now)),
        }
        table.latest = table.latest.max(Some(now));
        if matches!(scope, Scope::Tag(_) | Scope::Group(_)) {
            table.latest_tag = table.latest_tag.max(Some(now));
        }
        Ok(())
    }

    /// What is left of what is stored for `uri`.
    pub(crate) fn of(&self, uri: &str, stored: &Stored) -> Verdict {
        self.verdict(uri, stored.freshness.generated, || tags(&stored.head.headers))
    }

    /// What is left of a response to `uri` that the origin generated at `generated`, at the latest.
    /// `tags` is asked only if a rule may name one.
    pub(crate) fn verdict<T: AsRef<str>>(
        &self,
        uri: &str,
        generated: SystemTime,
        tags: impl FnOnce() -> Vec<T>,
    ) -> Verdict {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let concerns = |latest: Option<SystemTime>| latest.is_some_and(|time| generated <= time);
        if !concerns(table.latest) {
            return Verdict::Untouched;
        }
        let (whole, uri) = (uri, schemeless(uri));
        let one = |kind, name: &str| {
            table
                .rules
                .get(&key(kind, name))
                .map_or(Verdict::Untouched, |rule| rule.verdict(generated))
        };
        let mut verdict =
            one(URI, uri).max(one(HOST, host(uri))).max(table.prefixes(uri, generated));
        if concerns(table.latest_tag) {
            for tag in tags() {
                let group = group_name(whole, tag.as_ref());
                verdict = verdict.max(one(TAG, tag.as_ref())).max(one(GROUP, &group));
            }
        }
        verdict
    }

    /// Drops the rules that nothing is left for: all that may still come was generated after `oldest`.
    pub(crate) fn forget(&self, oldest: SystemTime) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let recent = |time: &SystemTime| *time >= oldest;
        table.rules.retain(|_, rule| {
            *rule = Rule { soft: rule.soft.filter(recent), hard: rule.hard.filter(recent) };
            rule.soft.is_some() || rule.hard.is_some()
        });
        table.octets = table.rules.keys().map(Vec::len).sum();
    }

    /// Makes room: the older half of the purges becomes one of all that is as old as they.
    pub(crate) fn halve(&self) {
        let mut times = Vec::new();
        self.for_each(|_, _, time| times.push(time));
        times.sort_unstable();
        let Some(time) = times.get(times.len() / 2).copied() else { return };
        self.forget(time + Duration::from_nanos(1));
        // There is room now.
        let _ = self.add(&Scope::Prefix("//".into()), Force::Hard, time);
    }

    /// Calls `each` with every purge.
    pub(crate) fn for_each(&self, mut each: impl FnMut(&Scope, Force, SystemTime)) {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        for (key, rule) in &table.rules {
            let Some(scope) = scope_of(key) else { continue };
            let times = [(Force::Soft, rule.soft), (Force::Hard, rule.hard)];
            times.into_iter().for_each(|(force, time)| {
                time.into_iter().for_each(|time| each(&scope, force, time));
            });
        }
    }

    /// Rules in the table.
    pub(crate) fn len(&self) -> usize {
        self.table.read().unwrap_or_else(PoisonError::into_inner).rules.len()
    }
}

impl Table {
    /// The worst that a prefix of `uri` says. Each step shortens what may still match, so that there
    /// are no more of them than octets, however many prefixes there are.
    fn prefixes(&self, uri: &str, generated: SystemTime) -> Verdict {
        let whole = key(PREFIX, uri);
        let mut verdict = Verdict::Untouched;
        let mut bound = Bound::Included(whole.clone());
        while let Some((prefix, rule)) = self.rules.range((Bound::Unbounded, bound)).next_back() {
            let common = prefix.iter().zip(&whole).take_while(|(a, b)| a == b).count();
            if common == 0 {
                break;
            }
            bound = if common == prefix.len() {
                verdict = verdict.max(rule.verdict(generated));
                Bound::Excluded(prefix.clone())
            } else {
                Bound::Included(whole[..common].to_vec())
            };
        }
        verdict
    }
}

/// A URI from its `//` on: whether an origin was asked by http or https, it is the same object.
pub(crate) fn schemeless(uri: &str) -> &str {
    uri.find("//").map_or(uri, |at| &uri[at..])
}

/// The host of a URI without scheme, without its port.
fn host(uri: &str) -> &str {
    let authority = uri.trim_start_matches('/').split('/').next().unwrap_or_default();
    authority.split(':').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn scope(text: &str) -> Scope {
        let (kind, name) = text.split_once(' ').unwrap();
        let name = name.to_owned();
        match kind {
            "uri" => Scope::Uri(name),
            "prefix" => Scope::Prefix(name),
            "host" => Scope::Host(name),
            _ => Scope::Tag(name),
        }
    }

    #[test]
    fn a_rule_binds_what_is_older_and_in_its_scope() {
        let check = |rule: &str, uri: &str, tags: &[&str], expect: Verdict| {
            let purges = Purges::default();
            purges.add(&scope(rule), Force::Soft, at(10)).unwrap();
            let verdict = |generated| purges.verdict(uri, generated, || tags.to_vec());
            assert_eq!(verdict(at(10)), expect, "{rule} {uri}");
            assert_eq!(verdict(at(11)), Verdict::Untouched, "{rule} {uri}");
        };
        use Verdict::{Stale, Untouched};
        check("uri //a.com/x", "//a.com/x", &[], Stale);
        check("uri //a.com/x", "https://a.com/x", &[], Stale);
        check("uri //a.com/x", "//a.com/x?y", &[], Untouched);
        check("uri //a.com/x", "//a.com:8000/x", &[], Untouched);
        check("prefix //a.com/x", "http://a.com/x/y?z", &[], Stale);
        check("prefix //a.com/x", "//a.com/", &[], Untouched);
        check("prefix //a.com/", "//a.com.evil.com/", &[], Untouched);
        check("host a.com", "//a.com:8000/", &[], Stale);
        check("host a.com", "//b.a.com/", &[], Untouched);
        check("host com", "//a.com/", &[], Untouched);
        check("tag news", "//a.com/", &["old", "news"], Stale);
        check("tag news", "//a.com/", &["newspaper"], Untouched);
        check("tag //a.com/", "//a.com/", &[], Untouched);
    }

    #[test]
    fn hard_is_worse_than_soft_and_neither_undoes_the_other() {
        let purges = Purges::default();
        let verdict = |generated| purges.verdict("//a.com/x", at(generated), Vec::<&str>::new);
        purges.add(&scope("uri //a.com/x"), Force::Hard, at(10)).unwrap();
        purges.add(&scope("host a.com"), Force::Soft, at(20)).unwrap();
        purges.add(&scope("uri //a.com/x"), Force::Soft, at(15)).unwrap();
        purges.add(&scope("uri //a.com/x"), Force::Hard, at(5)).unwrap();
        assert_eq!(verdict(10), Verdict::Gone);
        assert_eq!(verdict(11), Verdict::Stale);
        assert_eq!(verdict(20), Verdict::Stale);
        assert_eq!(verdict(21), Verdict::Untouched);
        purges.forget(at(11));
        assert_eq!(purges.len(), 2);
        assert_eq!(verdict(10), Verdict::Stale, "nothing so old is left, says the caller");
        purges.forget(at(21));
        assert_eq!(purges.len(), 0);
    }

    #[test]
    fn what_makes_room_purges_more_and_not_less() {
        let purges = Purges::default();
        for n in 0..10 {
            purges.add(&Scope::Uri(format!("//a.com/{n}")), Force::Soft, at(n)).unwrap();
        }
        purges.halve();
        let verdict = |uri, time| purges.verdict(uri, at(time), Vec::<&str>::new);
        assert_eq!((purges.len(), verdict("//b.com/", 5)), (5, Verdict::Gone));
        assert_eq!(verdict("//a.com/2", 2), Verdict::Gone);
        assert_eq!(verdict("//a.com/9", 9), Verdict::Stale);
        assert_eq!(verdict("//b.com/", 6), Verdict::Untouched);
    }

    #[test]
    fn the_table_is_bounded_in_rules_and_in_octets() {
        let purges = Purges::default();
        for n in 0..MAX_PURGES {
            purges.add(&Scope::Uri(format!("//a.com/{n}")), Force::Soft, at(1)).unwrap();
        }
        assert_eq!(purges.add(&scope("uri //b.com/"), Force::Soft, at(2)), Err(Full));
        assert_eq!(purges.add(&scope("uri //a.com/7"), Force::Hard, at(2)), Ok(()));
        purges.forget(at(3));
        let long = "x".repeat(8_000);
        let fit = (0..).take_while(|n| {
            purges.add(&Scope::Uri(format!("//a.com/{n}{long}")), Force::Soft, at(4)).is_ok()
        });
        let fit = fit.count();
        assert!(fit * long.len() <= MAX_PURGE_OCTETS && (fit + 2) * long.len() > MAX_PURGE_OCTETS);
    }

    proptest! {
        #[test]
        fn prefixes_match_as_a_plain_search_does(
            rules in prop::collection::vec(("[ab/]{0,5}", 0_u64..9, any::<bool>()), 0..20),
            path in "[ab/]{0,6}",
            generated in 0_u64..9,
        ) {
            let purges = Purges::default();
            let mut expect = Verdict::Untouched;
            let uri = format!("//h/{path}");
            for (prefix, time, hard) in rules {
                let prefix = format!("//h/{prefix}");
                if uri.starts_with(&prefix) && generated <= time {
                    expect = expect.max(if hard { Verdict::Gone } else { Verdict::Stale });
                }
                let force = if hard { Force::Hard } else { Force::Soft };
                purges.add(&Scope::Prefix(prefix), force, at(time)).unwrap();
            }
            prop_assert_eq!(purges.verdict(&uri, at(generated), Vec::<&str>::new), expect);
        }
    }
}
