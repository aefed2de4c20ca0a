use std::{io::Write as _, net::IpAddr};

/// An address as text, without a string on the heap.
pub(super) struct AddressText {
    /// The longest: an IPv4 address in an IPv6 one.
    bytes: [u8; 45],
    len: usize,
}

impl AddressText {
    pub(super) fn of(address: IpAddr) -> Self {
        let mut bytes = [0; 45];
        let mut left = &mut bytes[..];
        // The only error is that there is no room.
        let _ = write!(left, "{address}");
        let len = 45 - left.len();
        Self { bytes, len }
    }

    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_has_room() {
        for text in ["ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::", "255.255.255.255", "::ffff:1.2.3.4"] {
            let address: IpAddr = text.parse().expect("an address");
            assert_eq!(AddressText::of(address).as_str(), text);
        }
    }
}
