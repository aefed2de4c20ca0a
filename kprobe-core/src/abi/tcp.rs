use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// One end of a TCP connection: the first part of the body of every `TCP_*` kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TcpSocket {
    /// The kernel's number for the socket, of no other before the next boot; 0 where it has none yet.
    pub cookie: u64,
    /// Address of this end; IPv4 as `::ffff:a.b.c.d`.
    pub local_addr: [u8; 16],
    /// Address of the other end, likewise.
    pub remote_addr: [u8; 16],
    /// Port of this end.
    pub local_port: u16,
    /// Port of the other end.
    pub remote_port: u16,
    /// Inode number of the network namespace; see [`TCP_HAS_NETNS`].
    pub netns: u32,
    /// Smoothed round trip time in microseconds; 0 if nothing was measured yet.
    pub srtt_us: u32,
    /// `TCP_*`.
    pub flags: u32,
}

/// The socket is of the family `AF_INET6`, whatever its addresses are.
pub const TCP_IPV6: u32 = 1;
/// This end asked for the connection.
pub const TCP_CONNECTED: u32 = 2;
/// This end took it.
pub const TCP_ACCEPTED: u32 = 4;
/// The kernel has network namespaces.
pub const TCP_HAS_NETNS: u32 = 8;
/// The owner is known: the thread that last connected, accepted, sent or received.
pub const TCP_HAS_OWNER: u32 = 16;
/// Connect: `ret` is known. Accept: `queued_ns` is.
pub const TCP_HAS_RESULT: u32 = 32;
/// Retransmit: the segment asks for the connection.
pub const TCP_SYN: u32 = 64;
/// Retransmit: the segment ends the stream.
pub const TCP_FIN: u32 = 128;

/// Body of [`Kind::TCP_SEND`](super::Kind::TCP_SEND). The header names the thread that sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TcpSend {
    /// The end that sent.
    pub socket: TcpSocket,
    /// Bytes that went into this direction of the stream before.
    pub start: u64,
    /// Those and these.
    pub end: u64,
}

/// Body of [`Kind::TCP_RECV`](super::Kind::TCP_RECV). The header names the thread that received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TcpRecv {
    /// The end that received.
    pub socket: TcpSocket,
    /// Bytes that were taken from this direction of the stream before.
    pub start: u64,
    /// Those and these.
    pub end: u64,
}

/// Body of [`Kind::TCP_RETRANSMIT`](super::Kind::TCP_RETRANSMIT). The header names the thread that was current.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TcpRetransmit {
    /// The end that sent again.
    pub socket: TcpSocket,
    /// Position of the segment's first byte in the stream.
    pub start: u64,
    /// Position behind its last.
    pub end: u64,
    /// See [`TCP_HAS_OWNER`].
    pub owner_tgid: u32,
    /// Likewise.
    pub owner_tid: u32,
    /// Segments on the wire that it is.
    pub segments: u32,
    /// State of the connection, as in [`TcpState`].
    pub state: u32,
}

/// Body of [`Kind::TCP_STATE`](super::Kind::TCP_STATE). The header names the thread that was current.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TcpState {
    /// The end whose state changed.
    pub socket: TcpSocket,
    /// See [`TCP_HAS_OWNER`].
    pub owner_tgid: u32,
    /// Likewise.
    pub owner_tid: u32,
    /// `TCP_*` of `net/tcp_states.h`.
    pub old: u32,
    /// Likewise.
    pub new: u32,
}

/// Body of [`Kind::TCP_CONNECT`](super::Kind::TCP_CONNECT). The header names the thread that was current.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TcpConnect {
    /// The end that asked for the connection.
    pub socket: TcpSocket,
    /// When: nanoseconds of `CLOCK_MONOTONIC`.
    pub begin_ns: u64,
    /// See [`TCP_HAS_OWNER`].
    pub owner_tgid: u32,
    /// Likewise.
    pub owner_tid: u32,
    /// 0, or -errno; see [`TCP_HAS_RESULT`].
    pub ret: i64,
}

/// Body of [`Kind::TCP_ACCEPT`](super::Kind::TCP_ACCEPT). The header names the thread that accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TcpAccept {
    /// The connection that was taken.
    pub socket: TcpSocket,
    /// How long it had been established before; see [`TCP_HAS_RESULT`].
    pub queued_ns: u64,
}
