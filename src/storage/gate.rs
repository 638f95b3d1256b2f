//! The first failed write or sync ends all writing on this node, until it is started again: after a failed sync the
//! page cache can no longer be believed, and a retry that succeeds would lie. Reads go on.

use std::sync::Arc;

use tokio::sync::watch;

use super::StorageError;

/// One per node, cloned into whatever writes. Open at first; once closed it never opens.
#[derive(Debug, Clone)]
pub struct WriteGate {
    reason: Arc<watch::Sender<Option<Arc<str>>>>,
}

impl WriteGate {
    /// An open gate.
    #[must_use]
    pub fn new() -> Self {
        Self {
            reason: Arc::new(watch::Sender::new(None)),
        }
    }

    /// Closes the gate for good. The first reason is kept, and logged; later ones are dropped.
    pub fn close(&self, reason: &str) {
        let first = self.reason.send_if_modified(|current| {
            let open = current.is_none();
            if open {
                *current = Some(reason.into());
            }
            open
        });
        if first {
            tracing::error!(reason, "this node stops writing");
        }
    }

    /// `Ok` while writing is allowed, else the reason it is not.
    pub fn check(&self) -> Result<(), StorageError> {
        match &*self.reason.borrow() {
            None => Ok(()),
            Some(reason) => Err(StorageError::GateClosed {
                reason: reason.clone(),
            }),
        }
    }

    /// Resolves with the reason once the gate is closed: the node should then stop.
    pub async fn closed(&self) -> Arc<str> {
        let mut receiver = self.reason.subscribe();
        let reason = receiver
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|reason| reason.clone());
        match reason {
            Some(reason) => reason,
            // The sender lives in `self`, so that it cannot have gone.
            None => std::future::pending().await,
        }
    }
}

impl Default for WriteGate {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_reason_closes_it_for_good() {
        let gate = WriteGate::new();
        gate.check().unwrap();
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.closed().await }
        });
        gate.close("cannot sync log/1: I/O error");
        gate.close("something later");
        assert_eq!(&*waiting.await.unwrap(), "cannot sync log/1: I/O error");
        assert_eq!(&*gate.closed().await, "cannot sync log/1: I/O error");
        let error = gate.check().unwrap_err().to_string();
        assert!(error.contains("cannot sync log/1: I/O error"), "{error}");
    }
}
