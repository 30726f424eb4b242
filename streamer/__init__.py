"""The daemon and its clients: frames in, analyses out."""

# Before anything imports OpenCV: both wheels bring an X11 client library of the same name, and a screen grab
# crashes the process with the one that OpenCV loads.
import av  # noqa: F401
