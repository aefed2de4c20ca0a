use kprobe_core::{
    abi::{Family, Kind},
    event::{TcpAccept, TcpConnect, TcpRecv, TcpRetransmit, TcpSend, TcpState},
};

use super::{
    EventPlan, FUNCTION, FamilyPlan, KPROBE, Needs, ObjectBytes, ProbeFamily, ProgramPlan, RungPlan,
    TRACE_EVENT, When, Yields, plan::sealed,
};

/// Connections of TCP: who sent and took which bytes of which stream, and the connection's life. Yields [`TcpSend`],
/// [`TcpRecv`], [`TcpRetransmit`], [`TcpState`], [`TcpConnect`] and [`TcpAccept`].
///
/// Targets: the tracepoints `tcp_rcv_space_adjust`, `tcp_retransmit_skb`, `inet_sock_set_state` and `tcp_destroy_sock`, the
/// functions `release_sock` and `security_sock_graft`; where functions cannot be attached to, the tracepoints
/// `tcp_sendmsg_locked` (Linux 6.16) and `sock_send_length`, and the trace events of `accept`. Kernel 5.10 or later.
#[derive(Clone, Debug)]
pub struct Tcp {
    sample_one_in: u32,
    sockets: u32,
}

impl Default for Tcp {
    /// Every event, not sampled; 16,384 sockets at a time.
    fn default() -> Self {
        Self { sample_one_in: 1, sockets: 16_384 }
    }
}

impl Tcp {
    /// Keeps one record in `one_in`, counted on each CPU and for each event; 0 and 1 keep all.
    #[must_use]
    pub fn sample(self, one_in: u32) -> Self {
        Self { sample_one_in: one_in, ..self }
    }

    /// How many connected sockets of the machine are remembered at a time, selected or not. Of those that find no room
    /// nothing is recorded that was sent or received, and they are counted as not stored.
    #[must_use]
    pub fn sockets(self, most: u32) -> Self {
        Self { sockets: most.max(1), ..self }
    }
}

impl sealed::Sealed for Tcp {}

/// A rung whose programs keep what is remembered of sockets in step, before its own.
fn rung(name: &'static str, own: Vec<ProgramPlan>, needs: &[Needs]) -> RungPlan {
    let (shared, more): ([ProgramPlan; 2], &[Needs]) = match name {
        "tp_btf" | FUNCTION => (
            [
                ProgramPlan::btf("tcp_track_btf", "inet_sock_set_state"),
                ProgramPlan::btf("tcp_forget_btf", "tcp_destroy_sock"),
            ],
            &[TASK, Needs::CGROUP_ID, PROBED_BEFORE_6_1],
        ),
        TRACE_EVENT => (
            [
                ProgramPlan::event("tcp_track_tp", "sock", "inet_sock_set_state"),
                ProgramPlan::event("tcp_forget_tp", "tcp", "tcp_destroy_sock"),
            ],
            &[PROBED, SK_EVENT, STATE_EVENT],
        ),
        _ => (
            [
                ProgramPlan::raw("tcp_track_raw", "inet_sock_set_state"),
                ProgramPlan::raw("tcp_forget_raw", "tcp_destroy_sock"),
            ],
            &[PROBED],
        ),
    };
    let cookie = ProgramPlan::btf("tcp_cookie_btf", "inet_sock_set_state").optional();
    let cookie = matches!(name, TRACE_EVENT | KPROBE).then_some(cookie);
    let programs = cookie.into_iter().chain(shared).map(ProgramPlan::shared).chain(own).collect();
    RungPlan { name, programs, needs: [more, needs].concat(), storage: &[] }
}

const TASK: Needs = Needs::IDS;
/// What a program needs to tell which sockets are of TCP, where the verifier does not know.
const PROBED: Needs = Needs(
    When::Always,
    &["OFF_SOCK_SK_PROTOCOL", "OFF_SOCK_SK_TYPE", "OFF_SOCK_COMMON_SKC_FAMILY", "OFF_SOCK_COMMON_SKC_COOKIE"],
);
/// It never does before 6.1.
const PROBED_BEFORE_6_1: Needs = Needs(When::Before6_1, PROBED.1);
/// What every record has. Kernels without IPv6 or network namespaces do without the rest.
const SOCKET: Needs = Needs(
    When::Always,
    &[
        "OFF_SOCK_COMMON_SKC_FAMILY",
        "OFF_INET_SOCK_INET_SPORT",
        "OFF_SOCK_COMMON_SKC_DPORT",
        "OFF_SOCK_COMMON_SKC_RCV_SADDR",
        "OFF_SOCK_COMMON_SKC_DADDR",
        "OFF_TCP_SOCK_SRTT_US",
    ],
);
const SENT: Needs = Needs(
    When::Always,
    &[
        "OFF_SOCK_COMMON_SKC_STATE",
        "OFF_TCP_SOCK_WRITE_SEQ",
        "OFF_TCP_SOCK_SND_UNA",
        "OFF_TCP_SOCK_BYTES_ACKED",
    ],
);
const RECEIVED: Needs = Needs(
    When::Always,
    &[
        "OFF_SOCK_COMMON_SKC_FLAGS",
        "OFF_TCP_SOCK_COPIED_SEQ",
        "OFF_TCP_SOCK_RCV_NXT",
        "OFF_TCP_SOCK_BYTES_RECEIVED",
    ],
);
/// To meet a socket that nobody saw connected.
const GUESS: Needs =
    Needs(When::Always, &["OFF_TCP_SOCK_SND_NXT", "OFF_TCP_SOCK_BYTES_SENT", "OFF_TCP_SOCK_BYTES_RETRANS"]);
const MESSAGE: Needs = Needs(When::Always, &["OFF_MSGHDR_MSG_ITER_COUNT"]);
const SEGMENT: Needs = Needs(
    When::Always,
    &[
        "OFF_SK_BUFF_CB",
        "OFF_TCP_SKB_CB_SEQ",
        "OFF_TCP_SKB_CB_END_SEQ",
        "OFF_TCP_SKB_CB_TCP_FLAGS",
        "OFF_TCP_SKB_CB_TCP_GSO_SEGS",
    ],
);
const ERROR: Needs = Needs(When::Always, &["OFF_SOCK_SK_ERR"]);
const FIRST: Needs = Needs(When::Always, &["OFF_FUNCTION_ARG_0"]);
const SK_EVENT: Needs = Needs(When::Always, &["OFF_TRACE_EVENT_RAW_TCP_EVENT_SK_SKADDR"]);
const STATE_EVENT: Needs = Needs(
    When::Always,
    &[
        "OFF_TRACE_EVENT_RAW_INET_SOCK_SET_STATE_SKADDR",
        "OFF_TRACE_EVENT_RAW_INET_SOCK_SET_STATE_OLDSTATE",
        "OFF_TRACE_EVENT_RAW_INET_SOCK_SET_STATE_NEWSTATE",
    ],
);
const SEGMENT_EVENT: Needs = Needs(
    When::Always,
    &["OFF_TRACE_EVENT_RAW_TCP_RETRANSMIT_SKB_SKADDR", "OFF_TRACE_EVENT_RAW_TCP_RETRANSMIT_SKB_SKBADDR"],
);
const OF_FD: Needs = Needs(
    When::Always,
    &[
        "OFF_TASK_STRUCT_FILES",
        "OFF_FILES_STRUCT_FDT",
        "OFF_FDTABLE_FD",
        "OFF_FDTABLE_MAX_FDS",
        "OFF_FILE_PRIVATE_DATA",
        "OFF_SOCKET_FILE",
        "OFF_SOCKET_SK",
    ],
);

fn send() -> Vec<RungPlan> {
    let needs = [SOCKET, SENT, RECEIVED, GUESS];
    let pair = [&needs[..], &[MESSAGE, TASK, Needs::CGROUP_ID]].concat();
    vec![
        rung(
            FUNCTION,
            vec![
                ProgramPlan::fentry("tcp_meet_entry", "tcp_sendmsg_locked"),
                ProgramPlan::fentry("tcp_send_entry", "release_sock"),
            ],
            &needs,
        ),
        rung(
            KPROBE,
            vec![
                ProgramPlan::kprobe("tcp_meet_kprobe", "tcp_sendmsg_locked"),
                ProgramPlan::kprobe("tcp_send_kprobe", "release_sock"),
            ],
            &[&needs[..], &[FIRST]].concat(),
        ),
        rung(
            "tp_btf",
            vec![
                ProgramPlan::btf("tcp_sending_btf", "tcp_sendmsg_locked"),
                ProgramPlan::btf("tcp_sent_btf", "sock_send_length"),
            ],
            &pair,
        )
        .storing(&["SENDING"]),
        rung(
            "raw_tp",
            vec![
                ProgramPlan::raw("tcp_sending_raw", "tcp_sendmsg_locked"),
                ProgramPlan::raw("tcp_sent_raw", "sock_send_length"),
            ],
            &pair,
        )
        .storing(&["SENDING"]),
    ]
}

fn accept() -> Vec<RungPlan> {
    vec![
        rung(FUNCTION, vec![ProgramPlan::fentry("tcp_accept_entry", "security_sock_graft")], &[SOCKET]),
        rung(KPROBE, vec![ProgramPlan::kprobe("tcp_accept_kprobe", "security_sock_graft")], &[SOCKET, FIRST]),
        rung(
            TRACE_EVENT,
            vec![
                ProgramPlan::event("tcp_accept_tp", "syscalls", "sys_exit_accept"),
                ProgramPlan::event("tcp_accept4_tp", "syscalls", "sys_exit_accept4"),
            ],
            &[SOCKET, OF_FD, TASK],
        ),
    ]
}

/// The three rungs of a tracepoint whose trace event has what is needed.
fn tracepoint(
    programs: [&'static str; 3],
    category: &'static str,
    name: &'static str,
    needs: &[Needs],
    of_event: Needs,
) -> Vec<RungPlan> {
    let [btf, raw, event] = programs;
    vec![
        rung("tp_btf", vec![ProgramPlan::btf(btf, name)], needs),
        rung("raw_tp", vec![ProgramPlan::raw(raw, name)], needs),
        rung(TRACE_EVENT, vec![ProgramPlan::event(event, category, name)], &[needs, &[of_event]].concat()),
    ]
}

impl ProbeFamily for Tcp {
    fn plan(self) -> sealed::Plan {
        let event = |kind, name, rungs| EventPlan::new(kind, name, rungs);
        let events = vec![
            event(
                Kind::TCP_RECV,
                "tcp.recv",
                tracepoint(
                    ["tcp_recv_btf", "tcp_recv_raw", "tcp_recv_tp"],
                    "tcp",
                    "tcp_rcv_space_adjust",
                    &[SOCKET, SENT, RECEIVED, GUESS],
                    SK_EVENT,
                ),
            ),
            event(Kind::TCP_SEND, "tcp.send", send()),
            event(
                Kind::TCP_RETRANSMIT,
                "tcp.retransmit",
                tracepoint(
                    ["tcp_retransmit_btf", "tcp_retransmit_raw", "tcp_retransmit_tp"],
                    "tcp",
                    "tcp_retransmit_skb",
                    &[SOCKET, SENT, GUESS, SEGMENT],
                    SEGMENT_EVENT,
                ),
            ),
            event(
                Kind::TCP_STATE,
                "tcp.state",
                tracepoint(
                    ["tcp_state_btf", "tcp_state_raw", "tcp_state_tp"],
                    "sock",
                    "inet_sock_set_state",
                    &[SOCKET],
                    STATE_EVENT,
                ),
            ),
            event(
                Kind::TCP_CONNECT,
                "tcp.connect",
                tracepoint(
                    ["tcp_connect_btf", "tcp_connect_raw", "tcp_connect_tp"],
                    "sock",
                    "inet_sock_set_state",
                    &[SOCKET, ERROR],
                    STATE_EVENT,
                ),
            ),
            event(Kind::TCP_ACCEPT, "tcp.accept", accept()),
        ];
        sealed::Plan(FamilyPlan {
            family: Family::Tcp,
            object: ObjectBytes::Builtin,
            events,
            sample_one_in: self.sample_one_in,
            min_duration_ns: 0,
            globals: Vec::new(),
            maps: vec![("SOCKETS", self.sockets)],
            allowed: Vec::new(),
        })
    }
}

impl Yields<TcpSend> for Tcp {}
impl Yields<TcpRecv> for Tcp {}
impl Yields<TcpRetransmit> for Tcp {}
impl Yields<TcpState> for Tcp {}
impl Yields<TcpConnect> for Tcp {}
impl Yields<TcpAccept> for Tcp {}
