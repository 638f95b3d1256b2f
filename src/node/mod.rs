//! One node.

pub mod config;

pub use config::NodeConfig;

/// Not here yet.
#[derive(Debug)]
pub struct Node;

impl Node {
    /// Not here yet.
    ///
    /// # Errors
    /// Always.
    pub async fn start(config: NodeConfig) -> Result<Self, String> {
        Err(format!("no node is here yet for {config:?}"))
    }

    /// Not here yet.
    ///
    /// # Errors
    /// None.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), String> {
        shutdown.await;
        Ok(())
    }
}
