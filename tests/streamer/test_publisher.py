"""Results on real sockets."""

import weakref
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
import zmq

from streamer.analysis import Event
from streamer.client import Subscriber, subscribe
from streamer.config import FeedConfig, SourceConfig
from streamer.feed import Feed
from streamer.preview import Preview
from streamer.publisher import Publisher, PublisherError
from streamer.wire import Received
from tests.streamer.results import result
from tests.streamer.scripted import opener, picture


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    import threading

    feed = Feed(
        SourceConfig(uri="phantom:", name="probe"),
        FeedConfig(),
        bell=threading.Condition(),
        tell=lambda *_: None,
        open_it=opener(),
    )
    made = Publisher("tcp://127.0.0.1:*")
    made.start([feed])
    yield made
    made.stop()


def heard(subscriber: Subscriber) -> None:
    """Wait until the daemon is heard: what is published from then on arrives."""
    while not isinstance(subscriber.receive(5), Event):
        pass


def next_analysis(subscriber: Subscriber) -> Received:
    while not isinstance(message := subscriber.receive(5), Received):
        assert message is not None, "nothing arrived within five seconds"
    return message


def test_a_subscriber_gets_the_result_with_its_age(publisher: Publisher) -> None:
    with Subscriber(publisher.address) as subscriber:
        heard(subscriber)
        publisher.offer(result(3))
        received = next_analysis(subscriber)

    assert received.analysis.seq == 3
    assert received.analysis.age > 0
    assert received.analysis.published_monotonic - received.analysis.captured_monotonic == pytest.approx(
        received.analysis.age * 1e9
    )
    assert received.picture is None


def test_a_subscriber_to_one_source_hears_no_other_even_of_a_longer_name(publisher: Publisher) -> None:
    with Subscriber(publisher.address, sources=["probe"]) as subscriber:
        heard(subscriber)
        publisher.offer(result(1, source="probe-2"))
        publisher.offer(result(2, source="probe"))

        assert next_analysis(subscriber).analysis.source == "probe"


def test_pictures_are_made_only_while_somebody_wants_them(publisher: Publisher) -> None:
    with Subscriber(publisher.address) as subscriber:
        heard(subscriber)
        assert not publisher.wants_picture("probe")
    with Subscriber(publisher.address, channels=("preview",)) as subscriber:
        heard(subscriber)
        assert publisher.wants_picture("probe")


def test_picture_and_mask_of_a_preview_belong_to_its_frame(publisher: Publisher) -> None:
    preview = Preview(publisher, sources=1, max_side=1280, quality=95)
    preview.start()
    pixels = np.full((120, 160), 77, np.uint8)
    with Subscriber(publisher.address, channels=("preview",)) as subscriber:
        heard(subscriber)
        preview.offer(result(5, pixels=pixels))
        received = next_analysis(subscriber)
    preview.stop()

    assert received.picture is not None
    shown = cv2.imdecode(np.frombuffer(received.picture, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert received.analysis.seq == 5
    assert shown is not None
    assert shown.shape == (120, 160)
    assert abs(float(np.mean(shown)) - 77) < 2


def test_every_source_gives_a_sign_of_life_without_any_frame(publisher: Publisher) -> None:
    with Subscriber(publisher.address) as subscriber:
        assert not subscriber.connected
        event = subscriber.receive(5)

        assert isinstance(event, Event)
        assert (event.source, event.state) == ("probe", "no_signal")
        assert subscriber.connected


def test_the_newest_only_subscriber_skips_what_piled_up(publisher: Publisher) -> None:
    with Subscriber(publisher.address, newest_only=True) as display, Subscriber(publisher.address) as reader:
        heard(display)
        heard(reader)
        for seq in range(20):
            publisher.offer(result(seq))
        for seq in range(20):
            assert next_analysis(reader).analysis.seq == seq

        assert next_analysis(display).analysis.seq == 19


def test_an_address_in_use_is_one_clear_line(publisher: Publisher) -> None:
    with pytest.raises(
        PublisherError, match="cannot publish on tcp.*already in use; another daemon may be running"
    ):
        Publisher(publisher.address)


def test_five_lines_of_python_read_results(publisher: Publisher) -> None:
    results = subscribe(publisher.address)
    poked = zmq.Context.instance().socket(zmq.SUB)
    poked.subscribe("sonostream/")
    poked.connect(publisher.address)
    poked.recv_multipart()  # the publisher runs; from here on repeat until the new subscription is there too
    import threading

    stop = threading.Event()

    def repeat() -> None:
        seq = 0
        while not stop.wait(0.02):
            publisher.offer(result(seq := seq + 1))

    thread = threading.Thread(target=repeat)
    thread.start()
    received = next(results)
    stop.set()
    thread.join(5)
    poked.close()
    results.close()  # type: ignore[attr-defined]

    assert received.analysis.classes is not None
    assert received.analysis.classes.label == "malignant"


def test_a_result_that_waits_holds_no_picture() -> None:
    """Else a decoder makes room for as many more as ever waited, and keeps it while the source lives."""
    publisher = Publisher("tcp://127.0.0.1:*")
    pixels = picture()
    held = weakref.ref(pixels)

    publisher.offer(result(0, pixels=pixels))  # nobody sends yet
    del pixels

    assert held() is None
    publisher.stop()
