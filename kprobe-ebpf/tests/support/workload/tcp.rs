//! Connections over loopback with known bytes.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    thread,
};

use super::sys;

/// How the bytes travel.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// `write` and `read`.
    Plain,
    /// `writev` and `readv`.
    Vectors,
    /// `sendmsg` and `recvmsg`, each piece looked at before (`MSG_PEEK`).
    Messages,
    /// Both ends do not block, and wait by `epoll`.
    Epoll,
    /// `sendfile` into the socket, `splice` out of it.
    Sendfile,
    /// `splice` into the socket and out of it.
    Splice,
}

const WAYS: [Way; 6] = [Way::Plain, Way::Vectors, Way::Messages, Way::Epoll, Way::Sendfile, Way::Splice];

fn listener(family: u64) -> (TcpListener, SocketAddr) {
    let (own, to): (SocketAddr, fn(u16) -> SocketAddr) = match family {
        4 => ((Ipv4Addr::LOCALHOST, 0).into(), |port| (Ipv4Addr::LOCALHOST, port).into()),
        6 => ((Ipv6Addr::LOCALHOST, 0).into(), |port| (Ipv6Addr::LOCALHOST, port).into()),
        // Both ends are sockets of IPv6, and speak IPv4.
        _ => {
            let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
            ((mapped, 0).into(), |port| (Ipv4Addr::LOCALHOST.to_ipv6_mapped(), port).into())
        }
    };
    let listener = TcpListener::bind(own).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, to(port))
}

/// One transfer after the other: `bytes`, then for each what [`transfer`] takes.
pub fn transfers(args: &[u64]) {
    for each in args[1..].chunks(3) {
        transfer(each[0], each[1], each[2], args[0]);
    }
}

/// `bytes` go from one end of a connection to the other, and a reply of 10 comes back. `apart`: 0 one thread for each end,
/// 1 a process for each, 2 one thread for both.
///
/// Writes a line for each end: process, thread, cookie, port, bytes that went out and came in as `TCP_INFO` has them.
fn transfer(family: u64, way: u64, apart: u64, bytes: u64) {
    let (way, bytes) = (WAYS[way as usize], bytes as usize);
    let (listener, to) = listener(family);
    match apart {
        0 => {
            let server = thread::spawn(move || serve(&listener, way, bytes));
            let mut stream = TcpStream::connect(to).unwrap();
            send(&stream, way, bytes);
            replied(&mut stream);
            drop(stream);
            server.join().unwrap();
        }
        1 => {
            let server = sys::fork(|| serve(&listener, way, bytes));
            let mut stream = TcpStream::connect(to).unwrap();
            send(&stream, way, bytes);
            replied(&mut stream);
            drop(stream);
            assert_eq!(sys::wait_for(server), 0);
        }
        _ => {
            let mut stream = TcpStream::connect(to).unwrap();
            let mut other = listener.accept().unwrap().0;
            let mut left = bytes;
            for size in odd_sizes() {
                let size = size.min(left).min(20_000);
                stream.write_all(&vec![7; size]).unwrap();
                other.read_exact(&mut vec![0; size]).unwrap();
                left -= size;
                if left == 0 {
                    break;
                }
            }
            other.write_all(&[8; 10]).unwrap();
            replied(&mut stream);
            report(&other);
        }
    }
}

fn serve(listener: &TcpListener, way: Way, bytes: usize) {
    let mut stream = listener.accept().unwrap().0;
    receive(&stream, way, bytes);
    stream.set_nonblocking(false).unwrap();
    // Before the other end closes: to `TCP_INFO` the end of a stream is a byte.
    report(&stream);
    stream.write_all(&[8; 10]).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

fn replied(stream: &mut TcpStream) {
    stream.set_nonblocking(false).unwrap();
    stream.read_exact(&mut [0; 10]).unwrap();
    report(stream);
}

/// Not a multiple of anything, from a byte to more than a segment.
fn odd_sizes() -> impl Iterator<Item = usize> {
    [1, 7, 1_447, 13, 65_537, 4_095, 100_003, 333].into_iter().cycle()
}

fn send(stream: &TcpStream, way: Way, bytes: usize) {
    let fd = stream.as_raw_fd();
    let epoll = (way == Way::Epoll).then(|| Ready::of(stream, libc::EPOLLOUT));
    let source = source(way, bytes);
    let mut left = bytes;
    let mut sizes = odd_sizes();
    while left > 0 {
        let size = sizes.next().unwrap().min(left);
        let piece = vec![7_u8; size];
        let (ptr, len) = (piece.as_ptr() as i64, size as i64);
        let sent = match way {
            Way::Plain | Way::Epoll => sys::call(libc::SYS_write, [fd.into(), ptr, len, 0, 0, 0]),
            Way::Vectors => {
                let half = size / 2;
                let vector = [ptr, half as i64, ptr + half as i64, (size - half) as i64];
                sys::call(libc::SYS_writev, [fd.into(), vector.as_ptr() as i64, 2, 0, 0, 0])
            }
            Way::Messages => {
                let vector = [ptr, len];
                let message = message(&vector);
                sys::call(libc::SYS_sendmsg, [fd.into(), message.as_ptr() as i64, 0, 0, 0, 0])
            }
            Way::Sendfile => {
                let file = source.as_ref().unwrap().as_raw_fd();
                sys::call(libc::SYS_sendfile, [fd.into(), file.into(), 0, len, 0, 0])
            }
            Way::Splice => {
                let [from, into] = sys::pipe();
                let len = len.min(60_000);
                sys::must(libc::SYS_write, [into.into(), ptr, len, 0, 0, 0]);
                let sent = sys::call(libc::SYS_splice, [from.into(), 0, fd.into(), 0, len, 0]);
                assert_eq!(sent, len);
                close([from, into]);
                sent
            }
        };
        left -= progress(sent, epoll.as_ref());
    }
}

fn receive(stream: &TcpStream, way: Way, bytes: usize) {
    let fd = stream.as_raw_fd();
    let epoll = (way == Way::Epoll).then(|| Ready::of(stream, libc::EPOLLIN));
    let mut left = bytes;
    let mut sizes = odd_sizes().skip(3);
    let mut room = vec![0_u8; 100_003];
    while left > 0 {
        let size = sizes.next().unwrap();
        let (ptr, len) = (room.as_mut_ptr() as i64, size as i64);
        let got = match way {
            Way::Plain | Way::Epoll => sys::call(libc::SYS_read, [fd.into(), ptr, len, 0, 0, 0]),
            Way::Vectors => {
                let half = len / 2;
                let vector = [ptr, half, ptr + half, len - half];
                sys::call(libc::SYS_readv, [fd.into(), vector.as_ptr() as i64, 2, 0, 0, 0])
            }
            Way::Messages => {
                let vector = [ptr, len];
                let message = message(&vector);
                let args = [fd.into(), message.as_ptr() as i64, libc::MSG_PEEK.into(), 0, 0, 0];
                sys::must(libc::SYS_recvmsg, args);
                sys::call(libc::SYS_recvmsg, [fd.into(), message.as_ptr() as i64, 0, 0, 0, 0])
            }
            Way::Sendfile | Way::Splice => {
                let [from, into] = sys::pipe();
                let got = sys::call(libc::SYS_splice, [fd.into(), 0, into.into(), 0, len.min(60_000), 0]);
                close([from, into]);
                got
            }
        };
        left -= progress(got, epoll.as_ref());
    }
}

fn progress(ret: i64, epoll: Option<&Ready>) -> usize {
    if ret == -i64::from(libc::EAGAIN) {
        epoll.expect("it blocks").wait();
        return 0;
    }
    assert!(ret > 0, "{ret}");
    ret as usize
}

/// A `struct msghdr` with one piece.
fn message(vector: &[i64; 2]) -> [i64; 7] {
    [0, 0, vector.as_ptr() as i64, 1, 0, 0, 0]
}

/// A file of so many bytes.
fn source(way: Way, bytes: usize) -> Option<std::fs::File> {
    (way == Way::Sendfile).then(|| {
        let file = rustix::fs::memfd_create("bytes", rustix::fs::MemfdFlags::empty()).unwrap();
        let mut file = std::fs::File::from(file);
        file.write_all(&vec![7; bytes]).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        file
    })
}

fn close(fds: [i32; 2]) {
    for fd in fds {
        sys::must(libc::SYS_close, [fd.into(), 0, 0, 0, 0, 0]);
    }
}

/// Waits for a socket that does not block.
struct Ready(OwnedFd);

impl Ready {
    fn of(stream: &TcpStream, events: i32) -> Self {
        stream.set_nonblocking(true).unwrap();
        let epoll = rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC).unwrap();
        let flags = rustix::event::epoll::EventFlags::from_bits_retain(events as u32);
        rustix::event::epoll::add(&epoll, stream, rustix::event::epoll::EventData::new_u64(0), flags)
            .unwrap();
        Self(epoll)
    }

    fn wait(&self) {
        let mut room = [0_u64; 2];
        let args = [self.0.as_raw_fd().into(), room.as_mut_ptr() as i64, 1, -1, 0, 0];
        sys::must(libc::SYS_epoll_wait, args);
    }
}

fn option<T>(stream: &TcpStream, level: i32, name: i32, value: &mut T) {
    let mut len = size_of::<T>() as u32;
    let to = core::ptr::from_mut(value);
    // SAFETY: there is room for as much as `len` says.
    let got = unsafe { libc::getsockopt(stream.as_raw_fd(), level, name, to.cast(), &raw mut len) };
    assert_eq!(got, 0);
}

fn report(stream: &TcpStream) {
    // `tcpi_bytes_acked` and `tcpi_bytes_received` are the 16th and 17th word.
    let (info, cookie) = (info(stream), cookie(stream));
    let port = stream.local_addr().unwrap().port();
    println!("{} {} {cookie} {port} {} {}", std::process::id(), sys::tid(), info[15], info[16]);
}

/// `struct tcp_info`, in words.
fn info(stream: &TcpStream) -> [u64; 40] {
    let mut info = [0_u64; 40];
    option(stream, libc::IPPROTO_TCP, libc::TCP_INFO, &mut info);
    info
}

fn cookie(stream: &TcpStream) -> u64 {
    let mut cookie = 0_u64;
    option(stream, libc::SOL_SOCKET, libc::SO_COOKIE, &mut cookie);
    cookie
}

/// Connections and their ends: one that is accepted late and closed in order, one that is refused, one that gets no answer
/// and is given up. Writes a line for each, with the ports of both ends and what else there is to know.
pub fn lives() {
    let (listener, to) = listener(4);
    // The queue of those that were not accepted yet has room for one.
    sys::must(libc::SYS_listen, [listener.as_raw_fd().into(), 0, 0, 0, 0, 0]);
    let client = TcpStream::connect(to).unwrap();
    let own = client.local_addr().unwrap().port();
    unanswered(to);
    let server = listener.accept().unwrap().0;
    (&client).write_all(&[7]).unwrap();
    (&server).read_exact(&mut [0]).unwrap();
    // The end of the stream is there before this one goes on.
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!((&server).read(&mut [0]).unwrap(), 0);
    println!("accepted {own} {} {} {}", to.port(), cookie(&client), cookie(&server));
    drop(server);
    assert_eq!((&client).read(&mut [0]).unwrap(), 0);
    drop(client);
    drop(listener);
    let error = TcpStream::connect(to).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));
    println!("refused {}", to.port());
}

fn unanswered(to: SocketAddr) {
    let stream = i64::from(libc::SOCK_STREAM | libc::SOCK_NONBLOCK);
    let socket = sys::must(libc::SYS_socket, [libc::AF_INET.into(), stream, 0, 0, 0, 0]) as i32;
    let SocketAddr::V4(to) = to else { panic!("{to}") };
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: to.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(to.ip().octets()) },
        sin_zero: [0; 8],
    };
    let address = [(&raw const address) as i64, size_of_val(&address) as i64];
    let connect = [socket.into(), address[0], address[1], 0, 0, 0];
    assert_eq!(sys::call(libc::SYS_connect, connect), -i64::from(libc::EINPROGRESS));
    // The first repetition is after a second.
    thread::sleep(std::time::Duration::from_millis(1300));
    // SAFETY: the descriptor is this function's own.
    let socket = TcpStream::from(unsafe { OwnedFd::from_raw_fd(socket) });
    // `tcpi_total_retrans` is the upper half of the 13th word.
    let (again, port) = (info(&socket)[12] >> 32, socket.local_addr().unwrap().port());
    println!("unanswered {port} {again} {}", cookie(&socket));
}
