//! The life of a request, in order. Each step is a decision; what it needs is done beside it.
//!
//! | # | step | here |
//! |---|------|------|
//! | 1 | decode the host, clean the fields, refuse what is not proxied | `admit.rs` |
//! | 2 | look in the cache | [`Proxy::serve_client`]; for a peer `serve_peer.rs` |
//! | 3 | join a fetch in flight | [`Proxy::fly`] |
//! | 4-7 | locate, peer, origin, store and announce | `fetch.rs`, `search.rs` |
//! | 8 | respond | `respond.rs` |
//!
//! What no cache answers, or may not keep, goes to the origin for one client alone: `pass.rs`, `tunnel.rs`.

use std::sync::Arc;

use http::header::{HOST, RANGE};
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::activity::Activity;
use crate::admit::{Admitted, Asked, Entrance};
use crate::announce::announce_again;
use crate::body::ResponseBody;
use crate::clock;
use crate::fetch::Job;
use crate::fields::Mode;
use crate::flight::Begin;
use crate::flights::Boarding;
use crate::interim::{Early, Line};
use crate::limits::{INSIST_PATIENCE, MAX_AGAIN};
use crate::message::{Source, Stored};
use crate::page;
use crate::policy::{NoStore, Reuse, reuse};
use crate::reason::{Failure, Reason};
use crate::respond::{CacheStatus, Forward, elapsed, own_page};
use crate::serve_peer::joined;
use crate::slices::lacks;
use crate::tunnel::wanted_protocol;
use crate::upload::Upload;
use crate::{Proxy, PurgeError};

pub(crate) type Answer = (Source, Response<ResponseBody>);

impl Proxy {
    /// Answers one request; whatever happens, there is a response.
    pub(crate) async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        entrance: Entrance,
        activity: Activity,
        line: Line,
    ) -> Response<ResponseBody> {
        let since = clock::now();
        let waiting = activity.waits_for_us();
        // A body that is not passed on is not read either: hyper drains or closes.
        let (mut parts, body) = request.into_parts();
        let (method, uri) = (parts.method.clone(), parts.uri.clone());
        let host = parts.headers.get(HOST).cloned();
        let human = !matches!(entrance, Entrance::Peer(..));
        let line = Some(line).filter(|_| human && parts.version == Version::HTTP_11);
        let upgrade = parts.extensions.remove::<OnUpgrade>().zip(wanted_protocol(&parts));
        let answer = match self.admit(parts, entrance) {
            Ok(Admitted::Page(status)) => {
                let name = &self.signature.name;
                let text = page::node(&self.suffix, name, self.contact.as_deref());
                Ok((Source::None, own_page(status, text)))
            }
            Ok(Admitted::Purge(purge)) => self
                .purge(&purge)
                .await
                .map_err(|error| refused(&error))
                .map(|()| (Source::None, own_page(StatusCode::OK, "purged\n".into()))),
            Ok(Admitted::Site(mut asked)) if !human => self.serve_peer(&mut asked).await,
            Ok(Admitted::Site(mut asked)) => match (upgrade, asked.target.site.clone()) {
                (Some((upgrade, protocol)), Some(site)) if asked.is_read() => {
                    self.tunnel(&asked, &site, upgrade, protocol).await
                }
                (_, Some(site)) if !asked.is_read() => {
                    asked.early = line.as_ref().map(|line| self.early(line, &asked));
                    let upload = Upload::of(body, self.stall_timeout, activity.clone());
                    self.forward(&asked, &site, upload).await
                }
                _ => self.serve_client(*asked, line.as_ref()).await,
            },
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
        if let Some(line) = &line {
            line.close().await;
        }
        if human {
            let counters = self.metrics.source(source);
            counters.requests.inc();
            counters.first_byte.observe(elapsed(since));
            self.metrics.count_status(response.status());
            let bytes = counters.bytes.clone();
            response = response.map(|body| body.counted(bytes));
        }
        response.map(|body| body.watched(activity))
    }

    /// Steps 2 and on for a client, from the beginning again if what was held has changed meanwhile.
    async fn serve_client(
        self: &Arc<Self>,
        mut asked: Asked,
        line: Option<&Line>,
    ) -> Result<Answer, Failure> {
        for _ in 0..MAX_AGAIN {
            match self.look_up(&mut asked, line).await {
                Err(failure) if failure.again => {}
                answer => return answer,
            }
        }
        self.look_up(&mut asked, line).await
    }

    /// Step 2 for a client, and on.
    async fn look_up(
        self: &Arc<Self>,
        asked: &mut Asked,
        line: Option<&Line>,
    ) -> Result<Answer, Failure> {
        let (key, found) = self.held(asked).await;
        let usable = found.as_ref().map(|stored| self.reuse(asked, stored));
        if let (Some(stored), Some(reuse)) = (&found, usable.filter(|reuse| reuse.at_once())) {
            let lacks = lacks(asked, stored);
            if !lacks || !asked.told.only_if_cached && !asked.told.no_store {
                if reuse == Reuse::WhileRevalidating {
                    self.revalidate(asked, &key, stored);
                } else if !lacks {
                    self.announce_in_time(asked, stored);
                }
                return self.hit(asked, stored).await;
            }
        }
        if asked.told.only_if_cached {
            let failure = Failure::new(Reason::ProxyInternalResponse, "not held, or not fresh");
            return Err(failure);
        }
        let forward = match (usable, &found) {
            (Some(Reuse::ValidateFresh), _) => Forward::Request,
            (Some(reuse), Some(_)) if reuse.at_once() => Forward::Partial,
            (_, Some(_)) => Forward::Stale,
            (_, None) if self.keeps(&asked.uri) => Forward::VaryMiss,
            (_, None) => Forward::UriMiss,
        };
        asked.early = line.map(|line| self.early(line, asked));
        let first = self.first_slices(asked.selecting.get(RANGE));
        // Of what is too large to be kept whole, slices may be kept.
        let alone = |why| why != NoStore::TooLarge || first.is_none();
        let shared = !asked.told.no_store && !self.unshared.get(&asked.uri).is_some_and(alone);
        if asked.is_get() && shared {
            return self.fly(asked, key, found, forward).await;
        }
        if asked.is_head()
            && forward != Forward::Request
            && !asked.told.no_cache
            && let Some(flight) = self.flights.find(&key)
            && let Begin::Stream(arriving) = flight.begun().await
            && arriving.is_for(asked, false)
        {
            let status = joined(forward, arriving.source);
            let response = self.respond_arriving(asked, &arriving, &flight, status);
            self.metrics.source(arriving.source).collapsed.inc();
            return Ok((arriving.source, response.expect("a HEAD response has no body to miss")));
        }
        // One may have landed between the two looks.
        if let Some(stored) = self.landed(asked)
            && !(asked.told.no_store && lacks(asked, &stored))
        {
            return self.hit(asked, &stored).await;
        }
        self.pass(asked, if found.is_some() { forward } else { Forward::Bypass }).await
    }

    /// Says again that it is here, if it is time.
    pub(crate) fn announce_in_time(&self, asked: &Asked, stored: &Arc<Stored>) {
        if asked.target.site.is_none()
            && stored.due_for_announcement(clock::now())
            && stored.body.is_whole()
            && self.can_prove(stored)
        {
            announce_again(&self.index, stored.clone(), &self.closing);
        }
    }

    /// What the origin may say to this client before its response.
    fn early(self: &Arc<Self>, line: &Line, asked: &Asked) -> Early {
        let (proxy, client, target) = (self.clone(), asked.client, asked.target.clone());
        line.early(move |headers| {
            if let (Some(client), None) = (client, &target.site) {
                proxy.naming(client, &target).rewrite(headers);
            }
        })
    }

    /// What may be done with what is held.
    fn reuse(&self, asked: &Asked, stored: &Stored) -> Reuse {
        reuse(&stored.freshness, &asked.told, clock::now(), &asked.rules)
    }

    /// Validates what was just used stale, in the background (RFC 5861, section 3).
    fn revalidate(self: &Arc<Self>, asked: &Asked, key: &Arc<str>, stored: &Arc<Stored>) {
        let Ok(place) = self.background.clone().try_acquire_owned() else { return };
        let landed = || self.landed(asked);
        if let Ok(Boarding::New(landing)) = self.flights.board(key, landed) {
            let mut job = Job::of(asked, Some(stored.clone()));
            // If it has changed, no more than this is needed now.
            job.first = self.first_slices(asked.selecting.get(RANGE));
            let (proxy, (leader, _)) = (self.clone(), oneshot::channel());
            tokio::spawn(async move {
                proxy.fetch(landing, job, leader).await;
                drop(place);
            });
        }
    }

    /// What has landed since the cache was looked into.
    fn landed(&self, asked: &Asked) -> Option<Arc<Stored>> {
        let (_, found) = self.in_memory(asked);
        found.filter(|stored| self.reuse(asked, stored) == Reuse::Fresh)
    }

    /// Step 3: join the flight, or lead it.
    async fn fly(
        self: &Arc<Self>,
        asked: &Asked,
        key: Arc<str>,
        stale: Option<Arc<Stored>>,
        forward: Forward,
    ) -> Result<Answer, Failure> {
        let insists = forward == Forward::Request || asked.told.no_cache;
        let mut waited = false;
        let (flight, leader) = match self.boarding(asked, &key, insists).await {
            Ok(None) => return self.pass(asked, forward).await,
            Ok(Some(Boarding::Stored(stored))) => return self.hit(asked, &stored).await,
            Ok(Some(Boarding::Joined(flight))) => (flight, None),
            Ok(Some(Boarding::Waiting(flight))) => {
                waited = shares_waiting(asked);
                (flight, None)
            }
            Ok(Some(Boarding::New(landing))) => {
                let (sender, receiver) = oneshot::channel();
                let flight = landing.flight.clone();
                // Something to validate may have landed since.
                let (_, found) = self.store.find(&asked.uri, &asked.headers);
                let mut job = Job::of(asked, found.or(stale));
                job.first = self.first_slices(asked.selecting.get(RANGE));
                tokio::spawn(self.clone().fetch(landing, job, sender));
                (flight, Some(receiver))
            }
            Err(failure) => match stale.and_then(|stale| self.stand_in(&stale)) {
                Some(Begin::Stored(stored, ..)) => return self.hit(asked, &stored).await,
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
            Begin::Stream(arriving) if !collapsed || arriving.is_for(asked, waited) => {
                let source = arriving.source;
                let status = CacheStatus { source, ..status };
                match self.respond_arriving(asked, &arriving, &flight, status) {
                    Some(response) => {
                        if collapsed {
                            self.metrics.source(source).collapsed.inc();
                        }
                        Ok((source, response))
                    }
                    None => self.pass(asked, forward).await,
                }
            }
            Begin::Stream(_) => self.pass(asked, forward).await,
            Begin::Stored(stored, source, answered)
                if !collapsed || stored.is_for(asked, source, waited) =>
            {
                let stored_now = source != Source::Local;
                let status = CacheStatus { answered, stored: stored_now, source, ..status };
                let mut response = self.respond_stored(asked, &stored, status).await?;
                if answered == Some(StatusCode::NOT_MODIFIED) {
                    // The origin was asked, and the octets are ours.
                    let local = self.metrics.source(Source::Local).bytes.clone();
                    response = response.map(|body| body.counted(local));
                }
                if collapsed {
                    self.metrics.source(source).collapsed.inc();
                } else {
                    response.headers_mut().extend(flight.take_withheld());
                }
                Ok((source, response))
            }
            Begin::Stored(..) => self.pass(asked, forward).await,
            Begin::Pass(reason) => {
                tracing::debug!(uri = %asked.uri, ?reason, "not stored");
                self.passed(asked, leader, forward).await
            }
            Begin::Failed(failure) => Err(failure),
        }
    }

    /// A fetch for this client: one in flight, if it brings what may answer this request too, else a new
    /// one. Nothing: it has to go alone.
    async fn boarding(
        &self,
        asked: &Asked,
        key: &Arc<str>,
        insists: bool,
    ) -> Result<Option<Boarding>, Failure> {
        let boarding = self.flights.board(key, || self.landed(asked))?;
        let (flight, early) = match &boarding {
            Boarding::Joined(flight) => (flight, false),
            Boarding::Waiting(flight) => (flight, true),
            _ => return Ok(Some(boarding)),
        };
        // What the origin said before it came is not what an insisting client wants to hear.
        let too_late = insists && !early;
        let waited = early && shares_waiting(asked);
        if !too_late && !flight.begun().await.needs_validation(asked, waited) {
            return Ok(Some(boarding));
        }
        // What the flight leaves behind can be validated.
        if timeout(INSIST_PATIENCE, self.flights.gone(key, flight)).await.is_err() {
            return Ok(None);
        }
        self.flights.board(key, || self.landed(asked)).map(Some)
    }

    /// From what is held. What lacks of it comes from the origin, if that is to be asked.
    pub(crate) async fn hit(
        self: &Arc<Self>,
        asked: &Asked,
        stored: &Arc<Stored>,
    ) -> Result<Answer, Failure> {
        let lacks = lacks(asked, stored);
        let source = match lacks {
            true => self.source_of_rest(asked).await,
            false => Source::Local,
        };
        let status = CacheStatus {
            forward: lacks.then_some(Forward::Partial),
            answered: lacks.then_some(StatusCode::PARTIAL_CONTENT),
            stored: lacks,
            collapsed: false,
            source,
        };
        Ok((source, self.respond_stored(asked, stored, status).await?))
    }
}

/// Whether a response that came while this request waited for it answers it, also where one more request
/// would need a validation. It does behind the suffix, where a crowd must not reach the origin; a site's
/// requests each have what they ask for (RFC 9111, section 5.2.2.4).
fn shares_waiting(asked: &Asked) -> bool {
    asked.mode == Mode::Suffixed
}

/// As the one who asked over HTTP is told.
fn refused(error: &PurgeError) -> Failure {
    let (reason, status) = match error {
        PurgeError::Name(_) => (Reason::HttpRequestError, StatusCode::BAD_REQUEST),
        PurgeError::Full => (Reason::ProxyInternalError, StatusCode::SERVICE_UNAVAILABLE),
        PurgeError::NotWritten => (Reason::ProxyInternalError, StatusCode::INTERNAL_SERVER_ERROR),
    };
    Failure::new(reason, error.to_string()).with_status(status)
}
