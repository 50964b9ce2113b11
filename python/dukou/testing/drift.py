"""The contract of drift tests: quiet where nothing moved, loud where something did."""

from __future__ import annotations

from dukou.testing.expect import expect


def check_drift_test(name: str) -> None:
    """Holds a registered drift test to its contract.

    Args:
        name: as in `dukou.monitor.drift.DRIFT_TESTS`.

    Raises:
        AssertionError: what it does not hold.
    """
    import numpy as np

    from dukou.monitor.drift import load_drift_test

    test = load_drift_test(name)
    expect(test.name == name, f"`{name}` calls itself `{test.name}`")
    chance = np.random.default_rng(5)
    shares = np.array([0.1, 0.2, 0.3, 0.25, 0.15])
    reference = [int(count) for count in chance.multinomial(2000, shares)]
    quiet = [
        test.test(reference, chance.multinomial(300, shares).tolist()).p_value for _ in range(400)
    ]
    share = sum(p <= 0.05 for p in quiet) / len(quiet)
    expect(share <= 0.12, f"`{name}` is wrong in {share:.0%} of quiet windows at a level of 5 %")
    moved = test.test(reference, chance.multinomial(300, shares[::-1]).tolist())
    same = test.test(reference, [count // 4 for count in reference])
    expect(moved.p_value < 0.001, f"`{name}` does not see reversed shares: {moved}")
    expect(moved.effect > same.effect >= 0, f"`{name}` sees more of an effect in the same shares")
    expect(test.test(reference, [0] * 5).p_value == 1, f"`{name}` concludes from no rows")
    few = test.rows_needed(reference, alpha=0.01, effect=0.5)
    many = test.rows_needed(reference, alpha=0.01, effect=0.1)
    expect(
        0 < few < many, f"`{name}` needs {few} rows for a large effect and {many} for a small one"
    )
