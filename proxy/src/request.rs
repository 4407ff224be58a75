//! The life of a request, in order. Each step is a decision; what it needs is done beside it.
//!
//! | # | step | here |
//! |---|------|------|
//! | 1 | decode the host, clean the fields, refuse what is not proxied | `admit.rs` |
//! | 2 | look in the cache | [`Proxy::serve_client`], [`Proxy::serve_peer`] |
//! | 3 | join a fetch in flight | [`Proxy::fly`] |
//! | 4-7 | locate, peer, origin, store and announce | `fetch.rs` |
//! | 8 | respond | `respond.rs` |

use std::sync::Arc;

use coralline_overlay::Key;
use http::header::HOST;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::timeout;

use crate::Proxy;
use crate::activity::Activity;
use crate::admit::{Admitted, Asked, Entrance};
use crate::announce::announce_again;
use crate::body::ResponseBody;
use crate::clock;
use crate::fetch::Job;
use crate::flight::{Begin, Flight};
use crate::flights::Boarding;
use crate::limits::LOCATE_BUDGET;
use crate::message::{Source, Stored};
use crate::page;
use crate::reason::{Failure, Reason};
use crate::respond::{CacheStatus, Forward, elapsed, own_page};
use crate::upstream::Upstream;

type Answer = (Source, Response<ResponseBody>);

impl Proxy {
    /// Answers one request; whatever happens, there is a response.
    pub(crate) async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        entrance: Entrance,
        activity: Activity,
    ) -> Response<ResponseBody> {
        let since = clock::now();
        let waiting = activity.waits_for_us();
        // The body is not read: none is expected of GET and HEAD, and hyper drains or closes.
        let (parts, _) = request.into_parts();
        let (method, uri) = (parts.method.clone(), parts.uri.clone());
        let host = parts.headers.get(HOST).cloned();
        let human = entrance != Entrance::Peer;
        let answer = match self.admit(parts, entrance) {
            Ok(Admitted::Page(status)) => {
                let name = &self.signature.name;
                let text = page::node(&self.suffix, name, self.contact.as_deref());
                Ok((Source::None, own_page(status, text)))
            }
            Ok(Admitted::Site(asked)) if human => self.serve_client(*asked).await,
            Ok(Admitted::Site(asked)) => self.serve_peer(&asked).await,
            Err(failure) => Err(failure),
        };
        let (source, mut response) = answer.unwrap_or_else(|failure| {
            tracing::info!(%method, ?host, %uri, status = failure.status.as_u16(), "{failure}");
            (Source::None, self.respond_failure(&failure, human))
        });
        if method == Method::HEAD {
            *response.body_mut() = ResponseBody::nothing();
        }
        drop(waiting);
        if human {
            let counters = self.metrics.source(source);
            counters.requests.inc();
            counters.first_byte.observe(elapsed(since));
            self.metrics.count_status(response.status());
            let bytes = counters.bytes.clone();
            response = response.map(|body| body.watched(Some(bytes), activity));
        } else {
            response = response.map(|body| body.watched(None, activity));
        }
        response
    }

    /// Step 2 for a client, and on.
    async fn serve_client(self: &Arc<Self>, asked: Asked) -> Result<Answer, Failure> {
        let (key, found) = self.store.find(&asked.uri, &asked.headers);
        if let Some(stored) = &found
            && stored.freshness.remaining(clock::now()).is_some()
        {
            if stored.due_for_announcement(clock::now()) {
                announce_again(&self.index, stored.clone(), &self.closing);
            }
            return Ok(self.hit(&asked, stored));
        }
        if asked.told.only_if_cached {
            let failure = Failure::new(Reason::ProxyInternalResponse, "not held, or not fresh");
            return Err(failure);
        }
        let shared = !asked.told.no_store && !self.unshared.contains_key(&asked.uri);
        if asked.get && shared {
            return self.fly(asked, key, found).await;
        }
        if !asked.get
            && let Some(flight) = self.flights.find(&key)
            && let Begin::Stream(arriving) = flight.begun().await
            && arriving.variant.suits(&asked.headers)
        {
            let status = joined(missed(&asked, &key, found.as_ref()), arriving.source);
            let response = self.respond_arriving(&asked, &arriving, &flight, status);
            return Ok((arriving.source, response.expect("a HEAD response has no body to miss")));
        }
        self.pass(&asked).await
    }

    /// Step 3: join the flight, or lead it.
    async fn fly(
        self: &Arc<Self>,
        asked: Asked,
        key: Arc<str>,
        stale: Option<Arc<Stored>>,
    ) -> Result<Answer, Failure> {
        let fresh = || {
            let (_, found) = self.store.find(&asked.uri, &asked.headers);
            found.filter(|stored| stored.freshness.remaining(clock::now()).is_some())
        };
        let forward = missed(&asked, &key, stale.as_ref());
        let (flight, leader) = match self.flights.board(&key, fresh) {
            Ok(Boarding::Stored(stored)) => return Ok(self.hit(&asked, &stored)),
            Ok(Boarding::Joined(flight)) => (flight, None),
            Ok(Boarding::New(landing)) => {
                let (sender, receiver) = oneshot::channel();
                let flight = landing.flight.clone();
                let (target, uri) = (asked.target.clone(), asked.uri.clone());
                let job = Job { target, uri, headers: asked.headers.clone(), stale };
                tokio::spawn(self.clone().fetch(landing, job, sender));
                (flight, Some(receiver))
            }
            Err(failure) => match stale.and_then(|stale| self.stand_in(&stale)) {
                Some(Begin::Stored(stored, ..)) => return Ok(self.hit(&asked, &stored)),
                _ => return Err(failure),
            },
        };
        let collapsed = leader.is_none();
        let status = CacheStatus {
            forward: Some(forward),
            answered: None,
            stored: true,
            collapsed,
            source: Source::None,
        };
        match flight.begun().await {
            Begin::Stream(arriving) if arriving.variant.suits(&asked.headers) => {
                if collapsed {
                    self.metrics.collapsed.inc();
                }
                let source = arriving.source;
                let status = CacheStatus { source, ..status };
                match self.respond_arriving(&asked, &arriving, &flight, status) {
                    Some(response) => Ok((source, response)),
                    None => self.pass(&asked).await,
                }
            }
            Begin::Stream(_) => self.pass(&asked).await,
            Begin::Stored(stored, source, answered) => {
                let stored_now = source == Source::Origin;
                let status = CacheStatus { answered, stored: stored_now, source, ..status };
                Ok((source, self.respond_stored(&asked, &stored, status)))
            }
            Begin::Pass(reason) => {
                tracing::debug!(uri = %asked.uri, ?reason, "not stored");
                self.passed(&asked, leader, forward).await
            }
            Begin::Failed(failure) => Err(failure),
        }
    }

    /// The response is for one asker: the leader takes the one that came, others ask for their own.
    async fn passed(
        &self,
        asked: &Asked,
        leader: Option<oneshot::Receiver<Upstream>>,
        forward: Forward,
    ) -> Result<Answer, Failure> {
        if let (Some(leader), true) = (leader, asked.selecting.is_empty())
            && let Ok(upstream) = leader.await
        {
            let place = self.place()?;
            return Ok((upstream.source, self.respond_upstream(asked, upstream, forward, place)));
        }
        self.pass(asked).await
    }

    /// Asks for one client only, with its conditions and ranges. HEAD is asked of a peer first.
    async fn pass(&self, asked: &Asked) -> Result<Answer, Failure> {
        let place = self.place()?;
        let mut headers = asked.headers.clone();
        headers.extend(asked.selecting.clone());
        self.signature.sign(&mut headers);
        let target = &asked.target;
        let method = if asked.get { Method::GET } else { Method::HEAD };
        if !asked.get
            && let Ok(Ok(found)) =
                timeout(LOCATE_BUDGET, self.index.get(Key::of_name(asked.uri.as_bytes()))).await
        {
            let (holders, level) = (&found.pointers, found.level);
            let good = |upstream: &Upstream| !upstream.head.status.is_informational();
            let asked_peers = self.peers.ask(&method, target, &headers, holders, level, good).await;
            if let Some(upstream) = asked_peers {
                let forward = Forward::UriMiss;
                let source = upstream.source;
                return Ok((source, self.respond_upstream(asked, upstream, forward, place)));
            }
        }
        let upstream = self.origin.ask(&method, target, &headers).await?;
        Ok((Source::Origin, self.respond_upstream(asked, upstream, Forward::Bypass, place)))
    }

    /// A place among the requests that are passed on for one client.
    fn place(&self) -> Result<OwnedSemaphorePermit, Failure> {
        self.passing.clone().try_acquire_owned().map_err(|_| {
            let detail = "this node passes on as many requests as it may; try again soon";
            Failure::new(Reason::ConnectionLimitReached, detail)
        })
    }

    /// Step 2 for a peer, which is served from what is held or arriving, and from nothing else.
    async fn serve_peer(&self, asked: &Asked) -> Result<Answer, Failure> {
        let (key, found) = self.store.find(&asked.uri, &asked.headers);
        let fresh = |stored: &Arc<Stored>| stored.freshness.remaining(clock::now()).is_some();
        if let Some(stored) = found.filter(fresh) {
            return Ok(self.hit(asked, &stored));
        }
        let miss = || Failure::new(Reason::ProxyInternalResponse, "not held");
        let flight: Arc<Flight> = self.flights.find(&key).ok_or_else(miss)?;
        match flight.begun_for_peer().await {
            Some(Begin::Stream(arriving)) if arriving.variant.suits(&asked.headers) => {
                let source = arriving.source;
                let status = joined(Forward::UriMiss, source);
                let response = self.respond_arriving(asked, &arriving, &flight, status);
                Ok((source, response.ok_or_else(miss)?))
            }
            Some(Begin::Stored(stored, ..)) if fresh(&stored) => Ok(self.hit(asked, &stored)),
            _ => Err(miss()),
        }
    }

    fn hit(&self, asked: &Asked, stored: &Arc<Stored>) -> Answer {
        let source = Source::Local;
        let status =
            CacheStatus { forward: None, answered: None, stored: false, collapsed: false, source };
        (source, self.respond_stored(asked, stored, status))
    }
}

/// Why the store did not do: nothing there, another variant, or no longer fresh.
fn missed(asked: &Asked, key: &Arc<str>, stale: Option<&Arc<Stored>>) -> Forward {
    match stale {
        Some(_) => Forward::Stale,
        None if *key == asked.uri => Forward::UriMiss,
        None => Forward::VaryMiss,
    }
}

fn joined(forward: Forward, source: Source) -> CacheStatus {
    let forward = Some(forward);
    CacheStatus { forward, answered: None, stored: true, collapsed: true, source }
}
