//! Whether a client connection still does anything. One that asks for nothing, or takes nothing of what it
//! asked for, is closed, and not held for ever: silent sockets and closed windows cost a node its slots.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::limits::{HEAD_TIMEOUT, STALL};

/// What one connection does. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Activity {
    /// Counts requests and pieces of bodies.
    steps: Arc<watch::Sender<u64>>,
    /// Requests and bodies that wait for us, or for an origin, and not for the client.
    ours: Arc<AtomicUsize>,
}

impl Activity {
    pub(crate) fn new() -> Self {
        Self { steps: Arc::new(watch::Sender::new(0)), ours: Arc::default() }
    }

    /// The client has asked, or has taken something.
    pub(crate) fn step(&self) {
        self.steps.send_modify(|steps| *steps += 1);
    }

    /// As long as this is held, the client waits for us.
    pub(crate) fn waits_for_us(&self) -> Waiting {
        self.step();
        self.ours.fetch_add(1, Ordering::Relaxed);
        Waiting(self.clone())
    }

    /// Ends once the client has done nothing for too long although it could.
    pub(crate) fn stalled(&self) -> impl Future<Output = Duration> + use<> {
        let (mut steps, ours) = (self.steps.subscribe(), self.ours.clone());
        async move {
            let mut limit = HEAD_TIMEOUT;
            loop {
                let step = timeout(limit, steps.changed()).await;
                if step.is_err() && ours.load(Ordering::Relaxed) == 0 {
                    return limit;
                }
                if step.is_ok() {
                    limit = STALL;
                }
            }
        }
    }
}

/// The client waits for us.
#[derive(Debug)]
pub(crate) struct Waiting(Activity);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.ours.fetch_sub(1, Ordering::Relaxed);
        self.0.step();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_ends_a_connection_but_waiting_for_us_does_not() {
        let began = Instant::now();
        Activity::new().stalled().await;
        assert_eq!(began.elapsed(), HEAD_TIMEOUT);

        let activity = Activity::new();
        let (began, stalled) = (Instant::now(), tokio::spawn(activity.stalled()));
        let waiting = activity.waits_for_us();
        sleep(STALL * 3).await;
        drop(waiting);
        sleep(STALL / 2).await;
        activity.step();
        stalled.await.unwrap();
        assert_eq!(began.elapsed(), STALL * 4 + STALL / 2);
    }
}
