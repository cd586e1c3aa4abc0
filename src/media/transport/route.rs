//! The two addresses of a datagram between the server and a peer.

use std::net::SocketAddr;

/// Destination and source of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The peer's address.
    pub remote: SocketAddr,
    /// The local address to send from.
    pub local: SocketAddr,
}
