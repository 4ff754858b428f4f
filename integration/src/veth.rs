//! A virtual cable between two namespaces.

use anyhow::Result;

use crate::command::run;
use crate::namespace::Namespace;

/// One end of a cable.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// Where it is.
    pub namespace: &'a Namespace,
    /// Interface name there.
    pub interface: &'a str,
}

/// What is at an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// The kernel's own stack: a host or a router.
    Kernel,
    /// A port of a Culvert gateway: left as it comes, since preparing it is the gateway's own task.
    Port,
    /// A card of a guest, which reads and writes raw frames there: this kernel must neither answer nor speak.
    Card,
}

/// Lays a cable and brings up the ends that are ours to bring up. It goes with the first of the two namespaces.
///
/// A kernel leaves checksums and segmentation to the card; a reader of raw frames at the other end
/// would see neither done. So transmit offload is off at every end that has a kernel.
pub fn connect(one: (End<'_>, Use), other: (End<'_>, Use)) -> Result<()> {
    let ((a, use_a), (b, use_b)) = (one, other);
    run(
        "ip",
        &[
            "link",
            "add",
            a.interface,
            "netns",
            a.namespace.name(),
            "type",
            "veth",
            "peer",
            "name",
            b.interface,
            "netns",
            b.namespace.name(),
        ],
    )?;
    for (end, used) in [(a, use_a), (b, use_b)] {
        if used != Use::Port {
            prepare(end, used)?;
            end.namespace.ip(&format!("link set {} up", end.interface))?;
        }
    }
    Ok(())
}

fn prepare(end: End<'_>, used: Use) -> Result<()> {
    let End { namespace, interface } = end;
    namespace.run(&format!("ethtool -K {interface} tx off gro off"))?;
    if used == Use::Card {
        // Before it is up: it must not speak of an address of its own.
        namespace.sysctl(&format!("net.ipv6.conf.{interface}.disable_ipv6"), "1")?;
        namespace.ip(&format!("link set {interface} arp off addrgenmode none"))?;
    }
    Ok(())
}
