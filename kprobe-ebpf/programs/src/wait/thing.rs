//! What a thread waits for, or wakes others for: as far as the registers of its call, its descriptors and its flags tell.

use aya_ebpf::bindings::task_struct;
use kprobe_core::abi::{
    SYSCALL_TABLE, WAIT_HAS_COOKIE, WAIT_HAS_DEVICE, WAIT_HAS_FD, WAIT_HAS_OBJECT, WaitCall, wait_class,
};

use crate::{
    file::{File, S_IFBLK, S_IFCHR, S_IFIFO, S_IFSOCK},
    frozen::{WAIT_CALLS, WAIT_SECRET},
    kernel,
    memory::{Direct, Object, Probed},
    offsets::{
        ABSENT, OFF_ARG_0, OFF_ARG_1, OFF_ARG_2, OFF_ARG_4, OFF_SOCK_COMMON_SKC_COOKIE,
        OFF_SOCK_COMMON_SKC_FAMILY, OFF_SOCK_SK_SOCKET, OFF_SOCKET_FILE, OFF_SOCKET_SK, OFF_SYSCALL_NR,
        OFF_UNIX_SOCK_PEER, OFF_USER_IP,
    },
    secret::number_of,
    task::Task,
};

// include/uapi/linux/magic.h
const ANON_INODE_FS_MAGIC: u64 = 0x0904_1934;
const MQUEUE_MAGIC: u64 = 0x1980_0202;
/// Since Linux 6.9 processes with a descriptor are in a file system of their own.
const PID_FS_MAGIC: u64 = 0x5049_4446;

const AF_UNIX: u16 = 1;

// include/uapi/linux/futex.h: those with a second address.
const FUTEX_COMMAND: u32 = 127;
const FUTEX_REQUEUE: u32 = 3;
const FUTEX_WAKE_OP: u32 = 5;
const FUTEX_CMP_REQUEUE_PI: u32 = 12;

// include/uapi/linux/wait.h
const P_PID: u32 = 1;
const P_PIDFD: u32 = 3;

/// The name of a file without a place, as two words.
const fn word(name: &[u8]) -> [u64; 2] {
    let mut words = [0_u64; 2];
    let mut at = 0;
    while at < name.len() {
        words[at / 8] |= (name[at] as u64) << (at % 8 * 8);
        at += 1;
    }
    words
}

const EVENTFD: [u64; 2] = word(b"[eventfd]");
const EVENTPOLL: [u64; 2] = word(b"[eventpoll]");
const TIMERFD: [u64; 2] = word(b"[timerfd]");
const SIGNALFD: [u64; 2] = word(b"[signalfd]");
const PIDFD: [u64; 2] = word(b"[pidfd]");
const IO_URING: [u64; 2] = word(b"[io_uring]");
const INOTIFY: [u64; 2] = word(b"inotify");

/// A thing, as the programs keep it: with addresses, which stay in the kernel. None is followed later: by then what was there
/// may be gone.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Thing {
    /// Inode number, address, id or count.
    pub object: u64,
    /// Of a socket the cookie that it had by then; it is not given one. 0 if it had none.
    pub cookie: u64,
    /// Of the inode.
    pub device: u32,
    /// Descriptor.
    pub fd: i32,
    /// One of [`wait_class`].
    pub class: u32,
    /// `WAIT_HAS_*` of the object, the device and the descriptor.
    pub flags: u32,
}

impl Thing {
    /// Nothing that is known.
    pub const NONE: Self =
        Self { object: 0, cookie: 0, device: 0, fd: 0, class: wait_class::NONE as u32, flags: 0 };

    /// What has a class and nothing else.
    #[inline(always)]
    pub const fn of_class(class: u8) -> Self {
        Self { class: class as u32, ..Self::NONE }
    }

    /// What is told by one number.
    #[inline(always)]
    pub const fn of_number(class: u8, object: u64) -> Self {
        Self { object, flags: WAIT_HAS_OBJECT, ..Self::of_class(class) }
    }

    /// What a descriptor of a thread stands for.
    #[inline(always)]
    pub fn of_fd(task: Task<Direct>, fd: u64) -> Self {
        let fd = fd as u32;
        Self { fd: fd as i32, flags: 0, ..Self::NONE }.with_file(File::of(task, fd))
    }

    #[inline(always)]
    fn with_file(self, file: File) -> Self {
        if file.is_none() {
            return Self { class: wait_class::CALL.into(), flags: WAIT_HAS_FD, ..self };
        }
        let inode = file.inode();
        let magic = inode.magic();
        if magic == ANON_INODE_FS_MAGIC {
            let class = match file.anonymous_name() {
                EVENTFD => wait_class::EVENTFD,
                EVENTPOLL => wait_class::EPOLL,
                TIMERFD => wait_class::TIMERFD,
                SIGNALFD => wait_class::SIGNALFD,
                PIDFD => wait_class::PIDFD,
                IO_URING => wait_class::IO_URING,
                INOTIFY => wait_class::INOTIFY,
                _ => wait_class::ANONYMOUS,
            };
            let object = file.private().address() as u64;
            // Some have nothing behind them.
            let has_object = if object != 0 { WAIT_HAS_OBJECT } else { 0 };
            return Self { object, class: class.into(), flags: WAIT_HAS_FD | has_object, ..self };
        }
        let object = inode.number();
        let format = inode.format();
        if format == S_IFSOCK {
            let cookie = cookie_of(file.private().load(&OFF_SOCKET_SK));
            let flags = WAIT_HAS_FD | WAIT_HAS_OBJECT;
            return Self { object, cookie, class: wait_class::SOCKET.into(), flags, ..self };
        }
        let class = match (format, magic) {
            (S_IFIFO, _) => wait_class::PIPE,
            (S_IFCHR, _) => wait_class::CHAR_DEVICE,
            (S_IFBLK, _) => wait_class::BLOCK_DEVICE,
            (_, PID_FS_MAGIC) => wait_class::PIDFD,
            (_, MQUEUE_MAGIC) => wait_class::QUEUE,
            _ => wait_class::FILE,
        };
        let flags = WAIT_HAS_FD | WAIT_HAS_OBJECT | WAIT_HAS_DEVICE;
        Self { object, device: inode.device(), class: class.into(), flags, ..self }
    }

    /// A socket that the kernel works on.
    #[inline(always)]
    pub fn of_sock(sock: u64) -> Self {
        let file =
            Object::<Probed>::new(sock as *const u8).follow(&OFF_SOCK_SK_SOCKET).follow(&OFF_SOCKET_FILE);
        let object = File::new(file.address() as u64).inode().number();
        let flags = if object != 0 { WAIT_HAS_OBJECT } else { 0 };
        Self { object, cookie: cookie_of(sock), flags, ..Self::of_class(wait_class::SOCKET) }
    }

    /// Whether both are certainly the same thing.
    #[inline(always)]
    pub fn is(&self, other: &Self) -> bool {
        let is_timer =
            self.class == u32::from(wait_class::TIMERFD) && other.class == u32::from(wait_class::TIMER);
        self.flags & other.flags & WAIT_HAS_OBJECT != 0
            && self.object == other.object
            && self.device == other.device
            && (self.class == other.class || is_timer)
    }

    /// The object as a record has it: no address of the kernel.
    #[inline(always)]
    pub fn number(&self) -> u64 {
        let has_address = self.flags & (WAIT_HAS_OBJECT | WAIT_HAS_DEVICE) == WAIT_HAS_OBJECT
            && (self.class >= wait_class::EVENTFD.into() && self.class <= wait_class::ANONYMOUS.into()
                || self.class == wait_class::TIMER.into());
        if has_address { number_of(&WAIT_SECRET, self.object) } else { self.object }
    }

    /// `WAIT_HAS_*` for the record.
    #[inline(always)]
    pub fn flags(&self) -> u32 {
        self.flags | if self.cookie != 0 { WAIT_HAS_COOKIE } else { 0 }
    }
}

/// The cookie of the socket at this address, if it has one by now, else 0.
#[inline(always)]
fn cookie_of(sock: u64) -> u64 {
    Object::<Probed>::new(sock as *const u8).load(&OFF_SOCK_COMMON_SKC_COOKIE)
}

/// No call: see [`Doing::nr`].
pub const NO_CALL: u32 = u32::MAX;

/// What a thread is doing.
#[derive(Clone, Copy)]
pub struct Doing {
    /// Its system call, or [`NO_CALL`].
    pub nr: u32,
    /// What it does it with; of two the one that counts if nothing else is known.
    pub things: [Thing; 2],
}

/// For whose sake it is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The thread will wait.
    Waits,
    /// The thread wakes another.
    Wakes,
}

impl Doing {
    #[inline(always)]
    const fn class(class: u8) -> Self {
        Self { nr: NO_CALL, things: [Thing::of_class(class), Thing::NONE] }
    }

    /// What the current thread is doing.
    #[inline(always)]
    pub fn of(task: *mut task_struct, side: Side) -> Self {
        let current = Task::<Direct>::new(Object::new(task));
        if current.is_kernel_thread() {
            return Self::class(wait_class::KERNEL);
        }
        if side == Side::Wakes && current.is_exiting() {
            return Self::class(wait_class::EXIT);
        }
        let regs = kernel::registers(task);
        if regs.load::<u64>(&OFF_USER_IP) == 0 {
            // A thread of the kernel that belongs to a process: of `io_uring`, for example.
            return Self::class(wait_class::KERNEL);
        }
        if current.is_compat() {
            return Self::class(wait_class::CALL);
        }
        let nr = regs.load::<u32>(&OFF_SYSCALL_NR);
        if nr as i32 == -1 {
            return Self::class(wait_class::FAULT);
        }
        if nr >= SYSCALL_TABLE as u32 {
            return Self::class(wait_class::CALL);
        }
        let call = WaitCall(WAIT_CALLS.at(nr as usize));
        Self { nr, things: Self::things(current, regs, call, side) }
    }

    #[inline(always)]
    fn things(task: Task<Direct>, regs: Object<Direct>, call: WaitCall, side: Side) -> [Thing; 2] {
        let first = regs.load::<u64>(&OFF_ARG_0);
        let second = regs.load::<u64>(&OFF_ARG_1);
        let alone = |thing| [thing, Thing::NONE];
        let class = |class| alone(Thing::of_class(class));
        match call {
            WaitCall::FD | WaitCall::SPLICE | WaitCall::TEE | WaitCall::SENDFILE => {
                // What is written to comes first.
                let (into, from) = match call {
                    WaitCall::SPLICE => (regs.load::<u64>(&OFF_ARG_2), first),
                    WaitCall::TEE => (second, first),
                    _ => (first, second),
                };
                let own = Thing::of_fd(task, into);
                let things = match side {
                    Side::Waits => alone(own),
                    Side::Wakes => with_peer(task, own),
                };
                if call == WaitCall::FD { things } else { [things[0], Thing::of_fd(task, from)] }
            }
            WaitCall::FUTEX => {
                let operation = second as u32 & FUTEX_COMMAND;
                let has_second = operation >= FUTEX_REQUEUE && operation <= FUTEX_WAKE_OP
                    || operation == FUTEX_CMP_REQUEUE_PI;
                let other = if has_second && side == Side::Wakes {
                    Thing::of_number(wait_class::FUTEX, regs.load::<u64>(&OFF_ARG_4))
                } else {
                    Thing::NONE
                };
                [Thing::of_number(wait_class::FUTEX, first), other]
            }
            WaitCall::FUTEX_ONE => alone(Thing::of_number(wait_class::FUTEX, first)),
            WaitCall::FUTEX_LIST => class(wait_class::FUTEX),
            WaitCall::WAIT4 => alone(child(first as i32 > 0, first)),
            WaitCall::WAITID if first as u32 == P_PIDFD => alone(Thing::of_fd(task, second)),
            WaitCall::WAITID => alone(child(first as u32 == P_PID, second)),
            WaitCall::SLEEP => class(wait_class::SLEEP),
            WaitCall::SIGNAL if side == Side::Waits => class(wait_class::SIGNAL),
            WaitCall::POLL => alone(Thing::of_number(wait_class::POLL, u64::from(second as u32))),
            WaitCall::SELECT => class(wait_class::POLL),
            WaitCall::FORK => class(wait_class::FORK),
            WaitCall::QUEUE => alone(Thing::of_number(wait_class::QUEUE, u64::from(first as u32))),
            WaitCall::KILL if side == Side::Wakes => class(wait_class::SIGNAL),
            WaitCall::EXIT if side == Side::Wakes => class(wait_class::EXIT),
            _ => class(wait_class::CALL),
        }
    }
}

#[inline(always)]
fn child(has_id: bool, id: u64) -> Thing {
    if has_id {
        Thing::of_number(wait_class::CHILD, u64::from(id as u32))
    } else {
        Thing::of_class(wait_class::CHILD)
    }
}

/// What is done to a socket of the machine itself its peer waits for: to send to it makes it readable, to receive from it
/// makes it writable. Without a peer it is for one that is named in the call, or for whoever waits for this one: which is not
/// told.
#[inline(always)]
fn with_peer(task: Task<Direct>, own: Thing) -> [Thing; 2] {
    if own.class == wait_class::SOCKET.into() {
        let sock = File::of(task, own.fd as u32).private().follow(&OFF_SOCKET_SK);
        if sock.load::<u16>(&OFF_SOCK_COMMON_SKC_FAMILY) == AF_UNIX {
            let peer = if OFF_UNIX_SOCK_PEER.get() == ABSENT {
                0
            } else {
                sock.follow(&OFF_UNIX_SOCK_PEER).address() as u64
            };
            let thing = if peer == 0 { Thing::of_class(wait_class::SOCKET) } else { Thing::of_sock(peer) };
            let thing = Thing { fd: own.fd, flags: thing.flags | WAIT_HAS_FD, ..thing };
            return [thing, if peer == 0 { Thing::NONE } else { own }];
        }
    }
    [own, Thing::NONE]
}
