"""Which addresses only programs on this machine can reach."""

from ipaddress import ip_address


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own; of names, only `localhost` is believed."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
