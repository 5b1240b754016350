"""Writes graphs in lower precision: fp16, bf16, or int8 with scales from images. Measures what each part costs."""
