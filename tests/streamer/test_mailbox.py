"""Hand-over between threads."""

import threading

import pytest

from streamer.mailbox import Mailbox


def test_a_full_mailbox_hands_back_what_it_replaced() -> None:
    mailbox: Mailbox[int] = Mailbox()

    assert mailbox.put(1) is None
    assert mailbox.put(2) == 1
    assert mailbox.take(0) == 2


def test_items_put_equal_items_taken_replaced_and_waiting() -> None:
    mailbox: Mailbox[int] = Mailbox(capacity=2)
    for item in range(5):
        mailbox.put(item)
    mailbox.take_now()

    assert mailbox.statistics == (5, 1, 3, 1, 2)


def test_a_waiting_writer_goes_on_when_the_reader_makes_room() -> None:
    mailbox: Mailbox[int] = Mailbox()
    mailbox.put(1)
    accepted: list[bool] = []
    writer = threading.Thread(target=lambda: accepted.append(mailbox.put_waiting(2)))
    writer.start()

    assert mailbox.take(5) == 1
    assert mailbox.take(5) == 2
    writer.join(5)
    assert accepted == [True]
    assert mailbox.statistics.replaced == 0


def test_closing_wakes_a_waiting_reader_and_a_waiting_writer() -> None:
    mailbox: Mailbox[int] = Mailbox()
    taken: list[int | None] = []
    reader = threading.Thread(target=lambda: taken.append(mailbox.take()))
    reader.start()
    mailbox.close()
    reader.join(5)
    assert taken == [None]

    full: Mailbox[int] = Mailbox()
    full.put(1)
    accepted: list[bool] = []
    writer = threading.Thread(target=lambda: accepted.append(full.put_waiting(2)))
    writer.start()
    assert full.close() == [1]
    writer.join(5)
    assert accepted == [False]


def test_a_closed_mailbox_hands_an_item_straight_back() -> None:
    mailbox: Mailbox[int] = Mailbox()
    mailbox.close()

    assert mailbox.put(1) == 1


def test_mailboxes_that_share_a_bell_wake_one_reader() -> None:
    bell = threading.Condition()
    boxes = [Mailbox[str](bell=bell), Mailbox[str](bell=bell)]
    heard = threading.Event()

    def listen() -> None:
        with bell:
            bell.wait_for(lambda: any(box.statistics.waiting for box in boxes), 5)
        heard.set()

    thread = threading.Thread(target=listen)
    thread.start()
    boxes[1].put("frame")

    assert heard.wait(5)
    thread.join(5)


def test_a_mailbox_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one item, not 0"):
        Mailbox[int](capacity=0)
