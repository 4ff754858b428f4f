"""Opens or seals packets as alpha and beta of the tests do, with scapy's ESP and GRE.

The first line of the input is `verb mode encapsulation sequence key-length gre-key`; each further line is a packet in
hexadecimal. `open` takes IPv4 packets with ESP and prints the passengers; `seal` takes passengers and prints IPv4
packets with ESP.
"""

import sys

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import ESP, SecurityAssociation
from scapy.layers.l2 import GRE
from scapy.packet import raw

verb, mode, encapsulation, sequence, key_len, gre_key = sys.stdin.readline().split()
ALPHA, BETA = "192.0.2.1", "192.0.2.2"
key = bytes([2]) + bytes([0x42]) * (int(key_len) - 1) + bytes([1, 2, 3, 4])
association = SecurityAssociation(
    ESP,
    spi=0x1002,
    crypt_algo="AES-GCM",
    crypt_key=key,
    esn_en=sequence == "esn",
    tunnel_header=IP(src=ALPHA, dst=BETA) if mode == "tunnel" else None,
    nat_t_header=UDP(sport=4500, dport=4500) if encapsulation == "udp" else None,
)
key_field = {} if gre_key == "none" else {"key_present": 1, "key": int(gre_key)}

for number, line in enumerate(sys.stdin, start=1):
    packet = bytes.fromhex(line.strip())
    if verb == "open":
        carrier = association.decrypt(IP(packet), esn_en=sequence == "esn", esn=0)
        assert (carrier[IP].src, carrier[IP].dst, carrier[IP].proto) == (ALPHA, BETA, 47), carrier.summary()
        gre = carrier[GRE]
        assert (gre.key if gre.key_present else None) == key_field.get("key"), gre.summary()
        print(raw(gre.payload).hex())
    else:
        passenger = IPv6(packet) if packet[0] >> 4 == 6 else IP(packet)
        carrier = IP(src=ALPHA, dst=BETA) / GRE(**key_field) / passenger
        sealed = association.encrypt(
            IP(raw(carrier)), seq_num=number, iv=number.to_bytes(8, "big"), esn_en=sequence == "esn", esn=0
        )
        if encapsulation == "udp":
            # scapy 2.5 computes the length of the UDP header without what follows.
            sealed = IP(raw(sealed))
            sealed[UDP].len = len(sealed) - 20
        print(raw(sealed).hex())
