import gc
import threading
import time
import weakref

import pytest

from worldmodel.envs.own_thread import OwnThread


def test_every_call_runs_in_the_same_other_thread():
    thread = OwnThread()
    one, other = thread.call(threading.get_ident), thread.call(threading.get_ident)
    assert one == other != threading.get_ident()
    thread.end()


def test_an_error_in_a_call_reaches_its_caller_and_the_next_call_runs():
    thread = OwnThread()
    with pytest.raises(ZeroDivisionError):
        thread.call(lambda: 1 / 0)
    assert thread.call(lambda: 3) == 3
    thread.end()


def test_the_thread_ends_after_its_last_call():
    done = threading.Event()
    thread = OwnThread()
    ident = thread.call(threading.get_ident)
    thread.begin(done.set)
    thread.end()
    assert done.wait(5)
    deadline = time.monotonic() + 5
    while any(running.ident == ident for running in threading.enumerate()):
        assert time.monotonic() < deadline, "the thread goes on"
        time.sleep(0.01)


def test_it_keeps_no_reference_to_a_finished_call():
    class Game:
        def play(self):
            return 1

    thread, game = OwnThread(), Game()
    thread.call(game.play)
    thread.call(int)  # after it, the thread is known to be past the first
    seen = weakref.ref(game)
    del game
    gc.collect()
    assert seen() is None
    thread.end()
