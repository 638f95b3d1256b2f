//! A signal ends what is being measured, and only that: whoever has started something still takes it away.

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};

use crate::cli::{exit::Failure, signals};

/// Whether a signal has asked to stop.
#[derive(Debug, Clone)]
pub(super) struct Stop {
    asked: Shared<BoxFuture<'static, ()>>,
}

impl Stop {
    /// From now on signals are heard here.
    pub(super) fn listen() -> Result<Self, Failure> {
        Ok(Self {
            asked: signals::stop_signal()?.boxed().shared(),
        })
    }

    /// Does some work, unless a signal comes first.
    pub(super) async fn or<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            done = work => done,
            () = self.asked.clone() => {
                Err(Failure::error("a signal stopped the measurement before its end"))
            }
        }
    }
}
