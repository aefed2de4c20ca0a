//! Processes that are interrupted.

use std::net::UdpSocket;

/// Sends itself `count` datagrams over loopback: each makes a softirq of its own, on the way out of the call.
pub fn loopback(count: u64) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let own = socket.local_addr().unwrap();
    for _ in 0..count {
        assert_eq!(socket.send_to(&[7; 100], own).unwrap(), 100);
        assert_eq!(socket.recv(&mut [0; 200]).unwrap(), 100);
    }
}
