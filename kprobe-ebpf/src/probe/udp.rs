use kprobe_core::{
    abi::{Family, Kind},
    event::{UdpRecv, UdpSend},
};

use super::{
    EventPlan, FUNCTION, FamilyPlan, KPROBE, Needs, ObjectBytes, ProbeFamily, ProgramPlan, RungPlan,
    TRACE_EVENT, When, Yields, plan::sealed,
};

/// Datagrams of UDP: a [`UdpSend`] for each that a thread sent and a [`UdpRecv`] for each that one received, with its size
/// and, as far as the kernel tells, its addresses.
///
/// Targets: for sends the functions `ip_send_skb` and `ip6_send_skb`, else the tracepoints `net_dev_queue` and
/// `sock_send_length` (Linux 6.4). For receives the function `skb_consume_udp`, else the tracepoint `sock_recv_length`
/// (Linux 6.4), which does not tell where a datagram came from unless the socket is connected. Kernel 5.10 or later.
#[derive(Clone, Debug)]
pub struct Udp {
    sample_one_in: u32,
}

impl Default for Udp {
    /// Every datagram, not sampled.
    fn default() -> Self {
        Self { sample_one_in: 1 }
    }
}

impl Udp {
    /// Keeps one record in `one_in`, counted on each CPU and for each event; 0 and 1 keep all.
    #[must_use]
    pub fn sample(self, one_in: u32) -> Self {
        Self { sample_one_in: one_in }
    }
}

impl sealed::Sealed for Udp {}

/// What every record has. Kernels without IPv6 or network namespaces do without the rest.
const SOCKET: Needs = Needs(
    When::Always,
    &["OFF_SOCK_COMMON_SKC_FAMILY", "OFF_SOCK_COMMON_SKC_STATE", "OFF_SOCK_SK_PROTOCOL", "OFF_SOCK_SK_TYPE"],
);
/// The cookie, where the verifier does not know that it is a socket.
const COOKIE: Needs = Needs(When::Always, &["OFF_SOCK_COMMON_SKC_COOKIE"]);
/// Addresses, as the socket has them.
const ADDRESSES: Needs = Needs(
    When::Always,
    &[
        "OFF_SOCK_COMMON_SKC_RCV_SADDR",
        "OFF_SOCK_COMMON_SKC_DADDR",
        "OFF_SOCK_COMMON_SKC_DPORT",
        "OFF_INET_SOCK_INET_SPORT",
    ],
);
/// Addresses, as the packet has them.
const PACKET: Needs = Needs(
    When::Always,
    &[
        "OFF_SK_BUFF_HEAD",
        "OFF_SK_BUFF_END",
        "OFF_SK_BUFF_NETWORK_HEADER",
        "OFF_SK_BUFF_TRANSPORT_HEADER",
        "OFF_SKB_SHARED_INFO_GSO_SIZE",
    ],
);
const OF_SOCKET: Needs = Needs(When::Always, &["OFF_SK_BUFF_SK"]);
const LENGTH: Needs = Needs(When::Always, &["OFF_SK_BUFF_LEN"]);
const PENDING: Needs = Needs(When::Always, &["OFF_UDP_SOCK_PENDING"]);
const SHUTDOWN: Needs = Needs(When::Always, &["OFF_SOCK_SK_SHUTDOWN"]);
const FRAME: Needs = Needs(
    When::Always,
    &["OFF_FUNCTION_ARG_0", "OFF_FUNCTION_ARG_1", "OFF_FUNCTION_ARG_2", "OFF_FUNCTION_ARG_3"],
);
/// Before 5.19 the flags are one further.
const FRAME_BEFORE_6_1: Needs = Needs(When::Before6_1, &["OFF_FUNCTION_ARG_4"]);
const QUEUE_EVENT: Needs = Needs(When::Always, &["OFF_TRACE_EVENT_RAW_NET_DEV_TEMPLATE_SKBADDR"]);
const CALL_EVENT: Needs = Needs(
    When::Always,
    &[
        "OFF_TRACE_EVENT_RAW_SOCK_MSG_LENGTH_SK",
        "OFF_TRACE_EVENT_RAW_SOCK_MSG_LENGTH_RET",
        "OFF_TRACE_EVENT_RAW_SOCK_MSG_LENGTH_FLAGS",
    ],
);

fn rung(name: &'static str, programs: Vec<ProgramPlan>, needs: &[Needs]) -> RungPlan {
    // Before 6.1 the verifier never knows.
    const READ: Needs = Needs(When::Before6_1, COOKIE.1);
    const ALL: [Needs; 4] = [Needs::IDS, Needs::CGROUP_ID, SOCKET, READ];
    RungPlan { name, programs, needs: [&ALL, needs].concat(), storage: &[] }
}

/// What gives sockets their cookies, which the programs of the rung itself cannot do. Without it records have none before
/// somebody asks for it.
fn cookie(plan: ProgramPlan) -> ProgramPlan {
    plan.shared().optional()
}

/// Beginnings before ends, throughout.
fn send() -> Vec<RungPlan> {
    const STORAGE: &[&str] = &["UDP_SENDING"];
    vec![
        rung(
            FUNCTION,
            vec![
                cookie(ProgramPlan::fentry("udp_cookie_send_entry", "udp_sendmsg")),
                cookie(ProgramPlan::fentry("udp_cookie_send6_entry", "udpv6_sendmsg")),
                ProgramPlan::fentry("udp_send_entry", "ip_send_skb"),
                ProgramPlan::fexit("udp_send_exit", "ip_send_skb"),
                ProgramPlan::fentry("udp_send6_entry", "ip6_send_skb"),
                ProgramPlan::fexit("udp_send6_exit", "ip6_send_skb"),
            ],
            &[COOKIE, PACKET, OF_SOCKET],
        )
        .storing(STORAGE),
        rung(
            "tp_btf",
            vec![
                ProgramPlan::btf("udp_queued_btf", "net_dev_queue"),
                ProgramPlan::btf("udp_sent_btf", "sock_send_length"),
            ],
            &[ADDRESSES, PACKET, OF_SOCKET, PENDING],
        )
        .storing(STORAGE),
        rung(
            TRACE_EVENT,
            vec![
                cookie(ProgramPlan::btf("udp_cookie_sent_btf", "sock_send_length")),
                ProgramPlan::event("udp_queued_tp", "net", "net_dev_queue"),
                ProgramPlan::event("udp_sent_tp", "sock", "sock_send_length"),
            ],
            &[COOKIE, ADDRESSES, PACKET, OF_SOCKET, PENDING, QUEUE_EVENT, CALL_EVENT],
        )
        .storing(STORAGE),
    ]
}

fn recv() -> Vec<RungPlan> {
    const STORAGE: &[&str] = &["UDP_RECEIVING"];
    vec![
        rung(
            FUNCTION,
            vec![
                ProgramPlan::fentry("udp_receiving_entry", "udp_recvmsg"),
                ProgramPlan::fentry("udp_receiving6_entry", "udpv6_recvmsg"),
                ProgramPlan::fentry("udp_recv_entry", "skb_consume_udp"),
            ],
            &[PACKET, LENGTH],
        )
        .storing(STORAGE),
        rung(
            KPROBE,
            vec![
                cookie(ProgramPlan::fentry("udp_cookie_recv_entry", "udp_recvmsg")),
                cookie(ProgramPlan::fentry("udp_cookie_recv6_entry", "udpv6_recvmsg")),
                ProgramPlan::kprobe("udp_receiving_kprobe", "udp_recvmsg"),
                ProgramPlan::kprobe("udp_receiving6_kprobe", "udpv6_recvmsg"),
                ProgramPlan::kprobe("udp_recv_kprobe", "skb_consume_udp"),
            ],
            &[COOKIE, PACKET, LENGTH, FRAME, FRAME_BEFORE_6_1],
        )
        .storing(STORAGE),
        rung(
            "tp_btf",
            vec![ProgramPlan::btf("udp_received_btf", "sock_recv_length")],
            &[ADDRESSES, SHUTDOWN],
        ),
        rung(
            TRACE_EVENT,
            vec![
                cookie(ProgramPlan::btf("udp_cookie_received_btf", "sock_recv_length")),
                ProgramPlan::event("udp_received_tp", "sock", "sock_recv_length"),
            ],
            &[COOKIE, ADDRESSES, SHUTDOWN, CALL_EVENT],
        ),
    ]
}

impl ProbeFamily for Udp {
    fn plan(self) -> sealed::Plan {
        sealed::Plan(FamilyPlan {
            family: Family::Udp,
            object: ObjectBytes::Builtin,
            events: vec![
                EventPlan::new(Kind::UDP_SEND, "udp.send", send()),
                EventPlan::new(Kind::UDP_RECV, "udp.recv", recv()),
            ],
            sample_one_in: self.sample_one_in,
            min_duration_ns: 0,
            globals: Vec::new(),
            maps: Vec::new(),
            allowed: Vec::new(),
        })
    }
}

impl Yields<UdpSend> for Udp {}
impl Yields<UdpRecv> for Udp {}
