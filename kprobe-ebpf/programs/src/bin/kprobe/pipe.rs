use kprobe_core::abi::PipeCall;
use kprobe_programs::{
    memory::{Direct, Probed},
    pipe::{self, function},
    syscall::{Event, Registers},
};

btf!(pipe_enter_btf, "sys_enter", |args| pipe::enter(Registers::<Direct>::new(args)));
btf!(pipe_exit_btf, "sys_exit", |args| pipe::exit(Registers::<Direct>::new(args)));
raw!(pipe_enter_raw, "sys_enter", |args| pipe::enter(Registers::<Probed>::new(args)));
raw!(pipe_exit_raw, "sys_exit", |args| pipe::exit(Registers::<Probed>::new(args)));
tp!(pipe_enter_tp, "raw_syscalls", "sys_enter", |ctx| pipe::enter(Event::new(ctx)));
tp!(pipe_exit_tp, "raw_syscalls", "sys_exit", |ctx| pipe::exit(Event::new(ctx)));

entry!(pipe_write_entry, "anon_pipe_write", |args| function::entered(args, PipeCall::WRITE));
exit!(pipe_write_exit, "anon_pipe_write", |args| function::left(args, PipeCall::WRITE, 2));
entry!(pipe_read_entry, "anon_pipe_read", |args| function::entered(args, PipeCall::READ));
exit!(pipe_read_exit, "anon_pipe_read", |args| function::left(args, PipeCall::READ, 2));
entry!(pipe_splice_entry, "do_splice", function::splices);
exit!(pipe_splice_exit, "do_splice", |args| function::left(args, PipeCall::SPLICE, 6));
entry!(pipe_tee_entry, "do_tee", function::tees);
exit!(pipe_tee_exit, "do_tee", |args| function::left(args, PipeCall::TEE, 4));
entry!(pipe_sendfile_entry, "do_sendfile", function::sends_file);
exit!(pipe_sendfile_exit, "do_sendfile", |args| function::left(args, PipeCall::SENDFILE, 5));
entry!(pipe_vmsplice_entry, "__x64_sys_vmsplice", function::vmsplices);
exit!(pipe_vmsplice_exit, "__x64_sys_vmsplice", |args| function::left(args, PipeCall::VMSPLICE, 1));
