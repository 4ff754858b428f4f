//! Kernel parameters that the gateway needs in its network namespace.
//!
//! `/proc/sys/net` shows the namespace of whoever reads it. A value is written only where it differs, so a
//! read-only `/proc/sys` with the right values is as good as a writable one.

use std::io;
use std::path::Path;

/// For the whole namespace: forwarding is what a gateway does (the kernel handles what the fast path punts), and
/// next hops are told with their routes.
const NAMESPACE: [(&str, &str); 3] = [
    ("ipv4/ip_forward", "1"),
    ("ipv6/conf/all/forwarding", "1"),
    // Routes by next-hop objects are then announced with their gateways.
    ("ipv4/nexthop_compat_mode", "1"),
];

/// For each twin, by family and name.
const TWIN: [(&str, &str, &str); 6] = [
    // Loose: what is punted may come back another way than the fast path sent it.
    ("ipv4", "rp_filter", "2"),
    // Deleting a device's first address must not delete the others.
    ("ipv4", "promote_secondaries", "1"),
    // A twin without carrier carries nothing: routing must go elsewhere.
    ("ipv4", "ignore_routes_with_linkdown", "1"),
    ("ipv6", "ignore_routes_with_linkdown", "1"),
    ("ipv6", "accept_ra", "0"),
    ("ipv6", "keep_addr_on_down", "1"),
];

/// Sets the namespace's parameters; returns those that could not be set.
pub(crate) fn prepare_namespace() -> Vec<SysctlError> {
    NAMESPACE.iter().filter_map(|(name, value)| set(name, value).err()).collect()
}

/// Sets a twin's parameters; returns those that could not be set.
pub(crate) fn prepare_twin(device: &str) -> Vec<SysctlError> {
    TWIN.iter()
        .filter_map(|(family, name, value)| set(&format!("{family}/conf/{device}/{name}"), value).err())
        .collect()
}

/// Switches IPv6 on a wire off, before it is up: its link-local address would be the twin's, and one of the two
/// would fail duplicate address detection.
pub(crate) fn set_ipv6(device: &str, on: bool) -> Result<(), SysctlError> {
    let parameter = format!("ipv6/conf/{device}/disable_ipv6");
    if on || Path::new("/proc/sys/net").join(&parameter).exists() {
        set(&parameter, if on { "0" } else { "1" })
    } else {
        // A kernel without IPv6, or a device too small for it: nothing to switch off.
        Ok(())
    }
}

/// Says what could not be set.
pub(crate) fn log(errors: &[SysctlError]) {
    for error in errors {
        let cause = &error.source;
        tracing::warn!(%error, %cause, "a kernel parameter is not as it should be");
    }
}

/// A kernel parameter that could not be set.
#[derive(Debug, thiserror::Error)]
#[error("net/{parameter} could not be set to {value}")]
pub struct SysctlError {
    parameter: String,
    value: String,
    source: io::Error,
}

fn set(parameter: &str, value: &str) -> Result<(), SysctlError> {
    let path = Path::new("/proc/sys/net").join(parameter);
    let result = match std::fs::read_to_string(&path) {
        Ok(current) if current.trim() == value => Ok(()),
        Ok(_) => std::fs::write(&path, value),
        Err(error) => Err(error),
    };
    result.map_err(|source| SysctlError { parameter: parameter.to_owned(), value: value.to_owned(), source })
}
