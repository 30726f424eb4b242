"""Alert rules and dashboard: Prometheus takes every query, and each names metrics and labels that exist."""

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.models.tiny import save, tiny_model
from tests.programs import require_program
from tests.streamer.running import Daemon, free_port, running

PACKAGING = Path(__file__).parents[2] / "packaging"
RULES = PACKAGING / "prometheus" / "sonostream.rules.yml"
DASHBOARD = json.loads((PACKAGING / "grafana" / "sonostream.json").read_text())
# Series that Prometheus itself makes.
_ITS_OWN = {"up"}


def alerts() -> dict[str, str]:
    """Name -> query. Each is on one line, so that no YAML parser is needed."""
    return dict(re.findall(r"- alert: (\w+)\n +expr: (.+)\n", RULES.read_text()))


def queries() -> dict[str, str]:
    """Title -> query, with Grafana's variables filled in as it does."""
    filled = {}
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            text = target["expr"].replace("$__rate_interval", "1m").replace("$job", "sonostream")
            filled[f"{panel['title']} {target['refId']}"] = re.sub(r"\$(instance|source)", ".*", text)
    return filled


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("daemon")
    model = save(tiny_model(), folder / "tiny.onnx")
    feed = "phantom:?width=160&height=120&prerender=20&lift=false&cut=false"
    with running(model, feed, f"--record.path={folder / 'study.mcap'}") as started:
        started.wait_for(lambda: started.status()["sources"][0]["analyzed"] > 5)
        yield started


@pytest.fixture(scope="module")
def series(daemon: Daemon) -> dict[str, dict[str, set[str]]]:
    """Name of each series of a live scrape -> label -> its values."""
    found: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(daemon.get("/metrics")[1]):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for key, value in sample.labels.items():
                labels.setdefault(key, set()).add(value)
    return found


@pytest.mark.parametrize(("name", "query"), [*alerts().items(), *queries().items()])
def test_a_query_names_series_labels_and_edges_that_exist(
    name: str, query: str, series: dict[str, dict[str, set[str]]]
) -> None:
    selectors = re.findall(r"\b((?:sonostream|process)_\w+|up)\b(?:\{([^}]*)\})?", query)
    assert selectors, name
    for metric, matchers in selectors:
        assert metric in series or metric in _ITS_OWN, f"{name}: {metric} is not in a live scrape"
        for label, how, value in re.findall(r"(\w+)(=~|=|!=)\"([^\"]*)\"", matchers or ""):
            if label in ("job", "instance"):
                continue
            assert label in series[metric], f"{name}: {metric} has no label {label}"
            if label in ("le", "state"):
                assert how == "="
                assert value in series[metric][label], f"{name}: {metric} has no {label} {value}"
    for labels in re.findall(r"by \(([^)]*)\)", query):
        known = {"instance", "job"} | {label for metric, _ in selectors for label in series.get(metric, {})}
        assert {label.strip() for label in labels.split(",")} <= known, name


def test_every_metric_of_ours_is_on_the_dashboard(series: dict[str, dict[str, set[str]]]) -> None:
    shown = " ".join(queries().values())
    for name in series:
        stem = re.sub(r"_(bucket|sum|count|created)$", "", name)
        if stem.startswith("sonostream_"):
            assert stem in shown, name


def test_the_dashboard_can_be_imported_anywhere() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    variables = {each["name"] for each in DASHBOARD["templating"]["list"]}

    assert len(set(ids)) == len(ids) >= 10
    assert "Research use only" in DASHBOARD["description"]
    for panel in DASHBOARD["panels"]:
        assert panel["datasource"]["uid"] == "${datasource}"
        used = {name for target in panel["targets"] for name in re.findall(r"\$(\w+)", target["expr"])}
        assert used - {"__rate_interval"} <= variables
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)


def test_promtool_accepts_the_rules() -> None:
    promtool = require_program("promtool", package="prometheus")
    done = subprocess.run(
        [promtool, "check", "rules", str(RULES)], capture_output=True, text=True, timeout=30
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"SUCCESS: {len(alerts())} rules found" in done.stdout


def test_each_alert_says_how_bad_it_is_and_what_to_do() -> None:
    text = RULES.read_text()
    descriptions = re.findall(r'description: "(.{30,})"', text)
    severities = re.findall(r"severity: (\w+)", text)

    assert len(descriptions) == len(severities) == text.count("- alert:") == len(alerts())
    assert set(severities) <= {"critical", "warning", "info"}


def test_a_real_prometheus_answers_every_query_and_loads_every_alert(daemon: Daemon, tmp_path: Path) -> None:
    prometheus = require_program("prometheus", package="prometheus")
    port = free_port()
    config = tmp_path / "prometheus.yml"
    config.write_text(
        f"global: {{ scrape_interval: 200ms, evaluation_interval: 1s }}\nrule_files: ['{RULES}']\n"
        "scrape_configs:\n  - job_name: sonostream\n"
        f"    static_configs: [{{ targets: ['127.0.0.1:{daemon.port}'] }}]\n"
    )
    process = subprocess.Popen(
        [prometheus, f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}",
         f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip

    def ask(path: str, **query: str) -> Any:
        with urlopen(f"http://127.0.0.1:{port}/api/v1/{path}?{urlencode(query)}", timeout=5) as answer:
            return json.load(answer)["data"]

    try:
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline:
            try:
                if float(ask("query", query="sonostream_frames_captured_total")["result"][0]["value"][1]):
                    break
            except (OSError, IndexError):
                time.sleep(0.1)
        else:
            pytest.fail("Prometheus never had our metrics")
        loaded = {rule["name"] for group in ask("rules")["groups"] for rule in group["rules"]}
        for name, query in queries().items():
            assert ask("query", query=query)["resultType"] == "vector", name
        age = ask("query", query=alerts()["SonostreamResultsOld"].replace("> 1", ">= 0"))["result"]
        quiet = ask("query", query=alerts()["SonostreamDown"])["result"]
    finally:
        process.terminate()
        process.communicate(timeout=15)

    assert loaded == set(alerts())
    assert len(age) == 1  # the two series of the alert meet on their labels
    assert quiet == []
