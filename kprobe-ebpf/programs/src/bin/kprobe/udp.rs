use kprobe_programs::{
    args::{Args, Frame},
    kernel,
    memory::{Direct, Object, Probed},
    udp,
};

fn call(args: Args) -> (Object<Direct>, i32, u32) {
    (args.object(0), args.word(1) as i32, args.word(2) as u32)
}

fn receives(args: Args) {
    udp::receives(args.word(0), args.word(2), args.word(kernel::UDP_RECVMSG_FLAGS.into()) as u32);
}

fn receives_at(frame: Frame) {
    udp::receives(frame.word(0), frame.word(2), frame.word(kernel::UDP_RECVMSG_FLAGS) as u32);
}

// Only a program that knows the type of its arguments can have a socket given its cookie.
#[cfg(not(feature = "before-6.1"))]
mod cookie {
    use kprobe_programs::{args::Args, udp};

    fn give(args: Args) {
        udp::give_cookie(args.object(0));
    }

    entry!(udp_cookie_send_entry, "udp_sendmsg", give);
    entry!(udp_cookie_send6_entry, "udpv6_sendmsg", give);
    entry!(udp_cookie_recv_entry, "udp_recvmsg", give);
    entry!(udp_cookie_recv6_entry, "udpv6_recvmsg", give);
    btf!(udp_cookie_sent_btf, "sock_send_length", give);
    btf!(udp_cookie_received_btf, "sock_recv_length", give);
}

entry!(udp_send_entry, "ip_send_skb", |args: Args| udp::leaves(args.word(1)));
exit!(udp_send_exit, "ip_send_skb", |args: Args| udp::left(args.word(1), args.word(2) as i32));
entry!(udp_send6_entry, "ip6_send_skb", |args: Args| udp::leaves(args.word(0)));
exit!(udp_send6_exit, "ip6_send_skb", |args: Args| udp::left(args.word(0), args.word(1) as i32));
btf!(udp_queued_btf, "net_dev_queue", |args: Args| udp::queued(args.word(0)));
btf!(udp_sent_btf, "sock_send_length", |args| udp::sent(call(args)));
tp!(udp_queued_tp, "net", "net_dev_queue", |ctx| udp::queued(udp::packet_of_event(ctx)));
tp!(udp_sent_tp, "sock", "sock_send_length", |ctx| udp::sent(udp::call_of_event(ctx)));

entry!(udp_receiving_entry, "udp_recvmsg", receives);
entry!(udp_receiving6_entry, "udpv6_recvmsg", receives);
entry!(udp_recv_entry, "skb_consume_udp", |args: Args| {
    udp::consumed(args.object::<Direct>(0), args.word(1), args.word(2) as i32);
});
kprobe!(udp_receiving_kprobe, "udp_recvmsg", receives_at);
kprobe!(udp_receiving6_kprobe, "udpv6_recvmsg", receives_at);
kprobe!(udp_recv_kprobe, "skb_consume_udp", |frame: Frame| {
    udp::consumed(Object::<Probed>::new(frame.word(0) as *const u8), frame.word(1), frame.word(2) as i32);
});
btf!(udp_received_btf, "sock_recv_length", |args| udp::received(call(args)));
tp!(udp_received_tp, "sock", "sock_recv_length", |ctx| udp::received(udp::call_of_event(ctx)));
