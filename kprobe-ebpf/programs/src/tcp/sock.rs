//! `struct sock` and `struct tcp_sock`.

use kprobe_core::abi::{TCP_HAS_NETNS, TCP_IPV6, TcpSocket};

use crate::{
    inet::{self, AF_INET, AF_INET6, CookieMemory},
    memory::{Object, Probed},
    offsets::{
        OFF_INET_SOCK_INET_SPORT, OFF_SOCK_COMMON_SKC_DPORT, OFF_SOCK_COMMON_SKC_FAMILY,
        OFF_SOCK_COMMON_SKC_FLAGS, OFF_SOCK_COMMON_SKC_STATE, OFF_SOCK_SK_ERR, OFF_SOCK_SK_PROTOCOL,
        OFF_SOCK_SK_TYPE, OFF_TCP_SOCK_BYTES_ACKED, OFF_TCP_SOCK_BYTES_RECEIVED, OFF_TCP_SOCK_BYTES_RETRANS,
        OFF_TCP_SOCK_BYTES_SENT, OFF_TCP_SOCK_COPIED_SEQ, OFF_TCP_SOCK_RCV_NXT, OFF_TCP_SOCK_SND_NXT,
        OFF_TCP_SOCK_SND_UNA, OFF_TCP_SOCK_SRTT_US, OFF_TCP_SOCK_WRITE_SEQ,
    },
};

const SOCK_STREAM: u16 = 1;
const IPPROTO_TCP: u16 = 6;
/// Bit of `skc_flags`: the other end has ended its stream, and the end is in `rcv_nxt`.
const SOCK_DONE: u64 = 1 << 1;

/// States of a connection (`net/tcp_states.h`).
pub(super) mod state {
    pub(in crate::tcp) const ESTABLISHED: u32 = 1;
    pub(in crate::tcp) const SYN_SENT: u32 = 2;
    pub(in crate::tcp) const SYN_RECV: u32 = 3;
    pub(in crate::tcp) const FIN_WAIT1: u32 = 4;
    pub(in crate::tcp) const FIN_WAIT2: u32 = 5;
    pub(in crate::tcp) const TIME_WAIT: u32 = 6;
    pub(in crate::tcp) const CLOSE: u32 = 7;
    pub(in crate::tcp) const CLOSE_WAIT: u32 = 8;
    pub(in crate::tcp) const LAST_ACK: u32 = 9;
    pub(in crate::tcp) const LISTEN: u32 = 10;
    pub(in crate::tcp) const CLOSING: u32 = 11;

    /// Whether a state is one of several.
    #[inline(always)]
    pub(in crate::tcp) const fn is_any(state: u32, of: &[u32]) -> bool {
        let mut mask = 0_u32;
        let mut index = 0;
        while index < of.len() {
            mask |= 1 << of[index];
            index += 1;
        }
        state < 32 && mask >> state & 1 != 0
    }
}

/// How sockets are read.
pub trait SockMemory: CookieMemory {
    /// The same socket as a `tcp_sock`; `None` if it is no socket of TCP, where that can be told.
    fn tcp(sk: Object<Self>) -> Option<Object<Self>>;
}

#[cfg(not(feature = "before-6.1"))]
impl SockMemory for crate::memory::Direct {
    #[inline(always)]
    fn tcp(sk: Object<Self>) -> Option<Object<Self>> {
        // SAFETY: the helper takes a socket that the verifier knows to be one.
        let tcp =
            unsafe { aya_ebpf::helpers::generated::bpf_skc_to_tcp_sock(sk.address().cast_mut().cast()) };
        (!tcp.is_null()).then_some(Object::new(tcp))
    }
}

impl SockMemory for Probed {
    #[inline(always)]
    fn tcp(sk: Object<Self>) -> Option<Object<Self>> {
        let is_stream = sk.load::<u16>(&OFF_SOCK_SK_TYPE) == SOCK_STREAM;
        let is_tcp = sk.load::<u16>(&OFF_SOCK_SK_PROTOCOL) == IPPROTO_TCP;
        let family: u16 = sk.load(&OFF_SOCK_COMMON_SKC_FAMILY);
        (is_stream && is_tcp && (family == AF_INET || family == AF_INET6)).then_some(sk)
    }
}

/// A socket of TCP.
#[derive(Clone, Copy)]
pub(super) struct Sock<M> {
    sk: Object<M>,
    tcp: Object<M>,
}

impl<M: SockMemory> Sock<M> {
    /// `None` if it is another one.
    #[inline(always)]
    pub(super) fn of(sk: Object<M>) -> Option<Self> {
        Some(Self { sk, tcp: M::tcp(sk)? })
    }

    /// Its address.
    #[inline(always)]
    pub(super) fn address(self) -> u64 {
        self.sk.address() as u64
    }

    /// See [`CookieMemory::cookie`].
    #[inline(always)]
    pub(super) fn cookie(self) -> u64 {
        M::cookie(self.sk)
    }

    /// One of [`state`].
    #[inline(always)]
    pub(super) fn state(self) -> u32 {
        self.sk.load::<u8>(&OFF_SOCK_COMMON_SKC_STATE).into()
    }

    /// Its pending error: errno, or 0.
    #[inline(always)]
    pub(super) fn error(self) -> i32 {
        self.sk.load(&OFF_SOCK_SK_ERR)
    }

    /// Where in the stream that this end sends the sequence number `seq` is. `syn`: this end asked for the connection, and
    /// its asking, which has a number, is counted as acknowledged.
    #[inline(always)]
    pub(super) fn sent_before(self, seq: u32, syn: bool) -> u64 {
        let acked: u64 = self.tcp.load(&OFF_TCP_SOCK_BYTES_ACKED);
        let una: u32 = self.tcp.load(&OFF_TCP_SOCK_SND_UNA);
        // A segment may begin before what was acknowledged last.
        let ahead = i64::from(seq.wrapping_sub(una) as i32) as u64;
        acked.wrapping_add(ahead).wrapping_sub(syn.into())
    }

    /// How many bytes this end was given to send. Under the socket's lock.
    #[inline(always)]
    pub(super) fn sent(self, syn: bool) -> u64 {
        use state::{CLOSING, FIN_WAIT1, FIN_WAIT2, LAST_ACK, TIME_WAIT};
        let fin = state::is_any(self.state(), &[FIN_WAIT1, FIN_WAIT2, CLOSING, LAST_ACK, TIME_WAIT]);
        self.sent_before(self.tcp.load(&OFF_TCP_SOCK_WRITE_SEQ), syn).wrapping_sub(fin.into())
    }

    /// Whether this end's asking for the connection is counted as acknowledged, for a connection that nobody saw begin: what
    /// was sent is then one less than what was acknowledged or is under way. In [`ESTABLISHED`](state::ESTABLISHED) or
    /// [`CLOSE_WAIT`](state::CLOSE_WAIT).
    #[inline(always)]
    pub(super) fn guess_syn(self) -> bool {
        let write_seq: u32 = self.tcp.load(&OFF_TCP_SOCK_WRITE_SEQ);
        let next: u32 = self.tcp.load(&OFF_TCP_SOCK_SND_NXT);
        let again: u64 = self.tcp.load(&OFF_TCP_SOCK_BYTES_RETRANS);
        let once = self.tcp.load::<u64>(&OFF_TCP_SOCK_BYTES_SENT).wrapping_sub(again);
        let to_come = u64::from(write_seq.wrapping_sub(next));
        self.sent_before(write_seq, false) == once.wrapping_add(to_come).wrapping_add(1)
    }

    /// How many bytes were taken from this end. Under the socket's lock.
    #[inline(always)]
    pub(super) fn received(self) -> u64 {
        let copied: u32 = self.tcp.load(&OFF_TCP_SOCK_COPIED_SEQ);
        let next: u32 = self.tcp.load(&OFF_TCP_SOCK_RCV_NXT);
        let left = next.wrapping_sub(copied);
        // The end of the stream has a number too, and some ways of reading take it like a byte.
        let fin = left == 0 && self.sk.load::<u64>(&OFF_SOCK_COMMON_SKC_FLAGS) & SOCK_DONE != 0;
        let received: u64 = self.tcp.load(&OFF_TCP_SOCK_BYTES_RECEIVED);
        received.wrapping_sub(left.into()).wrapping_sub(fin.into())
    }

    /// What every record has.
    #[inline(always)]
    pub(super) fn describe(self, flags: u32) -> TcpSocket {
        let sk = self.sk;
        let is_ipv6 = inet::is_ipv6(sk);
        let (local_addr, remote_addr) = inet::addresses(sk);
        let netns = inet::netns(sk);
        TcpSocket {
            cookie: self.cookie(),
            local_addr: zerocopy::transmute!(local_addr),
            remote_addr: zerocopy::transmute!(remote_addr),
            // Not `skc_num`, which is given up before the socket is.
            local_port: self.tcp.load::<u16>(&OFF_INET_SOCK_INET_SPORT).swap_bytes(),
            remote_port: sk.load::<u16>(&OFF_SOCK_COMMON_SKC_DPORT).swap_bytes(),
            netns: netns.unwrap_or_default(),
            srtt_us: self.tcp.load::<u32>(&OFF_TCP_SOCK_SRTT_US) >> 3,
            flags: flags
                | if is_ipv6 { TCP_IPV6 } else { 0 }
                | if netns.is_some() { TCP_HAS_NETNS } else { 0 },
        }
    }
}
