//! What a 304 makes of what is stored (RFC 9111, section 4.3.4), and what stands in where an origin fails.

use std::sync::Arc;

use http::StatusCode;
use http::header::{AGE, DATE, HeaderMap, SET_COOKIE};

use crate::Proxy;
use crate::clock;
use crate::fetch::Job;
use crate::fields::{Mode, kept};
use crate::flight::Begin;
use crate::flights::Landing;
use crate::message::{Source, Stored};
use crate::policy::{
    Identified, NoStore, ResponseDirectives, Rules, freshen, identifies, storable,
};
use crate::reason::{Failure, Reason};
use crate::respond::add_date;
use crate::store::Change;
use crate::upstream::Upstream;

impl Proxy {
    /// A stale copy in place of a failing origin (RFC 5861, section 4), where it may.
    pub(crate) fn stand_in(&self, stale: &Arc<Stored>) -> Option<Begin> {
        let may = stale.freshness.may_stand_in(clock::now());
        may.then(|| Begin::Stored(stale.clone(), Source::Local, None))
    }

    /// What needs no body: the stored copy was validated, or is better than the error that came.
    /// Nothing: what came is to be passed on.
    pub(crate) fn answered_at_once(
        &self,
        landing: &Landing,
        job: &Job,
        upstream: &Upstream,
    ) -> Option<Begin> {
        let status = upstream.head.status;
        match &job.stale {
            Some(stale) if status == StatusCode::NOT_MODIFIED => {
                Some(self.validated(landing, job, stale, upstream))
            }
            None if status == StatusCode::NOT_MODIFIED => Some(Begin::Failed(unasked())),
            Some(stale) if matches!(status.as_u16(), 500 | 502 | 503 | 504) => self.stand_in(stale),
            _ => None,
        }
    }

    /// RFC 9111, section 4.3.4: the stored copy with the fields of the 304, and with it the other variants
    /// that are the same octets.
    fn validated(
        &self,
        landing: &Landing,
        job: &Job,
        stale: &Stored,
        upstream: &Upstream,
    ) -> Begin {
        let freshened = |stored: &Stored| {
            freshened(stored, upstream, &job.headers, job.mode, &job.rules)
                .map(|new| self.signed_again(job, stored, new))
        };
        let mut update = kept(upstream.head.headers.clone(), job.mode);
        let mut withheld = withhold(&mut update);
        // A cookie in a 304 is for the one whose request was on its way.
        update.get_all(SET_COOKIE).iter().for_each(|cookie| {
            withheld.append(SET_COOKIE, cookie.clone());
        });
        match freshened(stale) {
            Ok(stored) => {
                let stored = Arc::new(stored);
                landing.keep(|| {
                    self.revise(&job.uri, |other| {
                        let same = identifies(&upstream.head.headers, &other.head.headers);
                        match (same, freshened(other)) {
                            (Identified::Strongly, Ok(new)) => Change::Replace(Arc::new(new)),
                            _ => Change::Keep,
                        }
                    });
                    self.keep(&job.uri, &stored);
                });
                landing.flight.withhold(withheld);
                Begin::Stored(stored, upstream.source, Some(StatusCode::NOT_MODIFIED))
            }
            Err(reason) => {
                // That one client showed credentials says nothing about the others.
                if reason == NoStore::Authorization {
                    return Begin::Pass(reason);
                }
                // It has become somebody's own: each asks for theirs, and the old copy is gone.
                self.forget(&job.uri);
                self.unshared.insert(job.uri.clone(), reason);
                Begin::Pass(reason)
            }
        }
    }
}

/// A stored response with the fields of another about the same octets (RFC 9111, sections 3.2 and 4.3.4),
/// for a request with these fields.
pub(crate) fn freshened(
    stored: &Stored,
    upstream: &Upstream,
    request: &HeaderMap,
    mode: Mode,
    rules: &Rules,
) -> Result<Stored, NoStore> {
    let mut update = kept(upstream.head.headers.clone(), mode);
    withhold(&mut update);
    let mut headers = freshen(&stored.head.headers, &update);
    if !update.contains_key(DATE) {
        // It was made now, and not when the stored one was (RFC 9110, section 6.6.1).
        headers.remove(DATE);
        add_date(&mut headers, upstream.times.response);
    }
    let mut said = headers.clone();
    said.extend(upstream.head.headers.get(AGE).map(|age| (AGE, age.clone())));
    let freshness = storable(request, stored.head.status, &said, upstream.times, rules)?;
    Ok(stored.updated(headers, freshness))
}

/// A 304 that nobody asked for.
pub(crate) fn unasked() -> Failure {
    let detail = "the origin answered 304 to a request without a condition";
    Failure::new(Reason::HttpProtocolError, detail)
}

/// Takes off the fields that `no-cache` and `private` name (RFC 9111, sections 5.2.2.4 and 5.2.2.7).
pub(crate) fn withhold(headers: &mut HeaderMap) -> HeaderMap {
    let told = ResponseDirectives::read(headers);
    let mut withheld = HeaderMap::new();
    for name in told.withheld() {
        headers.get_all(name).iter().for_each(|value| {
            withheld.append(name, value.clone());
        });
        headers.remove(name);
    }
    withheld
}
