"""From features to embeddings, similarities and logits."""
