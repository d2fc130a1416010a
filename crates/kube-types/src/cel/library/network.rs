//! Addresses and networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{EvalError, Result, Value, address};

pub fn parse<'a>(function: &str, text: &str) -> Result<Value<'a>> {
    Ok(match function {
        "ip" => Value::Ip(address(text).ok_or_else(|| {
            EvalError::new(format!(
                "IP Address {text:?} parse error during conversion from string"
            ))
        })?),
        "isIP" => Value::Bool(address(text).is_some()),
        "ip.isCanonical" => {
            let parsed = address(text)
                .ok_or_else(|| EvalError::new(format!("IP Address {text:?} parse error")))?;
            Value::Bool(parsed.to_string() == text)
        }
        "cidr" => {
            let (address, bits) = cidr(text).ok_or_else(|| {
                EvalError::new(format!(
                    "network address parse error during conversion from string: {text:?}"
                ))
            })?;
            Value::Cidr(address, bits)
        }
        "isCIDR" => Value::Bool(cidr(text).is_some()),
        _ => return Err(EvalError::no_overload()),
    })
}

fn cidr(text: &str) -> Option<(IpAddr, u8)> {
    let (host, bits) = text.split_once('/')?;
    let host = address(host)?;
    let plain = bits == "0" || !bits.starts_with(['0', '+']);
    let bits = bits
        .parse()
        .ok()
        .filter(|bits| plain && *bits <= width(host))?;
    Some((host, bits))
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

pub fn of_ip<'a>(function: &str, address: IpAddr, args: &[Value<'a>]) -> Result<Value<'a>> {
    if !args.is_empty() {
        return Err(EvalError::no_overload());
    }
    Ok(match function {
        "family" => Value::Int(if address.is_ipv4() { 4 } else { 6 }),
        "isUnspecified" => Value::Bool(address.is_unspecified()),
        "isLoopback" => Value::Bool(address.is_loopback()),
        "isLinkLocalMulticast" => Value::Bool(match address {
            IpAddr::V4(four) => four.octets()[..3] == [224, 0, 0],
            IpAddr::V6(six) => six.segments()[0] & 0xff0f == 0xff02,
        }),
        "isLinkLocalUnicast" => Value::Bool(is_link_local(address)),
        "isGlobalUnicast" => Value::Bool(
            !address.is_unspecified()
                && !address.is_loopback()
                && !address.is_multicast()
                && !is_link_local(address)
                && address != IpAddr::V4(Ipv4Addr::BROADCAST),
        ),
        _ => return Err(EvalError::no_overload()),
    })
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(four) => four.is_link_local(),
        IpAddr::V6(six) => six.segments()[0] & 0xffc0 == 0xfe80,
    }
}

pub fn of_cidr<'a>(
    function: &str,
    network: IpAddr,
    bits: u8,
    args: &[Value<'a>],
) -> Result<Value<'a>> {
    let inside = |host: IpAddr| {
        host.is_ipv4() == network.is_ipv4() && masked(host, bits) == masked(network, bits)
    };
    Ok(match (function, args) {
        ("containsIP", [Value::Ip(host)]) => Value::Bool(inside(*host)),
        ("containsIP", [Value::String(text)]) => {
            let host = address(text)
                .ok_or_else(|| EvalError::new(format!("IP Address {text:?} parse error")))?;
            Value::Bool(inside(host))
        }
        ("containsCIDR", [Value::Cidr(other, length)]) => {
            Value::Bool(*length >= bits && inside(*other))
        }
        ("containsCIDR", [Value::String(text)]) => {
            let (other, length) =
                cidr(text).ok_or_else(|| EvalError::new(format!("{text:?} is no network")))?;
            Value::Bool(length >= bits && inside(other))
        }
        ("ip", []) => Value::Ip(network),
        ("masked", []) => Value::Cidr(masked(network, bits), bits),
        ("prefixLength", []) => Value::Int(bits.into()),
        _ => return Err(EvalError::no_overload()),
    })
}

fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(four) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            Ipv4Addr::from(u32::from(four) & mask).into()
        }
        IpAddr::V6(six) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            Ipv6Addr::from(u128::from(six) & mask).into()
        }
    }
}
