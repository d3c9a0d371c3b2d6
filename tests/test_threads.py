from __future__ import annotations

import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import pnag_fast as pf
from pnag_fast import threads
from pnag_fast.errors import InvalidInputError
from pnag_fast.threads import in_pieces, one_thread


def blas_threads():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.fixture
def two_threads():
    """As on a machine with two cores, whatever this one has."""
    with threadpool_limits(2, user_api="blas"):
        if blas_threads() != {2}:
            pytest.skip("this build of numpy has one thread")
        yield


@pytest.mark.usefixtures("two_threads")
def test_numpy_gets_one_thread_and_its_own_again():
    with one_thread():
        assert blas_threads() == {1}
        with one_thread():
            assert blas_threads() == {1}
        assert blas_threads() == {1}
    assert blas_threads() == {2}
    with pytest.raises(KeyError), one_thread():
        raise KeyError
    assert blas_threads() == {2}


@pytest.mark.usefixtures("two_threads")
def test_the_last_of_several_threads_puts_it_back():
    inside, leave = threading.Event(), threading.Event()

    def other():
        with one_thread():
            inside.set()
            leave.wait(60)

    thread = threading.Thread(target=other)
    with one_thread():
        thread.start()
        assert inside.wait(60)
    # The first has left, the second has not.
    assert blas_threads() == {1}
    leave.set()
    thread.join()
    assert blas_threads() == {2}


def test_torch_gets_one_thread_even_if_it_is_imported_inside():
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    code = """
        import pnag_fast.threads as t
        with t.one_thread():
            import torch
            before = torch.get_num_threads()
            with t.one_thread():
                assert torch.get_num_threads() == 1
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == before
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("two_threads")
def test_searches_training_and_answers_use_one(tiny, tiny_model, tiny_table, quick_settings):
    seen = set()

    def look(*_):
        seen.update(blas_threads())

    pf.search.front(tiny, tiny_model, [tiny_table], evaluations=1000, progress=look)
    assert seen == {1}
    seen.clear()
    generator = pf.train_generator(
        tiny, tiny_model, [tiny_table], settings=quick_settings, progress=look
    )
    assert seen == {1}
    assert blas_threads() == {2}

    class Watched(type(generator.policy)):
        def candidates(self, *arguments):
            look()
            return super().candidates(*arguments)

    seen.clear()
    own = generator.policy
    policy = Watched(own.decisions, own.nodes, own.weights)
    pf.Generator(policy, tiny_model, [tiny_table], generator.archive).generate(tiny_table.bounds[1])
    assert seen == {1}
    pf.accuracy.fit(tiny, tiny.sample(60, seed=0), np.linspace(0, 1, 60), epochs=2, progress=look)
    assert seen == {1}
    assert blas_threads() == {2}


def test_large_predictions_are_the_same_in_pieces(tiny, tiny_model, monkeypatch):
    archs = tiny.sample(20_000, seed=0)
    used = set()
    forward = type(tiny_model)._forward

    def watched(self, *arguments):
        used.add(threading.get_ident())
        return forward(self, *arguments)

    monkeypatch.setattr(type(tiny_model), "_forward", watched)
    monkeypatch.setattr(threads, "resolve_threads", lambda _: 1)
    alone = tiny_model.predict(archs, return_std=True)
    assert used == {threading.get_ident()}
    monkeypatch.setattr(threads, "resolve_threads", lambda _: 2)
    together = tiny_model.predict(archs, return_std=True)
    assert len(used) > 1
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_a_piece_raises_arrives(monkeypatch):
    monkeypatch.setattr(threads, "resolve_threads", lambda _: 2)

    def work(piece):
        if piece.start == 70:
            raise InvalidInputError("piece 7")

    with pytest.raises(InvalidInputError, match="piece 7"):
        in_pieces(work, 200, 10)
    done = np.zeros(205, dtype=int)

    def mark(piece):
        done[piece] += 1

    in_pieces(mark, 205, 10)
    assert (done == 1).all()
