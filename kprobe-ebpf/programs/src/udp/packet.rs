//! `struct sk_buff` of a UDP packet. Of what it carries, only the headers are read.

use crate::{
    inet::{Address, mapped},
    memory::{Memory, Object, Probed},
    offsets::{
        OFF_SK_BUFF_END, OFF_SK_BUFF_HEAD, OFF_SK_BUFF_LEN, OFF_SK_BUFF_NETWORK_HEADER, OFF_SK_BUFF_SK,
        OFF_SK_BUFF_TRANSPORT_HEADER, OFF_SKB_SHARED_INFO_GSO_SIZE,
    },
};

const IPPROTO_UDP: u8 = 17;
const IPPROTO_FRAGMENT: u8 = 44;
/// Bytes of the header of UDP, and of that which an IPv6 packet has that was cut into pieces.
const HEADER: usize = 8;

/// A packet.
#[derive(Clone, Copy)]
pub(super) struct Packet(Object<Probed>);

/// What the headers of a UDP packet say.
#[derive(Clone, Copy)]
pub(super) struct Headers {
    pub(super) source: Address,
    pub(super) destination: Address,
    pub(super) source_port: u16,
    pub(super) destination_port: u16,
    /// What it carries.
    pub(super) bytes: u32,
}

impl Packet {
    /// The packet at an address that the kernel gave.
    #[inline(always)]
    pub(super) fn new(address: u64) -> Self {
        Self(Object::new(address as *const u8))
    }

    /// The socket that it is of.
    #[inline(always)]
    pub(super) fn sk(self) -> Object<Probed> {
        self.0.follow(&OFF_SK_BUFF_SK)
    }

    /// Bytes that are left of it: behind the headers when a socket has it.
    #[inline(always)]
    pub(super) fn len(self) -> u32 {
        self.0.load(&OFF_SK_BUFF_LEN)
    }

    /// Size of the datagrams that it is to be cut into, or was put together from; 0 if it is one.
    #[inline(always)]
    pub(super) fn segment_bytes(self) -> u32 {
        let end = self.head(self.0.load::<u32>(&OFF_SK_BUFF_END) as usize);
        Object::<Probed>::new(end).load::<u16>(&OFF_SKB_SHARED_INFO_GSO_SIZE).into()
    }

    /// Of a packet that is known to be one of UDP, and whole.
    #[inline(always)]
    pub(super) fn headers(self) -> Headers {
        let network = self.network();
        let [source_port, destination_port, len, _] = read::<[u16; 4]>(self.transport());
        let (source, destination) = if is_ipv6(network) {
            let [_, a, b, c, d] = read::<[u64; 5]>(network);
            ([a, b], [c, d])
        } else {
            let [_, _, _, source, destination] = read::<[u32; 5]>(network);
            (mapped(source), mapped(destination))
        };
        Headers {
            source,
            destination,
            source_port: source_port.swap_bytes(),
            destination_port: destination_port.swap_bytes(),
            bytes: u32::from(len.swap_bytes()).saturating_sub(HEADER as u32),
        }
    }

    /// Whether it is a packet of UDP with that header in it: whole, or the first piece.
    #[inline(always)]
    pub(super) fn has_headers(self) -> bool {
        let network = self.network();
        let at = |offset| network.wrapping_add(offset);
        if is_ipv6(network) {
            return match read::<u8>(at(6)) {
                IPPROTO_UDP => true,
                IPPROTO_FRAGMENT => {
                    let [next, _, high, low] = read::<[u8; 4]>(self.transport().wrapping_sub(HEADER));
                    // The lowest three bits are no part of the place.
                    next == IPPROTO_UDP && high == 0 && low & !7 == 0
                }
                _ => false,
            };
        }
        let [high, low] = read::<[u8; 2]>(at(6));
        // The highest three bits are no part of the place.
        read::<u8>(at(9)) == IPPROTO_UDP && high & 0x1f == 0 && low == 0
    }

    #[inline(always)]
    fn head(self, offset: usize) -> *const u8 {
        self.0.follow(&OFF_SK_BUFF_HEAD).address().wrapping_add(offset)
    }

    #[inline(always)]
    fn network(self) -> *const u8 {
        self.head(self.0.load::<u16>(&OFF_SK_BUFF_NETWORK_HEADER).into())
    }

    #[inline(always)]
    fn transport(self) -> *const u8 {
        self.head(self.0.load::<u16>(&OFF_SK_BUFF_TRANSPORT_HEADER).into())
    }
}

/// Which version the header of a packet is of.
#[inline(always)]
fn is_ipv6(network: *const u8) -> bool {
    read::<u8>(network) >> 4 == 6
}

#[inline(always)]
fn read<T: Copy + Default>(from: *const u8) -> T {
    // SAFETY: see `Memory::load`: the kernel handles the faults.
    unsafe { Probed::load(from) }
}
