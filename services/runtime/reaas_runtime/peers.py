"""Whose connection it is: what a peer is to limits."""

from __future__ import annotations

import ipaddress


def peer_host(peer: str) -> str:
    """The host in gRPC's name of a peer, "ipv4:127.0.0.1:5000"; of IPv6 its network of /64.

    Whoever has one address of such a network has them all.
    """
    kind, _, rest = peer.partition(":")
    host = rest.rpartition(":")[0].replace("%5B", "").replace("%5D", "").strip("[]")
    if kind != "ipv6":
        return host or peer
    try:
        address = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))
