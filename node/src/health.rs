//! Whether a node should be sent work.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use coralline_overlay::Handle;

/// Why a node is not ready. The text is what `/readyz` answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unready {
    /// No seed or saved contact has answered yet.
    NotJoined,
    /// It was told to end.
    ShuttingDown,
}

/// The life of one node, as others may ask for it.
pub(crate) struct Health {
    index: Handle,
    ending: AtomicBool,
}

impl Health {
    /// The health of the node with this overlay; its sockets are bound by the time this exists.
    pub(crate) fn new(index: Handle) -> Self {
        Self { index, ending: AtomicBool::new(false) }
    }

    /// The overlay that is asked.
    pub(crate) fn index(&self) -> &Handle {
        &self.index
    }

    /// From now on the node is not ready, whatever else holds.
    pub(crate) fn end(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    /// Whether to send work to this node.
    ///
    /// # Errors
    /// The reason why not.
    pub(crate) fn readiness(&self) -> Result<(), Unready> {
        if self.ending.load(Ordering::Relaxed) {
            return Err(Unready::ShuttingDown);
        }
        if self.index.directory().joined { Ok(()) } else { Err(Unready::NotJoined) }
    }
}

impl fmt::Display for Unready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotJoined => {
                "not joined: no node of overlay.seeds has answered yet, nor one known from before"
            }
            Self::ShuttingDown => "shutting down",
        })
    }
}
