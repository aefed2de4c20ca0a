//! TCP family.
//!
//! A sequence number is a position in a stream modulo 2^32; the kernel's counters of acknowledged and received bytes make it
//! the whole position. What a thread sent or took is what lies between where the socket was when last looked at and where it is
//! while the thread still has the socket's lock.
//!
//! What describes a socket is read outside of the closures that `emit` takes: closures of this size are not inlined.

mod sock;
mod table;

use aya_ebpf::{EbpfContext, macros::btf_map};
use kprobe_core::abi::{
    Family, TCP_ACCEPTED, TCP_CONNECTED, TCP_FIN, TCP_HAS_RESULT, TCP_SYN, TcpAccept, TcpConnect, TcpRecv,
    TcpRetransmit, TcpSend, TcpState,
};

pub use sock::SockMemory;
use sock::{Sock, state};
use table::{Concerned, Known, SYN_COUNTED};
pub use table::{Entry, SOCKETS};

use crate::{
    cpu,
    current::{CurrentTask, Who as _},
    emit::{emit, now},
    filter,
    memory::{Direct, Memory, Object, Probed},
    offsets::{
        OFF_FDTABLE_FD, OFF_FDTABLE_MAX_FDS, OFF_FILE_PRIVATE_DATA, OFF_FILES_STRUCT_FDT,
        OFF_MSGHDR_MSG_ITER_COUNT, OFF_SK_BUFF_CB, OFF_SOCKET_FILE, OFF_SOCKET_SK, OFF_TASK_STRUCT_FILES,
        OFF_TCP_SKB_CB_END_SEQ, OFF_TCP_SKB_CB_SEQ, OFF_TCP_SKB_CB_TCP_FLAGS, OFF_TCP_SKB_CB_TCP_GSO_SEGS,
        OFF_TRACE_EVENT_RAW_INET_SOCK_SET_STATE_NEWSTATE, OFF_TRACE_EVENT_RAW_INET_SOCK_SET_STATE_OLDSTATE,
        OFF_TRACE_EVENT_RAW_INET_SOCK_SET_STATE_SKADDR, OFF_TRACE_EVENT_RAW_TCP_EVENT_SK_SKADDR,
        OFF_TRACE_EVENT_RAW_TCP_RETRANSMIT_SKB_SKADDR, OFF_TRACE_EVENT_RAW_TCP_RETRANSMIT_SKB_SKBADDR,
    },
    storage::{self, TaskStorage},
    task::Task,
};

/// The socket in a trace event of the class `tcp_event_sk`.
#[inline(always)]
pub fn sk_of_event(context: &impl EbpfContext) -> Object<Probed> {
    Object::<Probed>::new(context.as_ptr()).follow(&OFF_TRACE_EVENT_RAW_TCP_EVENT_SK_SKADDR)
}

/// What the trace event `inet_sock_set_state` has: socket, old and new state.
#[inline(always)]
pub fn change_of_event(context: &impl EbpfContext) -> (Object<Probed>, u32, u32) {
    let event = Object::<Probed>::new(context.as_ptr());
    (
        event.follow(&OFF_TRACE_EVENT_RAW_INET_SOCK_SET_STATE_SKADDR),
        event.load(&OFF_TRACE_EVENT_RAW_INET_SOCK_SET_STATE_OLDSTATE),
        event.load(&OFF_TRACE_EVENT_RAW_INET_SOCK_SET_STATE_NEWSTATE),
    )
}

/// What the trace event `tcp_retransmit_skb` has: socket and packet.
#[inline(always)]
pub fn segment_of_event(context: &impl EbpfContext) -> (Object<Probed>, *const u8) {
    let event = Object::<Probed>::new(context.as_ptr());
    (
        event.follow(&OFF_TRACE_EVENT_RAW_TCP_RETRANSMIT_SKB_SKADDR),
        event.follow(&OFF_TRACE_EVENT_RAW_TCP_RETRANSMIT_SKB_SKBADDR).address(),
    )
}

/// `inet_sock_set_state(sk, oldstate, newstate)`, before all others there: keeps what is remembered in step.
#[inline(always)]
pub fn track<M: SockMemory>((sk, old, new): (Object<M>, u32, u32)) {
    let Some(sock) = Sock::of(sk) else { return };
    if new == state::SYN_SENT {
        let Some(known) = Known::make(sock, TCP_CONNECTED | SYN_COUNTED) else { return };
        let thread = CurrentTask::<M>::find().thread();
        known.use_by(thread, filter::selects_current(thread));
        known.set_begin_ns(now());
    } else if new == state::SYN_RECV && old == state::LISTEN {
        // The connection was accepted by the kernel; a thread may take it long after.
        Known::make(sock, TCP_ACCEPTED);
    } else if new == state::ESTABLISHED {
        let known = Known::find(sock).or_else(|| Known::make(sock, TCP_ACCEPTED));
        if let Some(known) = known {
            known.set_established_ns(now());
        }
    } else if is_the_threads(old, new)
        && let Some(known) = Known::find(sock)
    {
        let thread = CurrentTask::<M>::find().thread();
        known.use_by(thread, filter::selects_current(thread));
    }
}

/// `inet_sock_set_state`, before all others there.
#[cfg(not(feature = "before-6.1"))]
#[inline(always)]
pub fn give_cookie(sk: Object<Direct>) {
    <Direct as crate::inet::CookieMemory>::cookie(sk);
}

/// `tcp_destroy_sock(sk)`.
#[inline(always)]
pub fn forget<M: Memory>(sk: Object<M>) {
    // That there was none is fine.
    let _ = SOCKETS.remove(sk.address() as u64);
}

/// Whether a change of state is the doing of the current thread: it connects, listens, shuts down or closes. All others
/// may happen in an interrupt.
#[inline(always)]
const fn is_the_threads(old: u32, new: u32) -> bool {
    use state::{CLOSE, CLOSE_WAIT, ESTABLISHED, FIN_WAIT1, LAST_ACK, LISTEN, SYN_RECV, SYN_SENT};
    match new {
        SYN_SENT => true,
        LISTEN => true,
        FIN_WAIT1 => old == ESTABLISHED || old == SYN_RECV,
        LAST_ACK => old == CLOSE_WAIT,
        CLOSE => old == LISTEN,
        _ => false,
    }
}

/// `inet_sock_set_state`, behind `track`.
#[inline(always)]
pub fn changed<M: SockMemory>((sk, old, new): (Object<M>, u32, u32)) {
    let Some(sock) = Sock::of(sk) else { return };
    let who = CurrentTask::<M>::find();
    let current = if is_the_threads(old, new) { Some(who.thread()) } else { None };
    let concerned = Concerned::of(Known::find(sock), current);
    if !concerned.is_selected {
        return;
    }
    let socket = sock.describe(concerned.flags);
    emit(who, now(), || TcpState { socket, owner_tgid: concerned.tgid, owner_tid: concerned.tid, old, new });
}

/// `inet_sock_set_state`, behind `track`: the end of what began with `SYN_SENT`.
#[inline(always)]
pub fn connected<M: SockMemory>((sk, old, new): (Object<M>, u32, u32)) {
    use state::{CLOSE, ESTABLISHED, SYN_RECV, SYN_SENT};
    let is_done = new == ESTABLISHED || new == CLOSE && (old == SYN_SENT || old == SYN_RECV);
    if !is_done {
        return;
    }
    let Some(sock) = Sock::of(sk) else { return };
    let Some(known) = Known::find(sock) else { return };
    let begin_ns = known.begin_ns();
    if begin_ns == 0 {
        return;
    }
    known.set_begin_ns(0);
    let concerned = Concerned::of(Some(known), None);
    if !concerned.is_selected {
        return;
    }
    let error = if new == CLOSE { sock.error() } else { 0 };
    let has_result = if new == ESTABLISHED || error != 0 { TCP_HAS_RESULT } else { 0 };
    let socket = sock.describe(concerned.flags | has_result);
    emit(CurrentTask::<M>::find(), now(), || TcpConnect {
        socket,
        begin_ns,
        owner_tgid: concerned.tgid,
        owner_tid: concerned.tid,
        ret: -i64::from(error),
    });
}

/// `tcp_rcv_space_adjust(sk)`: the current thread, which has the lock, may have taken bytes.
#[inline(always)]
pub fn received<M: SockMemory>(sk: Object<M>) {
    let Some(sock) = Sock::of(sk) else { return };
    let who = CurrentTask::<M>::find();
    let thread = who.thread();
    let is_selected = filter::selects_current(thread);
    let Some(known) = Known::find(sock) else {
        if is_selected {
            // From where on it took them is not known.
            cpu::count_unpaired(Family::Tcp);
            let _ = Known::meet(sock);
        }
        return;
    };
    let (start, end) = (known.received(), sock.received());
    // Looking at bytes takes none.
    if start == end {
        return;
    }
    known.set_received(end);
    known.use_by(thread, is_selected);
    if is_selected {
        let socket = sock.describe(known.role());
        emit(who, now(), || TcpRecv { socket, start, end });
    }
}

/// The entry of `tcp_sendmsg_locked(sk, msg, size)`: a socket that nobody saw connected is met before bytes are added.
#[inline(always)]
pub fn meet<M: SockMemory>(sk: Object<M>) {
    let Some(sock) = Sock::of(sk) else { return };
    if Known::find(sock).is_none()
        && has_stream(sock)
        && filter::selects_current(CurrentTask::<M>::find().thread())
    {
        let _ = Known::meet(sock);
    }
}

/// The entry of `release_sock(sk)`: the current thread gives up the lock, at the end of a call or to wait for room. It is
/// there for sockets of every kind. (What it calls for those of TCP is, since Linux 7.0, only called if work was put off.)
#[inline(always)]
pub fn released<M: SockMemory>(sk: Object<M>) {
    // First, since it is the one question that sockets of no concern are asked.
    let Some(known) = Known::at(sk.address() as u64) else { return };
    let Some(sock) = Sock::of(sk) else { return };
    if state::is_any(sock.state(), &[state::CLOSE, state::LISTEN]) {
        return;
    }
    let (start, end) = (known.sent(), sock.sent(known.syn()));
    if start == end {
        return;
    }
    let who = CurrentTask::<M>::find();
    let thread = who.thread();
    let is_selected = filter::selects_current(thread);
    known.set_sent(end);
    known.use_by(thread, is_selected);
    if is_selected {
        let socket = sock.describe(known.role());
        emit(who, now(), || TcpSend { socket, start, end });
    }
}

#[inline(always)]
fn has_stream<M: SockMemory>(sock: Sock<M>) -> bool {
    state::is_any(sock.state(), &[state::ESTABLISHED, state::CLOSE_WAIT])
}

/// A call that sends, where it can only be looked at from inside and after its end.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Sending {
    /// Address of the socket; 0 if nothing is pending.
    sk: u64,
    /// Position in the stream up to which all was recorded.
    at: u64,
    /// Bytes that the call had left when it was there.
    left: u64,
    /// Bytes that it had to send.
    all: u64,
}

/// What a thread is sending.
#[btf_map]
pub static SENDING: TaskStorage<Sending> = TaskStorage::new();

/// The tracepoint `tcp_sendmsg_locked(sk, msg, skb, size_goal)`: under the lock, before each piece that the call adds, and
/// again after it waited for room.
#[inline(always)]
pub fn sending<M: SockMemory>(sk: Object<M>, msg: *const u8) {
    let Some(sock) = Sock::of(sk) else { return };
    let task = storage::current();
    let who = CurrentTask(Task::<Direct>::new(Object::new(task)));
    let thread = who.thread();
    if !filter::selects_current(thread) {
        return;
    }
    let Some(known) = Known::find(sock).or_else(|| Known::meet(sock)) else { return };
    let Some(sending) = SENDING.make(task) else {
        cpu::count_unstored(Family::Tcp);
        return;
    };
    let now_at = sock.sent(known.syn());
    let now_left: u64 = Object::<Probed>::new(msg).load(&OFF_MSGHDR_MSG_ITER_COUNT);
    // SAFETY: the kernel gave the pointer to the thread's own value, which only programs that the thread itself runs
    // access: one at a time.
    let Sending { sk, at, left, all } = unsafe { sending.read() };
    let added = now_at.wrapping_sub(at);
    let is_going_on = sk == sock.address() && left.wrapping_sub(now_left) == added;
    let all = if is_going_on { all } else { now_left };
    // SAFETY: likewise.
    unsafe { sending.write(Sending { sk: sock.address(), at: now_at, left: now_left, all }) };
    known.set_sent(now_at);
    known.use_by(thread, true);
    // Otherwise others added bytes while it waited, or it is another call. What it had added was recorded before it waited.
    if is_going_on && added != 0 {
        let socket = sock.describe(known.role());
        emit(who, now(), || TcpSend { socket, start: at, end: now_at });
    }
}

/// The tracepoint `sock_send_length(sk, ret, flags)`: the call has returned, without the lock.
#[inline(always)]
pub fn sent<M: SockMemory>(sk: Object<M>, ret: i32) {
    let task = storage::current();
    let who = CurrentTask(Task::<Direct>::new(Object::new(task)));
    if !filter::selects_current(who.thread()) {
        return;
    }
    let Some(sending) = SENDING.find(task) else { return };
    // SAFETY: see `sending`.
    let Sending { sk: pending, at, left, all } = unsafe { sending.read() };
    if pending != sk.address() as u64 {
        return;
    }
    // SAFETY: see `sending`.
    unsafe { (&raw mut (*sending).sk).write(0) };
    // The last piece is all that was left, or nothing.
    if ret <= 0 || (ret as u64) < all || left == 0 {
        return;
    }
    let Some(sock) = Sock::of(sk) else { return };
    let Some(known) = Known::find(sock) else { return };
    let socket = sock.describe(known.role());
    emit(who, now(), || TcpSend { socket, start: at, end: at.wrapping_add(left) });
}

/// `tcp_retransmit_skb(sk, skb)`.
#[inline(always)]
pub fn retransmitted<M: SockMemory>((sk, skb): (Object<M>, *const u8)) {
    // Bits of `tcp_flags`.
    const FIN: u32 = 0;
    const SYN: u32 = 1;
    let Some(sock) = Sock::of(sk) else { return };
    let known = Known::find(sock);
    let concerned = Concerned::of(known, None);
    if !concerned.is_selected {
        return;
    }
    // By the helper: to the verifier it is an array of bytes.
    let segment = Object::<Probed>::new(Object::<Probed>::new(skb).member(&OFF_SK_BUFF_CB));
    // Without branches, of which old verifiers look at each combination.
    let flags: u32 = segment.load::<u8>(&OFF_TCP_SKB_CB_TCP_FLAGS).into();
    let (syn, fin) = (flags >> SYN & 1, flags >> FIN & 1);
    let counted = known.map_or_else(|| sock.guess_syn(), Known::syn);
    let start = sock.sent_before(segment.load(&OFF_TCP_SKB_CB_SEQ), counted);
    let end = sock.sent_before(segment.load(&OFF_TCP_SKB_CB_END_SEQ), counted);
    let body = TcpRetransmit {
        socket: sock.describe(concerned.flags | syn * TCP_SYN | fin * TCP_FIN),
        // Before it is acknowledged, what asks for the connection is at -1.
        start: start.wrapping_add(syn.into()),
        end: end.wrapping_sub(fin.into()),
        owner_tgid: concerned.tgid,
        owner_tid: concerned.tid,
        segments: segment.load::<u16>(&OFF_TCP_SKB_CB_TCP_GSO_SEGS).into(),
        state: sock.state(),
    };
    emit(CurrentTask::<M>::find(), now(), || body);
}

/// The current thread got the connection `sk`: the entry of `security_sock_graft(sk, parent)`.
#[inline(always)]
pub fn accepted<M: SockMemory>(sk: Object<M>) {
    let Some(sock) = Sock::of(sk) else { return };
    let who = CurrentTask::<M>::find();
    let thread = who.thread();
    let is_selected = filter::selects_current(thread);
    let now = now();
    let known = Known::find(sock);
    let mut queued_ns = None;
    if let Some(known) = known {
        let since = known.established_ns();
        queued_ns = (since != 0).then(|| now.saturating_sub(since));
        known.use_by(thread, is_selected);
    }
    if is_selected {
        let has_result = if queued_ns.is_some() { TCP_HAS_RESULT } else { 0 };
        let role = known.map_or(TCP_ACCEPTED, Known::role);
        let socket = sock.describe(role | has_result);
        emit(who, now, || TcpAccept { socket, queued_ns: queued_ns.unwrap_or_default() });
    }
}

/// The trace events `sys_exit_accept` and `sys_exit_accept4`.
#[inline(always)]
pub fn accept_returned(context: &impl EbpfContext) {
    let task = storage::current();
    if !filter::selects_current(CurrentTask(Task::<Direct>::new(Object::new(task))).thread()) {
        return;
    }
    // Header, number, result: 8 bytes each.
    // SAFETY: the verifier knows the length of the event.
    let fd = unsafe { context.as_ptr().cast::<i64>().wrapping_add(2).read_volatile() };
    if fd < 0 {
        return;
    }
    let table = Object::<Probed>::new(task).follow(&OFF_TASK_STRUCT_FILES).follow(&OFF_FILES_STRUCT_FDT);
    if fd >= i64::from(table.load::<u32>(&OFF_FDTABLE_MAX_FDS)) {
        return;
    }
    let files = table.follow(&OFF_FDTABLE_FD).address();
    // SAFETY: see `Memory::load`; the table has so many.
    let file = unsafe { Probed::load::<usize>(files.wrapping_add(fd as usize * 8)) };
    let socket = Object::<Probed>::new(file as *const u8).follow(&OFF_FILE_PRIVATE_DATA);
    // Another thread may have closed it and opened what is no socket.
    if file == 0 || socket.load::<usize>(&OFF_SOCKET_FILE) != file {
        return;
    }
    accepted(socket.follow(&OFF_SOCKET_SK));
}
