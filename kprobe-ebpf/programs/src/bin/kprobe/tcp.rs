use kprobe_programs::{
    args::{Args, Frame},
    memory::{Direct, Memory, Object, Probed},
    tcp,
};

fn change<M: Memory>(args: Args) -> (Object<M>, u32, u32) {
    (args.object(0), args.word(1) as u32, args.word(2) as u32)
}

fn segment<M: Memory>(args: Args) -> (Object<M>, *const u8) {
    (args.object(0), args.address(1))
}

fn first(frame: Frame) -> Object<Probed> {
    Object::new(frame.word(0) as *const u8)
}

// What is remembered of sockets.
btf!(tcp_track_btf, "inet_sock_set_state", |args| tcp::track(change::<Direct>(args)));
raw!(tcp_track_raw, "inet_sock_set_state", |args| tcp::track(change::<Probed>(args)));
tp!(tcp_track_tp, "sock", "inet_sock_set_state", |ctx| tcp::track(tcp::change_of_event(ctx)));
btf!(tcp_forget_btf, "tcp_destroy_sock", |args: Args| tcp::forget(args.object::<Direct>(0)));
raw!(tcp_forget_raw, "tcp_destroy_sock", |args: Args| tcp::forget(args.object::<Probed>(0)));
tp!(tcp_forget_tp, "tcp", "tcp_destroy_sock", |ctx| tcp::forget(tcp::sk_of_event(ctx)));

// Only a program that knows the type of its arguments can have a socket given its cookie.
#[cfg(not(feature = "before-6.1"))]
btf!(tcp_cookie_btf, "inet_sock_set_state", |args: Args| tcp::give_cookie(args.object::<Direct>(0)));

entry!(tcp_meet_entry, "tcp_sendmsg_locked", |args: Args| tcp::meet(args.object::<Direct>(0)));
kprobe!(tcp_meet_kprobe, "tcp_sendmsg_locked", |frame| tcp::meet(first(frame)));
entry!(tcp_send_entry, "release_sock", |args: Args| tcp::released(args.object::<Direct>(0)));
kprobe!(tcp_send_kprobe, "release_sock", |frame| tcp::released(first(frame)));
btf!(tcp_sending_btf, "tcp_sendmsg_locked", |args: Args| {
    tcp::sending(args.object::<Direct>(0), args.address(1));
});
raw!(tcp_sending_raw, "tcp_sendmsg_locked", |args: Args| {
    tcp::sending(args.object::<Probed>(0), args.address(1));
});
btf!(tcp_sent_btf, "sock_send_length", |args: Args| {
    tcp::sent(args.object::<Direct>(0), args.word(1) as i32);
});
raw!(tcp_sent_raw, "sock_send_length", |args: Args| {
    tcp::sent(args.object::<Probed>(0), args.word(1) as i32);
});

btf!(tcp_recv_btf, "tcp_rcv_space_adjust", |args: Args| tcp::received(args.object::<Direct>(0)));
raw!(tcp_recv_raw, "tcp_rcv_space_adjust", |args: Args| tcp::received(args.object::<Probed>(0)));
tp!(tcp_recv_tp, "tcp", "tcp_rcv_space_adjust", |ctx| tcp::received(tcp::sk_of_event(ctx)));

btf!(tcp_retransmit_btf, "tcp_retransmit_skb", |args| tcp::retransmitted(segment::<Direct>(args)));
raw!(tcp_retransmit_raw, "tcp_retransmit_skb", |args| tcp::retransmitted(segment::<Probed>(args)));
tp!(tcp_retransmit_tp, "tcp", "tcp_retransmit_skb", |ctx| tcp::retransmitted(tcp::segment_of_event(ctx)));

btf!(tcp_state_btf, "inet_sock_set_state", |args| tcp::changed(change::<Direct>(args)));
raw!(tcp_state_raw, "inet_sock_set_state", |args| tcp::changed(change::<Probed>(args)));
tp!(tcp_state_tp, "sock", "inet_sock_set_state", |ctx| tcp::changed(tcp::change_of_event(ctx)));

btf!(tcp_connect_btf, "inet_sock_set_state", |args| tcp::connected(change::<Direct>(args)));
raw!(tcp_connect_raw, "inet_sock_set_state", |args| tcp::connected(change::<Probed>(args)));
tp!(tcp_connect_tp, "sock", "inet_sock_set_state", |ctx| tcp::connected(tcp::change_of_event(ctx)));

entry!(tcp_accept_entry, "security_sock_graft", |args: Args| tcp::accepted(args.object::<Direct>(0)));
kprobe!(tcp_accept_kprobe, "security_sock_graft", |frame| tcp::accepted(first(frame)));
tp!(tcp_accept_tp, "syscalls", "sys_exit_accept", tcp::accept_returned);
tp!(tcp_accept4_tp, "syscalls", "sys_exit_accept4", tcp::accept_returned);
