"""Part 4: what each piece of the paper's method is worth, at the scale of a minute."""

from __future__ import annotations

import dataclasses

import numpy as np

import pnag_fast as pf
from pnag_fast.generator import BudgetScale, LstmPolicy, PnagSettings
from pnag_fast.generator.methods.pnag import (
    Reward,
    Samples,
    evaluator_reward,
    multi_objective_reward,
    train_evaluator,
    train_policy,
)
from pnag_fast.runs import Run
from pnag_fast.typing import FloatArray

from . import problems
from .problems import Problem
from .records import Records, Result, Stopwatch, percent, spread, table
from .run import Options

SAMPLES = 32
JOINT_BUDGETS = 10

BASE: dict[str, object] = {}
# Table, row, settings that differ from the paper's.
ROWS: tuple[tuple[str, str, dict[str, object]], ...] = (
    ("Reward", "Pareto dominance (the paper)", BASE),
    ("Reward", "dominance without the accuracy rule", {"reward": "dominance-without-accuracy"}),
    ("Reward", "MnasNet", {"reward": "mnasnet"}),
    ("Reward", "TuNAS", {"reward": "tunas"}),
    ("K, learned budgets", "1", {"n_budgets": 1}),
    ("K, learned budgets", "2", {"n_budgets": 2}),
    ("K, learned budgets", "5", {"n_budgets": 5}),
    ("K, learned budgets", "10 (the paper)", BASE),
    ("K, learned budgets", "30", {"n_budgets": 30}),
    ("Budgets", "drawn from the whole range, interpolated (the paper)", BASE),
    ("Budgets", "the K trained ones only, others taken for the nearest", {"interpolate": False}),
    ("Ranking loss", "hinge (the paper)", BASE),
    ("Ranking loss", "logistic (NAG, 2021)", {"ranking_loss": "logistic"}),
)


def settings(options: Options, changes: dict[str, object]) -> PnagSettings:
    size = options.pick(
        {"n_architectures": 4000, "evaluator_steps": 200, "steps": 100},
        {"n_architectures": 2000, "evaluator_steps": 100, "steps": 40},
        {"n_architectures": 100, "evaluator_steps": 3, "evaluator_batch": 16, "steps": 2},
    )
    return dataclasses.replace(PnagSettings(**size), **changes)  # type: ignore[arg-type]


def reward_of(
    problem: Problem, chosen: PnagSettings, scale: BudgetScale, seed: int
) -> tuple[Reward, int]:
    """The reward to train for, and the predictions of the accuracy model that it takes."""
    stack = pf.costs.stack(problem.tables)
    if chosen.reward in ("mnasnet", "tunas"):
        drawn = chosen.steps * chosen.budgets_per_step * chosen.samples_per_budget
        return multi_objective_reward(chosen.reward, problem.model, stack), drawn
    half = chosen.n_architectures // 2
    archs = np.concatenate(
        [
            problem.space.sample(half, seed=seed),
            problem.space.sample(half, seed=seed, distribution="decisions"),
        ]
    )
    samples = Samples(archs, problem.model.predict(archs), stack(archs))
    evaluator, _ = train_evaluator(samples, scale, problem.space, chosen, Run(seed))
    return evaluator_reward(evaluator, problem.space), len(archs)


def train(
    problem: Problem, chosen: PnagSettings, scale: BudgetScale, reward: Reward, seed: int
) -> LstmPolicy:
    return train_policy(reward, scale, problem.space, chosen, Run(seed))[0]


def judge(
    problem: Problem, policies: list[LstmPolicy], budgets: FloatArray, best: FloatArray, seed: int
) -> Result:
    """Best of some samples within each budget, by the exact table; nothing but the policy helps.

    With several policies, each answers the budget at its place.
    """
    rng = np.random.default_rng([seed, 5])
    wanted = budgets[:, None]
    if len(policies) == 1:
        drawn = policies[0].sample(wanted, SAMPLES, rng)
    else:
        drawn = np.concatenate(
            [
                policy.sample(row[None], SAMPLES, rng)
                for policy, row in zip(policies, wanted, strict=True)
            ]
        )
    flat = np.ascontiguousarray(drawn.reshape(-1, problem.space.n_slots))
    shape = drawn.shape[:2]
    fits = problem.table(flat).reshape(shape) <= wanted
    top1 = np.where(fits, problem.model.predict(flat).reshape(shape), -np.inf).max(axis=1)
    met = np.isfinite(top1)
    cheapest = problem.model.predict(problem.table.cheapest()[None])[0]
    gap = 100 * (best - np.where(met, top1, cheapest))
    return {
        "gap": float(gap.mean()),
        "gap_where_met": float(gap[met].mean()) if met.any() else None,
        "met": float(met.mean()),
        "greedy_met": float(fits[:, 0].mean()),
    }


def measure(
    problem: Problem, reference: pf.Front, changes: dict[str, object], seed: int, options: Options
) -> Result:
    chosen = settings(options, changes)
    (low, high) = problem.table.bounds
    scale = BudgetScale(np.array([low]), np.array([high]), chosen.n_budgets, chosen.interpolate)
    with Stopwatch() as clock:
        reward, predictions = reward_of(problem, chosen, scale, seed)
        policy = train(problem, chosen, scale, reward, seed)
    budgets = problem.budgets(50, seed)
    result = judge(problem, [policy], budgets, problems.top1_within(reference, budgets), seed)
    fixed = fixed_budgets(problem)
    at_fixed = judge(problem, [policy], fixed, problems.top1_within(reference, fixed), seed)
    return {**result, "fixed": at_fixed, "cpu_s": clock.cpu_s, "predictions": predictions}


def fixed_budgets(problem: Problem) -> FloatArray:
    """The centres of equal parts of the range."""
    low, high = problem.table.bounds
    return np.asarray(low + (high - low) * (np.arange(JOINT_BUDGETS) + 0.5) / JOINT_BUDGETS)


def measure_independent(
    problem: Problem, reference: pf.Front, seed: int, options: Options
) -> Result:
    """One policy for each budget, all together as many steps and samples as the joint one."""
    joint = settings(options, BASE)
    chosen = dataclasses.replace(
        joint,
        n_budgets=1,
        steps=max(1, joint.steps * joint.budgets_per_step // (JOINT_BUDGETS * 8)),
        budgets_per_step=8,
    )
    low, high = problem.table.bounds
    whole = BudgetScale(np.array([low]), np.array([high]), joint.n_budgets)
    fixed = fixed_budgets(problem)
    with Stopwatch() as clock:
        reward, predictions = reward_of(problem, joint, whole, seed)
        policies = []
        for budget in fixed:
            alone = BudgetScale(np.array([budget]), np.array([budget]), 1)
            policies.append(train(problem, chosen, alone, reward, seed))
    result = judge(problem, policies, fixed, problems.top1_within(reference, fixed), seed)
    return {"fixed": result, "cpu_s": clock.cpu_s, "predictions": predictions}


def run(options: Options) -> str:
    problem = problems.ofa(options.data)
    reference = options.reference(problem)
    records = Records(options.work_dir, "ablations")
    seeds = range(options.seeds)
    runs: dict[str, list[Result]] = {}
    for _, _, changes in ROWS:
        name = ", ".join(f"{k}={v}" for k, v in changes.items()) or "base"
        if name not in runs:
            runs[name] = [
                records.get(
                    measure,
                    problem,
                    reference,
                    changes,
                    seed,
                    options,
                    settings=name,
                    seed=seed,
                    **options.identity,
                )
                for seed in seeds
            ]
    rows = []
    for title, label, changes in ROWS:
        name = ", ".join(f"{k}={v}" for k, v in changes.items()) or "base"
        rows.append([title, label, *_figures(runs[name]), *_cost(runs[name])])
    independent = [
        records.get(
            measure_independent,
            problem,
            reference,
            seed,
            options,
            settings="independent",
            seed=seed,
            **options.identity,
        )
        for seed in seeds
    ]
    for label, found in (
        ("one policy for all budgets (the paper)", runs["base"]),
        (f"{JOINT_BUDGETS} policies, one for each", independent),
    ):
        figures = _figures([r["fixed"] for r in found])
        rows.append([f"Search, at {JOINT_BUDGETS} fixed budgets", label, *figures, *_cost(found)])
    header = (
        "",
        "",
        "gap",
        "gap where met",
        "budgets met",
        "greedy meets",
        "training, CPU s",
        "predictions",
    )
    chosen = settings(options, BASE)
    drawn = chosen.steps * chosen.budgets_per_step * chosen.samples_per_budget
    return (
        f"{problem.name}; the policy alone, without archive or neighbours: the best of {SAMPLES} "
        "samples that fits, at 50 unseen budgets; where none fits the cheapest network stands in "
        f"(gap) or the budget is left out (gap where met). Every row draws {drawn:,} architectures "
        f"in {chosen.steps} steps; the evaluator knows {chosen.n_architectures:,} random ones. "
        f"{len(seeds)} seeds.\n\n" + table(header, rows)
    )


def _figures(runs: list[Result]) -> list[str]:
    return [
        spread((r["gap"] for r in runs), 2),
        spread((r["gap_where_met"] for r in runs), 2),
        percent(r["met"] for r in runs),
        percent(r["greedy_met"] for r in runs),
    ]


def _cost(runs: list[Result]) -> list[str]:
    return [spread((r["cpu_s"] for r in runs), 1), f"{runs[0]['predictions']:,}"]
