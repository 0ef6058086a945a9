#!/usr/bin/env bash
# diffusers 0.42.1, StableDiffusion3InpaintPipeline: the autoencoder's shift is taken off when the picture is encoded and never added
# back before the decoder, as the text-to-image and the image-to-image pipeline do. What is outside of the mask comes back as other
# colours, and with a published Stable Diffusion 3 (shift 0.0609) so does what was drawn.
# Seen: of a picture all of which lies outside of the mask, the decoder is given the encoder's latents less the shift; the
# image-to-image pipeline of the same parts gives it the latents themselves.
# Usage: findings/diffusers_sd3_inpaint_shift.sh
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check uv
"$folder/env/bin/uv" pip install --quiet --python "$folder/env/bin/python" \
  diffusers==0.42.1 transformers==5.23.0 accelerate==1.15.0 torch==2.15.0
cd "$folder"
"$folder/env/bin/python" -W ignore - 2>"$folder/log" <<'CODE' || { cat "$folder/log" >&2; exit 1; }
import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Img2ImgPipeline,
    StableDiffusion3InpaintPipeline,
)

torch.manual_seed(0)
SHIFT, SCALE = 0.5, 1.5
vae = AutoencoderKL(
    block_out_channels=(8, 16), down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    latent_channels=16, norm_num_groups=4, shift_factor=SHIFT, scaling_factor=SCALE, use_quant_conv=False, use_post_quant_conv=False,
)  # fmt: skip
half = len(vae.encoder.conv_out.bias) // 2  # the encoder's variance is next to none, so that its latents are its means
vae.encoder.conv_out.weight.data[half:], vae.encoder.conv_out.bias.data[half:] = 0, -30
transformer = SD3Transformer2DModel(
    sample_size=8, patch_size=2, in_channels=16, out_channels=16, num_layers=1, attention_head_dim=8, num_attention_heads=2,
    caption_projection_dim=16, joint_attention_dim=16, pooled_projection_dim=16, pos_embed_max_size=8,
)  # fmt: skip
torch.nn.init.zeros_(transformer.proj_out.weight), torch.nn.init.zeros_(transformer.proj_out.bias)
encoders = ["text_encoder", "text_encoder_2", "text_encoder_3", "tokenizer", "tokenizer_2", "tokenizer_3"]
parts = {
    "vae": vae, "transformer": transformer, "scheduler": FlowMatchEulerDiscreteScheduler(), **dict.fromkeys(encoders),
}  # fmt: skip
picture = torch.rand(1, 3, 16, 16)
call = {
    "prompt_embeds": torch.zeros(1, 4, 16), "pooled_prompt_embeds": torch.zeros(1, 16), "image": picture, "num_inference_steps": 10,
    "guidance_scale": 1.0, "output_type": "pt",
}  # fmt: skip
given = []
decode = vae.decode
vae.decode = lambda latents, **others: (given.append(latents), decode(latents, **others))[1]
inpaint = StableDiffusion3InpaintPipeline(**parts)
inpaint.set_progress_bar_config(disable=True)
with torch.no_grad():
    means = vae.encode(picture * 2 - 1).latent_dist.mean
    inpaint(mask_image=torch.zeros(1, 1, 16, 16), height=16, width=16, strength=1.0, **call)
    missing = means - given[0]
    source = StableDiffusion3Img2ImgPipeline(**parts)
    source.set_progress_bar_config(disable=True)
    noisy = source(strength=0.1, generator=torch.Generator().manual_seed(0), height=16, width=16, **call)
assert torch.allclose(missing, torch.full_like(missing, SHIFT), atol=1e-3), f"changed: {missing.mean():.3f} is missing, not {SHIFT}"
offset = float((means - given[1]).mean())
assert abs(offset) < 0.1, f"changed: image-to-image is off by {offset:.3f}"
print(f"diffusers 0.42.1: the decoder gets latents less {float(missing.mean()):.3f}, the autoencoder's shift {SHIFT}; image-to-image is off by {offset:.3f}")
CODE
