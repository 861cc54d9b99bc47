"""The `head` section of an experiment: one frozen, strict model per head, chosen by `name`.

A field that a head does not have is refused. Defaults are those of the papers that the heads are from, or of their
authors' released code; `pipeline.models.heads` describes the heads and where they depart from it.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, TypeAdapter, model_validator

from pipeline.config.head_base import REDUCTION, Dropout, Head, Reduction, Weight

__all__ = ["HEADS", "AnyHead", "GigHead", "parse_head"]


class GigHead(Head):
    """The paper's head."""

    name: Literal["gig"] = Field(default="gig", description="Eqs. 1 to 14.")
    reduction: Reduction = Field(default="spatial", description=f"{REDUCTION} Paper: spatial.")
    enhancement: bool = Field(default=True, description="Replace X by sigmoid(g) * X + X, eq. 2. Paper: true.")
    p: int = Field(default=2, ge=1, description="Segments of the consensus, eq. 8, of T.")
    dropout: Dropout = Field(default=0.5, description="Dropout before phi1 and phi2. Paper: 0.5.")
    lambda0: Weight = Field(default=1.0, description="Weight of the cue loss, eq. 4; 0 leaves it out. Paper: 1.")
    lambda1: Weight = Field(default=1.0, description="Weight of the segment loss, eq. 12. Paper: 1.")
    lambda2: Weight = Field(default=0.5, description="Weight of the class loss, eq. 12. Paper: 0.5.")
    lambda3: Weight = Field(default=0.1, description="Weight of the sparsity, eq. 14. Paper: 0.1.")
    channel_attention: int = Field(
        default=0,
        ge=0,
        description="Width of a trainable channel attention before eq. 1, e.g. 128; with reduction spatial every step "
        "then reads the maps, training.batch_bags of them at a time. Not for fine-tuned runs. 0: none, as in the "
        "paper.",
    )

    @model_validator(mode="after")
    def _an_attention_relates_to_the_cue_alone(self) -> GigHead:
        if self.channel_attention and (self.cue_of != "video" or self.reads_maps_first):
            option = f"relation: {self.relation}" if self.cue_of == "video" else f"cue_of: {self.cue_of}"
            raise ValueError(f"{option} is not for a channel attention; use cue_of: video and relation: cosine or dot")
        return self

    def options(self) -> dict[str, Any]:
        """The fields that are the head's own; with a channel attention also those of the reduction."""
        return super().options() | (self._reducing() if self.channel_attention else {})

    def kept(self) -> dict[str, Any] | None:
        """How maps are reduced before the head, as arguments of `pattern_vectors`; None if the head takes the maps.

        A channel attention changes which cells are most related to the cue, so such a head takes the maps themselves,
        or pooled ones.
        """
        if not self.channel_attention:
            return self._reducing()
        return None if self.reduction == "spatial" else self._reducing() | {"enhancement": False}

    @property
    def least_segments(self) -> int:
        return self.p


class PatternNormHead(Head):
    """A control."""

    name: Literal["pattern_norm"] = Field(description="The length of the pattern vector, nothing learnt.")
    reduction: Reduction = Field(default="spatial", description=REDUCTION)
    enhancement: bool = Field(default=True, description="Replace X by sigmoid(g) * X + X, eq. 2.")


class MilRankingHead(Head):
    """Sultani, Chen, Shah 2018."""

    name: Literal["mil_ranking"] = Field(description="Ranking of the bags' highest scores.")
    normalize: bool = Field(default=True, description="Divide every vector by its length. Paper: true.")
    dropout: Dropout = Field(default=0.6, description="Dropout between the layers. Paper: 0.6.")
    smoothness: Weight = Field(
        default=8e-5, description="Weight of squared differences of neighbouring scores. Paper: 8e-5."
    )
    sparsity: Weight = Field(default=8e-5, description="Weight of the sum of an anomalous bag's scores. Paper: 8e-5.")


class AttentionMilHead(Head):
    """Zhu, Newsam 2019."""

    name: Literal["attention_mil"] = Field(description="Ranking of the bags' attention-weighted scores.")
    normalize: bool = Field(default=True, description="Divide every vector by its length.")
    dropout: Dropout = Field(default=0.6, description="Dropout between the layers.")
    smoothness: Weight = Field(default=8e-5, description="Weight of squared differences of neighbouring scores.")
    sparsity: Weight = Field(default=8e-5, description="Weight of the sum of an anomalous bag's scores.")


class RtfmHead(Head):
    """Tian et al. 2021."""

    sees_other_windows: ClassVar[bool] = True

    name: Literal["rtfm"] = Field(description="Robust temporal feature magnitude.")
    p: int = Field(default=3, ge=1, description="Segments of greatest magnitude, of T. Released code: 3 of 32.")
    dropout: Dropout = Field(default=0.7, description="Dropout between the layers. Released code: 0.7.")
    margin: Weight = Field(default=100.0, description="Margin of magnitudes. Released code: 100.")
    alpha: Weight = Field(default=1e-4, description="Weight of the magnitude loss. Released code: 1e-4.")
    smoothness: Weight = Field(
        default=8e-4, description="Weight of squared differences of neighbouring scores. Released code: 8e-4."
    )
    sparsity: Weight = Field(
        default=8e-3, description="Weight of the length of all anomalous bags' scores. Released code: 8e-3."
    )

    @property
    def least_segments(self) -> int:
        return self.p


class MgfnHead(Head):
    """Chen et al. 2023."""

    sees_other_windows: ClassVar[bool] = True

    name: Literal["mgfn"] = Field(description="Glance and focus network with contrasted magnitudes.")
    width: int = Field(
        default=1024, ge=64, multiple_of=64, description="Channels of the last two blocks. Released code: 1024."
    )
    p: int = Field(default=3, ge=1, description="Segments of greatest magnitude, of T. Released code: 3 of 32.")
    dropout: Dropout = Field(
        default=0.7, description="Dropout of the magnitudes that segments are chosen by. Released code: 0.7."
    )
    amplification: Weight = Field(default=0.1, description="Weight of the vectors' lengths. Released code: 0.1.")
    margin: Weight = Field(default=200.0, description="Margin of the magnitude contrast. Released code: 200.")
    contrast: Weight = Field(default=1e-3, description="Weight of the magnitude contrast. Released code: 0.001.")
    between: Weight = Field(
        default=1e-3, description="Weight in it of normal against anomalous bags. Released code: 0.001."
    )
    smoothness: Weight = Field(
        default=8e-4, description="Weight of squared differences of neighbouring scores. Released code: 8e-4."
    )
    sparsity: Weight = Field(
        default=8e-3, description="Weight of the length of all normal bags' scores. Released code: 8e-3."
    )

    @property
    def least_segments(self) -> int:
        return self.p


class BnWvadHead(Head):
    """Zhou et al. 2024."""

    sees_other_windows: ClassVar[bool] = True

    name: Literal["bn_wvad"] = Field(description="Divergence from the mean of BatchNorm.")
    sample_share: float = Field(
        default=0.2, ge=0, le=1, description="Share of a bag's segments selected. Released code: 0.2."
    )
    batch_share: float = Field(
        default=0.4, ge=0, le=1, description="Share of the batch's anomalous segments selected. Released code: 0.4."
    )
    margin: Weight = Field(default=1.0, description="Margin of the pull-push loss. Released code: 1.")
    weight1: Weight = Field(
        default=5.0, description="Weight of the pull-push loss of the first norm. Released code: 5."
    )
    weight2: Weight = Field(
        default=20.0, description="Weight of the pull-push loss of the second norm. Released code: 20."
    )
    dropout: Dropout = Field(default=0.0, description="Dropout in the transformer. Released code: 0.")


class UrDmuHead(Head):
    """Zhou, Yu, Yang 2023."""

    sees_other_windows: ClassVar[bool] = True

    name: Literal["ur_dmu"] = Field(description="Uncertainty regulated dual memory units.")
    memory_normal: int = Field(default=60, ge=1, description="Items of the memory of normality. Released code: 60.")
    memory_anomalous: int = Field(default=60, ge=1, description="Items of the memory of anomaly. Released code: 60.")
    dropout: Dropout = Field(default=0.5, description="Dropout in the transformer. Released code: 0.5.")
    dual: Weight = Field(default=0.1, description="Weight of the dual memory loss. Released code: 0.1.")
    triplet: Weight = Field(default=0.1, description="Weight of the triplet loss. Released code: 0.1.")
    divergence: Weight = Field(
        default=1e-3, description="Weight of the divergence of normal features. Released code: 0.001."
    )
    distance: Weight = Field(default=1e-4, description="Weight of the magnitude distance. Released code: 0.0001.")
    margin: Weight = Field(default=100.0, description="Margin of the magnitude distance. Released code: 100.")


class Pel4VadHead(Head):
    """Pu et al. 2024, without text."""

    sees_other_windows: ClassVar[bool] = True

    name: Literal["pel4vad"] = Field(description="Temporal context aggregation, without prompts.")
    window: int = Field(default=9, ge=1, description="Segments of the local attention. Released code: 9 (UCF-Crime).")
    gamma: float = Field(
        default=0.6, description="First decay of similarity by squared distance. Released code: 0.6 (UCF-Crime)."
    )
    beta: float = Field(default=0.2, description="First value taken from it. Released code: 0.2 (UCF-Crime).")
    power_norm: bool = Field(
        default=True, description="Signed root, then unit length over time. Released code: true but for XD-Violence."
    )
    causal_segments: int = Field(
        default=9, ge=1, description="Segments of the last convolution. Released code: 9 (UCF-Crime)."
    )
    dropout: Dropout = Field(default=0.1, description="Dropout after each of two layers. Released code: 0.1.")


class ProDiscVadHead(Head):
    """Zhu et al. 2025."""

    name: Literal["prodisc_vad"] = Field(description="Prototypes of normality, and extreme segments set apart.")
    prototypes: int = Field(default=5, ge=1, description="Prototypes of normality. Released code: 5.")
    feature_weight: float = Field(default=10.0, description="Weight of the vectors. Released code: 10.")
    context_weight: float = Field(default=5.0, description="Weight of their context beside them. Released code: 5.")
    dropout: Dropout = Field(default=0.1, description="Dropout of the features. Released code: 0.1.")
    segments_per_top: int = Field(
        default=6,
        ge=1,
        description="Of T segments the T / segments_per_top of highest score, rounded up, are in the cross entropy. "
        "Released code: 6.",
    )
    video: Weight = Field(default=15.0, description="Weight of the cross entropy. Released code: 15.")
    discrimination: Weight = Field(default=5.0, description="Weight of the discrimination. Released code: 5.")
    temperature: float = Field(default=0.1, gt=0, description="Temperature of the discrimination. Released code: 0.1.")


class GcnLabelNoiseHead(Head):
    """Zhong et al. 2019."""

    name: Literal["gcn_label_noise"] = Field(
        description="A graph network that cleans segment labels, beside a classifier."
    )
    dropout: Dropout = Field(
        default=0.6, description="Dropout in classifier and cleaner. Released code: 0.6 in the cleaner."
    )
    sure_share: float = Field(
        default=0.15,
        gt=0,
        le=0.5,
        description="Share of a bag's segments, of highest and of lowest score. Released code: 0.3 in all.",
    )
    warmup_steps: int = Field(default=100, ge=0, description="Steps of the classifier on the labels as they are.")
    average: float = Field(
        default=0.95, ge=0, lt=1, description="Of the slow cleaner's weights, what is kept from step to step."
    )


def _name(value: Any) -> Any:
    return value.get("name", "gig") if isinstance(value, dict) else getattr(value, "name", None)


AnyHead = Annotated[
    Annotated[GigHead, Tag("gig")]
    | Annotated[PatternNormHead, Tag("pattern_norm")]
    | Annotated[MilRankingHead, Tag("mil_ranking")]
    | Annotated[AttentionMilHead, Tag("attention_mil")]
    | Annotated[RtfmHead, Tag("rtfm")]
    | Annotated[MgfnHead, Tag("mgfn")]
    | Annotated[BnWvadHead, Tag("bn_wvad")]
    | Annotated[UrDmuHead, Tag("ur_dmu")]
    | Annotated[Pel4VadHead, Tag("pel4vad")]
    | Annotated[ProDiscVadHead, Tag("prodisc_vad")]
    | Annotated[GcnLabelNoiseHead, Tag("gcn_label_noise")],
    Discriminator(_name),
]
"""The settings of any head."""

HEADS: dict[str, type[Head]] = {
    "gig": GigHead,
    "pattern_norm": PatternNormHead,
    "mil_ranking": MilRankingHead,
    "attention_mil": AttentionMilHead,
    "rtfm": RtfmHead,
    "mgfn": MgfnHead,
    "bn_wvad": BnWvadHead,
    "ur_dmu": UrDmuHead,
    "pel4vad": Pel4VadHead,
    "prodisc_vad": ProDiscVadHead,
    "gcn_label_noise": GcnLabelNoiseHead,
}
_ADAPTER: TypeAdapter[AnyHead] = TypeAdapter(AnyHead)


def parse_head(data: dict[str, Any]) -> AnyHead:
    """A head's settings from plain data; without a name the head is gig. Raises pydantic's ValidationError."""
    return _ADAPTER.validate_python(data)
