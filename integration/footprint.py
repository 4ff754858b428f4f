"""What a whole gateway costs when no packet flows: both processes, configured over the API.

Run by integration/bench in namespaces of its own: footprint.py BINARIES.
Prints a JSON list of [metric, value, unit, reference].
"""

import http.client
import json
import pathlib
import subprocess
import sys
import tempfile
import time

from process_cost import cpu_secs, rss_kib

PORT = 8080
TUNNELS = 1000
READY_SECS = 30
# The processes have settled after this time.
SETTLE_SECS = 3
WINDOW_SECS = 4


class Api:
    def __init__(self, token):
        self.connection = http.client.HTTPConnection("127.0.0.1", PORT)
        self.headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def request(self, method, path, body=None):
        self.connection.request(method, path, None if body is None else json.dumps(body), self.headers)
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            sys.exit(f"footprint: {method} {path}: {answer.status} {text.decode()}")
        return json.loads(text) if text else None

    def put(self, path, **body):
        self.request("PUT", f"/v1/{path}", body)


class Gateway:
    """Both processes, on a port at one end of a veth pair."""

    def __init__(self, binaries, directory):
        for command in ("link set lo up", "link add eth-black type veth peer name far", "link set eth-black up"):
            subprocess.run(["ip", *command.split()], check=True)
        run, state = directory / "run", directory / "state"
        run.mkdir()
        state.mkdir()
        control = [binaries / "culvertd", "--run-dir", run, "--state-dir", state, "--log", "warn"]
        token = subprocess.run(
            [binaries / "culvertd", "token", "create", "--name", "bench", "--role", "admin", "--state-dir", state],
            check=True, capture_output=True, text=True).stdout.strip()
        self.log = (directory / "log").open("w+")
        options = {"stdout": subprocess.DEVNULL, "stderr": self.log}
        self.control = subprocess.Popen([*control, "--listen-plain", f"127.0.0.1:{PORT}"], **options)
        self.dataplane = subprocess.Popen(
            [binaries / "culvert-dataplane", "--run-dir", run, "--log", "warn"], **options)
        self.api = Api(token)
        self.healthy()

    def healthy(self):
        """Waits until both processes are up and what was written is applied."""
        problem = None
        for _ in range(READY_SECS * 10):
            try:
                health = self.api.request("GET", "/v1/health")
                if health["ok"]:
                    return
                problem = health
            except OSError as error:
                problem = error
                self.api.connection.close()
            time.sleep(0.1)
        self.log.seek(0)
        sys.exit(f"footprint: the gateway did not become healthy: {problem}\n{self.log.read()}")

    def configure(self, tunnels):
        """A port and tunnels to peers that are not there. Returns the seconds it took."""
        api = self.api
        api.put("interfaces/black0", device="af_packet:eth-black", side="black", addresses=["192.0.2.1/24"])
        api.put("routes/peers", destination="198.18.0.0/15", gateway="192.0.2.254", interface="black0")
        api.put("isakmp-policies/main", priority=10, encryption=["aes-256-gcm"], hash=["sha2-256"], groups=[31])
        api.put("transform-sets/main", encryption="aes-256-gcm", mode="transport")
        api.put("ipsec-profiles/main", transform_sets=["main"], pfs_group=31)
        started = time.monotonic()
        for number in range(tunnels):
            high, low = divmod(number, 250)
            peer = f"198.18.{high}.{low + 1}"
            api.put(f"pre-shared-keys/peer-{number}", peer=peer, key=f"a secret for peer number {number:04}")
            api.put(f"tunnels/t{number}", source="black0", destination=peer,
                    addresses=[f"10.{100 + high}.{low}.1/30"], protection={"ipsec_profile": "main"})
        self.healthy()
        return time.monotonic() - started

    def stop(self):
        for process in (self.control, self.dataplane):
            process.terminate()
        for process in (self.control, self.dataplane):
            process.wait(10)


def rows(gateway, tunnels):
    time.sleep(SETTLE_SECS)
    processes = {"culvertd": gateway.control, "dataplane": gateway.dataplane}
    before = {name: cpu_secs(process.pid) for name, process in processes.items()}
    time.sleep(WINDOW_SECS)
    found = []
    for name, process in processes.items():
        cpu_percent = (cpu_secs(process.pid) - before[name]) / WINDOW_SECS * 100
        reference = f"{name}, {tunnels} tunnels that wait for their peers, no traffic"
        found += [
            (f"{name}_rss_mb_{tunnels}_tunnels", rss_kib(process.pid) / 1024, "MB", reference),
            (f"{name}_idle_cpu_percent_{tunnels}_tunnels", cpu_percent, "%", reference),
        ]
    return found


def main():
    # The shared region must lie in a tmpfs.
    with tempfile.TemporaryDirectory(prefix="culvert-footprint-", dir="/dev/shm") as directory:
        gateway = Gateway(pathlib.Path(sys.argv[1]), pathlib.Path(directory))
        try:
            found = rows(gateway, 0)
            seconds = gateway.configure(TUNNELS)
            reference = "2 PUTs each, stored, compiled and in the dataplane"
            found.append((f"configure_s_{TUNNELS}_tunnels", seconds, "s", reference))
            found += rows(gateway, TUNNELS)
        finally:
            gateway.stop()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
