use kprobe_programs::{
    memory::Direct,
    syscall::Registers,
    unix::{self, Side},
};

exit!(unix_connect_exit, "unix_stream_connect", |args| unix::connected(args, args.word(4) as i32));
exit!(unix_pair_exit, "unix_socketpair", |args| unix::connected(args, args.word(2) as i32));
entry!(unix_send_entry, "unix_stream_sendmsg", |args| unix::entered(args, Side::Sent));
exit!(unix_send_exit, "unix_stream_sendmsg", |args| unix::left(args, Side::Sent, 0, args.word(3) as i32));
entry!(unix_page_entry, "unix_stream_sendpage", |args| unix::entered(args, Side::Sent));
exit!(unix_page_exit, "unix_stream_sendpage", |args| unix::left(args, Side::Sent, 0, args.word(5) as i32));
entry!(unix_recv_entry, "unix_stream_recvmsg", |args| unix::entered(args, Side::Received));
exit!(unix_recv_exit, "unix_stream_recvmsg", |args| {
    unix::left(args, Side::Received, args.word(3) as u32, args.word(4) as i32);
});
entry!(unix_splice_entry, "unix_stream_splice_read", |args| unix::entered(args, Side::Received));
exit!(unix_splice_exit, "unix_stream_splice_read", |args| {
    unix::left(args, Side::Received, 0, args.word(5) as i32);
});
btf!(unix_sent_btf, "sock_send_length", |args| unix::moved(args, Side::Sent));
btf!(unix_received_btf, "sock_recv_length", |args| unix::moved(args, Side::Received));
btf!(unix_splice_enter_btf, "sys_enter", |args| unix::enter(Registers::<Direct>::new(args)));
btf!(unix_splice_exit_btf, "sys_exit", |args| unix::exit(Registers::<Direct>::new(args)));
