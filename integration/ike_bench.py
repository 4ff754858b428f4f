"""IKEv2 handshakes per CPU-second: our engine and strongSwan's charon answer the same initiators, in turns.

Run by integration/bench in namespaces of its own: ike_bench.py IKE_LOAD [--quick] [--flood]; --flood measures the floods
alone.
Prints a JSON list of [metric, value, unit, reference], with a fifth element where there is a bar: whether it is held.
A handshake is IKE_SA_INIT and IKE_AUTH with a pre-shared key and a first child, AES-256-GCM; its cost is the user and
system time of the responder's process, sockets included.
"""

import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

from process_cost import TICKS_PER_SEC, cpu_secs, peak_rss_kib, rss_kib

OURS, CHARON, HOP = "10.128.0.1", "10.128.0.2", "10.128.1.1"
SECRET = "a key that all the peers of a measurement share"
CROWD = 10_000
FLOOD_PER_SECOND = 20_000
FLOOD_SECONDS = 6
# Of the peers that the responder knows, those whose addresses the flood bears; the good ones are the first.
SPOOFED = 8_000
GOOD = 20
# Culvert's limits: so many half-open SAs before cookies are asked for.
COOKIE_THRESHOLD = 30
# Half-open SAs, good peers and the counting of their SAs; a flood that were kept would take 100 MiB.
GROWTH_KIB = 4096


def fail(text):
    sys.exit(f"ike_bench: {text}")


def ip(command):
    subprocess.run(["ip", *command.split()], check=True)


def inside(name):
    """The start of a command that runs in a namespace; `ip` becomes the program, so that the process id stays."""
    return ["ip", "netns", "exec", name]


def lay_cables():
    """A namespace for each responder, both a hop away from the initiators' many addresses, which are here."""
    # Names of namespaces, and charon's pid file, are there; nobody else sees these.
    subprocess.run(["mount", "-t", "tmpfs", "run", "/run"], check=True)
    ip("link set lo up")
    ip("route add local 10.64.0.0/10 dev lo")
    for name, address in (("ours", OURS), ("charon", CHARON)):
        ip(f"netns add {name}")
        ip(f"link add {name} type veth peer name black netns {name}")
        ip(f"link set {name} up")
        ip(f"addr add {HOP}/32 dev {name}")
        ip(f"route add {address}/32 dev {name}")
        ip(f"-n {name} link set lo up")
        ip(f"-n {name} link set black up")
        ip(f"-n {name} addr add {address}/32 dev black")
        # By one next hop: a neighbour each would be more than the kernel's table holds.
        ip(f"-n {name} route add {HOP}/32 dev black")
        ip(f"-n {name} route add 10.64.0.0/10 via {HOP}")
        # What the children protect: charon wants to find it here.
        ip(f"-n {name} addr add 192.168.77.1/32 dev lo")
        ip(f"-n {name} route add 172.16.0.0/12 via {HOP}")


class Ours:
    """Our engine on two sockets."""

    address = OURS

    def __init__(self, load, group, peers, cookies=False, more=()):
        command = [*inside("ours"), load, "respond", "--local", OURS, "--peers", str(peers), "--suite", group]
        command += ["--cookies", "true" if cookies else "false", *more]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self.process.pid
        if self.process.stdout.readline() != "ready\n":
            fail("our responder did not start")

    def stop(self):
        self.process.kill()
        self.process.wait()


class Charon:
    """strongSwan 5.9.8 with ESP in user space (the kernel of a test machine has none), without its log."""

    address = CHARON

    def __init__(self, group, directory):
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        vici = f"unix://{directory}/vici"
        (directory / "strongswan.conf").write_text(f"""
charon {{
    load = random nonce aes sha1 sha2 hmac kdf gcm curve25519 openssl kernel-libipsec kernel-netlink socket-default vici
    install_routes = no
    cookie_threshold = 0
    block_threshold = 0
    init_limit_half_open = 0
    filelog {{ main {{ path = {directory}/log
        default = -1 }} }}
    syslog {{ daemon {{ default = -1 }} }}
    plugins {{ vici {{ socket = {vici} }} }}
}}
swanctl {{ load = random openssl }}
""")
        ike = {"x25519": "aes256gcm16-prfsha256-x25519", "modp2048": "aes256gcm16-prfsha256-modp2048"}[group]
        (directory / "swanctl.conf").write_text(f"""
connections {{ load {{
    version = 2
    local_addrs = {CHARON}
    remote_addrs = %any
    proposals = {ike}
    unique = never
    encap = yes
    mobike = no
    local {{ auth = psk
        id = {CHARON} }}
    remote {{ auth = psk
        id = %any }}
    children {{ child {{
        mode = tunnel
        esp_proposals = aes256gcm16-noesn
        local_ts = 192.168.77.1/32
        remote_ts = 172.16.0.0/12
    }} }}
}} }}
secrets {{ ike-all {{ secret = "{SECRET}" }} }}
""")
        environment = {"STRONGSWAN_CONF": str(directory / "strongswan.conf"), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        with (directory / "out").open("w") as out:
            self.process = subprocess.Popen([*inside("charon"), "/usr/lib/ipsec/charon"], env=environment, stdout=out, stderr=out)
        self.pid = self.process.pid
        command = ["swanctl", "--load-all", "--noprompt", "--uri", vici, "--file", str(directory / "swanctl.conf")]
        for _ in range(100):
            loaded = subprocess.run(command, env=environment, capture_output=True, text=True)
            if loaded.returncode == 0:
                return
            time.sleep(0.1)
        fail(f"charon did not come up:\n{loaded.stdout}{loaded.stderr}{(directory / 'out').read_text()}")

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def initiate(load, responder, group, first, count, at_once=16):
    command = [load, "initiate", "--remote", responder.address, "--suite", group]
    command += ["--first", str(first), "--peers", str(count), "--at-once", str(at_once)]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if result.returncode != 0:
        fail(f"no handshakes with {responder.address}")
    return json.loads(result.stdout)


def rates(load, group, count, rounds, directory):
    """Handshakes per CPU-second of both, in turns: (ours, charon's)."""
    responders = Ours(load, group, count * (rounds + 1)), Charon(group, directory / group)
    found = [], []
    try:
        # The first round warms up and does not count.
        for number in range(rounds + 1):
            for responder, list_ in zip(responders, found):
                before = cpu_secs(responder.pid)
                initiate(load, responder, group, number * count, count)
                list_.append(count / max(cpu_secs(responder.pid) - before, 1 / TICKS_PER_SEC))
    finally:
        for responder in responders:
            responder.stop()
    return [statistics.median(list_[1:]) for list_ in found]


def crowd(load, peers):
    """KiB of the responder's memory for each peer that has an IKE SA with one child."""
    empty = Ours(load, "x25519", 0)
    base = rss_kib(empty.pid)
    empty.stop()
    full = Ours(load, "x25519", peers)
    try:
        configured = rss_kib(full.pid)
        initiate(load, full, "x25519", 0, peers, at_once=64)
        established = rss_kib(full.pid)
    finally:
        full.stop()
    return (established - configured) / peers, (established - base) / peers


def flood(load, known):
    """Rows of a flood of first messages, from addresses of peers that the responder knows, or of nobody it knows."""
    name, whose = ("ike_flood", "peers it knows") if known else ("ike_flood_unknown", "strangers")
    responder = Ours(load, "x25519", CROWD, cookies=True, more=["--tally", "true"])
    try:
        initiate(load, responder, "x25519", 0, 10)
        rss, cpu, counted = rss_kib(responder.pid), cpu_secs(responder.pid), told(responder.process)
        command = [load, "flood", "--remote", OURS, "--per-second", str(FLOOD_PER_SECOND), "--seconds", str(FLOOD_SECONDS)]
        process = subprocess.Popen([*command, *(["--first", str(SPOOFED)] if known else [])], stdout=subprocess.PIPE, text=True)
        time.sleep(2)
        good = initiate(load, responder, "x25519", 10, GOOD, at_once=1)
        report = json.loads(process.communicate(timeout=60)[0])
        after = told(responder.process)
        grown, cpu = rss_kib(responder.pid) - rss, cpu_secs(responder.pid) - cpu
    finally:
        responder.stop()
    counts = {counter: after[counter] - counted[counter] for counter in counted}
    # A first message is one datagram; of a good peer's handshake two come in, or three where it was asked for a cookie.
    read = counts["messages_in"] - (3 if known else 2) * GOOD
    slowest, answered = good["slowest_seconds"], counts["key_exchanges_answered"] - GOOD
    flood_of = f"{report['per_second']:.0f} IKE_SA_INIT/s from 2,000 addresses of {whose}, of {CROWD} peers"
    if known:
        # All but those that made half-open SAs met the demand for a cookie: they were good first messages.
        kind, number, bar = "cookies", counts["cookies_demanded"], COOKIE_THRESHOLD
        held = number >= 0.99 * (read - COOKIE_THRESHOLD) and answered >= COOKIE_THRESHOLD
    else:
        kind, number, bar = "refused", counts["unknown_peer"], 0
        held = number >= 0.99 * read and answered == 0
    return [
        (f"{name}_good_peer_s", slowest, "s", f"slowest of {GOOD} in {flood_of}; bar 5", slowest < 5),
        (f"{name}_growth_kib", grown, "KiB", f"growth of RSS in {FLOOD_SECONDS} s of it; bar {GROWTH_KIB}", grown <= GROWTH_KIB),
        (f"{name}_read", read / report["sent"], "ratio", "of the messages sent; the kernel drops what comes too fast"),
        (f"{name}_{kind}", number, "", f"of {read} that were read; {answered} made half-open SAs, bar {bar}", held),
        (f"{name}_cpu_us", 1e6 * cpu / max(read, 1), "us", "of the responder for each, sockets and good peers included"),
    ]


def floods(load):
    return flood(load, known=True) + flood(load, known=False)


class Held:
    """Peers that stay, and rekey with the responder."""

    def __init__(self, load, peers, more):
        command = [load, "hold", "--remote", OURS, "--peers", str(peers), *more]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self.process.pid
        if self.process.stdout.readline() != "up\n":
            fail(f"{peers} peers did not come up")

    def stop(self):
        self.process.kill()
        self.process.wait()


def told(process):
    """What became of the SAs of an end so far."""
    process.stdin.write("report\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def rekeying(load, peers, child_secs, ike_secs, seconds):
    """Peers that all came up at once rekey children and IKE SAs as these lifetimes end; rows of what became of them.

    Both ends rekey with the engine's jitter, so that a whole generation of SAs is due within a tenth of a lifetime.
    """
    lifetimes = ["--child-secs", str(child_secs), "--ike-secs", str(ike_secs)]
    # A socket for each peer.
    files = max(peers + 100, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    cores = sorted(os.sched_getaffinity(0))
    responder, held = Ours(load, "x25519", peers, more=[*lifetimes, "--tally", "true"]), None
    os.sched_setaffinity(responder.pid, cores[:1])
    try:
        held = Held(load, peers, lifetimes)
        os.sched_setaffinity(held.pid, cores[1:] or cores)
        before, began = cpu_secs(responder.pid), time.monotonic()
        time.sleep(seconds)
        ours, theirs = told(responder.process), told(held.process)
        share = (cpu_secs(responder.pid) - before) / (time.monotonic() - began)
        peak_mib = peak_rss_kib(responder.pid) / 1024
    finally:
        responder.stop()
        if held is not None:
            held.stop()
    both = {name: ours[name] + theirs[name] for name in ours}
    # As culvertd does it: what is left to a rekey, and may not be used up.
    soft_secs = child_secs - min(max(child_secs // 10, 30), child_secs // 2)
    children, ike_sas = (min(ours[name], theirs[name]) for name in ("child_rekeys", "ike_rekeys"))
    least_children, least_ike_sas = peers * int(seconds / soft_secs), peers * int(seconds / ike_secs)
    missed = both["expired"] + both["lost"]
    oldest = {name: max(ours[name], theirs[name]) for name in ("oldest_child", "oldest_ike")}
    load_of = (
        f"{peers} peers up at once, {seconds} s; children of {child_secs} s, IKE SAs of {ike_secs} s:"
        f" {3240 / soft_secs:.0f} and {86_400 / ike_secs:.0f} times as often as by default"
    )
    return [
        ("ike_rekeys_of_children", children, "", f"{load_of}; bar {least_children}", children >= least_children),
        ("ike_rekeys_of_ike_sas", ike_sas, "", f"bar {least_ike_sas}", ike_sas >= least_ike_sas),
        ("ike_rekeys_up_at_the_end", both["up"] / 2, "", f"children, mean of both ends; bar {peers}", both["up"] == 2 * peers),
        ("ike_rekeys_missed", missed, "", "SAs at either end that reached their end, or went down; bar 0", missed == 0),
        ("ike_rekeys_gap_packets", 1000 * both["gap_seconds"], "",
         f"{both['gaps']} children without a pair for a while, at 1,000 packets/s; bar 0", both["gaps"] == 0),
        ("ike_rekeys_oldest_child", oldest["oldest_child"], "ratio",
         f"of its time until a rekey, when the heir of the oldest came; its end is at {child_secs / soft_secs:.2f}"),
        ("ike_rekeys_oldest_ike_sa", oldest["oldest_ike"], "ratio", "the same; bar 1.1", oldest["oldest_ike"] <= 1.1),
        ("ike_rekeys_collisions", ours["collisions"] + ours["ike_collisions"], "", "begun by both ends at once"),
        ("ike_rekeys_retransmissions", both["retransmissions"], "", "at both ends"),
        ("ike_rekeys_cpu_share", share, "ratio", "of one core, by the responder's process, sockets included; bar 1", share < 1),
        ("ike_rekeys_peak_mib", peak_mib, "MiB", "RSS of the responder, with what it counts for these rows"),
    ]


def main():
    load, quick = sys.argv[1], "--quick" in sys.argv
    lay_cables()
    if "--flood" in sys.argv:
        print(json.dumps(floods(load)))
        return
    rows = []
    with tempfile.TemporaryDirectory(prefix="culvert-ike-", dir="/dev/shm") as directory:
        for group, count in (("x25519", 400 if quick else 2000), ("modp2048", 100 if quick else 400)):
            ours, charon = rates(load, group, count, 2 if quick else 5, pathlib.Path(directory))
            reference = f"strongSwan 5.9.8 charon: {charon:.4g}, same initiators, same run"
            rows += [
                (f"ikev2_handshakes_per_cpu_s_{group}", ours, "1/s", reference),
                (f"ikev2_handshakes_of_charon_{group}", ours / charon, "ratio", "bar 2", ours >= 2 * charon),
            ]
        peers = 2000 if quick else CROWD
        each, with_configuration = crowd(load, peers)
        rows += [
            (f"ike_sa_kib_{peers}", each, "KiB", "IKE SA with one child, growth of RSS; bar 12", each <= 12),
            (f"ike_peer_kib_{peers}", with_configuration, "KiB", "the same with the connection's configuration"),
        ]
        rows += floods(load)
        # The shortest lifetimes that the API allows; with --quick shorter ones.
        rows += rekeying(load, 1000, 40, 50, 70) if quick else rekeying(load, CROWD, 120, 300, 400)
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
