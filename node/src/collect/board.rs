//! What a source found last, for readers beside the tick: `status`, the page, rules.

use std::sync::{Arc, Mutex, PoisonError};

/// A finding that the tick replaces and others look at; clones share it.
#[derive(Debug)]
pub struct Board<T>(Arc<Mutex<Option<Arc<T>>>>);

impl<T> Board<T> {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(None)))
    }

    /// What was found last. `None`: nothing yet, nothing to find, or it is too old.
    #[must_use]
    pub fn latest(&self) -> Option<Arc<T>> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn show(&self, found: Option<Arc<T>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = found;
    }
}

impl<T> Clone for Board<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
