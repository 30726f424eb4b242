"""Keys for ZeroMQ sockets that others can reach: who may connect, and nothing readable on the way (CURVE).

Whoever binds is the server: it has a folder with its own key pair and the list of clients it allows. Whoever
connects has one file with its own pair and the server's public key. `sonostream keys` makes both.
"""

from streamer.keys.files import ClientKeys, KeysError, ServerKeys, use_client_keys

__all__ = ["ClientKeys", "KeysError", "ServerKeys", "use_client_keys"]
