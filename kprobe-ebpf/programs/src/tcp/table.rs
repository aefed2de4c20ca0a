//! What is remembered of a socket.

use aya_ebpf::{btf_maps::HashMap, macros::btf_map};
use kprobe_core::abi::{Family, TCP_ACCEPTED, TCP_CONNECTED, TCP_HAS_OWNER, select};

use super::sock::{Sock, SockMemory};
use crate::{cpu, current::Thread, filter, frozen::SELECT};

/// This end's asking for the connection is counted as acknowledged. Beside [`TCP_CONNECTED`], which is set only if that
/// was seen.
pub(super) const SYN_COUNTED: u32 = 1 << 31;

/// A socket that is or was connected, from the beginning of its connection to its end. What changes under the socket's
/// lock is changed by who holds it.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Entry {
    /// How many bytes it was given to send when last looked at.
    pub(super) sent: u64,
    /// How many were taken from it.
    pub(super) received: u64,
    /// When its connection was asked for; 0 if that is not known or has come to its end.
    pub(super) begin_ns: u64,
    /// When it was established; 0 if that is not known, or the connection was accepted.
    pub(super) established_ns: u64,
    /// The last thread that connected, accepted, sent or received; 0 if there was none.
    pub(super) owner_tgid: u32,
    /// Likewise.
    pub(super) owner_tid: u32,
    /// Not 0: it was selected.
    pub(super) is_selected: u32,
    /// [`TCP_CONNECTED`], [`TCP_ACCEPTED`], [`SYN_COUNTED`].
    pub(super) flags: u32,
}

/// By the address of the socket. It is as long as the socket uses it.
#[btf_map]
pub static SOCKETS: HashMap<u64, Entry, 1> = HashMap::new();

/// An entry in the map.
#[derive(Clone, Copy)]
pub(super) struct Known(*mut Entry);

macro_rules! words {
    ($($(#[doc = $doc:literal])* $name:ident, $set:ident: $type:ty;)+) => {$(
        $(#[doc = $doc])*
        #[inline(always)]
        pub(super) fn $name(self) -> $type {
            // SAFETY: the pointer is to a map element.
            unsafe { (*self.0).$name }
        }

        #[doc = concat!("Changes `", stringify!($name), "`.")]
        #[inline(always)]
        pub(super) fn $set(self, value: $type) {
            // SAFETY: likewise.
            unsafe { (*self.0).$name = value };
        }
    )+};
}

impl Known {
    words! {
        /// See [`Entry`], as the next.
        sent, set_sent: u64;
        /// Received.
        received, set_received: u64;
        /// Begin.
        begin_ns, set_begin_ns: u64;
        /// Established.
        established_ns, set_established_ns: u64;
        /// Owner.
        owner_tgid, set_owner_tgid: u32;
        /// Owner.
        owner_tid, set_owner_tid: u32;
        /// Selected.
        is_selected, set_is_selected: u32;
    }

    /// What is known of the socket. Of one that was at its address before nothing is left when it becomes connected.
    #[inline(always)]
    pub(super) fn find<M: SockMemory>(sock: Sock<M>) -> Option<Self> {
        Self::at(sock.address())
    }

    /// What is known of the socket at an address.
    #[inline(always)]
    pub(super) fn at(address: u64) -> Option<Self> {
        SOCKETS.get_ptr_mut(address).map(Self)
    }

    /// Remembers a socket, in place of what was at its address before.
    #[inline(always)]
    pub(super) fn make<M: SockMemory>(sock: Sock<M>, flags: u32) -> Option<Self> {
        let entry = Entry {
            sent: 0,
            received: 0,
            begin_ns: 0,
            established_ns: 0,
            owner_tgid: 0,
            owner_tid: 0,
            is_selected: 0,
            flags,
        };
        let made = SOCKETS.insert(sock.address(), entry, 0).is_ok();
        let entry = if made { SOCKETS.get_ptr_mut(sock.address()) } else { None };
        if entry.is_none() {
            cpu::count_unstored(Family::Tcp);
        }
        entry.map(Self)
    }

    /// Remembers a socket whose connection was not seen to begin, as it is now. Under the socket's lock.
    #[inline(always)]
    pub(super) fn meet<M: SockMemory>(sock: Sock<M>) -> Option<Self> {
        let syn = sock.guess_syn();
        let known = Self::make(sock, if syn { SYN_COUNTED } else { 0 })?;
        known.set_sent(sock.sent(syn));
        known.set_received(sock.received());
        Some(known)
    }

    #[inline(always)]
    fn flags(self) -> u32 {
        // SAFETY: the pointer is to a map element.
        unsafe { (*self.0).flags }
    }

    /// See [`SYN_COUNTED`].
    #[inline(always)]
    pub(super) fn syn(self) -> bool {
        self.flags() & SYN_COUNTED != 0
    }

    /// The current thread, in its own name, uses the socket.
    #[inline(always)]
    pub(super) fn use_by(self, thread: Thread, is_selected: bool) {
        self.set_owner_tgid(thread.tgid);
        self.set_owner_tid(thread.tid);
        self.set_is_selected(is_selected.into());
    }

    /// What a record says of it.
    #[inline(always)]
    pub(super) fn role(self) -> u32 {
        self.flags() & (TCP_CONNECTED | TCP_ACCEPTED)
    }
}

/// Whom an event concerns.
#[derive(Clone, Copy)]
pub(super) struct Concerned {
    /// The thread; both ids are 0 if it is not known.
    pub(super) tgid: u32,
    /// Likewise.
    pub(super) tid: u32,
    /// [`TCP_HAS_OWNER`], and the role.
    pub(super) flags: u32,
    /// Whether the event is wanted.
    pub(super) is_selected: bool,
}

impl Concerned {
    /// `current`, if it is the one that does it; else the owner, as far as it is known.
    #[inline(always)]
    pub(super) fn of(known: Option<Known>, current: Option<Thread>) -> Self {
        let role = known.map_or(0, Known::role);
        if let Some(thread) = current {
            return Self {
                tgid: thread.tgid,
                tid: thread.tid,
                flags: TCP_HAS_OWNER | role,
                is_selected: filter::selects_current(thread),
            };
        }
        match known.filter(|known| known.owner_tgid() != 0) {
            Some(known) => Self {
                tgid: known.owner_tgid(),
                tid: known.owner_tid(),
                flags: TCP_HAS_OWNER | role,
                is_selected: known.is_selected() != 0,
            },
            None => Self { tgid: 0, tid: 0, flags: role, is_selected: SELECT.get() & select::ALL != 0 },
        }
    }
}
