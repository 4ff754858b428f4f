"""Sends hostile frames to a gateway's black port from the underlay router.

    hostile.py CASE INTERFACE TARGET POSING-INTERFACE SOURCE

CASE names what is wrong with them. SOURCE is the address they claim to come from (a real peer's); cases that need
a real ESP packet take one off POSING-INTERFACE, where that peer's traffic arrives.
"""
import struct
import sys

from scapy.all import ESP, GRE, ICMP, IP, UDP, Ether, Raw, fragment, get_if_hwaddr, getmacbyip, sendp, sniff

case, interface, target, posing_interface, source = sys.argv[1:]
COUNT = 5


def ether():
    # The router has spoken to the gateway before: its neighbour entry is there, or ARP finds it.
    with open("/proc/net/arp") as table:
        for line in table:
            if line.split()[0] == target:
                return Ether(src=get_if_hwaddr(interface), dst=line.split()[3])
    return Ether(src=get_if_hwaddr(interface), dst=getmacbyip(target))


def outer(**more):
    return IP(src=source, dst=target, **more)


def passenger(**more):
    return IP(src="10.0.2.10", dst="10.0.1.10", **more) / ICMP() / Raw(b"x" * 32)


def gre(flags, payload, proto=0x0800):
    return outer(proto=47) / Raw(struct.pack("!HH", flags, proto) + bytes(payload))


def captured():
    """One ESP packet of the peer, as it is on the wire."""
    found = sniff(iface=posing_interface, timeout=10, count=1,
                  lfilter=lambda frame: IP in frame and frame[IP].proto == 50 and frame[IP].src == source)
    if not found:
        sys.exit("no ESP from %s on %s" % (source, posing_interface))
    return found[0][IP]


def captured_in_udp():
    """One packet of ESP in UDP of the peer, without its headers."""
    def is_esp(frame):
        return UDP in frame and frame[UDP].dport == 4500 and frame[IP].src == source and \
            len(frame[UDP].payload) > 12 and bytes(frame[UDP].payload)[:4] != bytes(4)
    found = sniff(iface=posing_interface, timeout=10, count=1, lfilter=is_esp)
    if not found:
        sys.exit("no ESP in UDP from %s on %s" % (source, posing_interface))
    return bytes(found[0][UDP].payload)


def rebuilt(packet, payload):
    return IP(src=packet.src, dst=packet.dst, proto=50, ttl=packet.ttl) / Raw(payload)


def with_wrong_icv(esp):
    data = bytearray(esp)
    # Ahead of the window, so that the sequence number alone does not refuse it.
    sequence = struct.unpack("!I", data[4:8])[0] + 5000
    data[4:8] = struct.pack("!I", sequence)
    data[-1] ^= 1
    return data


def frames():
    if case == "truncated-ip":
        return [Raw(bytes(outer(proto=50, len=400) / Raw(b"x" * 40)))]
    if case == "short-header":
        return [Raw(bytes(outer(proto=50))[:12])]
    if case == "bad-checksum":
        return [outer(proto=50, chksum=0x1234) / Raw(b"x" * 64)]
    if case == "unknown-spi":
        return [outer() / ESP(spi=0xDEADBEEF, seq=1, data=b"x" * 64)]
    if case == "short-esp":
        return [outer(proto=50) / Raw(b"\xde\xad\xbe")]
    if case == "clear-gre":
        return [outer() / GRE(proto=0x0800) / passenger()]
    if case == "unknown-gre":
        return [IP(src="203.0.113.99", dst=target) / GRE(proto=0x0800) / passenger()]
    if case == "reserved-gre-bits":
        return [gre(0x0800, passenger())]
    if case == "gre-version-1":
        return [gre(0x0001, passenger())]
    if case == "gre-routing":
        return [gre(0x4000, passenger())]
    if case == "short-gre":
        return [outer(proto=47) / Raw(b"\x00\x00\x08")]
    if case == "lying-inner-length":
        return [gre(0, passenger(len=900))]
    if case == "fragments":
        return fragment(outer() / ESP(spi=0xDEADBEEF, seq=2, data=b"x" * 1200), fragsize=400)
    if case == "replay":
        return [captured()]
    if case == "wrong-icv":
        packet = captured()
        return [rebuilt(packet, bytes(with_wrong_icv(bytes(packet.payload))))]
    if case == "moved":
        forged = with_wrong_icv(captured_in_udp())
        return [IP(src="198.18.0.9", dst=target) / UDP(sport=4500, dport=4500) / Raw(bytes(forged))]
    if case == "ike-garbage":
        return [outer() / UDP(sport=500, dport=500) / Raw(bytes([n]) * (n * 7)) for n in range(1, 40)]
    if case == "half-open":
        return [outer() / UDP(sport=500, dport=500) / Raw(ike_sa_init())]
    sys.exit("no case %r" % case)


def ike_sa_init():
    """A well-formed IKE_SA_INIT of an initiator that will never go on (RFC 7296 section 3)."""
    def transform(last, kind, number, key_bits=None):
        attribute = struct.pack("!HH", 0x800E, key_bits) if key_bits else b""
        return struct.pack("!BBHBBH", 0 if last else 3, 0, 8 + len(attribute), kind, 0, number) + attribute
    transforms = transform(False, 1, 20, 256) + transform(False, 2, 5) + transform(True, 4, 31)
    proposal = struct.pack("!BBHBBBB", 0, 0, 8 + len(transforms), 1, 1, 0, 3) + transforms
    def payload(following, body):
        return struct.pack("!BBH", following, 0, 4 + len(body)) + body
    body = payload(34, proposal) + payload(40, struct.pack("!HH", 31, 0) + b"\x09" * 32) + payload(0, b"\x07" * 32)
    return b"\xab" * 8 + bytes(8) + struct.pack("!BBBBII", 33, 0x20, 34, 0x08, 0, 28 + len(body)) + body


to_send = frames()
for frame in to_send:
    for _ in range(1 if case == "half-open" else COUNT):
        sendp(ether() / frame if not isinstance(frame, Raw) else Ether(bytes(ether())[:12] + b"\x08\x00" + bytes(frame)),
              iface=interface, verbose=False)
print(len(to_send))
