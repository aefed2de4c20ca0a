use std::net::{IpAddr, Ipv6Addr};

use crate::{
    abi::{self, Kind},
    decode::{DecodeError, Record},
    event::{Arch, Field, Origin, Tgid, Tid, Type, TypedEvent, Value, address::AddressText, errno_name},
};

/// One end of a TCP connection. The other end, if it is on the same machine, has the same addresses the other way round; on
/// two machines, or in two network namespaces, there may be several with the same addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpSocket {
    /// The kernel's number for this socket, of no other before the next boot; `None` where it has none yet.
    pub cookie: Option<u64>,
    /// Address of this end. That of IPv4 in an IPv6 socket is shown as what it is; see `is_ipv6`.
    pub local_addr: IpAddr,
    /// Port of this end.
    pub local_port: u16,
    /// Address of the other end; without meaning where `remote_port` is 0.
    pub remote_addr: IpAddr,
    /// Port of the other end; 0 while there is none, as of a socket that listens, or none is known yet.
    pub remote_port: u16,
    /// The socket is one of IPv6.
    pub is_ipv6: bool,
    /// Inode number of its network namespace.
    pub netns: Option<u32>,
    /// Who asked for the connection; `None` if that was before the recording.
    pub role: Option<TcpRole>,
    /// Smoothed round trip time in microseconds, once one was measured.
    pub srtt_us: Option<u32>,
}

/// Which end of a connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TcpRole {
    /// It asked for the connection.
    Connected,
    /// It was asked.
    Accepted,
}

impl TcpRole {
    /// Name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Accepted => "accepted",
        }
    }
}

/// The thread that a socket belongs to for all we know: the last that connected, accepted, sent or received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpOwner {
    /// Its process.
    pub tgid: Tgid,
    /// The thread.
    pub tid: Tid,
}

macro_rules! fields {
    ($($field:expr),* $(,)?) => {
        &[
            Field::new("cookie", Type::U64, "the kernel's number for this end's socket").optional(),
            Field::new("local_addr", Type::Text, "address of this end"),
            Field::new("local_port", Type::U64, "port of this end"),
            Field::new("remote_addr", Type::Text, "address of the other end").optional(),
            Field::new("remote_port", Type::U64, "port of the other end").optional(),
            Field::new("ipv6", Type::Bool, "the socket is one of IPv6, whatever its addresses are"),
            Field::new("netns", Type::U64, "inode number of the network namespace").optional(),
            Field::new("role", Type::Text, "connected: this end asked for the connection; accepted: it was asked").optional(),
            Field::new("srtt_us", Type::U64, "smoothed round trip time in microseconds").optional(),
            $($field),*
        ]
    };
}

const OWNER_TGID: Field = Field::new(
    "owner_tgid",
    Type::U64,
    "process of the last thread that connected, accepted, sent or received",
)
.optional();
const OWNER_TID: Field = Field::new("owner_tid", Type::U64, "that thread").optional();

impl TcpSocket {
    fn of(socket: &abi::TcpSocket) -> Self {
        let has = |bit| socket.flags & bit != 0;
        let address = |bytes| Ipv6Addr::from(bytes).to_canonical();
        let role = match (has(abi::TCP_CONNECTED), has(abi::TCP_ACCEPTED)) {
            (true, _) => Some(TcpRole::Connected),
            (false, true) => Some(TcpRole::Accepted),
            (false, false) => None,
        };
        Self {
            cookie: (socket.cookie != 0).then_some(socket.cookie),
            local_addr: address(socket.local_addr),
            local_port: socket.local_port,
            remote_addr: address(socket.remote_addr),
            remote_port: socket.remote_port,
            is_ipv6: has(abi::TCP_IPV6),
            netns: has(abi::TCP_HAS_NETNS).then_some(socket.netns),
            role,
            srtt_us: (socket.srtt_us != 0).then_some(socket.srtt_us),
        }
    }

    fn put(&self, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        if let Some(cookie) = self.cookie {
            put("cookie", Value::U64(cookie));
        }
        put("local_addr", Value::Text(AddressText::of(self.local_addr).as_str()));
        put("local_port", Value::U64(self.local_port.into()));
        if self.remote_port != 0 {
            put("remote_addr", Value::Text(AddressText::of(self.remote_addr).as_str()));
            put("remote_port", Value::U64(self.remote_port.into()));
        }
        put("ipv6", Value::Bool(self.is_ipv6));
        if let Some(netns) = self.netns {
            put("netns", Value::U64(netns.into()));
        }
        if let Some(role) = self.role {
            put("role", Value::Text(role.name()));
        }
        if let Some(srtt) = self.srtt_us {
            put("srtt_us", Value::U64(srtt.into()));
        }
    }
}

impl TcpOwner {
    fn of(flags: u32, tgid: u32, tid: u32) -> Option<Self> {
        (flags & abi::TCP_HAS_OWNER != 0).then_some(Self { tgid: Tgid(tgid), tid: Tid(tid) })
    }

    fn put(owner: Option<Self>, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        if let Some(owner) = owner {
            put("owner_tgid", Value::U64(owner.tgid.0.into()));
            put("owner_tid", Value::U64(owner.tid.0.into()));
        }
    }
}

macro_rules! transfer {
    ($(#[doc = $doc:literal])+ $name:ident $kind:ident $text:literal) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct $name {
            /// The thread that did it.
            pub origin: Origin,
            /// Its end of the connection.
            pub socket: TcpSocket,
            /// Position of the first byte: how many went the same way before it.
            pub start: u64,
            /// Position behind the last byte.
            pub end: u64,
        }

        impl $name {
            /// How many bytes.
            #[must_use]
            pub const fn bytes(&self) -> u64 {
                self.end.saturating_sub(self.start)
            }
        }

        impl TypedEvent for $name {
            const KIND: Kind = Kind::$kind;
            const NAME: &'static str = $text;
            const FIELDS: &'static [Field] = fields![
                Field::new("start", Type::U64, "position of the first byte in the stream, from 0"),
                Field::new("end", Type::U64, "position behind the last byte"),
                Field::new("bytes", Type::U64, "how many bytes"),
            ];

            #[inline(always)]
            fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
                let body: abi::$name = record.body_of(Self::KIND)?;
                Ok(Self {
                    origin: Origin::of(&record),
                    socket: TcpSocket::of(&body.socket),
                    start: body.start,
                    end: body.end,
                })
            }

            fn origin(&self) -> &Origin {
                &self.origin
            }

            fn fields(&self, _: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
                self.socket.put(put);
                put("start", Value::U64(self.start));
                put("end", Value::U64(self.end));
                put("bytes", Value::U64(self.bytes()));
            }
        }
    };
}

transfer! {
    /// A thread handed bytes to a TCP socket. The origin names the thread.
    TcpSend TCP_SEND "tcp.send"
}

transfer! {
    /// A thread took bytes from a TCP socket. The origin names the thread. Looking at bytes (`MSG_PEEK`) takes none.
    TcpRecv TCP_RECV "tcp.recv"
}

/// A segment was sent again. The origin names the thread that was current, which need not be concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpRetransmit {
    /// The thread that was current.
    pub origin: Origin,
    /// The end that sent again.
    pub socket: TcpSocket,
    /// Whose socket it is.
    pub owner: Option<TcpOwner>,
    /// Position of the segment's first byte in the stream, as of [`TcpSend`].
    pub start: u64,
    /// Position behind its last byte.
    pub end: u64,
    /// Segments on the wire that it is.
    pub segments: u32,
    /// State of the connection.
    pub state: TcpStateName,
    /// It asks for the connection.
    pub syn: bool,
    /// It ends the stream.
    pub fin: bool,
}

/// State of a TCP connection: a number of `net/tcp_states.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpStateName(pub u32);

impl TcpStateName {
    /// Name as `ss` and RFC 9293 have it, in lower case with `_`; `unknown` for a number that this version does not know.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            1 => "established",
            2 => "syn_sent",
            3 => "syn_recv",
            4 => "fin_wait1",
            5 => "fin_wait2",
            6 => "time_wait",
            7 => "close",
            8 => "close_wait",
            9 => "last_ack",
            10 => "listen",
            11 => "closing",
            12 => "new_syn_recv",
            13 => "bound_inactive",
            _ => "unknown",
        }
    }
}

impl TypedEvent for TcpRetransmit {
    const KIND: Kind = Kind::TCP_RETRANSMIT;
    const NAME: &'static str = "tcp.retransmit";
    const FIELDS: &'static [Field] = fields![
        OWNER_TGID,
        OWNER_TID,
        Field::new("start", Type::U64, "position of the segment's first byte in the stream, from 0"),
        Field::new("end", Type::U64, "position behind its last byte"),
        Field::new("bytes", Type::U64, "how many bytes"),
        Field::new("segments", Type::U64, "segments on the wire that it is"),
        Field::new("state", Type::Text, "state of the connection"),
        Field::new("syn", Type::Bool, "it asks for the connection"),
        Field::new("fin", Type::Bool, "it ends the stream"),
    ];

    #[inline(always)]
    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        let body: abi::TcpRetransmit = record.body_of(Self::KIND)?;
        Ok(Self {
            origin: Origin::of(&record),
            socket: TcpSocket::of(&body.socket),
            owner: TcpOwner::of(body.socket.flags, body.owner_tgid, body.owner_tid),
            start: body.start,
            end: body.end,
            segments: body.segments,
            state: TcpStateName(body.state),
            syn: body.socket.flags & abi::TCP_SYN != 0,
            fin: body.socket.flags & abi::TCP_FIN != 0,
        })
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fields(&self, _: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        self.socket.put(put);
        TcpOwner::put(self.owner, put);
        put("start", Value::U64(self.start));
        put("end", Value::U64(self.end));
        put("bytes", Value::U64(self.end.saturating_sub(self.start)));
        put("segments", Value::U64(self.segments.into()));
        put("state", Value::Text(self.state.name()));
        put("syn", Value::Bool(self.syn));
        put("fin", Value::Bool(self.fin));
    }
}

/// A TCP connection changed its state. The origin names the thread that was current, which need not be concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpState {
    /// The thread that was current.
    pub origin: Origin,
    /// The end whose state changed.
    pub socket: TcpSocket,
    /// Whose socket it is.
    pub owner: Option<TcpOwner>,
    /// The state before.
    pub old: TcpStateName,
    /// The state now.
    pub new: TcpStateName,
}

impl TypedEvent for TcpState {
    const KIND: Kind = Kind::TCP_STATE;
    const NAME: &'static str = "tcp.state";
    const FIELDS: &'static [Field] = fields![
        OWNER_TGID,
        OWNER_TID,
        Field::new("old", Type::Text, "the state before"),
        Field::new("new", Type::Text, "the state now"),
    ];

    #[inline(always)]
    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        let body: abi::TcpState = record.body_of(Self::KIND)?;
        Ok(Self {
            origin: Origin::of(&record),
            socket: TcpSocket::of(&body.socket),
            owner: TcpOwner::of(body.socket.flags, body.owner_tgid, body.owner_tid),
            old: TcpStateName(body.old),
            new: TcpStateName(body.new),
        })
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fields(&self, _: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        self.socket.put(put);
        TcpOwner::put(self.owner, put);
        put("old", Value::Text(self.old.name()));
        put("new", Value::Text(self.new.name()));
    }
}

/// A connection that was asked for came about, or did not. The origin names the thread that was current, which need not be
/// concerned: the owner is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpConnect {
    /// The thread that was current.
    pub origin: Origin,
    /// The end that asked.
    pub socket: TcpSocket,
    /// The thread that asked.
    pub owner: Option<TcpOwner>,
    /// When it asked: nanoseconds of `CLOCK_MONOTONIC`.
    pub begin_ns: u64,
    /// 0 if the connection came about, else -errno. `None` if the asking end gave it up.
    pub ret: Option<i64>,
}

impl TcpConnect {
    /// From the call to the connection, or to the failure.
    #[must_use]
    pub const fn duration_ns(&self) -> u64 {
        self.origin.ktime_ns.saturating_sub(self.begin_ns)
    }
}

impl TypedEvent for TcpConnect {
    const KIND: Kind = Kind::TCP_CONNECT;
    const NAME: &'static str = "tcp.connect";
    const FIELDS: &'static [Field] = fields![
        OWNER_TGID,
        OWNER_TID,
        Field::new("begin_ns", Type::U64, "when the connection was asked for, as ktime_ns"),
        Field::new("duration_ns", Type::U64, "from there to the connection or the failure"),
        Field::new("ret", Type::I64, "0 if the connection came about, else -errno").optional(),
        Field::new("errno", Type::Text, "name of the error").optional(),
    ];

    #[inline(always)]
    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        let body: abi::TcpConnect = record.body_of(Self::KIND)?;
        let has_result = body.socket.flags & abi::TCP_HAS_RESULT != 0;
        Ok(Self {
            origin: Origin::of(&record),
            socket: TcpSocket::of(&body.socket),
            owner: TcpOwner::of(body.socket.flags, body.owner_tgid, body.owner_tid),
            begin_ns: body.begin_ns,
            ret: has_result.then_some(body.ret),
        })
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fields(&self, _: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        self.socket.put(put);
        TcpOwner::put(self.owner, put);
        put("begin_ns", Value::U64(self.begin_ns));
        put("duration_ns", Value::U64(self.duration_ns()));
        if let Some(ret) = self.ret {
            put("ret", Value::I64(ret));
        }
        let errno = self.ret.filter(|ret| *ret < 0).and_then(|ret| u32::try_from(ret.unsigned_abs()).ok());
        if let Some(name) = errno.and_then(errno_name) {
            put("errno", Value::Text(name));
        }
    }
}

/// A thread took an incoming connection. The origin names the thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpAccept {
    /// The thread that accepted.
    pub origin: Origin,
    /// The connection's end that it got.
    pub socket: TcpSocket,
    /// How long the connection had been established before, in nanoseconds.
    pub queued_ns: Option<u64>,
}

impl TypedEvent for TcpAccept {
    const KIND: Kind = Kind::TCP_ACCEPT;
    const NAME: &'static str = "tcp.accept";
    const FIELDS: &'static [Field] = fields![
        Field::new("queued_ns", Type::U64, "how long the connection had been established before").optional()
    ];

    #[inline(always)]
    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        let body: abi::TcpAccept = record.body_of(Self::KIND)?;
        let has_result = body.socket.flags & abi::TCP_HAS_RESULT != 0;
        Ok(Self {
            origin: Origin::of(&record),
            socket: TcpSocket::of(&body.socket),
            queued_ns: has_result.then_some(body.queued_ns),
        })
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fields(&self, _: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        self.socket.put(put);
        if let Some(queued) = self.queued_ns {
            put("queued_ns", Value::U64(queued));
        }
    }
}
