"""A Model and data become an Evaluation with intervals; gates stop the line."""

from __future__ import annotations

from dukou.base.lazy import lazy_attributes

_PUBLIC = {
    "Calibration": "dukou.evaluate.calibration:Calibration",
    "CalibrationBin": "dukou.evaluate.calibration:CalibrationBin",
    "Comparison": "dukou.evaluate.compare:Comparison",
    "CrossValidation": "dukou.evaluate.crossval:CrossValidation",
    "DataReport": "dukou.evaluate.checks:DataReport",
    "DataRules": "dukou.evaluate.checks:DataRules",
    "DataSet": "dukou.evaluate.data:DataSet",
    "Evaluation": "dukou.evaluate.evaluation:Evaluation",
    "Improvement": "dukou.evaluate.improve:Improvement",
    "Interval": "dukou.evaluate.intervals:Interval",
    "NumberComparison": "dukou.evaluate.compare:NumberComparison",
    "Predictions": "dukou.evaluate.predict:Predictions",
    "Slice": "dukou.evaluate.slices:Slice",
    "SliceTable": "dukou.evaluate.slices:SliceTable",
    "TASKS": "dukou.evaluate.tasks:TASKS",
    "Table": "dukou.evaluate.data:Table",
    "calibrate_predictions": "dukou.evaluate.calibration:calibrate_predictions",
    "check_data": "dukou.evaluate.checks:check_data",
    "check_gates": "dukou.evaluate.gates:check_gates",
    "compare_classes": "dukou.evaluate.compare:compare_classes",
    "compare_numbers": "dukou.evaluate.compare:compare_numbers",
    "cross_validate": "dukou.evaluate.crossval:cross_validate",
    "evaluate_model": "dukou.evaluate.tasks:evaluate_model",
    "improve_model": "dukou.evaluate.improve:improve_model",
    "find_limitations": "dukou.evaluate.limitations:find_limitations",
    "judge_slices": "dukou.evaluate.slices:judge_slices",
    "load_table": "dukou.evaluate.data:load_table",
    "parse_objective": "dukou.evaluate.threshold:parse_objective",
    "predict_classes": "dukou.evaluate.predict:predict_classes",
    "predict_numbers": "dukou.evaluate.predict:predict_numbers",
    "require_gates": "dukou.evaluate.gates:require_gates",
    "run_model": "dukou.evaluate.predict:run_model",
}

__all__ = [*_PUBLIC]

__getattr__, __dir__ = lazy_attributes(__name__, _PUBLIC)
