"""Classification: each row has one right class."""

from typing import Annotated

from pydantic import Field
from torch import nn
from torch.nn import functional as F

from compose_vlp.components.layers.precision import full
from compose_vlp.registry import DETACHED, Beside, Settings, loss
from compose_vlp.values import Logits, Number, Scalar


@loss("cross_entropy", rows="independent")
class CrossEntropy(nn.Module):
    """Mean negative log-likelihood of the rows' classes (entailment, NLVR2, answers of a closed set).

    With `soft`, a teacher's scores, the loss is `1 - alpha` times that and `alpha` times the cross-entropy against the
    teacher's distribution, as ALBEF fine-tunes (Li et al. 2021, section 3.3).
    """

    class Config(Settings):
        label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of the target spread over all classes")

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def forward(
        self,
        logits: Annotated[Logits, "rows classes"],
        labels: Annotated[Number, "rows classes"],
        soft: Annotated[Logits, "rows classes", DETACHED] | None = None,
        alpha: Annotated[float, Field(ge=0, le=1), Beside("soft")] = 0.0,
    ) -> Scalar:
        """Scores `[rows, classes]`; labels `[rows]` are numbers of classes."""
        scores = full(logits.scores)
        hard = F.cross_entropy(scores, labels.values.long(), label_smoothing=self.config.label_smoothing)
        if soft is None:
            return Scalar(hard)
        taught = -(full(soft.scores.detach()).softmax(1) * scores.log_softmax(1)).sum(1).mean()
        return Scalar((1 - alpha) * hard + alpha * taught)
