//! Processes that are interrupted.

use std::{io::ErrorKind, net::UdpSocket};

use super::sys;
use crate::support::kernel::Deadline;

/// Sends itself datagrams over loopback: each makes a softirq of its own, on the way out of the call. Before Linux 6.4 that is
/// left to `ksoftirqd` while that has something to do. So it goes on until `count` of them have come without another thread on
/// this CPU.
pub fn loopback(count: u64) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let own = socket.local_addr().unwrap();
    let switches = || {
        let usage = sys::usage();
        (usage.ru_nvcsw, usage.ru_nivcsw)
    };
    let receive = || socket.recv(&mut [0; 200]);
    let deadline = Deadline::new();
    let mut served = 0;
    while served < count {
        deadline.check("softirqs of this process's own");
        let before = switches();
        assert_eq!(socket.send_to(&[7; 100], own).unwrap(), 100);
        socket.set_nonblocking(true).unwrap();
        let at_once = receive();
        if at_once.is_ok() && switches() == before {
            served += 1;
        }
        socket.set_nonblocking(false).unwrap();
        let received = match at_once {
            Err(error) if error.kind() == ErrorKind::WouldBlock => receive(),
            received => received,
        };
        assert_eq!(received.unwrap(), 100);
    }
}
