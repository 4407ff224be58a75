//! The reference model: RFC 9111 for a shared cache, written as plainly as it can be, for the differential
//! test in `history.rs`. It knows nothing of the code that it is compared with.
//!
//! Time stands still here: all ages and lifetimes are hundreds of seconds apart, and a history is over in less.

use std::collections::BTreeMap;

/// Fields by lower-case name; one line each.
pub(crate) type Fields = BTreeMap<String, String>;

/// What an origin answers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) fields: Fields,
    pub(crate) body: String,
}

/// What a client asks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Question {
    pub(crate) method: &'static str,
    pub(crate) fields: Fields,
}

/// What the client is to see, and what the origin.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) status: u16,
    pub(crate) body: String,
    /// The field `id`, which each answer has of its own.
    pub(crate) id: String,
    /// The preconditions of each request to the origin, in order.
    pub(crate) asked: Vec<String>,
}

#[derive(Debug, Clone)]
struct Kept {
    answer: Answer,
    /// Selecting fields and what the request said in them.
    selects: Vec<(String, Option<String>)>,
}

/// One resource in a shared cache.
#[derive(Debug, Default)]
pub(crate) struct Model {
    /// The latest first.
    kept: Vec<Kept>,
    /// The cache remembers that the resource is not for all, and stores nothing of it for two minutes.
    shy: bool,
}

const UNDERSTOOD: [u16; 6] = [200, 201, 204, 404, 500, 503];
const HEURISTIC: [u16; 3] = [200, 204, 404];
/// RFC 5861's stale-if-error where nothing is said: a day.
const DAY: i64 = 86_400;

/// The value of a directive: `Some(None)` where it has no argument.
fn directive(fields: &Fields, name: &str) -> Option<Option<i64>> {
    let line = fields.get("cache-control")?;
    line.split(", ").find_map(|member| {
        let (key, value) = member.split_once('=').map_or((member, None), |(k, v)| (k, Some(v)));
        (key == name).then(|| value.map(|value| value.parse().unwrap()))
    })
}

fn says(fields: &Fields, name: &str) -> bool {
    directive(fields, name).is_some()
}

fn seconds(fields: &Fields, name: &str) -> Option<i64> {
    directive(fields, name).flatten()
}

/// Section 4.2.1 and 4.2.2; zero for what must be validated each time.
fn lifetime(answer: &Answer) -> i64 {
    if says(&answer.fields, "no-cache") {
        return 0;
    }
    explicit(answer).unwrap_or_else(|| {
        // Last-Modified, where it is there, is so long ago that the bound of a day holds.
        if answer.fields.contains_key("last-modified") { DAY } else { 0 }
    })
}

fn explicit(answer: &Answer) -> Option<i64> {
    let fields = &answer.fields;
    let stated = seconds(fields, "s-maxage").or(seconds(fields, "max-age"));
    stated.or_else(|| fields.get("expires").map(|text| if text == "0" { 0 } else { 10 * DAY }))
}

fn age(answer: &Answer) -> i64 {
    answer.fields.get("age").and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Section 3, for a response to GET.
fn storable(question: &Question, answer: &Answer) -> bool {
    let fields = &answer.fields;
    let understood = UNDERSTOOD.contains(&answer.status);
    let must_understand = says(fields, "must-understand");
    let forbidden = says(fields, "no-store") && !must_understand || must_understand && !understood;
    let open = says(fields, "public") || says(fields, "s-maxage");
    let authorized =
        !question.fields.contains_key("authorization") || open || says(fields, "must-revalidate");
    let cookie = !fields.contains_key("set-cookie") || open || explicit(answer).is_some();
    let explained =
        explicit(answer).is_some() || says(fields, "public") || HEURISTIC.contains(&answer.status);
    let validator = fields.contains_key("etag") || fields.contains_key("last-modified");
    // Not a rule, but no use: what is stale at once and cannot be validated.
    let useful = lifetime(answer) > age(answer) || validator;
    !forbidden
        && !says(&question.fields, "no-store")
        && !says(fields, "private")
        && fields.get("vary").is_none_or(|vary| vary != "*")
        && authorized
        && cookie
        && explained
        && useful
}

/// Sections 5.2.2.2, 5.2.2.4, 5.2.2.8 and 5.2.2.10.
fn must_revalidate(fields: &Fields) -> bool {
    ["must-revalidate", "proxy-revalidate", "no-cache", "s-maxage"]
        .iter()
        .any(|name| says(fields, name))
}

/// Section 4.
fn usable(question: &Question, answer: &Answer) -> bool {
    let (asked, age, lifetime) = (&question.fields, age(answer), lifetime(answer));
    let pragma = !asked.contains_key("cache-control") && asked.contains_key("pragma");
    if says(asked, "no-cache") || pragma {
        return false;
    }
    // Some time, however little, has always passed.
    if seconds(asked, "max-age").is_some_and(|most| age >= most) {
        return false;
    }
    let left = lifetime - age;
    if left > 0 {
        return seconds(asked, "min-fresh").is_none_or(|least| left >= least);
    }
    let patience = directive(asked, "max-stale").map(|bound| bound.unwrap_or(i64::MAX));
    !says(asked, "min-fresh")
        && !must_revalidate(&answer.fields)
        && patience.is_some_and(|most| -left <= most)
}

/// RFC 5861, section 4.
fn stands_in(answer: &Answer) -> bool {
    let stale = age(answer) - lifetime(answer);
    let said = seconds(&answer.fields, "stale-if-error");
    let hard = ["must-revalidate", "proxy-revalidate", "no-cache"];
    let forbidden = hard.iter().any(|name| says(&answer.fields, name))
        || says(&answer.fields, "s-maxage") && said.is_none();
    !forbidden && said != Some(0) && stale <= said.unwrap_or(DAY)
}

fn preconditions(answer: &Answer) -> String {
    let line = |field: &str, name: &str| {
        answer.fields.get(field).map(|value| format!("{name}: {value};")).unwrap_or_default()
    };
    line("etag", "if-none-match") + &line("last-modified", "if-modified-since")
}

/// Section 4.3.4. A 304 without validators is about what was asked about.
fn is_about(update: &Answer, kept: &Answer) -> bool {
    let held = |name: &str| kept.fields.get(name);
    match (update.fields.get("etag"), update.fields.get("last-modified")) {
        (Some(tag), modified) => match held("etag") {
            Some(own) => own.trim_start_matches("W/") == tag.trim_start_matches("W/"),
            None => modified == held("last-modified"),
        },
        (None, Some(modified)) => held("last-modified").is_none_or(|own| own == modified),
        (None, None) => true,
    }
}

fn is_strongly_about(update: &Answer, kept: &Answer) -> bool {
    let tag = update.fields.get("etag");
    tag.is_some_and(|tag| tag.starts_with('"')) && tag == kept.fields.get("etag")
}

/// Section 3.2.
fn updated(kept: &Answer, update: &Answer) -> Answer {
    let mut fields = kept.fields.clone();
    fields.remove("age");
    // A cookie is for the one who asked just now.
    let for_all = update.fields.clone().into_iter().filter(|(name, _)| name != "set-cookie");
    fields.extend(for_all);
    Answer { fields, ..kept.clone() }
}

impl Kept {
    fn suits(&self, question: &Question) -> bool {
        self.selects.iter().all(|(name, said)| question.fields.get(name) == said.as_ref())
    }
}

impl Model {
    /// One exchange. `origin` answers a request that has these preconditions.
    pub(crate) fn exchange(
        &mut self,
        question: &Question,
        origin: &dyn Fn(&str) -> Answer,
    ) -> Outcome {
        let found = self.kept.iter().find(|kept| kept.suits(question)).cloned();
        let read = matches!(question.method, "GET" | "HEAD");
        if let Some(kept) = found.as_ref().filter(|kept| read && usable(question, &kept.answer)) {
            return shown(question, &kept.answer, Vec::new());
        }
        if read && says(&question.fields, "only-if-cached") {
            return Outcome { status: 504, ..Outcome::default() };
        }
        match question.method {
            "GET" if !self.shy && !says(&question.fields, "no-store") => {
                self.fetch(question, found.as_ref(), origin)
            }
            _ => self.pass(question, origin, Vec::new()),
        }
    }

    fn pass(
        &mut self,
        question: &Question,
        origin: &dyn Fn(&str) -> Answer,
        mut asked: Vec<String>,
    ) -> Outcome {
        asked.push(String::new());
        let answer = origin("");
        match question.method {
            "POST" if (200..400).contains(&answer.status) => self.kept.clear(),
            "HEAD" if answer.status == 200 => self.learn(question, &answer),
            _ => {}
        }
        shown(question, &answer, asked)
    }

    fn fetch(
        &mut self,
        question: &Question,
        stale: Option<&Kept>,
        origin: &dyn Fn(&str) -> Answer,
    ) -> Outcome {
        let condition = stale.map(|kept| preconditions(&kept.answer)).unwrap_or_default();
        let mut asked = vec![condition.clone()];
        let mut answer = origin(&condition);
        if let Some(kept) = stale.filter(|_| answer.status == 304) {
            if is_about(&answer, &kept.answer) {
                return self.validate(question, kept, &answer, origin, asked);
            }
            asked.push(String::new());
            answer = origin("");
        }
        if let Some(kept) = stale
            && matches!(answer.status, 500 | 502 | 503 | 504)
            && stands_in(&kept.answer)
        {
            return shown(question, &kept.answer, asked);
        }
        if storable(question, &answer) {
            self.store(question, &answer);
        } else if authorization_alone(question, &answer) {
            // Another client's request may still be stored.
        } else {
            self.shy = true;
        }
        shown(question, &answer, asked)
    }

    fn validate(
        &mut self,
        question: &Question,
        kept: &Kept,
        update: &Answer,
        origin: &dyn Fn(&str) -> Answer,
        asked: Vec<String>,
    ) -> Outcome {
        let new = updated(&kept.answer, update);
        if !storable(question, &new) {
            // That one client showed credentials takes nothing from the others.
            if !authorization_alone(question, &new) {
                self.kept.clear();
                self.shy = true;
            }
            return self.pass(question, origin, asked);
        }
        for other in &mut self.kept {
            let other_new = updated(&other.answer, update);
            if is_strongly_about(update, &other.answer) && storable(question, &other_new) {
                other.answer = other_new;
            }
        }
        let selects = kept.selects.clone();
        self.replace(Kept { answer: new.clone(), selects });
        shown(question, &new, asked)
    }

    /// Sections 3 and 4.1.
    fn store(&mut self, question: &Question, answer: &Answer) {
        let mut names: Vec<String> = answer
            .fields
            .get("vary")
            .map(|vary| vary.split(", ").map(str::to_owned).collect())
            .unwrap_or_default();
        if names.is_empty() {
            // It is one of several, as long as the others are fresh.
            let varies = |kept: &&Kept| {
                kept.answer.fields.contains_key("vary")
                    && lifetime(&kept.answer) > age(&kept.answer)
            };
            let others = self.kept.iter().find(varies).map(|kept| kept.selects.clone());
            names = others.unwrap_or_default().into_iter().map(|(name, _)| name).collect();
        }
        names.sort();
        let said = |name: String| (name.clone(), question.fields.get(&name).cloned());
        let selects = names.into_iter().map(said).collect();
        self.replace(Kept { answer: answer.clone(), selects });
    }

    fn replace(&mut self, new: Kept) {
        self.kept.retain(|old| {
            !new.selects.is_empty() && !old.selects.is_empty() && old.selects != new.selects
        });
        self.kept.insert(0, new);
    }

    /// Section 4.3.5.
    fn learn(&mut self, question: &Question, head: &Answer) {
        let mut after = Vec::new();
        for kept in std::mem::take(&mut self.kept) {
            if !kept.suits(question) || kept.answer.status != 200 {
                after.push(kept);
                continue;
            }
            let agrees = |name: &str| {
                head.fields
                    .get(name)
                    .is_none_or(|given| kept.answer.fields.get(name) == Some(given))
            };
            let same_length = head.body.len() == kept.answer.body.len();
            let new = updated(&kept.answer, head);
            if !(agrees("etag") && agrees("last-modified") && same_length) {
                continue;
            }
            if storable(question, &new) {
                after.push(Kept { answer: new, ..kept });
            } else if says(&question.fields, "no-store")
                || question.fields.contains_key("authorization")
            {
                after.push(kept);
            }
        }
        self.kept = after;
    }
}

/// The only thing against storing is that the request was authorised.
fn authorization_alone(question: &Question, answer: &Answer) -> bool {
    let mut without = question.clone();
    without.fields.remove("authorization");
    let fields = &answer.fields;
    question.fields.contains_key("authorization")
        && !(says(fields, "public") || says(fields, "s-maxage") || says(fields, "must-revalidate"))
        && !says(fields, "private")
        && (!says(fields, "no-store") || says(fields, "must-understand"))
        && (!says(fields, "must-understand") || UNDERSTOOD.contains(&answer.status))
}

fn shown(question: &Question, answer: &Answer, asked: Vec<String>) -> Outcome {
    let body = if question.method == "HEAD" { String::new() } else { answer.body.clone() };
    let id = answer.fields.get("id").cloned().unwrap_or_default();
    Outcome { status: answer.status, body, id, asked }
}
