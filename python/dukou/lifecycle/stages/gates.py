"""Gates: the line stops here where the model is not what the project demands."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dukou.lifecycle.stage import Line


class GatesStage:
    """Holds the evaluation of the model that goes on and the cross-validation against `[evaluate] gates`."""

    name = "gates"
    needs = ("improve", "crossval")
    revision = 2
    cached = True

    def depends(self, line: Line) -> Mapping[str, Any]:
        """The gates."""
        return {"gates": line.project.evaluate.gates}

    def run(self, line: Line, into: Path) -> Mapping[str, Any]:  # noqa: ARG002 (facts are all it leaves)
        """Raises InputError `evaluate.gate-failed` with number, interval and gate."""
        from dukou.evaluate.crossval import CrossValidation
        from dukou.evaluate.evaluation import Evaluation
        from dukou.evaluate.gates import check_gates, require_gates

        evaluation = Evaluation.from_json(dict(line.facts("improve")["evaluation"]))
        crossval = line.facts("crossval")
        if crossval["folds"]:
            evaluation = evaluation.replace(crossval=CrossValidation.from_json(dict(crossval)))
        results = check_gates(evaluation, line.project.evaluate.gates)
        facts = {"gates": [result.to_json() for result in results]}
        line.noted[self.name] = facts
        require_gates(results)
        return facts

    def summary(self, facts: Mapping[str, Any]) -> str:
        """One line."""
        count = len(facts["gates"])
        return (
            f"{count} gate{'s' * (count != 1)} hold" + "s" * (count == 1) if count else "none set"
        )
