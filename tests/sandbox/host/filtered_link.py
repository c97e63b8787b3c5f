"""Two links with and without their filters; runs in network and mount namespaces of its own, as a program of a test."""

import socket
import subprocess
import sys
import threading
from pathlib import Path

from lib.polling import wait
from sandbox.host import veth
from sandbox.host.link_filter import LinkFilter
from sandbox.paths import PARTS

OTHER, NEXT, BEHIND = "10.99.0.1", "10.98.0.1", "10.98.0.2"
TCP = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 2)"
UDP = (
    "import socket, sys; s = socket.socket(type=socket.SOCK_DGRAM); s.settimeout(2)\n"
    "sys.argv[3:] and s.bind((sys.argv[3], 443))\n"
    "s.sendto(b'?', (sys.argv[1], int(sys.argv[2]))); s.recv(1)"
)
SERVE = (
    "import socket, sys; s = socket.create_server(('0.0.0.0', int(sys.argv[1]))); print(flush=True)\n"
    "while s.accept(): 0"
)

ECHO = (
    "import socket, sys; s = socket.socket(type=socket.SOCK_DGRAM); s.bind((sys.argv[2], int(sys.argv[1])))\n"
    "print(flush=True)\nwhile True: s.sendto(*s.recvfrom(1))"
)


def listen(address, port):
    server = socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
    threading.Thread(target=lambda: [server.accept() for _ in range(9)], daemon=True).start()


def echo(address, port):
    server = socket.socket(type=socket.SOCK_DGRAM)
    server.bind((address, port))
    threading.Thread(target=lambda: [server.sendto(*server.recvfrom(1)) for _ in range(9)], daemon=True).start()


def ip(*words, enter=()):
    return subprocess.run([*enter, "ip", *" ".join(words).split()], check=True, capture_output=True, text=True).stdout


def namespace():
    """Return the first process of a new network namespace, and the words before a program that runs there."""
    process, own = subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE), Path("/proc/self/ns/net")
    wait("a namespace", lambda: Path(f"/proc/{process.pid}/ns/net").readlink() != own.readlink(), deadline=30)
    return process, ["nsenter", "--target", str(process.pid), "--net", "--"]


def served(enter, *where, program=SERVE):
    process = subprocess.Popen([*enter, sys.executable, "-c", program, *map(str, where)], stdout=subprocess.PIPE)
    process.stdout.readline()
    return process


def answer(program, *where, enter=()):
    done = subprocess.run([*enter, sys.executable, "-c", program, *where], capture_output=True, text=True)
    return "open" if not done.returncode else "refused" if "ConnectionRefused" in done.stderr else "silent"


def main(folder):
    root = Path(folder) / "root"
    root.mkdir()
    lowers = ":".join(
        str(next(PARTS.glob(f"{name}-*")) / inner) for name, inner in (("node", "upper"), ("base", "root"))
    )
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", f"ro,lowerdir={lowers}", str(root)], check=True)
    (node, inside), (behind, far), link = namespace(), namespace(), veth.Link(0)
    (second, there), other = namespace(), veth.Link(1)
    ip("link set lo up")
    for name, address, peer in (("a1", OTHER, "b1"), ("a2", NEXT, f"eth0 netns {behind.pid}")):
        ip(f"link add dev {name} type veth peer name {peer}")
        ip(f"addr add {address}/24 dev {name}")
        ip(f"link set {name} up")
    ip(f"addr add {BEHIND}/24 dev eth0", enter=far)
    ip("link set eth0 up", enter=far)
    ip(f"route add default via {NEXT}", enter=far)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")  # as Docker sets it
    veth.up(link, node.pid, inside)
    veth.up(other, second.pid, there)
    ip(f"route add {BEHIND} via {link.host}", enter=inside)
    for enter, port in ((inside, 7), (there, 80)):
        for line in (
            "add table t",
            "add chain t in { type filter hook input priority 0; }",
            f"add rule t in tcp dport {port} reject",
        ):
            subprocess.run([*enter, "chroot", str(root), "nft", line], check=True)
    listen(other.host, 8443)
    for address, port in ((link.host, 8443), (link.host, 4599), (link.host, 18099), ("0.0.0.0", 18100), (OTHER, 18101)):  # noqa: S104
        listen(address, port)
    echo(link.host, 18102)
    others = [served(inside, 6443), served(far, 18103), node, behind, second]
    others += [served(there, port) for port in (6443, 443, 10250)]
    balancer, gateway = other.load_balancers[-1], link.load_balancers[0]
    others += [served(inside, port, gateway, program=ECHO) for port in (443, 8443)]
    asked = {
        "webhook": (TCP, link.host, "8443"), "another port": (TCP, link.host, "18099"),
        "any address": (TCP, link.host, "18100"), "another address": (TCP, OTHER, "18101"),
        "UDP that nobody asked for": (UDP, link.host, "18102", link.load_balancers[1]),
        "UDP": (UDP, link.host, "18102"), "behind this machine": (TCP, BEHIND, "18103"),
        "AWS endpoint": (TCP, link.host, "4599"), "the other API server": (TCP, other.node, "6443"),
        "the other kubelet": (TCP, other.node, "10250"), "the other's gateway": (TCP, balancer, "443"),
        "the other's gateway without a pod": (TCP, balancer, "80"),
        "the other's gateway, a port of the node": (TCP, balancer, "10250"),
        "the other's webhook": (TCP, other.host, "8443"),
    }  # fmt: skip

    def table():
        found = {name: answer(*words, enter=inside) for name, words in asked.items()}
        found["to the node"] = answer(TCP, link.node, "6443")
        found["QUIC of a gateway"] = answer(UDP, gateway, "443")
        found["UDP of another port of a gateway"] = answer(UDP, gateway, "8443")
        return found | {"to a port that rejects": answer(TCP, link.node, "7")}

    before = table()
    filters = [LinkFilter(one, (8443, 4599), ["chroot", str(root)]) for one in (link, other)]
    during = table()
    for one in filters:
        one.close()
    after = table()
    for name in before:
        print(f"{name}={before[name]} {during[name]} {after[name]}")
    killed = LinkFilter(link, (8443,), ["chroot", str(root)])
    killed.process.kill()
    wait("the link to go down", lambda: "state DOWN" in ip(f"link show {link.name}"), deadline=30)
    print(f"after a kill={answer(TCP, link.host, '18099', enter=inside)}")
    for process in others:
        process.kill()


if __name__ == "__main__":
    main(sys.argv[1])
