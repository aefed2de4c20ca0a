//! A link that loses packets.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    thread,
};

use rustix::{
    fd::{AsRawFd as _, OwnedFd},
    net::{AddressFamily, RecvFlags, SendFlags, SocketType, recv, send, socket},
};

use super::sys;
use crate::support::kernel::Deadline;

/// `mebibytes` go over the loopback of a net namespace of its own, which loses one packet in ten. Writes the port, segments
/// that were sent again and those of them that could not be (`RetransSegs`, `TCPRetransFail`), and packets that netem dropped.
pub fn lossy_link(mebibytes: u64) {
    sys::must(libc::SYS_unshare, [libc::CLONE_NEWNET.into(), 0, 0, 0, 0, 0]);
    up();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let to = listener.local_addr().unwrap();
    let bytes = (mebibytes << 20) as usize;
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut all = Vec::with_capacity(bytes);
        stream.read_to_end(&mut all).unwrap();
        all.len()
    });
    let mut client = TcpStream::connect(to).unwrap();
    // Not before: answers to who asks for a connection have no socket yet, and no record.
    lose_one_in_ten();
    client.write_all(&vec![7; bytes]).unwrap();
    drop(client);
    assert_eq!(server.join().unwrap(), bytes);
    wait_until_closed();
    let again = counter("/proc/thread-self/net/snmp", "Tcp", "RetransSegs");
    let failed = counter("/proc/thread-self/net/netstat", "TcpExt", "TCPRetransFail");
    println!("{} {again} {failed} {}", to.port(), dropped());
}

/// Both ends are closed, but the last of what they say may be lost and said again. Who waits to forget (`TCP_TIME_WAIT`, 6) says
/// nothing of its own accord.
fn wait_until_closed() {
    let is_open = || {
        let sockets = fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
        sockets.lines().skip(1).any(|line| line.split_whitespace().nth(3) != Some("06"))
    };
    Deadline::wait_for("the end of what both say", || !is_open());
}

/// A number of a file that has a line of names and a line of numbers for each group.
fn counter(file: &str, group: &str, name: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with(&format!("{group}:")));
    let (names, numbers) = (lines.next().unwrap(), lines.next().unwrap());
    let mut both = names.split(' ').zip(numbers.split(' '));
    both.find(|(of, _)| *of == name).unwrap().1.parse().unwrap()
}

/// `SIOCSIFFLAGS` for `lo`.
fn up() {
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None).unwrap();
    // `struct ifreq`: the name, then the flags.
    let mut request = [0_u8; 40];
    request[..2].copy_from_slice(b"lo");
    request[16] = libc::IFF_UP as u8;
    let address = request.as_ptr() as i64;
    sys::must(libc::SYS_ioctl, [socket.as_raw_fd().into(), libc::SIOCSIFFLAGS as i64, address, 0, 0, 0]);
}

// linux/rtnetlink.h, linux/pkt_sched.h
const RTM_NEWQDISC: u16 = 36;
const RTM_GETQDISC: u16 = 38;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_STATS: u16 = 3;
const ROOT: u32 = u32::MAX;

fn lose_one_in_ten() {
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    // `struct tc_netem_qopt`: latency, limit, loss in parts of 2^32, gap, duplicate, jitter.
    let options: Vec<u8> =
        [0, 1000, u32::MAX / 10, 0, 0, 0].iter().flat_map(|word: &u32| word.to_ne_bytes()).collect();
    let attributes = [attribute(TCA_KIND, b"netem\0"), attribute(TCA_OPTIONS, &options)].concat();
    let answer = ask(RTM_NEWQDISC, flags as u16, &attributes);
    // `struct nlmsgerr` begins with the error.
    assert_eq!(answer[16..20], [0; 4], "{answer:?}");
}

/// What the queueing discipline of `lo` dropped: the only one here, or the first of all.
fn dropped() -> u64 {
    let answer = ask(RTM_GETQDISC, (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16, &[]);
    let number = |at: usize| u32::from_ne_bytes(answer[at..at + 4].try_into().unwrap());
    let end = number(0) as usize;
    assert_eq!(number(20), 1, "{answer:?}");
    let mut at = 16 + 20;
    while at < end {
        let (length, kind) = (number(at) & 0xffff, number(at) >> 16);
        if kind == u32::from(TCA_STATS) {
            // `struct tc_stats`: bytes in 8, packets in 4, drops in 4.
            return number(at + 4 + 12).into();
        }
        at += (length as usize).next_multiple_of(4).max(4);
    }
    panic!("no statistics: {answer:?}");
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = [(value.len() as u16 + 4).to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// One message about the root queueing discipline of `lo`, and the answer.
fn ask(kind: u16, flags: u16, attributes: &[u8]) -> Vec<u8> {
    // Its protocol 0 is `NETLINK_ROUTE`.
    let socket: OwnedFd = socket(AddressFamily::NETLINK, SocketType::RAW, None).unwrap();
    // `struct tcmsg`: family, interface (`lo` is the first), handle, parent, info.
    let about = [0, 1, 0, ROOT, 0];
    let length = 16 + 20 + attributes.len() as u32;
    let mut message = length.to_ne_bytes().to_vec();
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(&flags.to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
    message.extend(about.iter().flat_map(|word: &u32| word.to_ne_bytes()));
    message.extend_from_slice(attributes);
    assert_eq!(send(&socket, &message, SendFlags::empty()).unwrap(), message.len());
    let mut answer = vec![0; 16 << 10];
    let (got, _) = recv(&socket, &mut answer, RecvFlags::empty()).unwrap();
    answer.truncate(got);
    answer
}
