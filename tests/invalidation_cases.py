"""For every field of a configuration another value, and the tasks that must then rerun."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.config import field_table

NONE: frozenset[str] = frozenset()
MANIFEST = frozenset({"Manifest"})
EVALUATION = frozenset({"Evaluate", "EvaluateAll"})
EVENTS = EVALUATION | {"OperatingPoint"}
SCORES = EVENTS | {"ScoreVideos"}
HEAD = SCORES | {"TrainHead"}
TEST = SCORES | {"ExtractFeatures test", "ExtractShard test"}
TRAIN = HEAD | {"ExtractFeatures train", "ExtractShard train"}
FEATURES = TRAIN | TEST
ALL = MANIFEST | FEATURES
FINETUNE = TEST | {"FineTune"}


@dataclass(frozen=True)
class Case:
    """A field's other value, the tasks that must then rerun, and which output must then differ.

    `base` are settings of both runs, without which the field would have no effect; `also` are settings of the second
    run only, without which it would be refused.
    """

    value: object
    tasks: frozenset[str]
    differs: str | None = None
    base: dict = field(default_factory=dict)
    also: dict = field(default_factory=dict)


FEW_FRAMES = {"train_sampling": {"clip_frames": 2, "interval_frames": 3}}
TUNED = {"finetune": {"enabled": True, "epochs": 1, "batch_bags": 2, "warmup_steps": 0, "unfreeze": "neck"}}
STRETCHED = {
    "dataset": {"width": 448},
    "preprocess": {"fit": "stretch", "height": 160, "width": 224},
}
MORE_VIDEOS = {"dataset": {"train_normal": 4, "train_per_class": 2}}
SYNTHETIC = {
    "experiment": Case("nano2", ALL),
    "dataset(synthetic).name": Case("other", ALL),
    "dataset(synthetic).seed": Case(4, ALL, "manifest"),
    "dataset(synthetic).classes": Case(["Fighting", "Explosion", "Accident"], ALL, "manifest"),
    "dataset(synthetic).train_normal": Case(3, ALL, "manifest"),
    "dataset(synthetic).train_per_class": Case(2, ALL, "manifest"),
    "dataset(synthetic).test_normal": Case(2, ALL, "manifest"),
    "dataset(synthetic).test_anomalous": Case(4, ALL, "manifest"),
    "dataset(synthetic).size": Case(224, ALL, "manifest"),
    "dataset(synthetic).width": Case(448, ALL, "manifest"),
    "dataset(synthetic).fps": Case(10, ALL, "manifest"),
    "dataset(synthetic).train_frames": Case([17, 24], ALL, "manifest"),
    "dataset(synthetic).test_frames": Case([41, 48], ALL, "manifest"),
    "backbone.weights": Case("random", FEATURES, "train"),
    "backbone.seed": Case(1, FEATURES, "train", base={"backbone": {"weights": "random"}}),
    "decoding.on_damage": Case("quarantine", FEATURES),
    "decoding.keep_share": Case(0.5, FEATURES),
    "decoding.max_megapixels": Case(32.0, NONE),
    "preprocess.short_side": Case(230, FEATURES, "train"),
    "preprocess.crop": Case(192, FEATURES, "test"),
    "preprocess.fit": Case("letterbox", FEATURES, "test", base=STRETCHED),
    "preprocess.height": Case(192, FEATURES, "test", base=STRETCHED),
    "preprocess.width": Case(256, FEATURES, "test", base=STRETCHED),
    "train_sampling.segments": Case(3, TRAIN, "train"),
    "train_sampling.clip_frames": Case(5, TRAIN, "train"),
    "train_sampling.interval_frames": Case(1, TRAIN, "train", base=FEW_FRAMES),
    "train_sampling.clips_per_segment": Case(2, TRAIN, "train", base=FEW_FRAMES),
    "train_sampling.views": Case(2, TRAIN, "train"),
    "train_sampling.seed": Case(1, TRAIN, "train", base=FEW_FRAMES),
    "test_sampling.window_frames": Case(7, TEST, "test"),
    "test_sampling.stride_frames": Case(5, TEST, "test"),
    "test_sampling.interval_frames": Case(2, TEST, "test"),
    "storage.dtype": Case("float32", FEATURES, "train"),
    "head(gig).name": Case("pattern_norm", HEAD, "head"),
    "head(gig).k": Case(4, HEAD, "head"),
    "head(gig).p": Case(1, HEAD, "head"),
    "head(gig).dropout": Case(0.2, HEAD, "head"),
    "head(gig).reduction": Case("mean", HEAD, "head"),
    "head(gig).relation": Case("dot", HEAD, "head"),
    "head(gig).cue_of": Case("segment", HEAD, "head"),
    "head(gig).cue_segments": Case(1, HEAD, "head", base={"head": {"cue_of": "top_segments"}}),
    "head(gig).enhancement": Case(False, HEAD, "head"),
    "head(gig).lambda0": Case(0.2, HEAD, "head"),
    "head(gig).lambda1": Case(0.2, HEAD, "head"),
    "head(gig).lambda2": Case(0.2, HEAD, "head"),
    "head(gig).lambda3": Case(0.2, HEAD, "head"),
    "head(gig).channel_attention": Case(4, HEAD, "head"),
    "head(gig).standardize": Case(False, HEAD, "head"),
    "head(gig).standardize_offset": Case(0.5, HEAD, "head"),
    "training.epochs": Case(2, HEAD, "head"),
    "training.batch_bags": Case(2, HEAD, "head"),
    "training.optimizer": Case("adam", HEAD, "head"),
    "training.weight_decay": Case(0.1, HEAD, "head"),
    "training.steps": Case(2, HEAD, "head"),
    "training.clip_norm": Case(0.001, HEAD, "head"),
    "training.schedule": Case("cosine", HEAD, "head"),
    "training.schedule_epochs": Case(5, HEAD, "head", base={"training": {"schedule": "cosine"}}),
    "training.warmup_steps": Case(2, HEAD, "head"),
    "training.learning_rate": Case(0.01, HEAD, "head"),
    "training.seed": Case(1, HEAD, "head"),
    "training.permute_labels_seed": Case(1, HEAD, "head"),
    "scoring.smooth_sigma": Case(1.0, SCORES, "scores"),
    "scoring.smooth_on": Case("frames", SCORES, "scores"),
    "scoring.views": Case("mean", SCORES),
    "scoring.cue": Case("running", SCORES, "scores", base={"scoring": {"smooth_on": "none"}}),
    "events.upper": Case(0.6, EVENTS, "events"),
    "events.lower_share": Case(0.9, EVENTS, "events"),
    "events.merge_gap_s": Case(0.0, EVENTS, "events"),
    "events.min_length_s": Case(0.5, EVENTS, "events"),
    "events.false_alarms_per_hour": Case(2.0, EVENTS, "events"),
    "events.by_class": Case({"Fighting": {"upper": 0.7}}, EVENTS, "events"),
    "evaluation.mode": Case("argmax", EVALUATION, "evaluation", base={"evaluation": {"threshold": 0.0}}),
    "evaluation.threshold": Case(0.1, EVALUATION, "evaluation"),
    "evaluation.resamples": Case(50, EVALUATION, "evaluation"),
    "evaluation.bootstrap_seed": Case(1, EVALUATION, "evaluation"),
    "selection.validation_share": Case(0.5, HEAD, "head", base=MORE_VIDEOS),
    "selection.train_videos": Case(4, HEAD, "head", base=MORE_VIDEOS),
    "selection.seed": Case(1, HEAD, "selection", base=MORE_VIDEOS | {"selection": {"validation_share": 0.5}}),
    "runs": Case({"gig": {"head": {"lambda1": 0.3}}}, HEAD, "head"),
    "finetune.enabled": Case(True, FINETUNE, also={"finetune": {"epochs": 1}}),
    "finetune.run": Case(
        "other", FINETUNE, "finetuned", base=TUNED | {"runs": {"gig": {}, "other": {"head": {"lambda3": 1.0}}}}
    ),
    "finetune.unfreeze": Case("all", FINETUNE, "finetuned", base=TUNED),
    "finetune.epochs": Case(2, FINETUNE, "finetuned", base=TUNED),
    "finetune.batch_bags": Case(3, FINETUNE, "finetuned", base=TUNED),
    "finetune.optimizer": Case("adamw", FINETUNE, "finetuned", base=TUNED),
    "finetune.backbone_learning_rate": Case(1e-3, FINETUNE, "finetuned", base=TUNED),
    "finetune.head_learning_rate": Case(1e-2, FINETUNE, "finetuned", base=TUNED),
    "finetune.weight_decay": Case(0.1, FINETUNE, "finetuned", base=TUNED),
    "finetune.warmup_steps": Case(3, FINETUNE, "finetuned", base=TUNED),
    "finetune.schedule": Case("cosine", FINETUNE, "finetuned", base=TUNED),
    "finetune.clip_norm": Case(0.001, FINETUNE, "finetuned", base=TUNED),
    "finetune.patience_epochs": Case(1, FINETUNE, base=TUNED | MORE_VIDEOS | {"selection": {"validation_share": 0.5}}),
    "finetune.seed": Case(1, FINETUNE, "finetuned", base=TUNED),
    "machine.checkpoint_steps": Case(1, NONE, base=TUNED),
    "machine.keep_checkpoints": Case(1, NONE, base=TUNED),
    "machine.finetune_bags": Case(2, NONE, base=TUNED),
    "machine.activation_checkpointing": Case(True, NONE, base=TUNED),
    "machine.processes": Case(2, NONE, base=TUNED),
    "machine.batch_clips": Case(3, NONE),
    "machine.compile": Case(True, NONE),
    "machine.threads": Case(1, NONE),
    "machine.shards": Case(2, NONE),
    "machine.decode_workers": Case(2, NONE),
    "machine.decode_timeout_s": Case(60.0, NONE),
    "machine.max_quarantined": Case(3, NONE),
    "machine.checkpoint_epochs": Case(1, NONE),
    "machine.video_copies": Case("copies", NONE),
    "machine.video_copies_gb": Case(1.0, NONE),
    "machine.extract_processes": Case(2, NONE),
    "machine.engine": Case("dask", NONE),
    "machine.scheduler": Case("tcp://nowhere:8786", NONE, also={"machine": {"engine": "dask"}}),
    "machine.cluster_wait_s": Case(5.0, NONE),
    "machine.cluster_resource": Case("frames", NONE),
    "machine.cluster_workers": Case(1, NONE),
    "paths.output": Case("elsewhere", ALL),
    "paths.cache": Case("other-cache", NONE),
    "paths.scratch": Case("other-mirror", NONE),
}
CSV = {
    "dataset(csv).name": Case("other", ALL),
    "dataset(csv).root": Case("copy", ALL),
    "dataset(csv).videos": Case("same.csv", MANIFEST | EVALUATION),
    "dataset(csv).annotations": Case("longer.csv", MANIFEST | EVALUATION, "evaluation"),
    "dataset(csv).classes": Case(["Fighting", "Explosion", "Accident"], MANIFEST | HEAD, "head"),
    "dataset(csv).normal_label": Case("Calm", MANIFEST | EVALUATION, also={"dataset": {"videos": "calm.csv"}}),
    "dataset(csv).whole_video_anomalous": Case(
        True, MANIFEST | EVALUATION, "evaluation", also={"dataset": {"annotations": None}}
    ),
}
ELSEWHERE = {  # where the field is tested instead
    "dataset(csv).adapter": "another adapter is another data set",
    "dataset(csv).frame_counts": "test_pipeline_frame_counts.py",
    "dataset(synthetic).adapter": "another adapter is another data set",
    "backbone.name": "tpn_slowonly_r50 takes long: test_the_backbone_is_part_of_the_features",
    "backbone.temporal": "it is for image models: test_backbone_names.py and test_image_backbone.py",
    "backbone.precision": "few CPUs have another: test_the_backbone_is_part_of_the_features and the engine's tests",
    "finetune.precision": "few CPUs have another: test_pipeline_stages_finetune.test_a_gpu_fits_in_mixed_precision",
    "features.train": "test_pipeline_imported_features.py",
    "features.test": "test_pipeline_imported_features.py",
    "machine.device": "test_machine_settings_bind: a CPU may be all there is",
}
PUBLISHED = tuple(f"dataset({name})" for name in ("ucf_crime", "xd_violence", "shanghaitech", "cityscene"))
ELSEWHERE |= {  # at the level of digests
    key: "test_pipeline_data_datasets.test_a_field_moves_exactly_what_depends_on_it"
    for key, _, _ in field_table()
    if key.startswith(PUBLISHED)
}
ELSEWHERE |= {
    key: "test_pipeline_models_heads.test_every_option_of_every_head_decides_something"
    for key, _, _ in field_table()
    if key.startswith("head(") and not key.startswith("head(gig)")
}
ELSEWHERE |= {
    key: "test_pipeline_data_city.test_every_setting_of_the_city_binds"
    for key, _, _ in field_table()
    if key.startswith("dataset(synthetic_city)")
}
ELSEWHERE |= {
    key: "test_expected.test_it_is_in_no_digest" for key, _, _ in field_table() if key.startswith("expected.")
}
