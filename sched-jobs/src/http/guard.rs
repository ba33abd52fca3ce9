//! Which addresses may be connected to.
//!
//! Names are judged after they have been resolved, by the addresses that are then connected to, so a name that points
//! elsewhere the second time gains nothing. Addresses written in a URL never reach a resolver and are judged as they are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// What an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Public,
    /// Not of the public internet: loopback, private, link-local, shared, multicast, reserved.
    Private,
    /// Where clouds hand a machine its credentials.
    Metadata,
}

/// Where Amazon, Google, Azure, Alibaba and Oracle answer a machine that asks who it is.
const METADATA_V4: [[u8; 4]; 6] = [
    [169, 254, 169, 254],
    [169, 254, 170, 2],
    [169, 254, 170, 23],
    [100, 100, 100, 200],
    [168, 63, 129, 16],
    [192, 0, 0, 192],
];
const METADATA_V6: [[u16; 8]; 3] =
    [[0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23], [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254]];

fn place_v4(ip: Ipv4Addr) -> Place {
    let octets = ip.octets();
    if METADATA_V4.contains(&octets) {
        return Place::Metadata;
    }
    let private = match octets {
        [0 | 10 | 127, ..] | [169, 254, ..] | [192, 168, ..] => true,
        [100, second, ..] => (64..128).contains(&second),
        [172, second, ..] => (16..32).contains(&second),
        [192, 0, 0 | 2, _] | [192, 88, 99, _] | [198, 18 | 19, ..] | [198, 51, 100, _] | [203, 0, 113, _] => true,
        [first, ..] => first >= 224,
    };
    if private { Place::Private } else { Place::Public }
}

fn place_v6(ip: Ipv6Addr) -> Place {
    let segments = ip.segments();
    if METADATA_V6.contains(&segments) {
        return Place::Metadata;
    }
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        place_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // Mapped and compatible addresses, NAT64 and 6to4 reach the address that they carry.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => match v4(high, low) {
            Place::Metadata => Place::Metadata,
            Place::Public if segments[5] == 0xffff => Place::Public,
            _ => Place::Private,
        },
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => v4(high, low),
        [0x2001, second, ..] if second < 0x200 || second == 0xdb8 => Place::Private,
        [0x3fff, second, ..] if second < 0x1000 => Place::Private,
        // All that is assigned as global unicast lies here.
        [first, ..] if first & 0xe000 == 0x2000 => Place::Public,
        _ => Place::Private,
    }
}

fn place(ip: IpAddr) -> Place {
    match ip {
        IpAddr::V4(ip) => place_v4(ip),
        IpAddr::V6(ip) => place_v6(ip),
    }
}

/// What may be connected to.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Guard {
    pub(super) deny_private: bool,
    /// Hosts that are let pass, in lower case.
    pub(super) allow_hosts: Vec<String>,
}

impl Guard {
    /// Why an address may not be connected to.
    fn fault(&self, host: &str, ip: IpAddr) -> Option<String> {
        let allowed = self.allow_hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(host));
        let at = if host == ip.to_string() { String::new() } else { format!(", which is at {ip}") };
        match place(ip) {
            _ if allowed => None,
            Place::Metadata => Some(format!(
                "no connection to {host}{at}: a cloud's metadata service; name the host in allow_hosts if it is meant"
            )),
            Place::Private if self.deny_private => Some(format!(
                "no connection to {host}{at}: not a public address (deny_private); name the host in allow_hosts if it is meant"
            )),
            Place::Private | Place::Public => None,
        }
    }

    /// Judges the address that a URL names itself.
    pub(super) fn check(&self, url: &Url) -> Result<(), String> {
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let fault = host.parse().ok().and_then(|ip| self.fault(host, ip));
        fault.map_or(Ok(()), Err)
    }

    /// The addresses of a name that may be connected to.
    pub(super) async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        let found = tokio::net::lookup_host((host, port)).await;
        let found = found.map_err(|error| format!("{host} could not be resolved: {error}"))?;
        let mut refused = None;
        let mut allowed = Vec::new();
        for address in found {
            match self.fault(host, address.ip()) {
                Some(fault) => refused = Some(fault),
                None => allowed.push(address),
            }
        }
        if allowed.is_empty() {
            return Err(refused.unwrap_or_else(|| format!("{host} has no address")));
        }
        Ok(allowed)
    }
}

/// A guard as a resolver.
pub(super) struct Guarded(pub(super) Arc<Guard>);

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.0.clone();
        Box::pin(async move {
            let addresses = guard.resolve(name.as_str(), 0).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_that_is_not_public_is_known_also_in_ipv6_clothes() {
        let private = "0.0.0.0 10.1.2.3 100.64.0.1 100.127.255.255 127.0.0.1 169.254.1.1 172.16.0.1 172.31.255.255 \
            192.0.0.1 192.0.2.1 192.168.0.1 198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.9 224.0.0.1 239.1.1.1 \
            240.0.0.1 255.255.255.255 :: ::1 fe80::1 febf::1 fec0::1 fc00::1 fd12:3456::1 ff02::1 2001:db8::1 2001::1 \
            100::1 3fff::1 64:ff9b:1::1 ::ffff:10.0.0.1 ::ffff:127.0.0.1 ::10.0.0.1 ::8.8.8.8 64:ff9b::10.0.0.1 \
            2002:a00:1:: 4000::1";
        for text in private.split_whitespace() {
            assert_eq!(place(text.parse().unwrap()), Place::Private, "{text}");
        }
        let metadata = "169.254.169.254 fd00:ec2::254 100.100.100.200 ::ffff:169.254.169.254 64:ff9b::169.254.169.254 \
            ::169.254.169.254 2002:a9fe:a9fe::1";
        for text in metadata.split_whitespace() {
            assert_eq!(place(text.parse().unwrap()), Place::Metadata, "{text}");
        }
        let public = "1.1.1.1 8.8.8.8 9.255.255.255 100.63.255.255 100.128.0.1 172.15.0.1 172.32.0.1 192.1.0.1 \
            198.17.255.255 198.20.0.1 223.255.255.255 2606:4700::1111 2a00:1450::1 ::ffff:8.8.8.8 64:ff9b::8.8.8.8";
        for text in public.split_whitespace() {
            assert_eq!(place(text.parse().unwrap()), Place::Public, "{text}");
        }
    }

    #[test]
    fn an_address_in_a_url_is_judged_however_it_is_written() {
        let strict = Guard { deny_private: true, allow_hosts: vec!["10.0.0.7".into()] };
        let check = |guard: &Guard, url: &str| guard.check(&Url::parse(url).unwrap());
        for url in ["http://127.0.0.1/", "http://0x7f.1/", "http://2130706433/", "http://[::1]/", "http://127.0.0.1./"]
        {
            assert!(check(&strict, url).unwrap_err().contains("deny_private"), "{url}");
            assert_eq!(check(&Guard::default(), url), Ok(()));
        }
        assert_eq!(check(&strict, "http://10.0.0.7/"), Ok(()));
        for url in ["http://169.254.169.254/latest", "http://[fd00:ec2::254]/", "http://[::ffff:a9fe:a9fe]/"] {
            assert!(check(&Guard::default(), url).unwrap_err().contains("metadata"), "{url}");
        }
    }
}
