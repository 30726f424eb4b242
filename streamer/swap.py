"""Change the model while the daemon runs: load and warm the new one aside, then switch between two frames."""

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from models.artifact import ArtifactError
from models.runtimes import EngineError, Session
from streamer.analysis import Model
from streamer.analyzer import Analyzer
from streamer.lane import Lane

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.5


class Loaded(NamedTuple):
    """A model that is verified, in an engine, and warm."""

    session: Session
    model: Model


class ArtifactWatch:
    """Notices that a model's file has become another one, once it has stopped changing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, ...] = ()
        self._examined: tuple[int, ...] = ()
        self._look_at = 0.0

    def changed(self, sha256: str) -> bool:
        """Say once for every change that the file is not the model that answers; looks twice a second.

        :param sha256: of the model that answers.
        """
        if time.monotonic() < self._look_at:
            return False
        self._look_at = time.monotonic() + _LOOK_EVERY_S
        try:
            status = self._path.stat()
            now = (status.st_mtime_ns, status.st_size, status.st_ino)
            still_written, self._seen = now != self._seen, now
            if still_written or now == self._examined:
                return False
            self._examined = now
            with self._path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() != sha256
        except OSError:  # gone, or on its way
            return False


class ModelSwap:
    """Owns the session that answers, and replaces it on request. Whatever fails, the old one goes on."""

    def __init__(
        self,
        analyzer: Analyzer,
        loaded: Loaded,
        *,
        load: Callable[[], Loaded],
        make_lanes: Callable[[Loaded], Sequence[Lane]],
        accepted: Callable[[Model], None],
    ) -> None:
        """Prepare; `begin` starts a swap.

        :param loaded: what the analyzer runs with.
        :param load: reads, verifies, loads and warms the model that is configured.
        :param make_lanes: makes the analyzer's memory of each source for a model, in the order of the first.
        :param accepted: called once a new model answers.
        """
        self._analyzer = analyzer
        self._loaded = loaded
        self._load = load
        self._make_lanes = make_lanes
        self._accepted = accepted
        self._thread: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        """Whether a model is being loaded."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def sha256(self) -> str:
        """Of the artifact that answers."""
        return self._loaded.model.sha256

    def begin(self) -> None:
        """Start a swap in the background, unless one is under way."""
        if self.busy:
            log.warning("a model is being loaded already: ask again when it has been switched")
            return
        self._thread = threading.Thread(target=self._run, name="model-swap", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        kept = f"{self._loaded.model.name} {self._loaded.model.version} stays"
        try:
            new = self._load()
        except (ArtifactError, EngineError, ValueError) as error:
            log.error("the model is not switched, %s: %s", kept, error)
            return
        except Exception:
            log.exception("the model is not switched, %s: loading failed unexpectedly", kept)
            return
        names, known = new.session.card.classes, self._loaded.session.card.classes
        if names != known:
            new.session.close()
            log.error(
                "the model is not switched, %s: its classes are %s, expected %s; restart for other classes",
                kept,
                ", ".join(names),
                ", ".join(known),
            )
            return
        if not self._analyzer.switch(new.session, self._make_lanes(new)):
            new.session.close()
            return
        former, self._loaded = self._loaded, new
        self._accepted(new.model)
        former.session.close()
        log.info("the model is switched: %s %s, %s", new.model.name, new.model.version, new.model.sha256[:12])

    def close(self, timeout_s: float = 5.0) -> None:
        """Release the engine; a model that is being loaded is waited for."""
        if self._thread is not None:
            self._thread.join(timeout_s)
        self._loaded.session.close()
