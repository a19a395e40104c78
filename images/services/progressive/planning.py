# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the agents know: small, deterministic computations on a person's profile, by specialization."""

from __future__ import annotations

import typing as t
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

Json = dict[str, t.Any]

ACTIVITY = {"low": 1.2, "light": 1.375, "moderate": 1.55, "high": 1.725}
GOALS = {"lose": 0.85, "keep": 1.0, "gain": 1.1}


@dataclass(frozen=True)
class Profile:
    """Whom a plan is for: kilograms, centimetres, years; ``days`` of training a week."""

    weight: float = 75.0
    height: float = 178.0
    age: int = 35
    sex: str = "female"
    activity: str = "moderate"
    goal: str = "keep"
    days: int = 3

    def __post_init__(self) -> None:
        limits = {"weight": (30, 300), "height": (120, 230), "age": (16, 100), "days": (1, 6)}
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} is {getattr(self, name)}: wanted {low} to {high}")
        choices: dict[str, t.Iterable[str]] = {"sex": ("female", "male"), "activity": ACTIVITY, "goal": GOALS}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}: wanted one of {', '.join(allowed)}")


def profile(given: t.Any) -> Profile:
    """A profile from JSON; absent keys have defaults; ValueError names what is wrong."""
    if not isinstance(given, Mapping):
        raise ValueError("profile: wanted an object")
    types: dict[str, Callable[[t.Any], t.Any]] = {"weight": float, "height": float, "age": int, "days": int}
    known = {field.name for field in fields(Profile)}
    if unknown := sorted(set(given) - known):
        raise ValueError(f"unknown key {unknown[0]!r}: known are {', '.join(sorted(known))}")
    values = {}
    for name, value in given.items():
        try:
            values[name] = types.get(name, str)(value)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name} is {value!r}: wanted a number") from error
    return Profile(**values)


def nutrition(person: Profile) -> Json:
    """A day's energy (Mifflin-St Jeor times activity and goal) and its macronutrients over four meals; kilocalories and grams."""
    basal = 10 * person.weight + 6.25 * person.height - 5 * person.age + (5 if person.sex == "male" else -161)
    energy = round(basal * ACTIVITY[person.activity] * GOALS[person.goal])
    protein = round(person.weight * (2.0 if person.goal == "lose" else 1.6))
    fat = round(energy * 0.28 / 9)
    carbohydrate = max(0, round((energy - 4 * protein - 9 * fat) / 4))
    meals = split(energy, {"breakfast": 25, "lunch": 35, "snack": 10, "dinner": 30})
    return {"energy": energy, "protein": protein, "fat": fat, "carbohydrate": carbohydrate, "meals": meals}


def workout(person: Profile) -> Json:
    """A week of sets by muscle group, spread over the training days, and four weeks of rising load with a lighter last one."""
    volume = {"lose": 10, "keep": 12, "gain": 16}[person.goal]
    groups = ("legs", "back", "chest", "shoulders", "arms", "core")
    days: list[dict[str, int]] = [{} for _unused in range(person.days)]
    for index, group in enumerate(groups):
        # Each group twice a week where the week has two days for it.
        turns = sorted({index % person.days, (index + max(1, person.days // 2)) % person.days})
        for turn, sets in zip(turns, split(volume, dict.fromkeys(map(str, turns), 1)).values(), strict=True):
            days[turn][group] = sets
    return {"days": days, "load_percent": [70, 75, 80, 60], "sets": sum(sum(day.values()) for day in days)}


def schedule(person: Profile) -> Json:
    """For a specialization without a formula of its own: five weekly hours of effort, divided over the days."""
    return {"minutes": split(300, {f"day-{number + 1}": 1 for number in range(person.days)})}


PLANNERS: dict[str, Callable[[Profile], Json]] = {"nutrition": nutrition, "workout": workout}


def plan(specialization: str, person: Profile) -> Json:
    return PLANNERS.get(specialization, schedule)(person)


def split(total: int, weights: Mapping[str, int]) -> dict[str, int]:
    """``total`` in whole parts by weight, by largest remainder, so that the parts add up exactly."""
    whole = sum(weights.values())
    shares = {name: divmod(total * weight, whole) for name, weight in weights.items()}
    parts = {name: share for name, (share, _unused) in shares.items()}
    for name in sorted(shares, key=lambda name: -shares[name][1])[: total - sum(parts.values())]:
        parts[name] += 1
    return parts
