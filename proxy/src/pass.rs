//! Requests that are the origin's alone to answer: for one client, with its conditions, ranges and content.
//! What their responses say about what is kept is heeded all the same.

use std::sync::Arc;

use coralline_overlay::Key;
use http::header::{AGE, AUTHORIZATION, HeaderMap, MAX_FORWARDS, RANGE};
use http::{Method, Request, Response, StatusCode, Uri};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::timeout;

use crate::Proxy;
use crate::admit::Asked;
use crate::body::ResponseBody;
use crate::fetch::Job;
use crate::fields::kept;
use crate::flight::Begin;
use crate::flights::Boarding;
use crate::limits::LOCATE_BUDGET;
use crate::message::{Source, Stored};
use crate::policy::{
    also_invalidated, freshen, head_describes, invalidated_groups, invalidates,
    is_explicitly_fresh, names_itself, storable,
};
use crate::reason::{Failure, Reason};
use crate::request::Answer;
use crate::respond::{CacheStatus, Forward, own_page};
use crate::store::Change;
use crate::target::{Scheme, Site, Target};
use crate::upload::Upload;
use crate::upstream::Upstream;

impl Proxy {
    /// The response is for one asker: the leader takes the one that came, others ask for their own.
    pub(crate) async fn passed(
        &self,
        asked: &Asked,
        leader: Option<oneshot::Receiver<Upstream>>,
        forward: Forward,
    ) -> Result<Answer, Failure> {
        if let Some(leader) = leader
            && let Ok(upstream) = leader.await
            // What came for a range may be of others than the client's, unless there is nothing there.
            && (!asked.selecting.contains_key(RANGE)
                || upstream.head.status == StatusCode::RANGE_NOT_SATISFIABLE)
        {
            let place = self.place()?;
            return Ok((upstream.source, self.respond_upstream(asked, upstream, forward, place)));
        }
        self.pass(asked, Forward::Bypass).await
    }

    /// Asks for one client only, with its conditions and ranges. HEAD is asked of a peer first.
    pub(crate) async fn pass(&self, asked: &Asked, forward: Forward) -> Result<Answer, Failure> {
        let place = self.place()?;
        let headers = self.onward(asked);
        let target = &asked.target;
        let shared = target.site.is_none() && !asked.told.no_cache;
        if asked.is_head()
            && shared
            && let Ok(Ok(found)) =
                timeout(LOCATE_BUDGET, self.index.get(Key::of_name(asked.uri.as_bytes()))).await
        {
            let (holders, level, method) = (&found.pointers, found.level, &asked.method);
            let good = |upstream: &Upstream| !upstream.head.status.is_informational();
            let asked_peers = self.peers.ask(method, target, &headers, holders, level, good).await;
            if let Some(upstream) = asked_peers {
                let forward = Forward::UriMiss;
                let source = upstream.source;
                return Ok((source, self.respond_upstream(asked, upstream, forward, place)));
            }
        }
        let upstream =
            self.origin.ask(&asked.method, target, &headers, asked.early.as_ref()).await?;
        if asked.is_head() && upstream.head.status == StatusCode::OK {
            self.learn_from_head(asked, &upstream);
        }
        Ok((Source::Origin, self.respond_upstream(asked, upstream, forward, place)))
    }

    /// Passes on what a cache does not answer: methods that change things, and content.
    pub(crate) async fn forward(
        self: &Arc<Self>,
        asked: &Asked,
        site: &Site,
        upload: Upload,
    ) -> Result<Answer, Failure> {
        let place = self.place()?;
        let mut headers = self.onward(asked);
        if asked.method == Method::OPTIONS && is_last_hop(&mut headers) {
            return Ok((Source::None, own_page(StatusCode::NO_CONTENT, String::new())));
        }
        let mut request = Request::new(upload);
        *request.method_mut() = asked.method.clone();
        *request.headers_mut() = headers;
        let upstream =
            self.origin.forward(&asked.target, site, request, asked.early.as_ref()).await?;
        if invalidates(&asked.method, upstream.head.status) {
            self.invalidate(&asked.target, &upstream.head.headers);
        }
        if asked.method == Method::POST && self.stands_for_get(asked, &upstream) {
            return Ok((Source::Origin, self.keep_post(asked, upstream, place)));
        }
        Ok((Source::Origin, self.respond_upstream(asked, upstream, Forward::Method, place)))
    }

    /// A response to POST that a later GET may have: it is what is at the target now, and says for how long
    /// (RFC 9110, section 9.3.3).
    fn stands_for_get(&self, asked: &Asked, upstream: &Upstream) -> bool {
        let head = &upstream.head;
        let base = base(&asked.target);
        let itself = base.is_some_and(|base| names_itself(&base, &head.headers));
        itself && head.status == StatusCode::OK && is_explicitly_fresh(&head.headers)
    }

    /// Passes on the response to a POST and keeps it for GET, where it may be kept.
    fn keep_post(
        self: &Arc<Self>,
        asked: &Asked,
        upstream: Upstream,
        place: OwnedSemaphorePermit,
    ) -> Response<ResponseBody> {
        let job = Job::of(asked, None);
        let (Ok(arriving), Ok(Boarding::New(landing))) =
            (self.arriving(&job, &upstream), self.flights.board(&asked.uri, || None))
        else {
            return self.respond_upstream(asked, upstream, Forward::Method, place);
        };
        let (proxy, flight) = (self.clone(), landing.flight.clone());
        flight.begin(Begin::Stream(arriving.clone()));
        let status = CacheStatus {
            forward: Some(Forward::Method),
            answered: None,
            stored: true,
            collapsed: false,
            source: Source::Origin,
        };
        let response = self.respond_arriving(asked, &arriving, &flight, status);
        tokio::spawn(async move {
            proxy.receive(landing, &job, arriving, upstream.body, None).await;
            drop(place);
        });
        response.expect("nothing has come yet that could be gone")
    }

    /// The fields that an origin sees of a request that is for one client.
    pub(crate) fn onward(&self, asked: &Asked) -> HeaderMap {
        let mut headers = asked.headers.clone();
        headers.extend(asked.selecting.clone());
        self.signature.sign(&mut headers, asked.mode);
        headers
    }

    /// A place among the requests that are passed on for one client.
    pub(crate) fn place(&self) -> Result<OwnedSemaphorePermit, Failure> {
        self.passing.clone().try_acquire_owned().map_err(|_| {
            let detail = "this node passes on as many requests as it may; try again soon";
            Failure::new(Reason::ConnectionLimitReached, detail)
        })
    }

    /// RFC 9111, section 4.3.5: a response to HEAD updates what it describes, and throws out what it does
    /// not, of all that the request could have selected.
    fn learn_from_head(&self, asked: &Asked, upstream: &Upstream) {
        let head = &upstream.head;
        self.revise(&asked.uri, |stored| {
            if !stored.variant.suits(&asked.headers) || stored.head.status != StatusCode::OK {
                return Change::Keep;
            }
            if !head_describes(&head.headers, &stored.head.headers, stored.body.len()) {
                return Change::Remove;
            }
            match self.freshened(asked, stored, upstream) {
                Some(new) => Change::Replace(Arc::new(new)),
                // What one client wants for itself takes nothing from the others.
                None if asked.told.no_store || asked.headers.contains_key(AUTHORIZATION) => {
                    Change::Keep
                }
                None => Change::Remove,
            }
        });
    }

    fn freshened(&self, asked: &Asked, stored: &Stored, upstream: &Upstream) -> Option<Stored> {
        let update = kept(upstream.head.headers.clone(), asked.mode);
        let headers = freshen(&stored.head.headers, &update);
        let mut said = headers.clone();
        said.extend(upstream.head.headers.get(AGE).map(|age| (AGE, age.clone())));
        let status = stored.head.status;
        storable(&asked.headers, status, &said, upstream.times, &asked.rules)
            .ok()
            .map(|freshness| stored.updated(headers, freshness))
    }

    /// RFC 9111, section 4.4, and RFC 9875, section 3: an unsafe request has succeeded.
    fn invalidate(&self, target: &Target, response: &HeaderMap) {
        let also = base(target).map(|base| also_invalidated(&base, response));
        let paths = also.unwrap_or_default().into_iter().chain([target.path.clone()]);
        for path in paths {
            // The origin is the same whichever way its clients come.
            for scheme in [Scheme::Http, Scheme::Https] {
                let changed = Target { scheme, path: path.clone(), ..target.clone() };
                let uri: Arc<str> = changed.to_string().into();
                self.flights.disown(&uri, || self.forget(&uri));
            }
        }
        let groups = invalidated_groups(response);
        if !groups.is_empty() {
            let root = http::uri::PathAndQuery::from_static("/");
            let origin = Target { path: root, ..target.clone() }.to_string();
            self.flights.disown_origin(&origin, || self.forget_groups(&origin, &groups));
        }
    }
}

/// The target URI.
fn base(target: &Target) -> Option<Uri> {
    let text = format!("{}://{}{}", target.scheme.word(), target.authority(), target.path);
    text.parse().ok()
}

/// Counts Max-Forwards down; true where the request ends here (RFC 9110, section 7.6.2).
fn is_last_hop(headers: &mut HeaderMap) -> bool {
    let value = headers.get(MAX_FORWARDS).and_then(|value| value.to_str().ok());
    let Some(left) = value.and_then(|text| text.parse::<u32>().ok()) else { return false };
    if let Some(next) = left.checked_sub(1) {
        headers.insert(MAX_FORWARDS, next.into());
    }
    left == 0
}
