//! temp
use std::net::IpAddr;
pub fn usable() -> Vec<IpAddr> {
    let mut v: Vec<IpAddr> = if_addrs::get_if_addrs().unwrap_or_default().into_iter().map(|i| i.ip()).collect();
    v.sort_by_key(|i| i.is_loopback());
    v
}
