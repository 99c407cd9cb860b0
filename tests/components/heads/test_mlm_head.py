"""BERT's head for hidden words gives what the library's gives."""

from __future__ import annotations

import torch
from torch import nn

from compose_vlp import registry
from compose_vlp.components.heads.mlm_head import MLMHead
from compose_vlp.graph.types import Part as PartType
from compose_vlp.graph.types import SequenceType, TextType
from compose_vlp.values import Part, Sequence, Text


def test_it_is_the_head_of_transformers() -> None:
    from transformers import BertConfig
    from transformers.models.bert.modeling_bert import BertLMPredictionHead

    head = MLMHead(MLMHead.Config(width=6, vocab_size=9))
    for parameter in head.parameters():
        nn.init.normal_(parameter)
    reference = BertLMPredictionHead(BertConfig(hidden_size=6, vocab_size=9))
    state = head.state_dict()
    reference.transform.dense.load_state_dict(
        {"weight": state["transform.0.weight"], "bias": state["transform.0.bias"]}
    )
    reference.transform.LayerNorm.load_state_dict(
        {"weight": state["transform.2.weight"], "bias": state["transform.2.bias"]}
    )
    with torch.no_grad():
        reference.decoder.weight.copy_(head.weight)
        for bias in (reference.bias, reference.decoder.bias):
            bias.copy_(state["bias"])
    text = Text(torch.ones(2, 4, dtype=torch.long), torch.tensor([4, 2]), frame=4)
    x = Sequence(torch.randn(2, 4, 6), (Part("language", 0, 4, "first", text),))
    assert torch.allclose(head(x).scores, reference(x.features), atol=1e-5)


def test_its_scores_stand_on_the_text() -> None:
    text = TextType(length=4, vocab_size=9, root="caption")
    x = SequenceType(width=6, parts=(PartType("language", 4, "first", text),))
    output_type = registry.get(MLMHead.kind_name).output(MLMHead.Config(width=6, vocab_size=9), {"x": x})
    assert (output_type.text, output_type.classes) == (text, 9)
