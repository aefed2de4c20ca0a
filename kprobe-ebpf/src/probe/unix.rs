use kprobe_core::{
    abi::{Family, Kind},
    event::{UnixRecv, UnixSend},
};

use super::{
    EventPlan, FUNCTION, FamilyPlan, Needs, ObjectBytes, ProbeFamily, ProgramPlan, RungPlan, When, Yields,
    pipe, plan::sealed,
};

/// Stream sockets of the machine itself: a [`UnixSend`] for each call that sent bytes and a [`UnixRecv`] for each that
/// received some, with their positions in the stream of bytes, so that a send can be matched to the receive that took it.
///
/// Both events come from the same programs. Targets: the kernel's own functions for such sockets (6.1); else the tracepoints
/// `sock_send_length` and `sock_recv_length` (6.4).
#[derive(Clone, Debug)]
pub struct UnixStreams {
    sample_one_in: u32,
}

impl Default for UnixStreams {
    /// Every call, not sampled.
    fn default() -> Self {
        Self { sample_one_in: 1 }
    }
}

impl UnixStreams {
    /// Keeps one record in `one_in`, counted on each CPU; 0 and 1 keep all.
    #[must_use]
    pub fn sample(self, one_in: u32) -> Self {
        Self { sample_one_in: one_in }
    }
}

/// Streams that are remembered, of which a connection has two; the one that was not used for the longest time makes room.
const MOST_STREAMS: u32 = 16_384;

impl sealed::Sealed for UnixStreams {}

impl ProbeFamily for UnixStreams {
    fn plan(self) -> sealed::Plan {
        const STORAGE: &[&str] = &["EXCHANGES"];
        const SOCKET: Needs = Needs(
            When::Always,
            &[
                "OFF_SOCK_COMMON_SKC_FAMILY",
                "OFF_SOCK_SK_TYPE",
                "OFF_SOCK_SK_PEEK_OFF",
                "OFF_SOCK_SK_SOCKET",
                "OFF_SOCKET_FILE",
                "OFF_SOCKET_SK",
                "OFF_UNIX_SOCK_PEER",
                "OFF_FILE_F_INODE",
                "OFF_INODE_I_INO",
            ],
        );
        const SPLICE: Needs = Needs(
            When::Always,
            &[
                "OFF_TASK_STRUCT_FILES",
                "OFF_FILES_STRUCT_FDT",
                "OFF_FDTABLE_MAX_FDS",
                "OFF_FDTABLE_FD",
                "OFF_FILE_PRIVATE_DATA",
                "OFF_INODE_I_MODE",
                "OFF_SOCK_COMMON_SKC_COOKIE",
                "OFF_SYSCALL_NR",
                "OFF_ARG_0",
            ],
        );
        const ALL: [Needs; 3] = [Needs::IDS, Needs::CGROUP_ID, SOCKET];
        let rung = |name, programs, needs: &[Needs]| {
            RungPlan { name, programs, needs: [&ALL, needs].concat(), storage: &[] }.storing(STORAGE)
        };
        // Beginnings before ends, throughout.
        let functions = || {
            vec![
                ProgramPlan::fexit("unix_connect_exit", "unix_stream_connect"),
                ProgramPlan::fexit("unix_pair_exit", "unix_socketpair"),
                ProgramPlan::fentry("unix_send_entry", "unix_stream_sendmsg"),
                ProgramPlan::fexit("unix_send_exit", "unix_stream_sendmsg"),
                ProgramPlan::fentry("unix_page_entry", "unix_stream_sendpage").optional(),
                ProgramPlan::fexit("unix_page_exit", "unix_stream_sendpage").optional(),
                ProgramPlan::fentry("unix_recv_entry", "unix_stream_recvmsg"),
                ProgramPlan::fexit("unix_recv_exit", "unix_stream_recvmsg"),
                ProgramPlan::fentry("unix_splice_entry", "unix_stream_splice_read"),
                ProgramPlan::fexit("unix_splice_exit", "unix_stream_splice_read"),
            ]
        };
        let tracepoints = || {
            vec![
                ProgramPlan::btf("unix_sent_btf", "sock_send_length"),
                ProgramPlan::btf("unix_received_btf", "sock_recv_length"),
                ProgramPlan::btf("unix_splice_enter_btf", "sys_enter"),
                ProgramPlan::btf("unix_splice_exit_btf", "sys_exit"),
            ]
        };
        let rungs = || vec![rung(FUNCTION, functions(), &[]), rung("tp_btf", tracepoints(), &[SPLICE])];
        sealed::Plan(FamilyPlan {
            family: Family::Unix,
            object: ObjectBytes::Builtin,
            events: vec![
                EventPlan::new(Kind::UNIX_SEND, "unix.send", rungs()),
                EventPlan::new(Kind::UNIX_RECV, "unix.recv", rungs()),
            ],
            sample_one_in: self.sample_one_in,
            min_duration_ns: 0,
            globals: vec![("PIPE_CALLS", pipe::calls())],
            maps: vec![("FLOWS", MOST_STREAMS)],
            allowed: Vec::new(),
        })
    }
}

impl Yields<UnixSend> for UnixStreams {}
impl Yields<UnixRecv> for UnixStreams {}
