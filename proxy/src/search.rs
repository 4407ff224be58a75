//! Step 5: peers are searched, by the index and by each other, until one gives what fits.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use coralline_overlay::Identity;
use coralline_sources::Dealing;
use http::header::HeaderMap;
use http::{Method, StatusCode};
use tokio::time::{Instant, sleep};

use crate::Proxy;
use crate::announce::{Announcement, Located};
use crate::fetch::Job;
use crate::flight::{Arriving, Flight, Stage};
use crate::limits::{ASK_AGAIN_AFTER, MAX_RELOCATIONS, PEER_BUDGET, PEERS_PATIENCE};
use crate::peer::{Fit, Given, Search, Tried};
use crate::policy::NoStore;
use crate::proving::{Proving, vouched_for};
use crate::upstream::Upstream;

/// What it counts for to have put this node off for as long as it had patience: who is in the middle of a crowd may
/// have to.
const PUT_OFF: Dealing = Dealing::Late(0.5);

/// What peers are asked for, on whose behalf.
pub(crate) struct PeerSearch<'a> {
    pub(crate) flight: &'a Flight,
    pub(crate) job: &'a Job,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) told: Option<&'a Announcement>,
    /// What has been proved so far of what they are asked to go on with.
    pub(crate) rest: Option<&'a Proving>,
    /// Holders that were of no use.
    pub(crate) tried: &'a mut Tried,
    /// How long they are asked in all.
    pub(crate) patience: Duration,
    /// They are asked for as long as that, whatever they and the index say.
    pub(crate) insists: bool,
}

impl Proxy {
    /// Step 5: from those whom the index names, and from others where these have nothing to give.
    pub(crate) async fn ask_peers(
        &self,
        search: PeerSearch<'_>,
        mut located: Located,
        fits: impl Fn(&Upstream) -> Fit,
    ) -> Option<Upstream> {
        let PeerSearch { flight, job, headers, told, rest, tried, patience, insists } = search;
        let deadline = Instant::now() + patience;
        let (mut relocations, mut misled, mut later) = (0, false, None::<Instant>);
        loop {
            match located {
                Located::Held(holders, level) => {
                    flight.set_stage(Stage::Peer);
                    let deadline = deadline.min(Instant::now() + PEER_BUDGET);
                    let search = Search { holders: &holders, level, deadline, rest, misled };
                    let (get, target) = (&Method::GET, &job.target);
                    let given = self.peers.ask(get, target, headers, search, tried, &fits).await;
                    // Whoever is sent here meanwhile waits: it may become ours to fetch.
                    flight.set_stage(Stage::Locating);
                    match given {
                        Given::Good(upstream) => {
                            upstream.peer.iter().for_each(|sender| flight.follow(sender));
                            return Some(*upstream);
                        }
                        Given::Later { misled: now, by } => {
                            misled |= now;
                            let since = *later.get_or_insert_with(Instant::now);
                            // Nobody is to be put off for ever. Those who have lost the same source put each
                            // other off until one is told that it is theirs to fetch: they have less time anyway.
                            if since.elapsed() >= PEER_BUDGET && !insists {
                                by.iter().for_each(|peer| self.peers.learn(peer, PUT_OFF));
                                tried.holders.add(&by, None);
                                (relocations, later) = (relocations + 1, None);
                            }
                            sleep(ASK_AGAIN_AFTER).await;
                        }
                        Given::Nothing => {
                            relocations += 1;
                            // Who insists asks for long: not as fast as an index of liars answers.
                            if insists {
                                sleep(ASK_AGAIN_AFTER).await;
                            }
                        }
                    }
                }
                // Where a node has died, parts of the index may be about to find out.
                Located::Unknown if insists => sleep(ASK_AGAIN_AFTER).await,
                Located::Unknown => {
                    tracing::debug!(uri = %job.uri, "the index does not say who has it");
                    return None;
                }
                Located::Claimed => {
                    tracing::debug!(uri = %job.uri, useless = ?tried.holders, "it is ours to fetch");
                    return None;
                }
            }
            let may = (insists || relocations <= MAX_RELOCATIONS) && Instant::now() < deadline;
            if !may {
                tracing::debug!(uri = %job.uri, relocations, "peers have had their time");
            }
            let told = told.filter(|_| may)?;
            located = told.locate_except(tried.holders.clone()).await;
        }
    }

    /// [`PEERS_PATIENCE`], and up to as much again: a crowd that waits for a slow origin does not lose it in the
    /// same moment, and who does later finds what the first have got.
    pub(crate) fn patience(&self, job: &Job) -> Duration {
        let mut hasher = DefaultHasher::new();
        (self.index.local().identity.0, &job.uri).hash(&mut hasher);
        let share = (hasher.finish() % 256) as f64 / 256.0;
        PEERS_PATIENCE.mul_f64(1.0 + share)
    }

    /// Whether a peer's answer will do: all of it, as it was signed, or the part that was asked for. What this
    /// node has purged, or does not keep for this request, says nothing about who has it.
    pub(crate) fn fits(&self, job: &Job, upstream: &Upstream) -> Fit {
        if job.first.is_some() && upstream.head.status == StatusCode::PARTIAL_CONTENT {
            return self.fits_as_part(job, upstream);
        }
        let arriving = self.arriving(job, upstream);
        self.fits_if(arriving, upstream, |arriving| vouched_for(job, arriving, upstream))
    }

    /// The same of what would be arriving, if it is `vouched` for.
    pub(crate) fn fits_if(
        &self,
        arriving: Result<Arc<Arriving>, NoStore>,
        upstream: &Upstream,
        vouched: impl FnOnce(&Arriving) -> bool,
    ) -> Fit {
        match arriving {
            Ok(arriving) if vouched(&arriving) => match self.trusts(upstream) {
                true => Fit::Good,
                // Who passes it on has done nothing wrong.
                false => Fit::Useless,
            },
            // This depends on what was purged, how much fits, what the client has sent, and the time.
            Err(NoStore::Purged | NoStore::TooLarge | NoStore::Worthless) => Fit::Useless,
            Err(NoStore::Authorization | NoStore::Forbidden) => Fit::Useless,
            Ok(_) | Err(_) => Fit::Wrong,
        }
    }

    /// Nothing is known against who has signed it.
    pub(crate) fn trusts(&self, upstream: &Upstream) -> bool {
        let receipt = upstream.body.receipt();
        receipt.is_none_or(|receipt| !self.peers.distrusts(Identity(receipt.subject.signer)))
    }
}
