//! `struct sock`, as far as sockets of every protocol of the Internet are alike.

use crate::{
    memory::{Memory, Object, Probed},
    offsets::{
        ABSENT, OFF_NET_NS_INUM, OFF_SOCK_COMMON_SKC_COOKIE, OFF_SOCK_COMMON_SKC_DADDR,
        OFF_SOCK_COMMON_SKC_FAMILY, OFF_SOCK_COMMON_SKC_NET, OFF_SOCK_COMMON_SKC_RCV_SADDR,
        OFF_SOCK_COMMON_SKC_V6_DADDR, OFF_SOCK_COMMON_SKC_V6_RCV_SADDR,
    },
};

/// IPv4 (`include/linux/socket.h`).
pub const AF_INET: u16 = 2;
/// IPv6.
pub const AF_INET6: u16 = 10;

/// An IPv6 address as words.
pub type Address = [u64; 2];

/// How a socket is asked for its cookie.
pub trait CookieMemory: Memory {
    /// The cookie; 0 if it has none and cannot be given one.
    fn cookie(sk: Object<Self>) -> u64;
}

#[cfg(not(feature = "before-6.1"))]
impl CookieMemory for crate::memory::Direct {
    #[inline(always)]
    fn cookie(sk: Object<Self>) -> u64 {
        // SAFETY: the helper takes a socket that the verifier knows to be one.
        unsafe { aya_ebpf::helpers::generated::bpf_get_socket_cookie(sk.address().cast_mut().cast()) }
    }
}

impl CookieMemory for Probed {
    #[inline(always)]
    fn cookie(sk: Object<Self>) -> u64 {
        sk.load(&OFF_SOCK_COMMON_SKC_COOKIE)
    }
}

/// Whether it is a socket of IPv6, whatever its addresses are.
#[inline(always)]
pub fn is_ipv6<M: Memory>(sk: Object<M>) -> bool {
    sk.load::<u16>(&OFF_SOCK_COMMON_SKC_FAMILY) == AF_INET6
}

/// Its own address, and that of the other end.
#[inline(always)]
pub fn addresses<M: Memory>(sk: Object<M>) -> (Address, Address) {
    if is_ipv6(sk) {
        // By the helper even where direct loads work, and both as words: they are arrays.
        let sk = Object::<Probed>::new(sk.address());
        (
            sk.load_if_present(&OFF_SOCK_COMMON_SKC_V6_RCV_SADDR).unwrap_or_default(),
            sk.load_if_present(&OFF_SOCK_COMMON_SKC_V6_DADDR).unwrap_or_default(),
        )
    } else {
        (mapped(sk.load(&OFF_SOCK_COMMON_SKC_RCV_SADDR)), mapped(sk.load(&OFF_SOCK_COMMON_SKC_DADDR)))
    }
}

/// An IPv4 address, in the order of the network, as one of IPv6.
#[inline(always)]
pub fn mapped(address: u32) -> Address {
    [0, u64::from(address) << 32 | 0xffff_0000]
}

/// Inode number of its network namespace.
#[inline(always)]
pub fn netns<M: Memory>(sk: Object<M>) -> Option<u32> {
    if OFF_SOCK_COMMON_SKC_NET.get() == ABSENT {
        return None;
    }
    sk.follow(&OFF_SOCK_COMMON_SKC_NET).load_if_present(&OFF_NET_NS_INUM)
}
