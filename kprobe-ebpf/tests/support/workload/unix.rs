//! Threads that move bytes through stream sockets of the machine itself, by every way there is.
//!
//! Each says what it did as those of pipes do (see there), by the inode number of its own socket. Before that comes a line
//! for each pair of sockets: `c`, inode numbers of both, cookies of both.

use super::{
    pipe::{self, close, file, inode, read, say, write},
    sys,
};

/// A pair; bytes go from the second to the first.
fn pair() -> [i32; 2] {
    let mut ends = [0; 2];
    // SAFETY: there is room for two descriptors.
    let made = unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, ends.as_mut_ptr()) };
    assert_eq!(made, 0);
    named(ends)
}

fn named(ends: [i32; 2]) -> [i32; 2] {
    let [from, into] = ends;
    println!("c {} {} {} {}", inode(from), inode(into), cookie(from), cookie(into));
    ends
}

fn cookie(fd: i32) -> u64 {
    let (mut cookie, mut size) = (0_u64, 8_u32);
    let (room, size) = (&raw mut cookie as i64, &raw mut size as i64);
    let option = [fd.into(), libc::SOL_SOCKET.into(), libc::SO_COOKIE.into(), room, size, 0];
    sys::must(libc::SYS_getsockopt, option);
    cookie
}

pub fn transfers(total: u64) {
    let total = total as i64;
    pipe::between_threads(total, pair);
    pipe::within_a_thread(total, pair);
    pipe::between_processes(total, pair);
    pipe::without_blocking(total, pair);
    spliced(total);
    others();
    connected();
    pipe::print_lines();
}

/// From a file by sendfile, into a pipe and a file by splice.
fn spliced(total: i64) {
    let [from, into] = pair();
    let [out, through] = sys::pipe();
    let (source, target) = (file(total), file(0));
    let splice =
        |a: i32, b: i32, bytes: i64| sys::must(libc::SYS_splice, [a.into(), 0, b.into(), 0, bytes, 0]);
    let mut left = total;
    while left > 0 {
        let size = left.min(50_001);
        let sent = sys::must(libc::SYS_sendfile, [into.into(), source.into(), 0, size, 0, 0]);
        say('w', inode(into), "sendfile", sent);
        left -= sent;
        let mut there = sent;
        while there > 0 {
            let got = splice(from, through, there.min(20_001));
            say('r', inode(from), "splice", got);
            there -= got;
            let mut got = got;
            while got > 0 {
                got -= splice(out, target, got);
            }
        }
    }
    [from, into, out, through, source, target].into_iter().for_each(close);
}

/// Peeking, messages, several messages at once.
fn others() {
    let [from, into] = pair();
    let mut room = [0_u8; 5000];
    let at = room.as_mut_ptr() as i64;
    let recv =
        |bytes: i64, flags: i32| sys::must(libc::SYS_recvfrom, [from.into(), at, bytes, flags.into(), 0, 0]);
    write(into, 5000);
    say('p', inode(from), "peek", recv(1001, libc::MSG_PEEK));
    say('r', inode(from), "recv", recv(4001, 0));
    say('p', inode(from), "peek", recv(5000, libc::MSG_PEEK));
    say('r', inode(from), "recv", recv(5000, 0));
    let mut vectors = [[at, 700], [at + 700, 33]];
    // SAFETY: all zero is a message without anything.
    let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
    message.msg_hdr.msg_iov = vectors.as_mut_ptr().cast();
    message.msg_hdr.msg_iovlen = 2;
    let mut messages = [message; 3];
    let all = messages.as_mut_ptr() as i64;
    say('w', inode(into), "sendmsg", sys::must(libc::SYS_sendmsg, [into.into(), all, 0, 0, 0, 0]));
    say('r', inode(from), "recvmsg", sys::must(libc::SYS_recvmsg, [from.into(), all, 0, 0, 0, 0]));
    assert_eq!(sys::must(libc::SYS_sendmmsg, [into.into(), all, 3, 0, 0, 0]), 3);
    messages.iter().for_each(|message| say('w', inode(into), "sendmmsg", message.msg_len.into()));
    assert_eq!(sys::must(libc::SYS_recvmmsg, [from.into(), all, 3, 0, 0, 0]), 3);
    messages.iter().for_each(|message| say('r', inode(from), "recvmmsg", message.msg_len.into()));
    [from, into].into_iter().for_each(close);
}

/// By an address, both ways; the other end is closed before the last bytes are taken.
fn connected() {
    // An abstract one: it is gone with the socket.
    let mut address = libc::sockaddr_un { sun_family: libc::AF_UNIX as u16, sun_path: [0; 108] };
    for (to, from) in address.sun_path[1..].iter_mut().zip(format!("kprobe-{}", sys::tid()).bytes()) {
        *to = from as libc::c_char;
    }
    let (at, size) = (&raw const address as i64, size_of::<libc::sockaddr_un>() as i64);
    let socket = || {
        let kind = [libc::AF_UNIX.into(), libc::SOCK_STREAM.into(), 0, 0, 0, 0];
        sys::must(libc::SYS_socket, kind) as i32
    };
    let (listener, client) = (socket(), socket());
    sys::must(libc::SYS_bind, [listener.into(), at, size, 0, 0, 0]);
    sys::must(libc::SYS_listen, [listener.into(), 1, 0, 0, 0, 0]);
    sys::must(libc::SYS_connect, [client.into(), at, size, 0, 0, 0]);
    // Before anybody has the other end.
    write(client, 1234);
    let server = sys::must(libc::SYS_accept, [listener.into(), 0, 0, 0, 0, 0]) as i32;
    named([server, client]);
    read(server, 1000);
    write(server, 77);
    read(client, 77);
    write(client, 66);
    close(client);
    read(server, 5000);
    [server, listener].into_iter().for_each(close);
}
