//! Addresses, names and what else comes as text.

use std::net::IpAddr;

use mantou_engine::Network;
use mantou_engine::tls::{ClientSpec, Common, TlsConfig, Version, is_server_name};

use crate::Script;

/// A network holds what shares its first bits, and nothing else; names and ciphers are refused or taken.
pub fn names(data: &[u8]) {
    let mut script = Script(data);
    let (first, second) = (address(&mut script), address(&mut script).to_canonical());
    let prefix = script.byte() % (bits(first).1 + 1);
    let network = Network::new(first, prefix);
    assert_eq!(network.has(second), shares(first, second, prefix));
    let Ok(text) = std::str::from_utf8(script.0) else {
        return;
    };
    if is_server_name(text) {
        assert!(!text.is_empty() && text.len() <= 255 && !text.contains('\0'));
    }
    let _ = Version::parse("min_version", text);
    let common = Common {
        ciphers: Some(text.to_owned()),
        ..Common::default()
    };
    let _ = TlsConfig::client(ClientSpec {
        common,
        verify: false,
    });
}

fn address(script: &mut Script<'_>) -> IpAddr {
    let six = script.byte() % 2 == 1;
    if six {
        let mut bytes = [0; 16];
        bytes.fill_with(|| script.byte());
        IpAddr::from(bytes)
    } else {
        let mut bytes = [0; 4];
        bytes.fill_with(|| script.byte());
        IpAddr::from(bytes)
    }
}

/// The bits of an address at the top, and how many they are.
fn bits(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(four) => (u128::from(u32::from(four)) << 96, 32),
        IpAddr::V6(six) => (u128::from(six), 128),
    }
}

fn shares(network: IpAddr, address: IpAddr, prefix: u8) -> bool {
    let mapped = network.to_canonical() != network && prefix >= 96;
    let (network, prefix) = if mapped {
        (network.to_canonical(), prefix - 96)
    } else {
        (network, prefix)
    };
    let (ours, theirs) = (bits(network), bits(address));
    let shared = (ours.0 ^ theirs.0).leading_zeros();
    ours.1 == theirs.1 && shared >= u32::from(prefix)
}
