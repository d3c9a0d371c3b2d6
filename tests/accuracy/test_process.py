from __future__ import annotations

import numpy as np
import pytest

from pnag_fast.accuracy.process import Posterior, Process, described, groups


@pytest.fixture(params=["nasbench201", "mbv3-tiny"])
def case(request, cell, tiny):
    """A process learned from 60 architectures, others that it is asked about, and 30 more rows."""
    space = cell if request.param == "nasbench201" else tiny
    archs = space.sample(300, seed=0)
    x = described(space, archs)
    y = (archs.astype(float) ** 1.5).sum(axis=1)
    y += np.random.default_rng(0).normal(0, 0.2 * y.std(), len(y))
    y = (y - y.mean()) / y.std()
    process = Process.learned(x[:60].astype(float), y[:60], np.ones(60), groups(space))
    return process, x, y


def exact(process, x, y, others, own, repeat, alike, of=None):
    """Rasmussen and Williams, 2006, eq. 2.25 and 2.26, with every matrix written out."""
    x, others = x.astype(float), others.astype(float)
    same = np.equal.outer(alike, alike)
    system = process.kernel(x, x) + own * same + np.diag(repeat)
    between = process.kernel(others, x)
    if of is not None:
        between += own * np.equal.outer(of, alike)
    variance = max(y @ np.linalg.solve(system, y) / len(y), 1e-12)
    before = np.diag(process.kernel(others, others)) + own
    known = np.einsum("ij,ji->i", between, np.linalg.solve(system, between.T))
    return between @ np.linalg.solve(system, y), variance * (before - known)


@pytest.mark.parametrize("together", [1, 7, 30])
def test_rows_that_come_later_count_as_if_they_had_been_there(case, together):
    process, x, y = case
    others = x[90:]
    posterior = Posterior(process, others, x[:60])
    for start in range(60, 90, together):
        posterior.add(x[start : min(start + together, 90)])
    assert len(posterior) == 90
    mean, variance = posterior.predict(y[:90])
    expected = exact(process, x[:90], y[:90], others, process.noise, np.zeros(90), np.arange(90))
    np.testing.assert_allclose(mean, expected[0], atol=2e-3)
    np.testing.assert_allclose(variance, expected[1], rtol=0.02, atol=1e-4)
    # Told nothing of the last rows, the mean is as without them, and only the variance knows.
    fewer = Posterior(process, others, x[:60]).predict(y[:60])
    tried = posterior.predict(y[:60])
    np.testing.assert_allclose(tried[0], fewer[0], atol=2e-3)
    assert (tried[1] < fewer[1] + 1e-6).all()
    assert tried[1].sum() < 0.99 * fewer[1].sum()
    posterior.cut(60)
    taken_back = posterior.predict(y[:60])
    np.testing.assert_allclose(taken_back[0], fewer[0], atol=1e-12)
    np.testing.assert_allclose(taken_back[1], fewer[1], atol=1e-12)


def test_some_candidates_are_predicted_as_among_all(case):
    process, x, y = case
    all_of_them, some = (Posterior(process, x[90:], x[:60]) for _ in range(2))
    rows = np.array([3, 50, 51, 200])
    some.keep(rows)
    for posterior in (all_of_them, some):
        posterior.add(x[60:80])
    for a, b in zip(all_of_them.predict(y[:80]), some.predict(y[:80]), strict=True):
        np.testing.assert_allclose(a[rows], b, atol=1e-4)


def test_repeats_tell_an_architecture_from_its_noise(case):
    process, x, y = case
    # Of the first 20 rows ten more answers each; what repeats differ by is most of the noise.
    again = np.concatenate([np.arange(60), np.tile(np.arange(20), 10)])
    repeat = np.full(len(again), 0.8 * process.noise)
    answers = y[again] + np.random.default_rng(1).normal(0, 0.1, len(again))
    posterior = Posterior(process, x[90:], x[again[:60]], repeat[:60], again[:60])
    posterior.add(x[again[60:]], repeat[60:], again[60:])
    own = 0.2 * process.noise
    rest = (own, repeat, again)
    mean, variance = posterior.predict(answers)
    expected = exact(process, x[again], answers, x[90:], *rest)
    np.testing.assert_allclose(mean, expected[0], atol=5e-3)
    np.testing.assert_allclose(variance, expected[1], rtol=0.05, atol=1e-4)
    mean, variance = posterior.measured(answers, np.arange(60))
    expected = exact(process, x[again], answers, x[:60], *rest, of=np.arange(60))
    np.testing.assert_allclose(mean, expected[0], atol=5e-3)
    np.testing.assert_allclose(variance, expected[1], rtol=0.05, atol=1e-4)
    assert variance[:20].max() < variance[20:].min()


def test_without_noise_between_repeats_what_was_measured_is_known(case):
    process, x, y = case
    posterior = Posterior(process, x[90:], x[:60])
    mean, variance = posterior.measured(y[:60], np.arange(60))
    np.testing.assert_allclose(mean, y[:60], atol=1e-3)
    np.testing.assert_allclose(variance, 0, atol=1e-3)


def test_rows_that_hardly_differ_are_no_error():
    """Single precision has made the covariance of these indefinite, by more than the noise."""
    x = (1 + 1e-3 * np.random.default_rng(0).normal(size=(500, 60))).astype(np.float32)
    posterior = Posterior(Process(np.full(60, 0.3), 1e-5), x, x)
    mean, variance = posterior.predict(np.linspace(-1, 1, 500))
    assert np.isfinite(mean).all()
    assert (variance > 0).all()
