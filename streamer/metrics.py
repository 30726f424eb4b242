"""Prometheus metrics. Counts are read from the ledgers at each scrape, so a scrape is always consistent."""

import platform
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from typing import Protocol

from prometheus_client import CollectorRegistry, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from streamer.analysis import Analysis, Model
from streamer.feed import Feed
from streamer.frame import FeedState
from streamer.lane import STAGES

# Looking it up reads the list of all that is installed: not at every scrape.
_VERSION = version("sonostream")
# Frame intervals of 60, 30, 20 and 15 fps are edges, so that ratios of missed deadlines are exact.
LATENCY_EDGES_S = (
    *(0.001, 0.002, 0.003, 0.004, 0.006, 0.008, 0.010, 0.0125, 0.0167, 0.020, 0.025, 0.0333),
    *(0.050, 0.0667, 0.100, 0.200, 0.500, 1.0),
)


class DropCounter(Protocol):
    """A sink, as far as metrics are concerned."""

    name: str
    dropped: int


class Guarded(Protocol):
    """A socket that refuses strangers, as far as metrics are concerned."""

    @property
    def refused(self) -> int:
        """Connections refused since the start."""


class Metrics:
    """The instruments of one daemon, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.stage = Histogram(
            "sonostream_stage_duration_seconds",
            "Time a frame spent in a stage between capture and publishing",
            ("source", "stage"),
            buckets=LATENCY_EDGES_S,
            registry=self.registry,
        )
        self.end_to_end = Histogram(
            "sonostream_end_to_end_latency_seconds",
            "Time from capture to the result being handed to the network",
            ("source",),
            buckets=LATENCY_EDGES_S,
            registry=self.registry,
        )
        self.batch_size = Histogram(
            "sonostream_batch_size",
            "Frames in one call of the engine",
            buckets=(1, 2, 3, 4, 6, 8, 12, 16, 32),
            registry=self.registry,
        )
        self._stages: dict[str, list[Histogram]] = {}
        self._end_to_end: dict[str, Histogram] = {}
        self._newest_capture: dict[str, int] = {}

    def add_source(self, name: str) -> None:
        """Make a source's series, so that they are there, at zero, before its first frame."""
        self._stages[name] = [self.stage.labels(name, stage) for stage in STAGES]
        self._end_to_end[name] = self.end_to_end.labels(name)

    def observe(self, analysis: Analysis) -> None:
        """Take the timings of a published analysis of a live frame."""
        if analysis.classes is None:
            return
        for histogram, seconds in zip(
            self._stages[analysis.source], analysis.latency.stages.values(), strict=True
        ):
            histogram.observe(seconds)
        self._end_to_end[analysis.source].observe(analysis.age)
        self._newest_capture[analysis.source] = analysis.captured_monotonic

    def watch(
        self,
        feeds: Iterable[Feed],
        sinks: Iterable[DropCounter],
        model: Callable[[], Model | None],
        results: Guarded,
    ) -> None:
        """Report these at every scrape.

        :param model: tells which model answers now.
        :param results: the socket of the results.
        """
        self.registry.register(_Accounts(tuple(feeds), tuple(sinks), model, results, self._newest_capture))


class _Accounts(Collector):
    def __init__(
        self,
        feeds: tuple[Feed, ...],
        sinks: tuple[DropCounter, ...],
        model: Callable[[], Model | None],
        results: Guarded,
        newest_capture: dict[str, int],
    ) -> None:
        self._feeds, self._sinks, self._model, self._newest = feeds, sinks, model, newest_capture
        self._results = results

    def collect(self) -> Iterator[Metric]:
        captured = CounterMetricFamily(
            "sonostream_frames_captured", "Frames a source delivered", labels=["source"]
        )
        analyzed = CounterMetricFamily("sonostream_frames_analyzed", "Frames analysed", labels=["source"])
        dropped = CounterMetricFamily(
            "sonostream_frames_dropped", "Frames not analysed, by reason", labels=["source", "reason"]
        )
        flying = GaugeMetricFamily(
            "sonostream_frames_in_flight", "Frames waiting or being analysed", labels=["source"]
        )
        age = GaugeMetricFamily(
            "sonostream_result_age_seconds", "Age of the newest published analysis", labels=["source"]
        )
        state = GaugeMetricFamily(
            "sonostream_source_state",
            "1 for the state a source is in, 0 for the others",
            labels=["source", "state"],
        )
        reconnects = CounterMetricFamily(
            "sonostream_source_reconnects", "Times a lost source was opened again", labels=["source"]
        )
        refused = CounterMetricFamily(
            "sonostream_connections_refused",
            "Connections without an allowed key, to the socket of results or of a source's frames",
            labels=["socket", "source"],
        )
        refused.add_metric(["results", ""], self._results.refused)
        for feed in self._feeds:
            refused.add_metric(["frames", feed.name], feed.refused)
            accounts, now_in = feed.ledger.accounts, feed.state
            captured.add_metric([feed.name], accounts.captured)
            analyzed.add_metric([feed.name], accounts.analyzed)
            for reason, count in accounts.dropped.items():
                dropped.add_metric([feed.name, reason], count)
            flying.add_metric([feed.name], accounts.in_flight)
            for each in FeedState:
                state.add_metric([feed.name, each], float(each is now_in))
            reconnects.add_metric([feed.name], feed.reconnects)
            if feed.name in self._newest:
                age.add_metric([feed.name], (time.monotonic_ns() - self._newest[feed.name]) * 1e-9)
        sinks = CounterMetricFamily(
            "sonostream_sink_dropped", "Results a sink was too slow for", labels=["sink"]
        )
        for sink in self._sinks:
            sinks.add_metric([sink.name], sink.dropped)
        build = InfoMetricFamily("sonostream_build", "The running program")
        build.add_metric([], {"version": _VERSION, "python": platform.python_version()})
        yield from (captured, analyzed, dropped, flying, age, state, reconnects, refused, sinks, build)
        answers = self._model()
        if answers is not None:
            model = InfoMetricFamily("sonostream_model", "The model that answers")
            model.add_metric(
                [],
                {
                    "name": answers.name,
                    "version": answers.version,
                    "runtime": answers.runtime,
                    "precision": answers.precision,
                    "sha256": answers.sha256,
                },
            )
            yield model
