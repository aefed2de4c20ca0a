//! Datagrams over the loopback of a network namespace of its own, by every way there is.
//!
//! A line for each datagram that a call sent: `s`, thread, cookie, whether the socket is one of IPv6, is connected, is bound to
//! an address, the addresses of this end and of the other, bytes, bytes of each segment, and what ended the datagram: `call`,
//! or `option` if it was no call that sends. For each that a call received: `r`, the same up to the addresses, bytes that it
//! got, size of the datagram, bytes of each segment, and flags of the call. At the end a line with what the kernel counted: `n`,
//! inode number of the namespace, datagrams out, datagrams in.

use std::{
    fs::{self, File},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::{
        fd::{AsRawFd as _, FromRawFd as _},
        linux::fs::MetadataExt as _,
    },
    thread,
};

use super::sys;

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
const ANY_V4: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const ANY_V6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

// include/uapi/linux/udp.h
const UDP_CORK: i32 = 1;
const UDP_SEGMENT: i32 = 103;
const UDP_GRO: i32 = 104;

static BYTES: [u8; 70_000] = [7; 70_000];

/// A socket, and where others find it.
struct Socket {
    socket: UdpSocket,
    cookie: u64,
    at: SocketAddr,
    is_ipv6: bool,
    is_bound: bool,
    is_connected: bool,
}

impl Socket {
    /// Bound to `own`, found at `at`.
    fn new(own: IpAddr, at: IpAddr) -> Self {
        let socket = UdpSocket::bind((own, 0)).unwrap();
        let at = SocketAddr::new(at, socket.local_addr().unwrap().port());
        let (mut cookie, mut size) = (0_u64, 8_u32);
        let (room, size) = (&raw mut cookie as i64, &raw mut size as i64);
        let option =
            [socket.as_raw_fd().into(), libc::SOL_SOCKET.into(), libc::SO_COOKIE.into(), room, size, 0];
        sys::must(libc::SYS_getsockopt, option);
        Self {
            socket,
            cookie,
            at,
            is_ipv6: own.is_ipv6(),
            is_bound: !own.is_unspecified(),
            is_connected: false,
        }
    }

    fn fd(&self) -> i64 {
        self.socket.as_raw_fd().into()
    }

    fn connect(&mut self, other: &Self) {
        let name = self.name_of(other.at);
        sys::must(libc::SYS_connect, [self.fd(), name.at(), name.len(), 0, 0, 0]);
        (self.is_connected, self.is_bound) = (true, true);
    }

    fn set(&self, level: i32, option: i32, value: i32) {
        let value = &raw const value as i64;
        sys::must(libc::SYS_setsockopt, [self.fd(), level.into(), option.into(), value, 4, 0]);
    }

    /// As a socket of this family writes it.
    fn name_of(&self, address: SocketAddr) -> Name {
        Name::of(match address.ip() {
            IpAddr::V4(ip) if self.is_ipv6 => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
            _ => address,
        })
    }

    fn say(&self, side: char, other: SocketAddr, rest: &str) {
        let Self { cookie, at, is_ipv6, is_bound, is_connected, .. } = *self;
        println!("{side} {} {cookie} {is_ipv6} {is_connected} {is_bound} {at} {other} {rest}", sys::tid());
    }

    fn sent(&self, to: &Self, bytes: i64, segment: i64) {
        self.say('s', to.at, &format!("{bytes} {segment} call"));
    }

    fn got(&self, from: &Self, bytes: i64, datagram: i64, segment: i64, flags: i32) {
        self.say('r', from.at, &format!("{bytes} {datagram} {segment} {flags}"));
    }

    /// `sendto`; with `MSG_MORE` the datagram is not complete.
    fn send_to(&self, to: &Self, bytes: i64, flags: i32) {
        let name = self.name_of(to.at);
        let (at, len) = if self.is_connected { (0, 0) } else { (name.at(), name.len()) };
        let sent =
            sys::must(libc::SYS_sendto, [self.fd(), BYTES.as_ptr() as i64, bytes, flags.into(), at, len]);
        assert_eq!(sent, bytes);
    }

    fn send(&self, to: &Self, bytes: i64) {
        self.send_to(to, bytes, 0);
        self.sent(to, bytes, 0);
    }

    /// `recvfrom`, whatever comes of it.
    fn receives(&self, flags: i32) -> i64 {
        let mut room = [0_u8; 100];
        sys::call(libc::SYS_recvfrom, [self.fd(), room.as_mut_ptr() as i64, 100, flags.into(), 0, 0])
    }

    /// `recvfrom` of a datagram of that size into that much room.
    fn recv(&self, from: &Self, datagram: i64, room: i64, flags: i32) {
        let mut bytes = vec![0_u8; room as usize];
        let ret =
            sys::must(libc::SYS_recvfrom, [self.fd(), bytes.as_mut_ptr() as i64, room, flags.into(), 0, 0]);
        let got = datagram.min(room);
        assert_eq!(ret, if flags & libc::MSG_TRUNC != 0 { datagram } else { got });
        self.got(from, got, datagram, 0, flags);
    }
}

/// A `sockaddr`.
struct Name(libc::sockaddr_in6, u32);

impl Name {
    fn of(address: SocketAddr) -> Self {
        // SAFETY: all zero is an address.
        let mut name: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
        let (family, len) = match address {
            SocketAddr::V4(_) => (libc::AF_INET, size_of::<libc::sockaddr_in>()),
            SocketAddr::V6(_) => (libc::AF_INET6, size_of::<libc::sockaddr_in6>()),
        };
        // Family and port are at the same place in both.
        (name.sin6_family, name.sin6_port) = (family as u16, address.port().to_be());
        match address.ip() {
            IpAddr::V4(ip) => name.sin6_flowinfo = u32::from_ne_bytes(ip.octets()),
            IpAddr::V6(ip) => name.sin6_addr.s6_addr = ip.octets(),
        }
        Self(name, len as u32)
    }

    fn at(&self) -> i64 {
        &raw const self.0 as i64
    }

    fn len(&self) -> i64 {
        self.1.into()
    }
}

/// All of it but `io_uring`.
pub fn datagrams() {
    own_network();
    for (own, other, at) in
        [(ANY_V4, V4, V4), (V6, ANY_V6, V6), (ANY_V6, V4, V4), (V4, ANY_V6, V4), (ANY_V6, ANY_V6, V4)]
    {
        let (mut from, mut to) = (Socket::new(own, at), Socket::new(other, at));
        one_by_one(&from, &to);
        messages(&from, &to);
        in_pieces(&from, &to);
        segments(&from, &to);
        to_be_gone(&from);
        from.connect(&to);
        from.send(&to, 200);
        to.recv(&from, 200, 300, 0);
        to.connect(&from);
        connected(&from, &to);
        in_pieces(&from, &to);
        segments(&from, &to);
        of_no_datagram(&from, &to);
    }
    apart();
    report();
}

/// Nobody else's datagrams are counted there. Large ones are cut into fragments.
fn own_network() {
    // SAFETY: the workload has one thread.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0, "{}", std::io::Error::last_os_error());
    let socket = UdpSocket::bind((ANY_V4, 0)).unwrap();
    // SAFETY: all zero is a request.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    (request.ifr_name[0], request.ifr_name[1]) = (b'l' as libc::c_char, b'o' as libc::c_char);
    let ask = |what: u64, request: &libc::ifreq| {
        let at = std::ptr::from_ref(request) as i64;
        sys::must(libc::SYS_ioctl, [socket.as_raw_fd().into(), what as i64, at, 0, 0, 0]);
    };
    request.ifr_ifru.ifru_mtu = 9000;
    ask(libc::SIOCSIFMTU, &request);
    request.ifr_ifru.ifru_flags = libc::IFF_UP as i16;
    ask(libc::SIOCSIFFLAGS, &request);
}

/// One call for each, in sizes from none to all that there can be.
fn one_by_one(from: &Socket, to: &Socket) {
    for bytes in [1, 0, 1400, 40_000, 65_000] {
        from.send(to, bytes);
        to.recv(from, bytes, 66_000, 0);
    }
    from.send(to, 500);
    to.recv(from, 500, 600, libc::MSG_PEEK);
    to.recv(from, 500, 300, libc::MSG_PEEK);
    to.recv(from, 500, 500, 0);
    from.send(to, 1000);
    to.recv(from, 1000, 300, 0);
    from.send(to, 1000);
    to.recv(from, 1000, 400, libc::MSG_TRUNC);
    from.send(to, 30);
    to.recv(from, 30, 400, libc::MSG_TRUNC | libc::MSG_PEEK);
    to.recv(from, 30, 30, 0);
}

/// `sendmsg`, `sendmmsg`, `recvmsg`, `recvmmsg`.
fn messages(from: &Socket, to: &Socket) {
    let name = from.name_of(to.at);
    let mut outgoing = [[BYTES.as_ptr() as i64, 700], [BYTES.as_ptr() as i64, 33]];
    let mut room = vec![0_u8; 1000];
    let mut incoming = [[room.as_mut_ptr() as i64, 250], [room.as_mut_ptr() as i64 + 250, 750]];
    let message = |name: Option<&Name>, vectors: &mut [[i64; 2]; 2]| {
        // SAFETY: all zero is a message without anything.
        let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
        if let Some(name) = name {
            (message.msg_hdr.msg_name, message.msg_hdr.msg_namelen) = (name.at() as *mut _, name.1);
        }
        (message.msg_hdr.msg_iov, message.msg_hdr.msg_iovlen) = (vectors.as_mut_ptr().cast(), 2);
        message
    };
    let mut sends = [message(Some(&name), &mut outgoing); 3];
    let mut receives = [message(None, &mut incoming); 3];
    let (send, receive) = (sends.as_mut_ptr() as i64, receives.as_mut_ptr() as i64);
    assert_eq!(sys::must(libc::SYS_sendmsg, [from.fd(), send, 0, 0, 0, 0]), 733);
    from.sent(to, 733, 0);
    assert_eq!(sys::must(libc::SYS_recvmsg, [to.fd(), receive, 0, 0, 0, 0]), 733);
    to.got(from, 733, 733, 0, 0);
    assert_eq!(sys::must(libc::SYS_sendmmsg, [from.fd(), send, 3, 0, 0, 0]), 3);
    (0..3).for_each(|_| from.sent(to, 733, 0));
    assert_eq!(sys::must(libc::SYS_recvmmsg, [to.fd(), receive, 3, 0, 0, 0]), 3);
    (0..3).for_each(|_| to.got(from, 733, 733, 0, 0));
}

/// Several calls that make one datagram.
fn in_pieces(from: &Socket, to: &Socket) {
    from.send_to(to, 10, libc::MSG_MORE);
    from.send_to(to, 0, libc::MSG_MORE);
    from.send_to(to, 20, libc::MSG_MORE);
    from.send_to(to, 0, 0);
    from.sent(to, 30, 0);
    to.recv(from, 30, 100, 0);
}

/// One call that makes several.
fn segments(from: &Socket, to: &Socket) {
    from.set(libc::SOL_UDP, UDP_SEGMENT, 400);
    from.send_to(to, 1000, 0);
    from.sent(to, 1000, 400);
    for bytes in [400, 400, 200] {
        to.recv(from, bytes, 1000, 0);
    }
    // One after all.
    from.send(to, 399);
    to.recv(from, 399, 1000, 0);
    // Together again.
    to.set(libc::SOL_UDP, UDP_GRO, 1);
    from.send_to(to, 1000, 0);
    from.sent(to, 1000, 400);
    let mut room = [0_u8; 2000];
    let got = sys::must(libc::SYS_recvfrom, [to.fd(), room.as_mut_ptr() as i64, 2000, 0, 0, 0]);
    if got == 1000 {
        to.got(from, got, got, 400, 0);
    } else {
        // Where loopback has no such packets, as in 5.10, they come one by one.
        assert_eq!(got, 400);
        to.got(from, got, got, 0, 0);
        for bytes in [400, 200] {
            to.recv(from, bytes, 1000, 0);
        }
    }
    to.set(libc::SOL_UDP, UDP_GRO, 0);
    from.set(libc::SOL_UDP, UDP_SEGMENT, 0);
}

/// `write` and `sendfile`; `read`; both ways.
fn connected(from: &Socket, to: &Socket) {
    let at = BYTES.as_ptr() as i64;
    let mut room = vec![0_u8; 2000];
    assert_eq!(sys::must(libc::SYS_write, [from.fd(), at, 123, 0, 0, 0]), 123);
    from.sent(to, 123, 0);
    assert_eq!(sys::must(libc::SYS_read, [to.fd(), room.as_mut_ptr() as i64, 2000, 0, 0, 0]), 123);
    to.got(from, 123, 123, 0, 0);
    // Both ways.
    to.send(from, 77);
    from.recv(to, 77, 70, 0);
    // SAFETY: the name is alive.
    let memory = unsafe { libc::memfd_create(c"source".as_ptr(), 0) };
    assert!(memory >= 0);
    // SAFETY: nobody else has the descriptor.
    let file = unsafe { File::from_raw_fd(memory) };
    sys::must(libc::SYS_write, [memory.into(), at, 900, 0, 0, 0]);
    let mut offset = 0_i64;
    let place = &raw mut offset as i64;
    assert_eq!(sys::must(libc::SYS_sendfile, [from.fd(), memory.into(), place, 900, 0, 0]), 900);
    drop(file);
    from.sent(to, 900, 0);
    to.recv(from, 900, 1000, 0);
}

/// A datagram that nobody wants, by a socket of its own: what comes back is an error.
fn to_be_gone(from: &Socket) {
    let ip = from.at.ip();
    let mut own = Socket::new(if from.is_ipv6 { ANY_V6 } else { ANY_V4 }, ip);
    let mut nowhere = Socket::new(ip, ip);
    own.connect(&nowhere);
    // The one that it was is closed.
    nowhere.socket = UdpSocket::bind((ip, 0)).unwrap();
    if own.is_ipv6 {
        own.set(libc::SOL_IPV6, libc::IPV6_RECVERR, 1);
    }
    if ip.is_ipv4() {
        own.set(libc::SOL_IP, libc::IP_RECVERR, 1);
    }
    own.send(&nowhere, 60);
    assert_eq!(own.receives(libc::MSG_DONTWAIT), -i64::from(libc::ECONNREFUSED));
    // What the error is about comes with its bytes.
    assert_eq!(own.receives(libc::MSG_ERRQUEUE), 60);
}

/// Calls that fail, or that find nothing.
fn of_no_datagram(from: &Socket, to: &Socket) {
    assert_eq!(to.receives(libc::MSG_DONTWAIT), -i64::from(libc::EAGAIN));
    let too_long = [from.fd(), BYTES.as_ptr() as i64, 70_000, 0, 0, 0];
    assert_eq!(sys::call(libc::SYS_sendto, too_long), -i64::from(libc::EMSGSIZE));
    let nowhere = Socket::new(ANY_V4, V4);
    let unsaid = [nowhere.fd(), BYTES.as_ptr() as i64, 10, 0, 0, 0];
    assert_eq!(sys::call(libc::SYS_sendto, unsaid), -i64::from(libc::EDESTADDRREQ));
    sys::must(libc::SYS_shutdown, [to.fd(), libc::SHUT_RD.into(), 0, 0, 0, 0]);
    assert_eq!(to.receives(0), 0);
}

/// A thread, and then a process, that answers; and what only functions show: a datagram that is ended by an option.
fn apart() {
    let (from, to) = (Socket::new(ANY_V4, V4), Socket::new(V4, V4));
    let answer = || {
        for bytes in [5, 50, 500] {
            to.recv(&from, bytes, 1000, 0);
            to.send(&from, bytes + 1);
        }
    };
    let ask = || {
        for bytes in [5, 50, 500] {
            from.send(&to, bytes);
            from.recv(&to, bytes + 1, 1000, 0);
        }
    };
    thread::scope(|scope| {
        scope.spawn(answer);
        ask();
    });
    let child = sys::fork(answer);
    ask();
    assert_eq!(sys::wait_for(child), 0);
    from.set(libc::SOL_UDP, UDP_CORK, 1);
    from.send_to(&to, 11, 0);
    from.send_to(&to, 22, 0);
    from.set(libc::SOL_UDP, UDP_CORK, 0);
    from.say('s', to.at, "33 0 option");
    to.recv(&from, 33, 100, 0);
    // What comes then is another.
    from.send(&to, 44);
    to.recv(&from, 44, 100, 0);
}

/// What the kernel counted, of IPv4 and of IPv6.
fn report() {
    let netns = fs::metadata("/proc/self/ns/net").unwrap().st_ino();
    let text = fs::read_to_string("/proc/self/net/snmp").unwrap();
    let mut rows = text.lines().filter_map(|line| line.strip_prefix("Udp: ")).map(|row| row.split(' '));
    let named = rows.next().unwrap().zip(rows.next().unwrap());
    let of_v4: Vec<_> = named.collect();
    let text = fs::read_to_string("/proc/self/net/snmp6").unwrap();
    let of_v6: Vec<_> = text.lines().filter_map(|line| line.split_once(char::is_whitespace)).collect();
    let count = |table: &[(&str, &str)], name| {
        let value = table.iter().find(|row| row.0 == name).unwrap().1;
        value.trim().parse::<u64>().unwrap()
    };
    let sum = |v4, v6| count(&of_v4, v4) + count(&of_v6, v6);
    println!(
        "n {netns} {} {}",
        sum("OutDatagrams", "Udp6OutDatagrams"),
        sum("InDatagrams", "Udp6InDatagrams")
    );
}

/// By `io_uring`, each end once.
pub fn io_uring() {
    use io_uring::{IoUring, opcode, types::Fd};
    own_network();
    let mut ring = IoUring::new(4).unwrap();
    let (mut from, mut to) = (Socket::new(V4, V4), Socket::new(V4, V4));
    from.connect(&to);
    to.connect(&from);
    let mut room = [0_u8; 1000];
    let entries = [
        opcode::Send::new(Fd(from.socket.as_raw_fd()), BYTES.as_ptr(), 555).build(),
        opcode::Recv::new(Fd(to.socket.as_raw_fd()), room.as_mut_ptr(), 1000).build(),
    ];
    for entry in entries {
        // SAFETY: what it points to is alive until it is complete, which is before the next.
        unsafe { ring.submission().push(&entry).unwrap() };
        ring.submit_and_wait(1).unwrap();
        assert_eq!(ring.completion().next().unwrap().result(), 555);
    }
    from.sent(&to, 555, 0);
    to.got(&from, 555, 555, 0, 0);
    report();
}
