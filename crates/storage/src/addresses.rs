//! Which network addresses a connection may go to when somebody else chose the host: an address book entry, a form, a
//! name server.
//!
//! A name is checked after it was resolved, and the connection goes to the very addresses that were checked; so a name
//! server that answers differently the second time gains nothing. What is written as an address is checked as it is.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

/// What lies at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Public,
    /// A network of one's own.
    Private,
    /// This machine.
    Loopback,
    /// Link-local addresses, at which clouds give away credentials, and what is no address of a single machine.
    Special,
}

impl Kind {
    fn words(self) -> &'static str {
        match self {
            Self::Public => "a public address",
            Self::Private => "an address of a private network",
            Self::Loopback => "this machine itself",
            Self::Special => "a link-local or reserved address",
        }
    }
}

/// A network, such as `10.1.0.0/16`; a single address is one of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// What is no network.
#[derive(Debug, thiserror::Error)]
#[error("'{0}' is neither an IP address nor a network like 10.1.0.0/16")]
pub struct NotANetwork(String);

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let not = || NotANetwork(text.to_owned());
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| not())?;
        let all = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(all), str::parse).map_err(|_| not())?;
        if bits > all { Err(not()) } else { Ok(Self { address, bits }) }
    }
}

impl Network {
    fn holds(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let cut = |of: Ipv4Addr| u32::from(of).checked_shr(32 - u32::from(self.bits)).unwrap_or(0);
                cut(network) == cut(address)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let cut = |of: Ipv6Addr| u128::from(of).checked_shr(128 - u32::from(self.bits)).unwrap_or(0);
                cut(network) == cut(address)
            }
            _ => false,
        }
    }
}

/// Where connections may go.
#[derive(Clone, Debug)]
pub struct AddressRule {
    inner_networks: bool,
    listed: Vec<Network>,
}

/// An address to which connections do not go.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{host} leads to {address}, {what}, and connections do not go there; if this one shall, list the address under \
     security.allowed_addresses in the configuration"
)]
pub struct Refused {
    host: String,
    address: IpAddr,
    what: &'static str,
}

impl AddressRule {
    /// To public addresses, and to those that are listed.
    pub fn public(listed: Vec<Network>) -> Self {
        Self { inner_networks: false, listed }
    }

    /// To this machine and private networks as well.
    pub fn inner_networks_too(listed: Vec<Network>) -> Self {
        Self { inner_networks: true, listed }
    }

    /// Whether a connection that was meant for `host` may go to this address.
    pub fn check(&self, host: &str, address: IpAddr) -> Result<(), Refused> {
        let address = address.to_canonical();
        let kind = kind(address);
        let is_fine = match kind {
            Kind::Public => true,
            Kind::Private | Kind::Loopback => self.inner_networks,
            Kind::Special => false,
        };
        if is_fine || self.listed.iter().any(|network| network.holds(address)) {
            return Ok(());
        }
        Err(Refused { host: host.escape_debug().take(100).collect(), address, what: kind.words() })
    }

    /// Whether a connection may go to the host of this URL, as far as that can be told now: an address is checked as it is,
    /// a name by what it leads to. A name that leads nowhere is refused by nobody.
    pub(crate) fn check_url(&self, url: &str) -> Result<(), Refused> {
        self.check_literal(url)?;
        let parsed = url::Url::parse(url).ok();
        let Some(name) = parsed.as_ref().and_then(url::Url::domain) else { return Ok(()) };
        match (name, 0).to_socket_addrs().map(|all| self.choose(name, all)) {
            Ok((fine, Some(refused))) if fine.is_empty() => Err(refused),
            _ => Ok(()),
        }
    }

    /// Whether a connection may go to the host of this URL, if that is an address.
    pub(crate) fn check_literal(&self, url: &str) -> Result<(), Refused> {
        match url::Url::parse(url).ok().as_ref().and_then(url::Url::host) {
            Some(url::Host::Ipv4(address)) => self.check(url, address.into()),
            Some(url::Host::Ipv6(address)) => self.check(url, address.into()),
            _ => Ok(()),
        }
    }

    fn choose(
        &self,
        host: &str,
        all: impl Iterator<Item = SocketAddr>,
    ) -> (Vec<SocketAddr>, Option<Refused>) {
        let mut refused = None;
        let fine = all.filter(|address| match self.check(host, address.ip()) {
            Ok(()) => true,
            Err(error) => {
                refused = Some(error);
                false
            }
        });
        (fine.collect(), refused)
    }

    /// The addresses of a name to which a connection may go, at least one. The port is 0.
    pub async fn resolve(&self, host: &str) -> io::Result<Vec<SocketAddr>> {
        let (fine, refused) = self.choose(host, tokio::net::lookup_host((host, 0)).await?);
        match refused {
            Some(error) if fine.is_empty() => Err(io::Error::new(io::ErrorKind::PermissionDenied, error)),
            _ if fine.is_empty() => {
                Err(io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address")))
            }
            _ => Ok(fine),
        }
    }
}

fn kind(address: IpAddr) -> Kind {
    match address {
        IpAddr::V4(address) => kind_v4(address),
        IpAddr::V6(address) => kind_v6(address),
    }
}

fn kind_v4(address: Ipv4Addr) -> Kind {
    let [a, b, c, _] = address.octets();
    // Where clouds that do not use a link-local address give away credentials.
    if address == Ipv4Addr::new(100, 100, 100, 200) || address == Ipv4Addr::new(168, 63, 129, 16) {
        return Kind::Special;
    }
    match (a, b, c) {
        (127, ..) => Kind::Loopback,
        (10, ..) | (172, 16..=31, _) | (192, 168, _) | (100, 64..=127, _) => Kind::Private,
        (0 | 224..=255, ..) | (169, 254, _) | (192, 0, 0 | 2) | (192, 88, 99) => Kind::Special,
        (198, 18 | 19, _) | (198, 51, 100) | (203, 0, 113) => Kind::Special,
        _ => Kind::Public,
    }
}

fn kind_v6(address: Ipv6Addr) -> Kind {
    let s = address.segments();
    let embedded = |high: u16, low: u16| {
        let bits = (u32::from(high) << 16) | u32::from(low);
        kind_v4(Ipv4Addr::from(bits))
    };
    match s {
        [0, 0, 0, 0, 0, 0, 0, 1] => Kind::Loopback,
        // IPv4 in other clothes: the old "compatible" form, NAT64, 6to4.
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 || low > 1 => embedded(high, low),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        [0x2002, high, low, ..] => embedded(high, low),
        [0xfd00, 0xec2, ..] | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254] => Kind::Special,
        [first, ..] if first & 0xfe00 == 0xfc00 => Kind::Private,
        [0x2001, 0xdb8 | 0, ..] => Kind::Special,
        // All that was ever given out as public.
        [first, ..] if first & 0xe000 == 0x2000 => Kind::Public,
        _ => Kind::Special,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(listed: &[&str]) -> AddressRule {
        AddressRule::public(listed.iter().map(|text| text.parse().unwrap()).collect())
    }

    fn goes(rule: &AddressRule, address: &str) -> bool {
        rule.check("host", address.parse().unwrap()).is_ok()
    }

    const PUBLIC: [&str; 5] =
        ["93.184.216.34", "8.8.8.8", "172.32.0.1", "2606:2800:220:1::1", "64:ff9b::808:808"];
    const INNER: [&str; 8] =
        ["127.0.0.1", "127.8.9.1", "::1", "10.0.0.5", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd12::1"];
    const SPECIAL: [&str; 19] = [
        "169.254.169.254",
        "100.100.100.200",
        "168.63.129.16",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
        "fe80::1",
        "0.0.0.0",
        "::",
        "255.255.255.255",
        "224.0.0.1",
        "ff02::1",
        "192.0.2.1",
        "240.0.0.1",
        "::ffff:169.254.169.254",
        "::169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "2001:db8::1",
    ];

    #[test]
    fn only_public_addresses_are_reached_unless_others_are_listed() {
        let rule = rule(&[]);
        for address in PUBLIC {
            assert!(goes(&rule, address), "{address}");
        }
        for address in INNER.into_iter().chain(SPECIAL) {
            assert!(!goes(&rule, address), "{address}");
        }
        assert!(!goes(&rule, "::ffff:10.0.0.5"), "an IPv4 address stays one in IPv6's clothes");
    }

    #[test]
    fn where_inner_networks_are_fine_link_local_and_reserved_addresses_still_are_not() {
        let rule = AddressRule::inner_networks_too(Vec::new());
        for address in PUBLIC.into_iter().chain(INNER) {
            assert!(goes(&rule, address), "{address}");
        }
        for address in SPECIAL {
            assert!(!goes(&rule, address), "{address}");
        }
    }

    #[test]
    fn what_is_listed_is_reached_and_nothing_beside_it() {
        let rule = rule(&["10.1.0.0/16", "127.0.0.1", "fd12::/16", "169.254.169.254"]);
        for address in ["10.1.255.255", "127.0.0.1", "::ffff:127.0.0.1", "fd12:3::4", "169.254.169.254"] {
            assert!(goes(&rule, address), "{address}");
        }
        for address in ["10.2.0.0", "127.0.0.2", "::1", "fd13::1", "169.254.169.253"] {
            assert!(!goes(&rule, address), "{address}");
        }
        assert!(goes(&self::rule(&["0.0.0.0/0"]), "169.254.0.1"));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "localhost", "10.0.0.0/", "10.0.0.0/-1"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_to_this_machine_is_refused_by_its_address() {
        let refused = rule(&[]).resolve("localhost").await.unwrap_err().to_string();
        assert!(refused.contains("localhost leads to") && refused.contains("allowed_addresses"), "{refused}");
        assert!(!rule(&["127.0.0.0/8", "::1"]).resolve("localhost").await.unwrap().is_empty());
    }
}
