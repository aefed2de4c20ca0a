use std::net::{IpAddr, Ipv6Addr};

use crate::{
    abi::{self, Kind},
    decode::{DecodeError, Record},
    event::{Arch, Field, Origin, Type, TypedEvent, Value, address::AddressText},
};

/// A UDP socket, and between which addresses its datagram went. What receives a datagram on the same machine, or in another
/// network namespace, has the same addresses the other way round, unless something on the way changed them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UdpSocket {
    /// The kernel's number for this socket, of no other before the next boot; `None` where it has none yet.
    pub cookie: Option<u64>,
    /// Address of this end; `None` where the attach target does not tell. That of IPv4 in an IPv6 socket is shown as what it
    /// is; see `is_ipv6`.
    pub local_addr: Option<IpAddr>,
    /// Port of this end.
    pub local_port: u16,
    /// Address and port of the other end; `None` where the attach target does not tell.
    pub remote: Option<(IpAddr, u16)>,
    /// The socket is one of IPv6.
    pub is_ipv6: bool,
    /// Inode number of its network namespace.
    pub netns: Option<u32>,
    /// The socket is connected: it has one other end.
    pub is_connected: bool,
    /// The bytes are several datagrams of so many each, of which the last may be shorter (`UDP_SEGMENT`, `UDP_GRO`).
    pub segment_bytes: Option<u32>,
}

macro_rules! fields {
    ($($field:expr),* $(,)?) => {
        &[
            Field::new("cookie", Type::U64, "the kernel's number for the socket").optional(),
            Field::new("local_addr", Type::Text, "address of this end").optional(),
            Field::new("local_port", Type::U64, "port of this end"),
            Field::new("remote_addr", Type::Text, "address of the other end").optional(),
            Field::new("remote_port", Type::U64, "port of the other end").optional(),
            Field::new("ipv6", Type::Bool, "the socket is one of IPv6, whatever its addresses are"),
            Field::new("netns", Type::U64, "inode number of the network namespace").optional(),
            Field::new("connected", Type::Bool, "the socket is connected: it has one other end"),
            $($field,)*
            Field::new("segment_bytes", Type::U64, "these are several datagrams of so many bytes each").optional(),
        ]
    };
}

impl UdpSocket {
    fn of(socket: &abi::UdpSocket) -> Self {
        let has = |bit| socket.flags & bit != 0;
        let address = |bytes| Ipv6Addr::from(bytes).to_canonical();
        Self {
            cookie: (socket.cookie != 0).then_some(socket.cookie),
            local_addr: has(abi::UDP_HAS_LOCAL).then(|| address(socket.local_addr)),
            local_port: socket.local_port,
            remote: has(abi::UDP_HAS_REMOTE).then(|| (address(socket.remote_addr), socket.remote_port)),
            is_ipv6: has(abi::UDP_IPV6),
            netns: has(abi::UDP_HAS_NETNS).then_some(socket.netns),
            is_connected: has(abi::UDP_CONNECTED),
            segment_bytes: (socket.segment_bytes != 0).then_some(socket.segment_bytes),
        }
    }

    fn put(&self, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        if let Some(cookie) = self.cookie {
            put("cookie", Value::U64(cookie));
        }
        if let Some(address) = self.local_addr {
            put("local_addr", Value::Text(AddressText::of(address).as_str()));
        }
        put("local_port", Value::U64(self.local_port.into()));
        if let Some((address, port)) = self.remote {
            put("remote_addr", Value::Text(AddressText::of(address).as_str()));
            put("remote_port", Value::U64(port.into()));
        }
        put("ipv6", Value::Bool(self.is_ipv6));
        if let Some(netns) = self.netns {
            put("netns", Value::U64(netns.into()));
        }
        put("connected", Value::Bool(self.is_connected));
    }

    fn put_segments(&self, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        if let Some(bytes) = self.segment_bytes {
            put("segment_bytes", Value::U64(bytes.into()));
        }
    }
}

/// A thread sent a datagram. The origin names the thread whose call it was, at its return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UdpSend {
    /// The thread that sent.
    pub origin: Origin,
    /// Its socket, and where the datagram went.
    pub socket: UdpSocket,
    /// Size of the datagram, without headers.
    pub bytes: u64,
    /// When it left the socket, in nanoseconds of the record's clock: nobody has received it before. `None` where the attach
    /// target does not tell.
    pub sent_ns: Option<u64>,
}

impl TypedEvent for UdpSend {
    const KIND: Kind = Kind::UDP_SEND;
    const NAME: &'static str = "udp.send";
    const FIELDS: &'static [Field] = fields![
        Field::new("bytes", Type::U64, "size of the datagram, without headers"),
        Field::new("sent_ns", Type::U64, "when it left the socket: nobody has received it before").optional(),
    ];

    #[inline(always)]
    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        let body: abi::UdpSend = record.body_of(Self::KIND)?;
        Ok(Self {
            origin: Origin::of(&record),
            socket: UdpSocket::of(&body.socket),
            bytes: body.bytes,
            sent_ns: (body.socket.flags & abi::UDP_HAS_SENT_NS != 0).then_some(body.sent_ns),
        })
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fields(&self, _: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        self.socket.put(put);
        put("bytes", Value::U64(self.bytes));
        if let Some(ns) = self.sent_ns {
            put("sent_ns", Value::U64(ns));
        }
        self.socket.put_segments(put);
    }
}

/// A thread received a datagram. The origin names the thread whose call it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UdpRecv {
    /// The thread that received.
    pub origin: Origin,
    /// Its socket, and where the datagram came from.
    pub socket: UdpSocket,
    /// How much of the datagram the thread got; `None` where the attach target does not tell.
    pub bytes: Option<u32>,
    /// Size of the datagram, without headers; likewise.
    pub datagram_bytes: Option<u32>,
    /// The datagram stays (`MSG_PEEK`), and can be received again.
    pub peek: bool,
}

impl UdpRecv {
    /// The thread had no room for all of it. `None` where one of the two sizes is not known.
    #[must_use]
    pub fn truncated(&self) -> Option<bool> {
        Some(self.bytes? < self.datagram_bytes?)
    }
}

impl TypedEvent for UdpRecv {
    const KIND: Kind = Kind::UDP_RECV;
    const NAME: &'static str = "udp.recv";
    const FIELDS: &'static [Field] = fields![
        Field::new("bytes", Type::U64, "how much of the datagram the thread got").optional(),
        Field::new("datagram_bytes", Type::U64, "size of the datagram, without headers").optional(),
        Field::new("truncated", Type::Bool, "the thread had no room for all of it").optional(),
        Field::new("peek", Type::Bool, "the datagram stays (MSG_PEEK) and can be received again"),
    ];

    #[inline(always)]
    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        let body: abi::UdpRecv = record.body_of(Self::KIND)?;
        let has = |bit| body.socket.flags & bit != 0;
        Ok(Self {
            origin: Origin::of(&record),
            socket: UdpSocket::of(&body.socket),
            bytes: has(abi::UDP_HAS_BYTES).then_some(body.bytes),
            datagram_bytes: has(abi::UDP_HAS_DATAGRAM).then_some(body.datagram_bytes),
            peek: has(abi::UDP_PEEK),
        })
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fields(&self, _: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        self.socket.put(put);
        if let Some(bytes) = self.bytes {
            put("bytes", Value::U64(bytes.into()));
        }
        if let Some(bytes) = self.datagram_bytes {
            put("datagram_bytes", Value::U64(bytes.into()));
        }
        if let Some(truncated) = self.truncated() {
            put("truncated", Value::Bool(truncated));
        }
        put("peek", Value::Bool(self.peek));
        self.socket.put_segments(put);
    }
}
