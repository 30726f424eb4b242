"""The daemon's life: start, serve, drain, stop."""

import ctypes
import gc
import hashlib
import logging
import os
import signal
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import TYPE_CHECKING, Any

import cv2

from models.artifact import Artifact, ArtifactError, load_artifact, zoo_names
from models.ladder import Ladder, climb
from models.runtimes import EngineError, Session, load
from streamer.analysis import INTENDED_USE, Model
from streamer.analyzer import Analyzer, EngineGaveUp
from streamer.config import Config
from streamer.config_text import as_toml, without_places
from streamer.feed import EventKind, Feed
from streamer.frame import FeedState
from streamer.lane import Lane
from streamer.metrics import DropCounter, Metrics
from streamer.notify import Supervisor
from streamer.openigtlink import OpenIGTLinkError, OpenIGTLinkSink
from streamer.preview import Preview
from streamer.publisher import Publisher, PublisherError
from streamer.sinks import Sink
from streamer.smoothing import SmoothingSettings
from streamer.sources import SourceUnavailable
from streamer.status import StatusError, StatusServer
from streamer.swap import ArtifactWatch, Loaded, ModelSwap

if TYPE_CHECKING:
    from streamer.recorder import Recorder

log = logging.getLogger(__name__)

EXIT_CANNOT_START = 2
EXIT_ENGINE_FAILED = 3

ASSUMED_FPS = 30.0
"""What a source delivers unless `source.fps` says otherwise, where a model is chosen for it."""

# Looking it up reads the list of all that is installed: not at every request.
_VERSION = version("sonostream")
_HANG_SHOWN_S = 1.5
_DRAIN_S = 8.0
"""A daemon that is told to stop has ended by then, whatever hangs."""


class StartError(Exception):
    """The daemon cannot start; the message is one line for the operator."""


class Daemon:
    """Everything that runs, from sources to sinks."""

    def __init__(self, config: Config) -> None:
        if not config.source:
            raise StartError("no source: name one on the command line, as in `sonostream run phantom:`")
        self._config = config
        self._bell = threading.Condition()
        self._metrics = Metrics()
        self._warm = False
        self._should_exit = threading.Event()
        self._signals: SimpleQueue[int | None] = SimpleQueue()
        self._exit_code = 0
        self._reload = threading.Event()
        self.hung = False
        """The engine does not answer: a thread of this process may be in it for ever."""
        self._drained = threading.Event()
        self._supervisor = Supervisor()
        self._started_at = time.monotonic()
        self._model: Model | None = None
        self._ladder: Ladder | None = None
        self._feeds = [
            Feed(source, config.feed, bell=self._bell, tell=self._on_event) for source in config.source
        ]
        for feed in self._feeds:
            self._metrics.add_source(feed.name)
        self._serving: threading.Thread | None = None
        self._publisher: Publisher | None = None
        self._recorder: Recorder | None = None
        self._openigtlink: OpenIGTLinkSink | None = None

    def run(self) -> int:
        """Serve until told to stop, all files have ended, or the engine gives up.

        :return: the process's exit code.
        :raises StartError: if it cannot start.
        """
        previous = {
            number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)
        }
        # On a terminal this signal says that the terminal is gone, and the daemon should be, too.
        if hasattr(signal, "SIGHUP") and not sys.stderr.isatty():
            previous[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._on_reload)
        threading.Thread(target=self._heed_signals, name="signals", daemon=True).start()
        threading.Thread(target=self._bound_the_end, name="drain", daemon=True).start()
        try:
            return self._run()
        finally:
            self._drained.set()
            self._should_exit.set()
            for number, handler in previous.items():
                signal.signal(number, handler)
            self._signals.put(None)

    def _bound_the_end(self) -> None:
        """End the process if it has not ended by itself a while after it was asked to."""
        self._should_exit.wait()
        if not self._drained.wait(_DRAIN_S):
            log.error("not everything could be closed within %g s: ending without", _DRAIN_S)
            os._exit(self._exit_code)

    def _run(self) -> int:
        config = self._config
        # A thread that comes back from the engine waits for whoever runs Python code by at most this.
        sys.setswitchinterval(0.0005)
        # OpenCV only sees small pictures here: waking threads for them costs more than they save.
        cv2.setNumThreads(1)
        try:
            status = StatusServer(
                config.http.host,
                config.http.port,
                self._metrics.registry,
                alive=self._is_alive,
                ready=self._is_ready,
                status=self._status,
            )
        except StatusError as error:
            raise StartError(str(error)) from None
        try:
            publisher = self._publisher = Publisher(
                config.publish.bind, on_sent=self._metrics.observe, keys=config.publish.keys
            )
        except PublisherError as error:
            status.stop()
            raise StartError(str(error)) from None
        try:
            sinks = self._open_sinks(publisher.identity)
        except StartError:
            publisher.stop()
            status.stop()
            raise
        for sink in sinks:
            sink.start()
        try:
            for feed in self._feeds:
                feed.start()
            publisher.start(self._feeds)
            prepared = self._prepare(publisher)
            if prepared is not None:
                swap, analyzer, preview = prepared
                if preview is not None:
                    sinks.append(preview)
                    preview.start()
                log.info(
                    "publishing on %s, status on http://%s:%d/status; %s",
                    publisher.address,
                    config.http.host,
                    status.port,
                    INTENDED_USE,
                )
                self._serve(analyzer, swap)
                if not self.hung:
                    swap.close()
        finally:
            self._supervisor.stopping()
            self._should_exit.set()
            self._stop_feeds()
            for sink in sinks:
                sink.stop()
            publisher.stop()
            status.stop()
        for feed in self._feeds:
            accounts = feed.ledger.accounts
            drops = ", ".join(f"{count} {reason}" for reason, count in accounts.dropped.items() if count)
            log.info(
                "%s: %d frames captured, %d analysed, dropped: %s",
                feed.name,
                accounts.captured,
                accounts.analyzed,
                drops or "none",
            )
        outlets: tuple[DropCounter, ...] = (publisher, *sinks)
        for outlet in outlets:
            if outlet.dropped:
                log.info("%s: %d results dropped", outlet.name, outlet.dropped)
        return self._exit_code

    def _load(self) -> Loaded:
        """Read, verify, load and warm the model that is configured."""
        config = self._config.model
        options: dict[str, Any] = {
            "runtime": config.runtime,
            "precision": config.precision,
            "threads": config.threads,
            "max_batch": len(self._feeds),
            "cache_dir": cache_directory(),
            "server": config.server or None,
        }
        if config.runtime == "torch":
            path = checkpoint_path(config.artifact)
            session = load(path, **options)
            artifact = Artifact(path, session.card, hashlib.sha256(path.read_bytes()).hexdigest())
        else:
            artifact = self._choose() if config.artifact == "auto" else load_artifact(config.artifact)
            check_classes(artifact, config.classes)
            session = load(artifact, **options)
        self._artifact = artifact.path
        try:
            check_classes(artifact, config.classes)  # a checkpoint's are known only now
            session.warm_up()
        except (ArtifactError, EngineError):
            session.close()
            raise
        return Loaded(session, describe(artifact, session))

    def _choose(self) -> Artifact:
        """Take the most accurate model that ships and keeps up with the fastest source."""
        config = self._config.model
        if config.runtime == "kserve":
            raise ArtifactError("model.artifact = auto measures this machine: for kserve, name the model")
        artifact, self._ladder = climb(
            fps=max(source.fps or ASSUMED_FPS for source in self._config.source),
            runtime=config.runtime,
            precision=config.precision,
            threads=config.threads,
            batch=len(self._feeds),
            classes=config.classes,
            cache_dir=cache_directory(),
        )
        tell = log.info if self._ladder.keeps_up else log.warning
        tell("auto takes the model %s: %s", self._ladder.taken, self._ladder.reason)
        return artifact

    def _load_unless_stopped(self) -> Loaded | None:
        """Load aside: an engine may compile for minutes; whoever stops the daemon does not wait for it."""
        outcome: list[Loaded | Exception] = []

        def work() -> None:
            try:
                outcome.append(self._load())
            except Exception as error:
                outcome.append(error)

        loading = threading.Thread(target=work, name="model-load", daemon=True)
        loading.start()
        while loading.is_alive():
            loading.join(0.05)
            if self._should_exit.is_set() and loading.is_alive():
                self.hung = True
                return None
        (result,) = outcome
        if isinstance(result, Exception):
            raise result
        return result

    def _prepare(self, publisher: Publisher) -> tuple[ModelSwap, Analyzer, Preview | None] | None:
        """Load and warm the model while the sources open; then check that they did. None if stopped first."""
        config = self._config
        try:
            loaded = self._load_unless_stopped()
        except (ArtifactError, EngineError, ValueError) as error:
            raise StartError(str(error)) from None
        if loaded is None:
            return None
        self._model = loaded.model
        for feed in self._feeds:
            while not feed.opened.wait(0.1):
                if self._should_exit.is_set() or not feed.config.required:
                    break
            if feed.failure is not None:
                raise StartError(f"{feed.name}: {feed.failure}")
        smoothing = SmoothingSettings(**config.smoothing.model_dump())

        def make_lanes(loaded: Loaded) -> list[Lane]:
            session, model = loaded
            return [
                Lane(feed, session.card, model, smoothing, publisher=publisher.identity)
                for feed in self._feeds
            ]

        preview = None
        if config.publish.preview:
            preview = Preview(
                publisher,
                sources=len(self._feeds),
                max_side=config.publish.preview_max_side,
                quality=config.publish.preview_quality,
            )
        others = (preview, self._recorder, self._openigtlink)
        outlets = [publisher, *(sink for sink in others if sink is not None)]
        self._metrics.watch(self._feeds, outlets, lambda: self._model, publisher)
        analyzer = Analyzer(loaded.session, make_lanes(loaded), outlets, self._metrics, bell=self._bell)
        swap = ModelSwap(
            analyzer, loaded, load=self._load, make_lanes=make_lanes, accepted=self._on_new_model
        )
        return swap, analyzer, preview

    def _open_sinks(self, publisher: str) -> list[Sink]:
        """Open what takes results besides the publisher and the preview."""
        asked = self._config.openigtlink
        recorder = self._recorder = self._open_recorder(publisher)
        if asked.port is not None:
            try:
                link = OpenIGTLinkSink(asked.host, asked.port, sources=len(self._feeds))
            except OpenIGTLinkError as error:
                if recorder is not None:
                    recorder.stop()
                raise StartError(str(error)) from None
            self._openigtlink = link
            log.info("OpenIGTLink on %s:%d", asked.host, link.port)
        return [sink for sink in (recorder, self._openigtlink) if sink is not None]

    def _open_recorder(self, publisher: str) -> "Recorder | None":
        config = self._config
        if config.record.path is None:
            return None
        try:
            # Its packages are optional.
            from streamer.recorder import Recorder
            from streamer.recording import RecordingError
        except SourceUnavailable as error:
            raise StartError(str(error)) from None
        try:
            recorder = Recorder(
                Path(config.record.path),
                pictures=config.record.pictures,
                coding=config.record.pixels,
                config=as_toml(without_places(config)),
                publisher=publisher,
            )
        except RecordingError as error:
            raise StartError(str(error)) from None
        log.info("recording to %s", recorder.path)
        return recorder

    def _serve(self, analyzer: Analyzer, swap: ModelSwap) -> None:
        """Let the analyzer work until something ends it."""

        def work() -> None:
            try:
                analyzer.run()
            except EngineGaveUp as error:
                log.error("%s", error)
                self._exit_code = EXIT_ENGINE_FAILED
            except Exception:
                log.exception("the analyzer failed unexpectedly")
                self._exit_code = EXIT_ENGINE_FAILED
            self._should_exit.set()

        # What exists by now lives for ever; the collector need not look at it again.
        gc.collect()
        gc.freeze()
        _return_free_memory()
        self._serving = threading.Thread(target=work, name="analyzer", daemon=True)
        self._serving.start()
        self._warm = True
        watch = ArtifactWatch(self._artifact) if self._config.model.watch else None
        self._supervisor.ready()
        try:
            while not self._should_exit.wait(0.1):
                if self._reload.is_set():
                    self._reload.clear()
                    swap.begin()
                if watch is not None and not swap.busy and watch.changed(swap.sha256):
                    log.info("%s has changed", self._artifact.name)
                    swap.begin()
                if analyzer.engine_busy_s > self._config.model.watchdog_s:
                    self._give_up_on_engine(analyzer)
                    break
                self._supervisor.beat()
                if all(feed.ended.is_set() and not feed.ledger.accounts.in_flight for feed in self._feeds):
                    log.info("all sources have ended")
                    break
        finally:
            self._stop_feeds()
            analyzer.stop()
            self._serving.join(0 if self.hung else 3)
            self.hung = self._serving.is_alive()

    def _stop_feeds(self) -> None:
        """All at once: several that hang take no longer than one."""
        deadline = time.monotonic() + 2
        for feed in self._feeds:
            feed.stop(0)
        for feed in self._feeds:
            feed.stop(max(0.0, deadline - time.monotonic()))

    def _give_up_on_engine(self, analyzer: Analyzer) -> None:
        self.hung = True
        self._exit_code = EXIT_ENGINE_FAILED
        log.error(
            "the engine has not answered for %.1f s (model.watchdog_s is %g): "
            "ending with exit code %d, for a supervisor to start anew",
            analyzer.engine_busy_s,
            self._config.model.watchdog_s,
            EXIT_ENGINE_FAILED,
        )
        # Whoever looks at /healthz once a second sees it before the port is gone.
        self._should_exit.wait(_HANG_SHOWN_S)

    def _on_event(self, feed: Feed, kind: EventKind, detail: str) -> None:
        if kind == "lost":
            # A decoder's pictures lie between what goes on living; each return would leave the heap larger.
            _return_free_memory()
        if self._publisher is not None:
            self._publisher.tell(feed, kind, detail)
        if self._recorder is not None:
            self._recorder.tell(feed, kind, detail)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        # A second Ctrl-C is impatience; a second SIGTERM is not: supervisors send it to child and group.
        if number == signal.SIGINT and self._should_exit.is_set():
            raise KeyboardInterrupt
        # Not the event itself: the main thread may be inside its lock at this moment, for good then.
        self._signals.put(number)

    def _on_reload(self, number: int, _frame: FrameType | None) -> None:
        self._signals.put(number)

    def _heed_signals(self) -> None:
        while (number := self._signals.get()) is not None:
            (self._should_exit if number in (signal.SIGINT, signal.SIGTERM) else self._reload).set()

    def _on_new_model(self, model: Model) -> None:
        self._model = model

    def stop(self) -> None:
        """Make `run` drain and return; may be called from any thread."""
        self._should_exit.set()

    def _is_alive(self) -> bool:
        if not self._warm:
            return True
        return not self.hung and self._serving is not None and self._serving.is_alive()

    def _is_ready(self) -> bool:
        return self._warm and self._is_alive() and any(feed.state is FeedState.LIVE for feed in self._feeds)

    def _status(self) -> dict[str, Any]:
        return {
            "version": _VERSION,
            "intended_use": INTENDED_USE,
            "uptime_s": round(time.monotonic() - self._started_at, 3),
            "ready": self._is_ready(),
            "publishing_on": None if self._publisher is None else self._publisher.address,
            "model": None
            if self._model is None
            else {
                "name": self._model.name,
                "version": self._model.version,
                "runtime": self._model.runtime,
                "precision": self._model.precision,
                "sha256": self._model.sha256,
                "chosen": "configured" if self._ladder is None else self._ladder.reason,
            },
            "sources": [
                {
                    "name": feed.name,
                    "state": feed.state,
                    "policy": feed.policy,
                    "reconnects": feed.reconnects,
                    **feed.ledger.accounts._asdict(),
                }
                for feed in self._feeds
            ],
        }


def _return_free_memory() -> None:
    """Give the system back what the allocator keeps: of a compiled model some 15 MiB, of lost sources 4."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def check_classes(artifact: Artifact, expected: tuple[str, ...]) -> None:
    """Hold a model to the classes that a configuration names.

    :param expected: in order; empty: any.
    :raises ArtifactError: if the model has others.
    """
    if expected and expected != artifact.card.classes:
        raise ArtifactError(
            f"{artifact.path} has the classes {', '.join(artifact.card.classes)}, model.classes asks for "
            f"{', '.join(expected)}; correct the configuration or name another model"
        )


def checkpoint_path(model: str) -> Path:
    """Say which file PyTorch runs: the one engine that reads no exported model.

    :raises ArtifactError: if the configuration names a model that ships.
    """
    if model in ("auto", *zoo_names()):
        raise ArtifactError(
            "model.runtime torch runs a checkpoint of `sonostream train`: name its file in model.artifact"
        )
    return Path(model)


def cache_directory() -> Path:
    """Where compiled models are kept for the next start: the user's cache, by the XDG rule."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sonostream"


def describe(artifact: Artifact, session: Session) -> Model:
    """Say which model answers, for the wire and the metrics."""
    return Model(
        name=artifact.card.name,
        version=artifact.card.version,
        runtime=session.description.name,
        precision=session.description.precision,
        sha256=artifact.sha256,
    )
