//! Who may purge, and what happens then.

use http::HeaderValue;

use crate::Proxy;
use crate::clock;
use crate::purge::{Force, Full, Verdict};
use crate::scope::{BadName, Purge, Scope};

/// Why nothing was purged.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PurgeError {
    /// A name makes no sense.
    #[error(transparent)]
    Name(#[from] BadName),
    /// There are too many purges to remember.
    #[error("too many purges are remembered; purge hosts or prefixes instead of single URLs")]
    Full,
    /// It was purged, but the disk did not take the note.
    #[error("purged, but not written down, see the log: it holds until a restart")]
    NotWritten,
}

impl Proxy {
    /// Purges what this node has, and what arrives later and is older than now. Once it is done it will
    /// survive a kill, and a loss of power.
    ///
    /// # Errors
    /// See [`PurgeError`]; with too many purges, those named first are done.
    pub async fn purge(&self, purge: &Purge) -> Result<(), PurgeError> {
        let scopes = purge.scopes(&self.suffix)?;
        let force = if purge.hard { Force::Hard } else { Force::Soft };
        let now = clock::now();
        let ruled = scopes.iter().try_for_each(|scope| self.rule(scope, force, now));
        // What is under way was asked for before. Its tags are not known yet.
        let by_tag = scopes.iter().any(|scope| matches!(scope, Scope::Tag(_)));
        let purged = |key: &str| {
            let uri = key.split('\n').next().unwrap_or_default();
            by_tag || self.purges.verdict(uri, now, Vec::<&str>::new) != Verdict::Untouched
        };
        self.flights.disown_where(purged);
        tracing::info!(?purge, "purged");
        let written = self.purges_written().await;
        ruled.map_err(|Full| PurgeError::Full)?;
        if written { Ok(()) } else { Err(PurgeError::NotWritten) }
    }

    /// Whether a request shows in `Authorization` (RFC 6750, section 2.1) that it may purge. How long the
    /// answer takes does not tell how much is right.
    #[must_use]
    pub fn may_purge(&self, authorization: Option<&HeaderValue>) -> bool {
        let said = authorization.and_then(|value| value.to_str().ok()).unwrap_or_default();
        let Some((scheme, said)) = said.split_once(' ') else { return false };
        let (said, token) = (said.trim(), self.token.as_bytes());
        let pairs = said.bytes().zip(token);
        let same = pairs.fold(0, |differ, (a, b)| differ | (a ^ b)) == 0;
        scheme.eq_ignore_ascii_case("Bearer") && said.len() == token.len() && same
    }
}
