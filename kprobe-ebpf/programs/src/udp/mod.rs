//! UDP family: which datagrams a thread sent and received.
//!
//! Where functions can be attached to, a datagram is seen as the packet that it is: at a send when it is handed to IP, at a
//! receive when its bytes have been copied. Tracepoints of sockets tell only the socket and a size. At a send the packet is
//! seen on its way to the device before, in the same call; at a receive it is not seen.
//!
//! What describes a socket is read outside of the closures that `emit` takes, as with TCP.

mod packet;

use aya_ebpf::{EbpfContext, macros::btf_map};
use kprobe_core::abi::{
    Family, UDP_CONNECTED, UDP_HAS_BYTES, UDP_HAS_DATAGRAM, UDP_HAS_LOCAL, UDP_HAS_NETNS, UDP_HAS_REMOTE,
    UDP_HAS_SENT_NS, UDP_IPV6, UDP_PEEK, UdpRecv, UdpSend, UdpSocket,
};
use packet::{Headers, Packet};

use crate::{
    cpu,
    current::{CurrentTask, Who as _},
    emit::{emit, now},
    filter,
    inet::{self, AF_INET, AF_INET6, Address, CookieMemory},
    memory::{Direct, Memory, Object, Probed},
    offsets::{
        OFF_INET_SOCK_INET_SPORT, OFF_SOCK_COMMON_SKC_DPORT, OFF_SOCK_COMMON_SKC_FAMILY,
        OFF_SOCK_COMMON_SKC_STATE, OFF_SOCK_SK_PROTOCOL, OFF_SOCK_SK_SHUTDOWN, OFF_SOCK_SK_TYPE,
        OFF_TRACE_EVENT_RAW_NET_DEV_TEMPLATE_SKBADDR, OFF_TRACE_EVENT_RAW_SOCK_MSG_LENGTH_FLAGS,
        OFF_TRACE_EVENT_RAW_SOCK_MSG_LENGTH_RET, OFF_TRACE_EVENT_RAW_SOCK_MSG_LENGTH_SK,
        OFF_UDP_SOCK_PENDING,
    },
    storage::{self, TaskStorage},
    task::Task,
};

// include/linux/socket.h, include/linux/net.h, include/net/sock.h, include/net/tcp_states.h
const SOCK_DGRAM: u16 = 2;
const IPPROTO_UDP: u16 = 17;
const MSG_PEEK: u32 = 0x2;
const MSG_TRUNC: u32 = 0x20;
const MSG_ERRQUEUE: u32 = 0x2000;
const RCV_SHUTDOWN: u8 = 1;
const ESTABLISHED: u8 = 1;

/// A datagram that a thread is sending.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Sending {
    /// Address of the socket; 0 if there is no datagram.
    sk: u64,
    /// Address of the packet.
    packet: u64,
    sent_ns: u64,
    local: Address,
    remote: Address,
    local_port: u16,
    remote_port: u16,
    bytes: u32,
    segment_bytes: u64,
}

/// What each thread is sending.
#[btf_map]
pub static UDP_SENDING: TaskStorage<Sending> = TaskStorage::new();

/// A call that receives.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Receiving {
    /// Address of the socket.
    sk: u64,
    /// Bytes that the caller has room for.
    room: u64,
    /// `MSG_*`.
    flags: u64,
}

/// The last such call that each thread began.
#[btf_map]
pub static UDP_RECEIVING: TaskStorage<Receiving> = TaskStorage::new();

/// Between which addresses a datagram went, as far as is known.
struct Ends {
    local: Address,
    remote: Address,
    local_port: u16,
    remote_port: u16,
    segment_bytes: u32,
    /// `UDP_HAS_LOCAL`, `UDP_HAS_REMOTE`.
    known: u32,
}

impl Ends {
    /// What the socket itself knows: an address that it is bound to, and if it is connected the other end's.
    #[inline(always)]
    fn of_socket(sk: Object<Probed>) -> Self {
        let (local, remote) = inet::addresses(sk);
        let is_any = local == [0; 2] || local == inet::mapped(0);
        Self {
            local,
            remote,
            local_port: own_port(sk),
            remote_port: sk.load::<u16>(&OFF_SOCK_COMMON_SKC_DPORT).swap_bytes(),
            segment_bytes: 0,
            known: if is_any { 0 } else { UDP_HAS_LOCAL } | if is_connected(sk) { UDP_HAS_REMOTE } else { 0 },
        }
    }

    #[inline(always)]
    fn describe<M: CookieMemory>(self, sk: Object<M>, flags: u32) -> UdpSocket {
        let cookie = M::cookie(sk);
        let sk = Object::<Probed>::new(sk.address());
        let netns = inet::netns(sk);
        UdpSocket {
            cookie,
            local_addr: zerocopy::transmute!(if self.known & UDP_HAS_LOCAL != 0 {
                self.local
            } else {
                [0; 2]
            }),
            remote_addr: zerocopy::transmute!(if self.known & UDP_HAS_REMOTE != 0 {
                self.remote
            } else {
                [0; 2]
            }),
            local_port: self.local_port,
            remote_port: if self.known & UDP_HAS_REMOTE != 0 { self.remote_port } else { 0 },
            netns: netns.unwrap_or_default(),
            segment_bytes: self.segment_bytes,
            flags: flags
                | self.known
                | if inet::is_ipv6(sk) { UDP_IPV6 } else { 0 }
                | if is_connected(sk) { UDP_CONNECTED } else { 0 }
                | if netns.is_some() { UDP_HAS_NETNS } else { 0 },
        }
    }
}

/// Whether it is a socket of UDP. Others that are looked at may be smaller than they look.
#[inline(always)]
fn is_udp(sk: Object<Probed>) -> bool {
    let family: u16 = sk.load(&OFF_SOCK_COMMON_SKC_FAMILY);
    (family == AF_INET || family == AF_INET6)
        && sk.load::<u16>(&OFF_SOCK_SK_TYPE) == SOCK_DGRAM
        && sk.load::<u16>(&OFF_SOCK_SK_PROTOCOL) == IPPROTO_UDP
}

#[inline(always)]
fn is_connected(sk: Object<Probed>) -> bool {
    sk.load::<u8>(&OFF_SOCK_COMMON_SKC_STATE) == ESTABLISHED
}

#[inline(always)]
fn own_port(sk: Object<Probed>) -> u16 {
    sk.load::<u16>(&OFF_INET_SOCK_INET_SPORT).swap_bytes()
}

/// A socket whose type the verifier knows, as one that it does not.
#[inline(always)]
fn probed<M: Memory>(sk: Object<M>) -> Object<Probed> {
    Object::new(sk.address())
}

/// The current thread, if it is selected.
#[inline(always)]
fn selected() -> Option<CurrentTask<Direct>> {
    let who = CurrentTask(Task::<Direct>::new(Object::new(storage::current())));
    filter::selects_current(who.thread()).then_some(who)
}

/// Before all others there, where those cannot do it.
#[cfg(not(feature = "before-6.1"))]
#[inline(always)]
pub fn give_cookie(sk: Object<Direct>) {
    if is_udp(probed(sk)) {
        <Direct as CookieMemory>::cookie(sk);
    }
}

/// Remembers what the current thread sends.
#[inline(always)]
fn remember(packet: u64, sk: Object<Probed>) {
    let Some(sending) = UDP_SENDING.make(storage::current()) else {
        cpu::count_unstored(Family::Udp);
        return;
    };
    let (sent_ns, of) = (now(), Packet::new(packet));
    let Headers { source, destination, source_port, destination_port, bytes } = of.headers();
    let value = Sending {
        sk: sk.address() as u64,
        packet,
        sent_ns,
        local: source,
        remote: destination,
        local_port: source_port,
        remote_port: destination_port,
        bytes,
        segment_bytes: of.segment_bytes().into(),
    };
    // SAFETY: the kernel gave the pointer to the thread's own value, which only programs that the thread itself runs, or
    // that interrupt it, access: one at a time.
    unsafe { sending.write(value) };
}

/// What the current thread was sending, which is over with this.
#[inline(always)]
fn recall(is_it: impl Fn(&Sending) -> bool) -> Option<Sending> {
    let place = UDP_SENDING.find(storage::current())?;
    // SAFETY: see `remember`.
    let sending = unsafe { place.read() };
    if sending.sk == 0 || !is_it(&sending) {
        return None;
    }
    // SAFETY: see `remember`.
    unsafe { (&raw mut (*place).sk).write(0) };
    Some(sending)
}

#[inline(always)]
fn emit_send<M: CookieMemory>(who: CurrentTask<Direct>, sk: Object<M>, sending: &Sending) {
    let Sending { local, remote, local_port, remote_port, sent_ns, .. } = *sending;
    let segment_bytes = sending.segment_bytes as u32;
    let known = UDP_HAS_LOCAL | UDP_HAS_REMOTE;
    let ends = Ends { local, remote, local_port, remote_port, segment_bytes, known };
    let socket = ends.describe(sk, UDP_HAS_SENT_NS);
    let bytes = sending.bytes.into();
    emit(who, now(), || UdpSend { socket, sent_ns, bytes });
}

/// The entry of `ip_send_skb(net, skb)` or `ip6_send_skb(skb)`: a packet that a socket has made.
#[inline(always)]
pub fn leaves(packet: u64) {
    let sk = Packet::new(packet).sk();
    if is_udp(sk) && selected().is_some() {
        remember(packet, sk);
    }
}

/// Its return, after which the packet may be gone.
#[inline(always)]
pub fn left(packet: u64, ret: i32) {
    let Some(sending) = recall(|sending| sending.packet == packet) else { return };
    if ret != 0 {
        return;
    }
    if let Some(who) = selected() {
        emit_send(who, Object::<Probed>::new(sending.sk as *const u8), &sending);
    }
}

/// The tracepoint `net_dev_queue(skb)`: the packet, or a piece of it, is on its way to a device. There may be several of them,
/// one behind the other.
#[inline(always)]
pub fn queued(packet: u64) {
    let of = Packet::new(packet);
    let sk = of.sk();
    if sk.address().is_null() || !is_udp(sk) || selected().is_none() {
        return;
    }
    // Not what a tunnel made of it, which has another port.
    if of.has_headers() && of.headers().source_port == own_port(sk) {
        remember(packet, sk);
    }
}

/// The packet in the trace event.
#[inline(always)]
pub fn packet_of_event(context: &impl EbpfContext) -> u64 {
    Object::<Probed>::new(context.as_ptr()).load(&OFF_TRACE_EVENT_RAW_NET_DEV_TEMPLATE_SKBADDR)
}

/// The tracepoint `sock_send_length(sk, ret, flags)`: a call on a socket returns `ret`.
#[inline(always)]
pub fn sent<M: CookieMemory>((sk, ret, _): (Object<M>, i32, u32)) {
    let socket = probed(sk);
    if !is_udp(socket) {
        return;
    }
    let Some(who) = selected() else { return };
    let address = socket.address() as u64;
    let sending = recall(|sending| sending.sk == address);
    // With `MSG_MORE` there is none before another call.
    if ret < 0 || socket.load::<u32>(&OFF_UDP_SOCK_PENDING) != 0 {
        return;
    }
    let bytes = ret as u32;
    match sending {
        // With what earlier calls added to it.
        Some(sending) if sending.bytes >= bytes => emit_send(who, sk, &sending),
        // It waits for the address of a neighbour, or goes out in some other way. Where to, the socket does not know: also
        // of one that is connected the call may have named another.
        _ if bytes != 0 => {
            let ends = Ends::of_socket(socket);
            let ends = Ends { known: ends.known & UDP_HAS_LOCAL, ..ends };
            let socket = ends.describe(sk, 0);
            emit(who, now(), || UdpSend { socket, sent_ns: 0, bytes: bytes.into() });
        }
        // A call that has no bytes need not send anything.
        _ => {}
    }
}

/// What the trace events `sock_send_length` and `sock_recv_length` have: socket, result, flags.
#[inline(always)]
pub fn call_of_event(context: &impl EbpfContext) -> (Object<Probed>, i32, u32) {
    let event = Object::<Probed>::new(context.as_ptr());
    (
        event.follow(&OFF_TRACE_EVENT_RAW_SOCK_MSG_LENGTH_SK),
        event.load(&OFF_TRACE_EVENT_RAW_SOCK_MSG_LENGTH_RET),
        event.load(&OFF_TRACE_EVENT_RAW_SOCK_MSG_LENGTH_FLAGS),
    )
}

/// The entry of `udp_recvmsg(sk, msg, len, flags, ..)`, and of that for IPv6.
#[inline(always)]
pub fn receives(sk: u64, room: u64, flags: u32) {
    if selected().is_none() {
        return;
    }
    let Some(receiving) = UDP_RECEIVING.make(storage::current()) else {
        cpu::count_unstored(Family::Udp);
        return;
    };
    // SAFETY: see `remember`.
    unsafe { receiving.write(Receiving { sk, room, flags: flags.into() }) };
}

/// The entry of `skb_consume_udp(sk, skb, len)`: the datagram was copied, and is given up. `len` is what the call is going
/// to return, negative if the datagram stays.
#[inline(always)]
pub fn consumed<M: CookieMemory>(sk: Object<M>, packet: u64, len: i32) {
    let socket = probed(sk);
    if !is_udp(socket) {
        return;
    }
    let Some(who) = selected() else { return };
    let of = Packet::new(packet);
    let whole = of.len();
    let address = socket.address() as u64;
    // SAFETY: see `remember`.
    let call = UDP_RECEIVING.find(storage::current()).map(|place| unsafe { place.read() });
    let (bytes, flags) = match call.filter(|call| call.sk == address) {
        Some(Receiving { room, flags, .. }) => {
            let peek = if flags as u32 & MSG_PEEK != 0 { UDP_PEEK } else { 0 };
            // With `MSG_TRUNC` the call returns the whole size.
            let is_whole = flags as u32 & MSG_TRUNC != 0;
            let bytes = if is_whole { room.min(whole.into()) as u32 } else { len.unsigned_abs() };
            (bytes, UDP_HAS_BYTES | peek)
        }
        // The thread was in the call when the programs were attached.
        None => (0, if len < 0 { UDP_PEEK } else { 0 }),
    };
    let Headers { source, destination, source_port, destination_port, .. } = of.headers();
    let ends = Ends {
        local: destination,
        remote: source,
        local_port: destination_port,
        remote_port: source_port,
        segment_bytes: of.segment_bytes(),
        known: UDP_HAS_LOCAL | UDP_HAS_REMOTE,
    };
    let socket = ends.describe(sk, flags | UDP_HAS_DATAGRAM);
    emit(who, now(), || UdpRecv { socket, bytes, datagram_bytes: whole });
}

/// The tracepoint `sock_recv_length(sk, ret, flags)`: a call on a socket returns `ret`.
#[inline(always)]
pub fn received<M: CookieMemory>((sk, ret, flags): (Object<M>, i32, u32)) {
    let socket = probed(sk);
    // From the queue of errors come no datagrams; nor do they from a socket that was shut down, which is at its end.
    if ret < 0 || flags & MSG_ERRQUEUE != 0 || !is_udp(socket) {
        return;
    }
    let Some(who) = selected() else { return };
    if ret == 0 && socket.load::<u8>(&OFF_SOCK_SK_SHUTDOWN) & RCV_SHUTDOWN != 0 {
        return;
    }
    let peek = if flags & MSG_PEEK != 0 { UDP_PEEK } else { 0 };
    let size = ret as u32;
    let (bytes, datagram_bytes, has) =
        if flags & MSG_TRUNC != 0 { (0, size, UDP_HAS_DATAGRAM) } else { (size, 0, UDP_HAS_BYTES) };
    let socket = Ends::of_socket(socket).describe(sk, peek | has);
    emit(who, now(), || UdpRecv { socket, bytes, datagram_bytes });
}
