"""Opens or seals packets as alpha and beta of the tests do, with scapy's ESP and GRE.

The first line of the input is `verb mode encapsulation sequence cipher key-length integrity key-length gre-key`, with
scapy's names for the algorithms; each further line is a packet in hexadecimal. `open` takes IPv4 packets with ESP and prints the passengers; `seal` takes passengers and prints IPv4
packets with ESP.
"""

import copy
import sys

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import ESP, SecurityAssociation
from scapy.layers.l2 import GRE
from scapy.packet import raw

verb, mode, encapsulation, sequence, cipher, key_len, integrity, integrity_key_len, gre_key = sys.stdin.readline().split()
ALPHA, BETA = "192.0.2.1", "192.0.2.2"
combined = integrity == "NULL"
key = bytes([2]) + bytes([0x42]) * (int(key_len) - 1) + (bytes([1, 2, 3, 4]) if combined else b"")
integrity_key = None if combined else bytes([2]) + bytes([0x43]) * (int(integrity_key_len) - 1)
association = SecurityAssociation(
    ESP,
    spi=0x1002,
    crypt_algo=cipher,
    crypt_key=key,
    auth_algo=integrity,
    auth_key=integrity_key,
    esn_en=sequence == "esn",
    tunnel_header=IP(src=ALPHA, dst=BETA) if mode == "tunnel" else None,
    nat_t_header=UDP(sport=4500, dport=4500) if encapsulation == "udp" else None,
)
if sequence == "esn" and not combined:
    # scapy 2.5 knows extended sequence numbers in AH and AES-GCM only. Behind the ciphertext the ICV covers the high half
    # (RFC 4303 section 2.2.1), zero here.
    association.auth_algo = copy.copy(association.auth_algo)
    plain_mac = association.auth_algo.new_mac

    def new_mac(key):
        mac = plain_mac(key)
        finalize = mac.finalize

        class WithHighHalf:
            update = mac.update

            def finalize(self):
                mac.update(bytes(4))
                return finalize()

        return WithHighHalf()

    association.auth_algo.new_mac = new_mac
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
        # Where the IV must not be foretold, scapy draws one.
        iv = number.to_bytes(8, "big") if combined else None
        sealed = association.encrypt(IP(raw(carrier)), seq_num=number, iv=iv, esn_en=sequence == "esn", esn=0)
        if encapsulation == "udp":
            # scapy 2.5 computes the length of the UDP header without what follows.
            sealed = IP(raw(sealed))
            sealed[UDP].len = len(sealed) - 20
        print(raw(sealed).hex())
