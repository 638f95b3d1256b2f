//! Listeners, connections, and gRPC channels and servers over them: the same code on real and simulated TCP.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::{Channel, Endpoint};

use super::time::sleep;

#[cfg(not(sim))]
use tokio::net as tcp;
#[cfg(sim)]
use turmoil::net as tcp;

pub use tcp::TcpStream;

/// HTTP/2 flow control window of one stream, in bytes: how much a peer sends before this side has read any of it.
pub const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// HTTP/2 flow control window of one connection, in bytes, shared by its streams.
pub const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// Longest HTTP/2 frame that either side takes, in bytes: a message of a megabyte in the default 16 KiB is 64 of them.
const FRAME_BYTES_MAX: u32 = 256 << 10;

/// Silence after which [`Connection::notice_vanished_peer`] has a peer probed, and how often from then on.
#[cfg(all(feature = "server", not(sim)))]
const PROBE_AFTER: Duration = Duration::from_secs(3);
#[cfg(all(feature = "server", not(sim)))]
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// Silence, or bytes without acknowledgement for that long, after which a probed peer is gone.
#[cfg(all(feature = "server", not(sim)))]
const VANISHED_AFTER: Duration = Duration::from_secs(7);

/// How long [`incoming`] pauses after a failed accept (out of file descriptors, say) before it tries again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listening socket. `axum::serve` takes it too.
pub struct TcpListener {
    inner: tcp::TcpListener,
}

impl std::fmt::Debug for TcpListener {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_tuple("TcpListener")
            .field(&self.local_addr())
            .finish()
    }
}

impl TcpListener {
    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    /// The next connection. One connection's trouble must not end a server: a failed accept is logged and tried again.
    pub async fn accept(&self) -> Connection {
        loop {
            match self.inner.accept().await {
                Ok((stream, _)) => match stream.set_nodelay(true) {
                    Ok(()) => return Connection { stream },
                    Err(error) => {
                        tracing::debug!(%error, "a connection was gone before it was accepted");
                    }
                },
                Err(error) => {
                    tracing::info!(%error, "cannot accept a connection; trying again");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

#[cfg(feature = "server")]
impl axum::serve::Listener for TcpListener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            let connection = Self::accept(self).await;
            // A peer that is gone already has no address.
            if let Ok(peer) = connection.peer_addr() {
                return (connection, peer);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Self::local_addr(self)
    }
}

/// Listens on `address` (`host:port`; port 0 takes any free one).
pub async fn bind(address: &str) -> io::Result<TcpListener> {
    #[cfg_attr(
        not(sim),
        expect(clippy::disallowed_methods, reason = "env is the door to the network")
    )]
    let inner = tcp::TcpListener::bind(address).await?;
    Ok(TcpListener { inner })
}

/// Connects to `authority` (`host:port`). Without a deadline of its own: wrap it in [`super::time::timeout`].
pub async fn connect(authority: &str) -> io::Result<Connection> {
    #[cfg_attr(
        not(sim),
        expect(clippy::disallowed_methods, reason = "env is the door to the network")
    )]
    let stream = TcpStream::connect(authority).await?;
    stream.set_nodelay(true)?;
    Ok(Connection { stream })
}

/// The connections made to a listener, for `Server::serve_with_incoming`. It never ends and yields no errors.
pub fn incoming(listener: TcpListener) -> impl Stream<Item = io::Result<Connection>> {
    futures::stream::unfold(listener, |listener| async move {
        let connection = listener.accept().await;
        Some((Ok(connection), listener))
    })
}

/// One TCP connection, without Nagle's delay.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
}

impl Connection {
    /// The other side's address.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }

    /// This side's address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }

    /// From now on the connection fails within ten seconds when its peer vanishes without a word, or takes none of the bytes sent to
    /// it for that long. (A simulation has no such peers.)
    #[cfg(feature = "server")]
    pub fn notice_vanished_peer(&self) -> io::Result<()> {
        #[cfg(not(sim))]
        {
            let socket = socket2::SockRef::from(&self.stream);
            let probes = socket2::TcpKeepalive::new()
                .with_time(PROBE_AFTER)
                .with_interval(PROBE_INTERVAL);
            socket.set_tcp_keepalive(&probes)?;
            // It bounds unacknowledged bytes, a window that stays closed, and, in place of a number of probes, silence.
            socket.set_tcp_user_timeout(Some(VANISHED_AFTER))?;
        }
        Ok(())
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// `Request::extensions` of a served call hold this as the connection's information; `Request::remote_addr` reads it.
#[cfg(feature = "server")]
impl tonic::transport::server::Connected for Connection {
    type ConnectInfo = tonic::transport::server::TcpConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        tonic::transport::server::TcpConnectInfo {
            local_addr: self.local_addr().ok(),
            remote_addr: self.peer_addr().ok(),
        }
    }
}

/// Deadlines of a [`channel`].
#[derive(Debug, Clone, Copy)]
pub struct ChannelOptions {
    /// How long one attempt to connect may take.
    pub connect_timeout: Duration,
    /// How often an open connection is pinged, also while idle: TCP alone does not notice a peer that vanished.
    pub keep_alive_interval: Duration,
    /// How long a ping may stay unanswered before the connection counts as dead.
    pub keep_alive_timeout: Duration,
}

impl ChannelOptions {
    /// Between the members of a cluster: a peer that vanished without a word is noticed within four seconds.
    pub const BETWEEN_MEMBERS: Self = Self {
        connect_timeout: Duration::from_secs(1),
        keep_alive_interval: Duration::from_secs(1),
        keep_alive_timeout: Duration::from_secs(3),
    };
}

impl Default for ChannelOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(2),
            keep_alive_interval: Duration::from_secs(5),
            keep_alive_timeout: Duration::from_secs(5),
        }
    }
}

/// True when a call that failed never left, because there was no connection.
#[must_use]
pub fn never_connected(status: &tonic::Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// A gRPC channel to `authority` (`host:port`) over one kept HTTP/2 connection. Connects at the first call, and again
/// at the next call after the connection broke. Must be called inside a runtime. Fails only if `authority` is no
/// authority.
pub fn channel(
    authority: &str,
    options: ChannelOptions,
) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("http://{authority}"))?
        .connect_timeout(options.connect_timeout)
        .http2_keep_alive_interval(options.keep_alive_interval)
        .keep_alive_timeout(options.keep_alive_timeout)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX);
    let authority: std::sync::Arc<str> = authority.into();
    let connector = tower::service_fn(move |_: http::Uri| {
        let authority = authority.clone();
        async move { connect(&authority).await.map(TokioIo::new) }
    });
    Ok(endpoint.connect_with_connector_lazy(connector))
}

/// A gRPC server builder with the same windows and dead-peer detection as [`channel`]; serve it with [`incoming`].
#[cfg(feature = "server")]
#[must_use]
pub fn server(options: ChannelOptions) -> tonic::transport::Server {
    tonic::transport::Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(Some(FRAME_BYTES_MAX))
        .http2_keepalive_interval(Some(options.keep_alive_interval))
        .http2_keepalive_timeout(Some(options.keep_alive_timeout))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn bytes_cross_a_connection() {
        let listener = bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut accepted = std::pin::pin!(incoming(listener));
        let mut client = connect(&address.to_string()).await.unwrap();
        let mut server = accepted.next().await.unwrap().unwrap();
        client.write_all(b"journal").await.unwrap();
        let mut bytes = [0; 7];
        server.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"journal");
        assert_eq!(server.peer_addr().unwrap(), client.local_addr().unwrap());
    }

    #[tokio::test]
    async fn a_channel_to_what_is_no_authority_is_refused() {
        assert!(channel("not an authority", ChannelOptions::default()).is_err());
        assert!(channel("n1.example:7421", ChannelOptions::default()).is_ok());
    }
}
