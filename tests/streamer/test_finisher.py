"""Work beside the engine: in order, bounded, and done before the end."""

import threading

from streamer.finisher import Finisher


def test_work_is_done_in_the_order_it_was_given() -> None:
    finisher, done = Finisher(), list[int]()
    for number in range(50):
        finisher.do(lambda number=number: done.append(number))  # type: ignore[misc]
    finisher.close()
    assert done == list(range(50))


def test_who_gives_work_waits_while_there_is_enough_to_do() -> None:
    finisher, free, given = Finisher(), threading.Event(), list[int]()

    def give() -> None:
        for number in range(4):
            finisher.do(free.wait)
            given.append(number)

    giver = threading.Thread(target=give)
    giver.start()
    giver.join(0.2)
    assert len(given) <= 2
    free.set()
    giver.join(5)
    finisher.close()
    assert given == [0, 1, 2, 3]


def test_draining_waits_for_what_was_given() -> None:
    finisher, done, free = Finisher(), list[str](), threading.Event()
    threading.Timer(0.05, free.set).start()
    finisher.do(lambda: (free.wait(5), done.append("slow")))
    finisher.drain()
    assert done == ["slow"]
    finisher.close()


def test_one_that_never_had_work_closes_without_a_thread() -> None:
    before = threading.active_count()
    finisher = Finisher()
    finisher.drain()
    finisher.close()
    assert threading.active_count() == before
