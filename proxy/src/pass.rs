//! Requests that are the origin's alone to answer: for one client, with its conditions, ranges and content.
//! What their responses say about what is kept is heeded all the same.

use std::sync::Arc;

use coralline_overlay::{Found, Key};
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue, MAX_FORWARDS, RANGE, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body::Body;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::{Instant, timeout};

use crate::Proxy;
use crate::admit::Asked;
use crate::body::ResponseBody;
use crate::fetch::Job;
use crate::flight::Begin;
use crate::flights::Boarding;
use crate::limits::{DISK_PATIENCE, LOCATE_BUDGET, PEER_BUDGET};
use crate::message::Source;
use crate::peer::{Fit, Given, Search, Tried};
use crate::policy::{
    also_invalidated, head_describes, invalidated_groups, invalidates, is_explicitly_fresh,
    names_itself,
};
use crate::pump::Coming;
use crate::reason::{Failure, Reason};
use crate::request::Answer;
use crate::respond::{CacheStatus, Forward, own_page};
use crate::revalidate::freshened;
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
        {
            // What came for a range may be of others than the client's, unless there is nothing there.
            let fits = !asked.selecting.contains_key(RANGE)
                || upstream.head.status == StatusCode::RANGE_NOT_SATISFIABLE;
            if fits {
                let (source, place) = (upstream.source, self.place()?);
                return Ok((source, self.respond_upstream(asked, upstream, forward, place)));
            }
            upstream.body.discard();
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
            && let Some(found) = self.look_up_index(&asked.uri).await
        {
            let (holders, level, method) = (&found.pointers, found.level, &asked.method);
            let deadline = Instant::now() + PEER_BUDGET;
            let search = Search { holders, level, deadline, rest: None, misled: false };
            let mut tried = Tried::default();
            let fits = |upstream: &Upstream| match upstream.head.status.is_informational() {
                false => Fit::Good,
                true => Fit::Wrong,
            };
            let asked_peers = self.peers.ask(method, target, &headers, search, &mut tried, fits);
            if let Given::Good(upstream) = asked_peers.await {
                let forward = Forward::UriMiss;
                let source = upstream.source;
                return Ok((source, self.respond_upstream(asked, *upstream, forward, place)));
            }
        }
        let upstream =
            self.origin.ask(&asked.method, target, &headers, asked.early.as_ref()).await?;
        if asked.is_head() && upstream.head.status == StatusCode::OK {
            self.learn_from_head(asked, &upstream);
        }
        Ok((Source::Origin, self.respond_upstream(asked, upstream, forward, place)))
    }

    /// Who has it, as far as the index can say in time.
    async fn look_up_index(&self, uri: &str) -> Option<Found> {
        let since = Instant::now();
        let found = timeout(LOCATE_BUDGET, self.index.get(Key::of_name(uri.as_bytes()))).await;
        self.metrics.locating.get.observe(since.elapsed().as_secs_f64());
        found.ok()?.ok()
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
        if matches!(asked.method, Method::GET | Method::HEAD)
            && request.body().size_hint().exact().is_none()
        {
            // The client leaves out content of these methods that has no length, unless it is told to send it.
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        *request.method_mut() = asked.method.clone();
        *request.headers_mut() = headers;
        let upstream =
            self.origin.forward(&asked.target, site, request, asked.early.as_ref()).await?;
        if invalidates(&asked.method, upstream.head.status) {
            self.invalidate(&asked.target, &upstream.head.headers).await;
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
            let Upstream { body, peer, .. } = upstream;
            proxy.receive(landing, &job, arriving, Coming { body, peer }, None).await;
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
            if stored.freshness.received > upstream.times.request {
                // It came after this was asked, and knows better.
                return Change::Keep;
            }
            if !head_describes(&head.headers, &stored.head.headers, stored.body.len()) {
                return Change::Remove;
            }
            match freshened(stored, upstream, &asked.headers, asked.mode, &asked.rules).ok() {
                Some(new) => Change::Replace(Arc::new(new)),
                // What one client wants for itself takes nothing from the others.
                None if asked.told.no_store || asked.headers.contains_key(AUTHORIZATION) => {
                    Change::Keep
                }
                None => Change::Remove,
            }
        });
    }

    /// RFC 9111, section 4.4, and RFC 9875, section 3: an unsafe request has succeeded. Its client has the
    /// answer when what was thrown out stays out, also over a kill of this process.
    async fn invalidate(&self, target: &Target, response: &HeaderMap) {
        let also = base(target).map(|base| also_invalidated(&base, response));
        let paths: Vec<_> =
            also.unwrap_or_default().into_iter().chain([target.path.clone()]).collect();
        let groups = invalidated_groups(response);
        let mut landing = Vec::new();
        // The origin is the same whichever way its clients come.
        for scheme in [Scheme::Http, Scheme::Https] {
            let changed = |path| Target { scheme, path, ..target.clone() }.to_string();
            for path in &paths {
                let uri: Arc<str> = changed(path.clone()).into();
                landing.extend(self.flights.disown(&uri, || self.forget(&uri)));
            }
            if !groups.is_empty() {
                let origin = changed(PathAndQuery::from_static("/"));
                let forget = || self.forget_groups(&origin, &groups);
                landing.extend(self.flights.disown_origin(&origin, forget));
            }
        }
        let over = async {
            for flight in landing {
                flight.over().await;
            }
        };
        let _ = timeout(DISK_PATIENCE, over).await;
        if !self.forgotten().await {
            tracing::error!(%target, "was changed; the old one may be back after a restart");
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
