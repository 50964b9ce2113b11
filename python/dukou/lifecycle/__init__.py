"""The project file and its runner: the only place that knows the whole order."""

# stage → where it lives, in the order of the line. One file and one line add a stage.
STAGES = {
    "data": "dukou.lifecycle.stages.data:DataStage",
    "privacy": "dukou.lifecycle.stages.privacy:PrivacyStage",
    "train": "dukou.lifecycle.stages.train:TrainStage",
    "convert": "dukou.lifecycle.stages.convert:ConvertStage",
    "crossval": "dukou.lifecycle.stages.crossval:CrossvalStage",
    "evaluate": "dukou.lifecycle.stages.evaluate:EvaluateStage",
    "improve": "dukou.lifecycle.stages.improve:ImproveStage",
    "gates": "dukou.lifecycle.stages.gates:GatesStage",
    "optimize": "dukou.lifecycle.stages.optimize:OptimizeStage",
    "package": "dukou.lifecycle.stages.package:PackageStage",
    "publish": "dukou.lifecycle.stages.publish:PublishStage",
    "deploy": "dukou.lifecycle.stages.deploy:DeployStage",
}
