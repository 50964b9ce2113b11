//! Networks of addresses: who may connect to a listener, and who may not.

use std::net::IpAddr;

/// `10.0.0.0/8`, `2001:db8::/32`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    bits: u128,
    prefix: u32,
    is_v4: bool,
}

impl Network {
    /// Reads a network; none for what is none. Bits behind the prefix say nothing.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) if prefix.bytes().all(|b| b.is_ascii_digit()) => {
                (address, Some(prefix.parse().ok()?))
            }
            Some(_) => return None,
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(width);
        if prefix > width {
            return None;
        }
        Some(Self { bits: bits(address), prefix, is_v4: address.is_ipv4() })
    }

    /// Whether the address is in it. An IPv4 address that came by an IPv6 socket is the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let width = if self.is_v4 { 32 } else { 128 };
        self.is_v4 == address.is_ipv4()
            && (self.bits ^ bits(address)).checked_shr(width - self.prefix).unwrap_or(0) == 0
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// Whether an address may connect: not denied, and allowed where only some are.
pub fn admits(allow: &[Network], deny: &[Network], address: IpAddr) -> bool {
    let is_in = |networks: &[Network]| networks.iter().any(|network| network.contains(address));
    !is_in(deny) && (allow.is_empty() || is_in(allow))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Vec<Network> {
        texts.iter().map(|text| Network::parse(text).unwrap()).collect()
    }

    #[test]
    fn addresses_fall_into_their_networks() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.1.2.3/8", "10.0.0.0", "9.255.255.255"),
            ("192.168.1.7", "192.168.1.7", "192.168.1.6"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("10.0.0.0/8", "::ffff:10.0.0.1", "::10.0.0.1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("::/0", "::1", "127.0.0.1"),
            ("::1/128", "::1", "::2"),
        ] {
            let parsed = Network::parse(network).unwrap();
            assert!(parsed.contains(inside.parse().unwrap()), "{inside} in {network}");
            assert!(!parsed.contains(outside.parse().unwrap()), "{outside} in {network}");
        }
    }

    #[test]
    fn what_is_no_network_is_none() {
        for text in
            ["", "/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/+1", "localhost", "::/129", "10.0/8"]
        {
            assert_eq!(Network::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_denied_is_not_allowed() {
        let (allow, deny) = (networks(&["10.0.0.0/8"]), networks(&["10.9.0.0/16"]));
        assert!(admits(&allow, &deny, "10.1.1.1".parse().unwrap()));
        assert!(!admits(&allow, &deny, "10.9.1.1".parse().unwrap()));
        assert!(!admits(&allow, &deny, "192.168.0.1".parse().unwrap()));
        assert!(admits(&[], &deny, "192.168.0.1".parse().unwrap()));
    }
}
