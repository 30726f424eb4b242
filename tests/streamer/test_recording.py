"""Recordings: what is in them, what survives a kill or a full disk, and what a second run of them gives."""

import base64
import json
import logging
import resource
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

from streamer.analysis import Classes, Event, Region, Size
from streamer.client import Subscriber
from streamer.frame import FeedState, Frame
from streamer.sinks import Result
from streamer.smoothing import SmoothingSettings
from streamer.sources import (
    Captured,
    SourceInvalidFrame,
    SourceOptions,
    SourceUnavailable,
    open_source,
)
from streamer.sources.registry import parse_uri
from streamer.wire import Received
from tests.models.tiny import save, tiny_model
from tests.streamer.results import analysis
from tests.streamer.running import running, sonostream
from tests.streamer.scripted import picture

pytest.importorskip("mcap", reason="needs pip install 'sonostream[formats]'")

from mcap.reader import make_reader
from mcap.writer import CompressionType, Writer

from streamer.recorder import Recorder, expand
from streamer.recording import (
    Picture,
    Recorded,
    RecordingError,
    RecordingWriter,
    read_recording,
    survey,
)
from streamer.replay import (
    Answer,
    Comparison,
    ReplayError,
    Rerun,
    compare,
    dice,
    recorded_smoothing,
)

PHANTOM = "phantom:?width=160&height=120&prerender=20&lift=false&cut=false"
FAST = SourceOptions(pace="fast")
STEP_NS = 33_000_000


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tiny_model(), tmp_path_factory.mktemp("model") / "tiny.onnx")


def result(number: int, *, source: str = "probe", **changes: Any) -> Result:
    """A result every 33 ms, of a region inside a screen of 160 x 120."""
    values: dict[str, Any] = {
        "region": Region(30, 20, 100, 80),
        "captured_monotonic": 10**12 + number * STEP_NS,
        "captured_at": 10**18 + number * STEP_NS,
        "pixel_spacing_mm": (0.1, 0.2),
    }
    made = analysis(number, source=source, **(values | changes))
    frame = Frame(picture(number), source, number, made.captured_monotonic, made.captured_at, made.clock)
    return Result(made, bytes(range(12)), frame)


def record(path: Path, results: list[Result], **options: Any) -> Recorder:
    recorder = Recorder(
        path,
        pictures=options.get("pictures", True),
        config="[smoothing]\nmask_time_s = 0.3\n",
        publisher="test",
    )
    recorder.start()
    for each in results:
        recorder.offer(each, wait=True)
    recorder.stop()
    return recorder


def frames(path: Path) -> list[Recorded]:
    return [item for item in read_recording(path) if isinstance(item, Recorded)]


def test_a_recording_opens_with_the_format_s_own_reader(tmp_path: Path) -> None:
    results = [result(number) for number in range(4)]
    record(tmp_path / "study.mcap", results)

    with (tmp_path / "study.mcap").open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        messages = list(reader.iter_messages())
        metadata = {each.name: each.metadata for each in reader.iter_metadata()}

    schemas = {channel.topic: schema for schema, channel, _ in messages if schema}
    assert {topic: schema.name for topic, schema in schemas.items()} == {
        "/probe/analysis": "sonostream.Analysis",
        "/probe/mask": "foxglove.CompressedImage",
        "/probe/picture": "foxglove.CompressedImage",
    }
    assert {schema.encoding for schema in schemas.values()} == {"jsonschema"}
    assert all(json.loads(schema.data)["type"] == "object" for schema in schemas.values())
    assert b"$ref" not in schemas["/probe/analysis"].data
    assert sorted({message.log_time for _, _, message in messages}) == [
        each.analysis.captured_at for each in results
    ]
    image = next(json.loads(m.data) for _, channel, m in messages if channel.topic == "/probe/picture")
    assert image["timestamp"] == {"sec": 10**9, "nsec": 0}
    assert image["format"] == "png"
    assert base64.b64decode(image["data"]).startswith(b"\x89PNG")
    assert metadata["sonostream.config"] == {"toml": "[smoothing]\nmask_time_s = 0.3\n"}


def test_only_the_region_is_recorded_and_without_loss(tmp_path: Path) -> None:
    record(tmp_path / "study.mcap", [result(7)])

    (frame,) = frames(tmp_path / "study.mcap")

    assert frame.picture is not None
    kept = cv2.imdecode(np.frombuffer(frame.picture.data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(kept, picture(7)[20:100, 30:130])
    assert frame.mask is not None
    mask = cv2.imdecode(np.frombuffer(frame.mask, np.uint8), cv2.IMREAD_UNCHANGED)
    assert mask is not None
    assert mask.tobytes() == bytes(range(12))


def test_nobody_else_may_read_a_recording_and_none_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "study.mcap"
    record(path, [result(0)])

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(RecordingError, match="exists already: recordings are never overwritten"):
        RecordingWriter(path)
    assert [record(path, []).path.name for _ in range(2)] == ["study-2.mcap", "study-3.mcap"]
    assert len(frames(path)) == 1
    with pytest.raises(RecordingError, match="No such file or directory"):
        record(tmp_path / "absent" / "study.mcap", [])


def test_every_start_can_have_a_file_of_its_own() -> None:
    assert expand(Path("a/study-{time}.mcap")).name.startswith("study-20")


def test_a_daemon_killed_without_warning_loses_nothing_it_had_published(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "study.mcap"
    with running(model, PHANTOM, f"--record.path={path}") as daemon, Subscriber(daemon.address) as subscriber:
        received: list[Received] = []
        while len(received) < 40:
            message = subscriber.receive(30)
            assert message is not None
            if isinstance(message, Received):
                received.append(message)
        written = path.stat().st_size
        daemon.wait_for(lambda: path.stat().st_size > written)  # its thread has had its turn
        daemon.process.kill()
        daemon.process.wait()
        recorded = {each.analysis.seq: each for each in frames(path)}

    sure = [each for each in received[:-1] if each.analysis.seq <= max(recorded)]
    assert len(sure) >= 38
    for each in sure:
        assert recorded[each.analysis.seq].analysis.classes == each.analysis.classes
        assert recorded[each.analysis.seq].picture is not None
    assert survey(path).sources == ("phantom",)
    assert "[smoothing]" in survey(path).config


def test_a_file_cut_anywhere_gives_what_came_before(tmp_path: Path) -> None:
    path = tmp_path / "study.mcap"
    record(path, [result(number) for number in range(6)])
    whole = path.read_bytes()
    counts = []
    for cut in range(2000, len(whole), 1999):
        path.write_bytes(whole[:cut])
        counts.append(len(frames(path)))

    assert counts == sorted(counts)
    assert counts[-1] == 6
    assert set(counts) >= {1, 2, 3, 4, 5}


def test_a_full_disk_costs_frames_but_not_the_recording(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "study.mcap"
    recorder = Recorder(path, pictures=True, config="", publisher="test")
    recorder.handle(result(0))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 5000, hard))
    try:
        recorder.start()
        for number in range(1, 6):
            recorder.offer(result(number), wait=True)
        deadline = time.monotonic() + 10
        while recorder.dropped < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    recorder.offer(result(6), wait=True)
    recorder.stop()

    assert recorder.dropped == 4
    assert "File too large; analysis goes on" in caplog.text
    numbers = [each.analysis.seq for each in frames(path)]
    assert numbers == [0, 1, 6]  # one had been begun, and went on when there was room


def test_events_are_recorded_beside_the_results(tmp_path: Path) -> None:
    path = tmp_path / "study.mcap"
    writer = RecordingWriter(path)
    lost = Event(
        publisher="p", source="probe", seq=0, kind="lost", state=FeedState.NO_SIGNAL, at=5, monotonic=5
    )
    writer.add_event(lost)
    writer.close()

    assert list(read_recording(path)) == [lost]


def captured_of(uri: str, options: SourceOptions = FAST) -> list[Captured]:
    with open_source(uri, options) as source:
        assert source.policy == "every"
        got = []
        while (frame := source.read()) is not None:
            got.append(frame)
        return got


@pytest.mark.parametrize("options", [FAST, SourceOptions()], ids=["fast", "realtime"])
def test_a_recording_plays_with_its_own_timing_place_and_scale(
    tmp_path: Path, options: SourceOptions
) -> None:
    path = tmp_path / "study.mcap"
    # The daemon passed over two frames.
    record(path, [result(number) for number in (0, 1, 4)])

    assert parse_uri(str(path)) == "mcap"
    played = captured_of(str(path), options)

    assert np.diff([frame.monotonic for frame in played]).tolist() == [STEP_NS, 3 * STEP_NS]
    assert all(frame.monotonic <= time.monotonic_ns() for frame in played)
    assert [frame.upstream_id for frame in played] == [0, 1, 4]
    assert {frame.region for frame in played} == {(30, 20, 100, 80)}
    assert {frame.spacing_mm for frame in played} == {(0.1, 0.2)}
    assert played[0].pixels.shape == (120, 160)
    assert np.array_equal(played[0].pixels[20:100, 30:130], picture(0)[20:100, 30:130])
    assert int(played[0].pixels[:20].max()) == 0


def test_a_loop_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "study.mcap"
    record(path, [result(number) for number in range(2)])

    with open_source(str(path), SourceOptions(pace="fast", loop=True)) as source:
        times = [frame.media_time_s for _ in range(5) if (frame := source.read())]

    assert times == pytest.approx([0, 0.033, 0.066, 0.099, 0.132])


def test_a_scaled_preview_keeps_its_scale_in_millimetres(tmp_path: Path) -> None:
    path = tmp_path / "study.mcap"
    writer = RecordingWriter(path)
    half = cv2.imencode(".jpg", picture(1, height=40, width=50))[1].tobytes()
    writer.add(result(0).analysis, None, Picture(half, "jpeg"))
    writer.close()

    (frame,) = captured_of(str(path))

    assert frame.pixels.shape == (40, 50)
    assert frame.region is None
    assert frame.spacing_mm == pytest.approx((0.2, 0.4))


def test_one_of_several_sources_must_be_chosen(tmp_path: Path) -> None:
    path = tmp_path / "study.mcap"
    record(path, [result(0, source="left"), result(0, source="right"), result(1, source="right")])

    with pytest.raises(SourceUnavailable, match=r"several sources \(left, right\): choose one as in"):
        open_source(str(path))
    with pytest.raises(SourceUnavailable, match="no source 'middle', only left, right"):
        open_source(f"mcap:{path}?source=middle")
    assert len(captured_of(f"mcap:{path}?source=right")) == 2


def test_results_without_pictures_cannot_be_played_and_say_so(tmp_path: Path) -> None:
    path = tmp_path / "study.mcap"
    record(path, [result(0)], pictures=False)

    with pytest.raises(SourceUnavailable, match="results without pictures"):
        open_source(str(path))


def test_a_damaged_picture_costs_its_frame(tmp_path: Path) -> None:
    path = tmp_path / "study.mcap"
    writer = RecordingWriter(path)
    writer.add(result(0).analysis, None, Picture(b"\x89PNG\r\n\x1a\n" + bytes(100), "png"))
    writer.close()

    with open_source(str(path), FAST) as source:
        with pytest.raises(SourceInvalidFrame):
            source.read()
        assert source.read() is None


def foreign(path: Path, compression: CompressionType, size: int) -> Path:
    with path.open("wb") as file:
        writer = Writer(file, chunk_size=size * 2, compression=compression)
        writer.start()
        writer.add_metadata("sonostream.source", {"name": "probe"})
        channel = writer.register_channel("/probe/picture", "json", 0)
        writer.add_message(channel, 1, bytes(size), 1)
        writer.finish()  # type: ignore[no-untyped-call]
    return path


@pytest.mark.parametrize(
    ("compression", "said"), [(CompressionType.ZSTD, "a chunk of"), (CompressionType.LZ4, "packed with lz4")]
)
def test_a_chunk_that_would_unpack_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: CompressionType, said: str
) -> None:
    monkeypatch.setattr("streamer.recording.MAX_RECORD_BYTES", 1 << 20)
    path = foreign(tmp_path / "bomb.mcap", compression, 8 << 20)

    with pytest.raises(RecordingError, match=said):
        list(read_recording(path))


def test_what_is_not_our_recording_is_refused(tmp_path: Path) -> None:
    (tmp_path / "not.mcap").write_bytes(b"something else")
    with (tmp_path / "other.mcap").open("wb") as file:
        writer = Writer(file)
        writer.start()
        writer.finish()  # type: ignore[no-untyped-call]

    with pytest.raises(SourceUnavailable, match="is not an MCAP file"):
        open_source(str(tmp_path / "not.mcap"))
    with pytest.raises(SourceUnavailable, match="holds nothing that sonostream recorded"):
        open_source(str(tmp_path / "other.mcap"))


def test_bytes_turned_over_never_crash_the_reader(tmp_path: Path) -> None:
    path = tmp_path / "study.mcap"
    record(path, [result(number) for number in range(2)])
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(60):
        broken = bytearray(whole)
        for at in rng.integers(8, len(whole), 3):
            broken[at] ^= int(rng.integers(1, 256))
        path.write_bytes(broken)
        try:
            survey(path)
            list(read_recording(path))
        except RecordingError:
            continue


@pytest.fixture(scope="module")
def study(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of a live feed, as a daemon makes it."""
    path = tmp_path_factory.mktemp("study") / "study.mcap"
    with running(model, PHANTOM, f"--record.path={path}", "--source.region=20,10,100,90") as daemon:
        daemon.wait_for(lambda: path.exists() and path.stat().st_size > 300_000)
        code, said = daemon.stop()
    assert code == 0, said
    return path


def told(answer: Result) -> bytes:
    return msgspec.json.encode((answer.analysis.classes, answer.analysis.lesions)) + answer.mask


def test_the_same_recording_gives_the_same_answers_to_the_last_byte(study: Path, model: Path) -> None:
    rerun = Rerun(str(model))
    smoothing = recorded_smoothing(survey(study))
    first = [told(each) for each in rerun.answers(study, "phantom", smoothing)]
    second = [told(each) for each in rerun.answers(study, "phantom", smoothing)]
    live = compare(rerun, study, "phantom", smoothing)
    rerun.close()

    assert len(first) == len(frames(study)) > 20
    assert first == second
    assert live.identical == live.compared > 20


def test_replay_compares_with_results_saved_before(study: Path, model: Path, tmp_path: Path) -> None:
    saved, report = tmp_path / "results.mcap", tmp_path / "report.json"
    command = sonostream("replay", str(study), f"--model={model}")
    first = subprocess.run([*command, f"--save={saved}"], capture_output=True, text=True, timeout=60)
    assert first.returncode == 0, first.stderr
    second = subprocess.run(
        [*command, f"--against={saved}", f"--json={report}"], capture_output=True, text=True, timeout=60
    )
    assert second.returncode == 0, second.stderr

    assert "not accuracy" in second.stdout
    (source,) = json.loads(report.read_text())["sources"]
    assert source["identical"] == source["compared"] == len(frames(study))


def test_results_of_another_recording_are_refused(study: Path, model: Path, tmp_path: Path) -> None:
    record(tmp_path / "other.mcap", [result(0, source="phantom")])
    rerun = Rerun(str(model))

    with pytest.raises(ReplayError, match="is it of another recording"):
        compare(rerun, study, "phantom", SmoothingSettings(), against=tmp_path / "other.mcap")
    rerun.close()


def test_a_comparison_says_how_labels_masks_and_malignancy_differ() -> None:
    names = ["benign", "malignant"]
    left = np.zeros((10, 10), np.uint8)
    left[:, :5] = 255
    middle = np.roll(left, 1, axis=1)
    comparison = Comparison("probe")
    for label, malignancy, mask in (("benign", 0.2, left), ("malignant", 0.7, middle)):
        before = Classes(names, [0.8, 0.2], [0.8, 0.2], "benign", True, 0.2)
        after = Classes(names, [0.8, 0.2], [1 - malignancy, malignancy], label, True, malignancy)
        comparison.add(
            Answer(analysis(0, classes=before, lesions=[]), left),
            Answer(analysis(0, classes=after, lesions=[]), mask),
        )
    comparison.add(Answer(analysis(2, classes=None), None), Answer(analysis(2), left))

    difference = comparison.difference()

    assert (difference.frames, difference.compared, difference.identical) == (3, 2, 1)
    assert difference.label_agreement == 0.5
    assert difference.raw_label_agreement == 1.0
    assert difference.dice == pytest.approx((1 + 0.8) / 2)
    assert difference.malignancy_difference == pytest.approx(0.25)
    assert difference.malignancy_largest == pytest.approx(0.5)
    assert dice(np.zeros((3, 3), np.uint8), np.zeros((3, 3), np.uint8)) == 1.0


def test_a_client_records_what_a_daemon_publishes(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "study.mcap"
    with running(model, PHANTOM) as daemon:
        daemon.wait_for(lambda: daemon.get("/readyz")[0] == 200)
        recorder = subprocess.Popen(
            sonostream("record", daemon.address, str(path)), stderr=subprocess.PIPE, text=True
        )
        daemon.wait_for(lambda: path.exists() and path.stat().st_size > 50_000)
        recorder.terminate()
        _, said = recorder.communicate(timeout=15)

    assert recorder.returncode == 0, said
    assert "frames recorded, " in said
    recorded = frames(path)
    assert len(recorded) >= 5
    assert all(each.picture is not None and each.picture.format == "jpeg" for each in recorded)
    assert len(captured_of(str(path))) == len(recorded)


def test_a_daemon_that_cannot_record_says_so_and_does_not_start(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "absent" / "study.mcap"
    process = subprocess.run(
        sonostream("run", PHANTOM, f"--model.artifact={model}", "--http.port=0", f"--record.path={path}",
                   "--publish.bind=tcp://127.0.0.1:*"),
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip

    assert process.returncode == 2
    assert "cannot record to" in process.stderr
    assert "No such file or directory" in process.stderr
    assert "Traceback" not in process.stderr


@pytest.mark.parametrize(("package", "module"), [("mcap", "mcap"), ("pydicom", "dicom")])
def test_a_missing_package_costs_only_its_kind_of_source(package: str, module: str) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from streamer.sources import SourceUnavailable, open_source\n"
        "open_source('phantom:?prerender=1').close()\n"
        f"try: open_source('{module}:x')\n"
        "except SourceUnavailable as error: print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)

    assert "pip install 'sonostream[formats]'" in said.stdout, said.stderr


def test_recording_without_a_mask_or_of_a_dead_feed_is_kept_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "study.mcap"
    with caplog.at_level(logging.WARNING):
        record(
            path,
            [result(0, state=FeedState.FROZEN, classes=None, lesions=[], mask=None, frame=Size(160, 120))],
        )

    (frame,) = frames(path)
    assert (frame.mask, frame.analysis.classes, frame.analysis.state) == (None, None, FeedState.FROZEN)
    assert frame.picture is not None
    assert caplog.text == ""
