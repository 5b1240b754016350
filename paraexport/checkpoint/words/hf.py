"""The words of Hugging Face's `config.json` of a ViT, from `transformers` 4 and 5."""

from __future__ import annotations

from collections.abc import Mapping

from paraexport.checkpoint.words.values import activation, count, fraction, pool, scores, size, truth
from paraexport.checkpoint.words.word import LABELS, NOTHING, Word, applied, claimed, each, only, reported

OTHER_MODEL = "its layers may differ from those of a ViT"

UNSEEN = """
    hidden_dropout_prob attention_probs_dropout_prob classifier_dropout_prob drop_path_rate initializer_range
    initializer_factor layerscale_value layer_scale_init_value pooler_act pooler_output_size encoder_stride
    mask_ratio use_mask_token dtype torch_dtype use_bfloat16 torchscript gradient_checkpointing use_cache
    transformers_version _name_or_path name_or_path _commit_hash finetuning_task task_specific_params
    output_attentions output_hidden_states output_scores return_dict return_dict_in_generate attn_implementation
    _attn_implementation _attn_implementation_autoset chunk_size_feed_forward add_cross_attention
    cross_attention_hidden_size is_decoder is_encoder_decoder tie_word_embeddings tie_encoder_decoder
    tokenizer_class prefix vocab_size remove_invalid_values bos_token_id eos_token_id pad_token_id sep_token_id
    decoder_start_token_id max_length min_length do_sample early_stopping num_beams num_beam_groups
    diversity_penalty temperature top_k top_p typical_p repetition_penalty length_penalty no_repeat_ngram_size
    encoder_no_repeat_ngram_size bad_words_ids num_return_sequences forced_bos_token_id forced_eos_token_id
    exponential_decay_length_penalty suppress_tokens begin_suppress_tokens tf_legacy_loss out_features out_indices
    stage_names
"""
"""Words without effect on inference: dropout, initialisation, training, pooler, decoder, and the outputs to return."""
HF: Mapping[str, Word] = {
    # words that settle a field
    "hidden_act": applied("activation", activation),
    "layer_norm_eps": applied("eps", fraction),
    "num_attention_heads": applied("heads", count),
    "head_dim": applied("head_dim", count),
    "image_size": applied("image_size", size),
    "problem_type": applied("scores", scores),
    # words about fields that the weights settle
    "hidden_size": claimed("dim", count),
    "intermediate_size": claimed("mlp_dim", count),
    "num_hidden_layers": claimed("depth", count),
    "num_branches": claimed("branches", count),
    "num_channels": claimed("channels", count),
    "num_labels": claimed("classes", count),
    "patch_size": claimed("patch_size", size),
    "qkv_bias": claimed("qkv_bias", truth),
    **each(("id2label", "label2id"), LABELS),
    # only for a Para-Former
    "pool": applied("pool", pool),
    # unsupported functions
    **each(
        ("use_swiglu_ffn", "use_relative_position_bias", "use_shared_relative_position_bias", "use_qk_norm"),
        only(False),
    ),
    "use_absolute_position_embeddings": only(True),
    "use_mean_pooling": only(False, settled_by=("pool",)),
    "num_register_tokens": only(0),
    "pruned_heads": only({}),
    "model_type": reported("vit", "deit", "vit_msn", why=OTHER_MODEL),
    "architectures": reported(
        *([f"{name}ForImageClassification"] for name in ("ViT", "DeiT", "ViTMSN")),
        why=OTHER_MODEL,
    ),
    "auto_map": reported({}, why="the model has its own code, and no code is run"),
    "quantization_config": reported({}, why="the weights are read as they are"),
    **each(UNSEEN.split(), NOTHING),
}
