use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A UDP socket and a datagram's addresses: the first part of the body of every `UDP_*` kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct UdpSocket {
    /// The kernel's number for the socket, of no other before the next boot; 0 where it has none yet.
    pub cookie: u64,
    /// Address of this end; IPv4 as `::ffff:a.b.c.d`. See [`UDP_HAS_LOCAL`].
    pub local_addr: [u8; 16],
    /// Address of the other end, likewise. See [`UDP_HAS_REMOTE`].
    pub remote_addr: [u8; 16],
    /// Port of this end.
    pub local_port: u16,
    /// Port of the other end; see [`UDP_HAS_REMOTE`].
    pub remote_port: u16,
    /// Inode number of the network namespace; see [`UDP_HAS_NETNS`].
    pub netns: u32,
    /// Bytes of each of the datagrams that these are, the last of which may be shorter; 0 if it is one, or if that is not
    /// known.
    pub segment_bytes: u32,
    /// `UDP_*`.
    pub flags: u32,
}

/// The socket is of the family `AF_INET6`, whatever its addresses are.
pub const UDP_IPV6: u32 = 1;
/// The socket is connected.
pub const UDP_CONNECTED: u32 = 2;
/// The kernel has network namespaces.
pub const UDP_HAS_NETNS: u32 = 4;
/// The address of this end is known.
pub const UDP_HAS_LOCAL: u32 = 8;
/// Address and port of the other end are.
pub const UDP_HAS_REMOTE: u32 = 16;
/// Send: `sent_ns` is.
pub const UDP_HAS_SENT_NS: u32 = 32;
/// Receive: `bytes` is.
pub const UDP_HAS_BYTES: u32 = 64;
/// Receive: `datagram_bytes` is.
pub const UDP_HAS_DATAGRAM: u32 = 128;
/// Receive: the datagram stays, and can be received again.
pub const UDP_PEEK: u32 = 256;

/// Body of [`Kind::UDP_SEND`](super::Kind::UDP_SEND). The header names the thread that sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct UdpSend {
    /// The socket that sent.
    pub socket: UdpSocket,
    /// When the datagram left the socket: nanoseconds of `CLOCK_MONOTONIC`; see [`UDP_HAS_SENT_NS`].
    pub sent_ns: u64,
    /// Its size, without headers.
    pub bytes: u64,
}

/// Body of [`Kind::UDP_RECV`](super::Kind::UDP_RECV). The header names the thread that received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct UdpRecv {
    /// The socket that received.
    pub socket: UdpSocket,
    /// How much of it the thread got; see [`UDP_HAS_BYTES`].
    pub bytes: u32,
    /// The datagram's size, without headers; see [`UDP_HAS_DATAGRAM`].
    pub datagram_bytes: u32,
}
