//! Unix family: which bytes of a stream between two sockets a thread sent or received.
//!
//! The kernel does not count them, so the programs do, for every such socket that anybody uses; only records are filtered.
//! A connection has two streams. Each is named after the socket that sends, by its cookie: a number that the kernel gives to
//! a socket when it is first asked for, and to no other ever.

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    btf_maps::LruHashMap,
    helpers::generated::{bpf_get_socket_cookie, bpf_skc_to_unix_sock},
    macros::btf_map,
};
use kprobe_core::abi::{
    Family, PipeCall, UNIX_HAS_OVERLAPPED, UNIX_OVERLAPPED, UNIX_PEEK, UNIX_RELATIVE, UnixRecv, UnixSend,
};

use crate::{
    args::Args,
    atomic, cpu,
    current::{CurrentTask, Who as _},
    emit::{emit, now},
    file::File,
    filter,
    memory::{Direct, Memory, Object, Probed},
    offsets::{
        OFF_SOCK_COMMON_SKC_COOKIE, OFF_SOCK_COMMON_SKC_FAMILY, OFF_SOCK_SK_PEEK_OFF, OFF_SOCK_SK_SOCKET,
        OFF_SOCK_SK_TYPE, OFF_SOCKET_FILE, OFF_SOCKET_SK, OFF_UNIX_SOCK_PEER,
    },
    pipe,
    storage::{self, TaskStorage},
    syscall::Source,
    task::Task,
};

/// What is known of a stream.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Flow {
    sent: u64,
    received: u64,
    /// The connection was not seen being made.
    is_relative: u64,
}

/// By the cookie of the socket that sends.
#[btf_map]
pub static FLOWS: LruHashMap<u64, Flow, 1> = LruHashMap::new();

/// A call that has begun.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Exchange {
    /// The stream, at a function.
    stream: u64,
    /// Bytes that had been moved on that side when the call began.
    moved: u64,
    /// At a system call: address of the socket that bytes are taken from.
    sock: u64,
}

impl Exchange {
    const NONE: Self = Self { stream: 0, moved: 0, sock: 0 };
}

/// The call that each thread is in.
#[btf_map]
pub static EXCHANGES: TaskStorage<Exchange> = TaskStorage::new();

// include/linux/socket.h, include/linux/net.h
const AF_UNIX: u16 = 1;
const SOCK_STREAM: u16 = 1;
const MSG_PEEK: u32 = 2;

/// A direction.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Into the stream that the socket sends.
    Sent,
    /// Out of the stream that its peer sends.
    Received,
}

/// A socket with its peer.
#[derive(Clone, Copy)]
struct Pair {
    cookie: u64,
    peer_cookie: u64,
}

impl Pair {
    /// Of a stream socket of this family that is connected.
    #[inline(always)]
    fn of(sock: Object<Direct>) -> Option<Self> {
        if !is_unix_stream(sock) {
            return None;
        }
        // SAFETY: the helper takes a socket, which the verifier makes sure of.
        let unix = unsafe { bpf_skc_to_unix_sock(sock.address().cast_mut().cast()) };
        if unix.is_null() {
            return None;
        }
        let peer = Object::<Direct>::new(unix.cast_const()).follow(&OFF_UNIX_SOCK_PEER);
        if peer.address().is_null() {
            return None;
        }
        let cookie = |sock: Object<Direct>| {
            // SAFETY: likewise. The peer lives as long as the socket, which holds it.
            unsafe { bpf_get_socket_cookie(sock.address().cast_mut().cast()) }
        };
        Some(Self { cookie: cookie(sock), peer_cookie: cookie(peer) })
    }

    /// The same where the verifier does not know that it is a socket: cookies that were never asked for cannot be had.
    #[inline(always)]
    fn read(sock: Object<Probed>) -> Option<Self> {
        if !is_unix_stream(sock) {
            return None;
        }
        let peer = sock.follow(&OFF_UNIX_SOCK_PEER);
        let cookie: u64 = sock.load(&OFF_SOCK_COMMON_SKC_COOKIE);
        let peer_cookie: u64 = peer.load(&OFF_SOCK_COMMON_SKC_COOKIE);
        (cookie != 0 && peer_cookie != 0).then_some(Self { cookie, peer_cookie })
    }

    #[inline(always)]
    fn stream(self, side: Side) -> u64 {
        if side == Side::Sent { self.cookie } else { self.peer_cookie }
    }
}

#[inline(always)]
fn is_unix_stream<M: Memory>(sock: Object<M>) -> bool {
    sock.load::<u16>(&OFF_SOCK_COMMON_SKC_FAMILY) == AF_UNIX
        && sock.load::<u16>(&OFF_SOCK_SK_TYPE) == SOCK_STREAM
}

/// The tracepoints `sock_send_length(sk, ret, flags)` and `sock_recv_length`: a call on a socket returns `ret`.
#[inline(always)]
pub fn moved(args: Args, side: Side) {
    let ret = args.word(1) as i32;
    if ret <= 0 {
        return;
    }
    let sock = args.object::<Direct>(0);
    let Some(pair) = Pair::of(sock) else { return };
    let flags = if side == Side::Received { args.word(2) as u32 } else { 0 };
    count(pair, sock.address() as u64, side, flags, ret as u64, None);
}

/// The entry of a function of a socket, its first argument.
#[inline(always)]
pub fn entered(args: Args, side: Side) {
    let Some(pair) = Pair::of(args.object::<Direct>(0).follow(&OFF_SOCKET_SK)) else { return };
    let Some(exchange) = EXCHANGES.make(storage::current()) else {
        cpu::count_unstored(Family::Unix);
        return;
    };
    let stream = pair.stream(side);
    let moved = flow(stream, true).map_or(0, |flow| so_far(flow, side));
    // SAFETY: the kernel gave the pointer to the thread's own value, which only programs that the thread itself runs
    // access: one at a time.
    unsafe { exchange.write(Exchange { stream, moved, sock: 0 }) };
}

/// Its return. `flags` are those of the call.
#[inline(always)]
pub fn left(args: Args, side: Side, flags: u32, ret: i32) {
    if ret <= 0 {
        return;
    }
    let sock = args.object::<Direct>(0).follow(&OFF_SOCKET_SK);
    let Some(pair) = Pair::of(sock) else { return };
    let before = EXCHANGES.find(storage::current()).and_then(|exchange| {
        // SAFETY: see `entered`.
        let Exchange { stream, moved, .. } = unsafe { exchange.read() };
        (stream == pair.stream(side)).then_some(moved)
    });
    count(pair, sock.address() as u64, side, flags, ret as u64, before);
}

/// Two sockets have been connected with each other: the one that asked for it, and its peer.
#[inline(always)]
pub fn connected(args: Args, ret: i32) {
    if ret != 0 {
        return;
    }
    if let Some(pair) = Pair::of(args.object::<Direct>(0).follow(&OFF_SOCKET_SK)) {
        begin(pair);
    }
}

#[inline(always)]
fn begin(pair: Pair) {
    for stream in [pair.cookie, pair.peer_cookie] {
        if let Some(flow) = flow(stream, false) {
            // Who got the other end may have been faster.
            // SAFETY: the pointer is to a map element.
            unsafe { (&raw mut (*flow).is_relative).write_volatile(0) };
        }
    }
}

/// What is known of a stream, made known if need be.
#[inline(always)]
fn flow(stream: u64, is_relative: bool) -> Option<*mut Flow> {
    if let Some(flow) = FLOWS.get_ptr_mut(stream) {
        return Some(flow);
    }
    let new = Flow { sent: 0, received: 0, is_relative: u64::from(is_relative) };
    // Another thread that is as early may have put it there: that one then.
    let _ = FLOWS.insert(stream, new, BPF_NOEXIST.into());
    let flow = FLOWS.get_ptr_mut(stream);
    if flow.is_none() {
        cpu::count_unstored(Family::Unix);
    }
    flow
}

#[inline(always)]
fn so_far(flow: *mut Flow, side: Side) -> u64 {
    // SAFETY: the pointer is to a map element, whose words others change only as a whole.
    unsafe {
        match side {
            Side::Sent => (&raw const (*flow).sent).read_volatile(),
            Side::Received => (&raw const (*flow).received).read_volatile(),
        }
    }
}

/// Counts the bytes of a call, behind those of all that ended before it. `before` are those that had been moved when it
/// began, where that is known.
#[inline(always)]
fn count(pair: Pair, sock: u64, side: Side, flags: u32, bytes: u64, before: Option<u64>) {
    let Some(flow) = flow(pair.stream(side), true) else { return };
    // SAFETY: the pointer is to a map element.
    let relative =
        if unsafe { (&raw const (*flow).is_relative).read_volatile() } != 0 { UNIX_RELATIVE } else { 0 };
    let sock = Object::<Probed>::new(sock as *const u8);
    let (start, peek) = if flags & MSG_PEEK != 0 {
        // With `SO_PEEK_OFF` it went on where the last one ended, and has advanced.
        let offset: i32 = sock.load(&OFF_SOCK_SK_PEEK_OFF);
        let skipped = if offset < 0 { 0 } else { (offset as u64).saturating_sub(bytes) };
        (so_far(flow, side) + skipped, UNIX_PEEK)
    } else {
        // SAFETY: likewise.
        let counter =
            unsafe { if side == Side::Sent { &raw mut (*flow).sent } else { &raw mut (*flow).received } };
        (atomic::fetch_add(counter, bytes), 0)
    };
    let overlapped = match before {
        Some(before) if peek != 0 || before == start => UNIX_HAS_OVERLAPPED,
        Some(_) => UNIX_HAS_OVERLAPPED | UNIX_OVERLAPPED,
        None => 0,
    };
    let caller = CurrentTask::<Direct>::find();
    if !filter::selects_current(caller.thread()) {
        return;
    }
    let flags = relative | peek | overlapped;
    let Pair { cookie, peer_cookie } = pair;
    let (now, end) = (now(), start + bytes);
    let inode = File::new(sock.follow(&OFF_SOCK_SK_SOCKET).load(&OFF_SOCKET_FILE)).inode().number();
    match side {
        Side::Sent => emit(caller, now, || UnixSend { cookie, peer_cookie, start, end, inode, flags }),
        Side::Received => emit(caller, now, || UnixRecv { cookie, peer_cookie, start, end, inode, flags }),
    }
}

/// `sys_enter`: of `splice`, which no tracepoint of sockets sees.
#[inline(always)]
pub fn enter(source: impl Source) {
    if pipe::call_of(source.entered()) != Some(PipeCall::SPLICE) {
        return;
    }
    let task = storage::current();
    if pipe::is_foreign(task) {
        return;
    }
    let file = File::of(Task::<Direct>::new(Object::new(task)), source.argument(0) as u32);
    if !file.inode().is_socket() {
        return;
    }
    let Some(exchange) = EXCHANGES.make(task) else {
        cpu::count_unstored(Family::Unix);
        return;
    };
    let sock = file.private().follow(&OFF_SOCKET_SK);
    if !is_unix_stream(sock) {
        return;
    }
    let sock = sock.address() as u64;
    // SAFETY: see `entered`.
    unsafe { exchange.write(Exchange { sock, ..Exchange::NONE }) };
}

/// `sys_exit`.
#[inline(always)]
pub fn exit(source: impl Source) {
    if pipe::call_of(source.left()) != Some(PipeCall::SPLICE) {
        return;
    }
    let Some(exchange) = EXCHANGES.find(storage::current()) else { return };
    // SAFETY: see `entered`.
    let sock = unsafe { (*exchange).sock };
    // SAFETY: see `entered`.
    unsafe { (&raw mut (*exchange).sock).write(0) };
    let ret = source.ret();
    if sock == 0 || ret <= 0 {
        return;
    }
    // Whoever sent has been seen, and with that both have cookies.
    match Pair::read(Object::new(sock as *const u8)) {
        Some(pair) => count(pair, sock, Side::Received, 0, ret as u64, None),
        None => cpu::count_unpaired(Family::Unix),
    }
}
