"""The words of training scripts, in `args`, `hyper_parameters` and so on. They follow no standard."""

from __future__ import annotations

from collections.abc import Mapping

from paraexport.checkpoint.words.values import (
    activation,
    choice,
    count,
    fraction,
    mlp_ratio,
    norm_first,
    pool,
    resize,
    size,
    truth,
)
from paraexport.checkpoint.words.word import (
    LABELS,
    NOTHING,
    PIXELS,
    Word,
    applied,
    claimed,
    each,
    lenient,
    nested,
    only,
    reported,
)

NESTED = (
    *("config", "args", "hparams", "hyper_parameters", "model_args", "model_config", "cfg", "opt", "spec"),
    *("model", "pretrained_cfg", "preprocessing", "data"),
)

UNSEEN = """
    lr learning_rate min_lr warmup_lr blr lr_decay layer_decay lr_scheduler scheduler sched warmup warmup_epochs
    warmup_steps epochs epoch start_epoch num_epochs max_epochs steps max_steps batch_size batch bs optimizer optim
    weight_decay wd momentum betas gamma step_size clip_grad grad_clip amp fp16 bf16 precision seed device gpu gpus
    workers num_workers pin_memory dropout drop drop_rate emb_dropout attn_drop attn_drop_rate drop_path
    drop_path_rate proj_drop stochastic_depth label_smoothing smoothing mixup cutmix reprob aa augment augmentation
    color_jitter ema model_ema ema_decay ema_rate output output_dir out save_dir log_dir logdir log_interval
    eval_interval save_interval resume checkpoint pretrained finetune name run_name experiment project wandb debug
    verbose dist_url dist_backend world_size rank local_rank distributed data_path data_dir dataset root train val
    test eval version date state param_groups batch_first init initializer_range
"""
"""Words that only affect training."""
PLAIN: Mapping[str, Word] = {
    **each(("image_size", "img_size", "input_size", "crop_size"), applied("image_size", size)),
    **each(("heads", "num_heads", "num_attention_heads", "nhead", "n_heads", "n_head"), applied("heads", count)),
    **each(("head_dim", "dim_head"), applied("head_dim", count)),
    "residual": applied("residual", choice("residual")),
    "norm_first": applied("residual", norm_first),
    **each(("hidden_act", "activation", "act", "act_layer"), applied("activation", activation)),
    **each(("pool", "global_pool", "pooling"), applied("pool", pool)),
    **each(("layer_norm_eps", "norm_eps", "eps"), applied("eps", fraction)),
    "norm": lenient(applied("norm", choice("norm"))),
    "resize": lenient(applied("resize", resize)),
    **each(("channels", "num_channels", "in_chans", "in_channels"), lenient(claimed("channels", count))),
    "patch_size": lenient(claimed("patch_size", size)),
    **each(("branches", "num_branches", "n_branches"), lenient(claimed("branches", count))),
    **each(("depth", "num_hidden_layers", "num_layers", "n_layers"), lenient(claimed("depth", count))),
    **each(("dim", "embed_dim", "hidden_size", "d_model"), lenient(claimed("dim", count))),
    **each(("mlp_dim", "intermediate_size", "dim_feedforward"), lenient(claimed("mlp_dim", count))),
    "mlp_ratio": lenient(claimed("mlp_dim", mlp_ratio)),
    **each(("classes", "num_classes", "n_classes", "num_labels"), lenient(claimed("classes", count))),
    "qkv_bias": lenient(claimed("qkv_bias", truth)),
    "class_token": lenient(claimed("class_token", truth)),
    "layer_scale": lenient(claimed("layer_scale", truth)),
    **each(("labels", "id2label", "label2id", "label_names", "class_names"), LABELS),
    **each(
        (
            *("size", "interpolation", "resample", "mean", "std", "image_mean", "image_std", "do_resize"),
            *("do_rescale", "rescale_factor", "do_normalize", "do_flip_channel_order", "crop_pct", "crop_mode"),
        ),
        PIXELS,
    ),
    **each(("qk_norm", "reg_tokens", "num_registers"), only(False, 0, None)),
    "norm_layer": only("layernorm", "layer_norm", "LayerNorm", "nn.LayerNorm"),
    "rescale_offset": only(False, settled_by=("mean", "std")),
    **each(NESTED, nested("plain")),
    "loss": reported(
        *("ce", "cross_entropy", "CrossEntropyLoss"),
        why="the classes are assumed to exclude each other; if not, give --spec scores=…",
    ),
    **each(UNSEEN.split(), NOTHING),
}
