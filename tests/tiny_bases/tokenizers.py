"""Small tokenizers in the formats that text encoders of today read."""

from __future__ import annotations

from diffusion_components import CORPUS, merges_of
from tokenizers import pre_tokenizers
from transformers import Qwen2Tokenizer, T5Tokenizer

CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Of Qwen-Image's pipeline, which leaves out as many tokens as it has: a token a word, as the real tokenizer reads it.
QUESTION = "Describe the image by detailing the color, shape, size, texture, quantity, text, spatial relationships of the objects and background:"


def t5_tokenizer() -> T5Tokenizer:
    """Unigrams: the corpus's words, and letters for the rest. Its last tokens, as T5's, are for masks."""
    words = dict.fromkeys(CORPUS.replace(",", " , ").split())
    pieces = ["<pad>", "</s>", "<unk>", *(f"▁{word}" for word in words), "▁", *dict.fromkeys("".join(words))]
    scores = [(piece, -float(number)) for number, piece in enumerate(dict.fromkeys(pieces))]
    return T5Tokenizer(vocab=scores, extra_ids=4)


def qwen_tokenizer() -> Qwen2Tokenizer:
    """Bytes, and the words of the corpus and of pipelines' own sentences as tokens; with a template of chats."""
    words = f"{CORPUS} {QUESTION} system user assistant".replace(",", " ").replace(":", " ").split()
    merges = merges_of(f"{space}{word}" for word in words for space in ("", "Ġ"))
    tokens = dict.fromkeys([*sorted(pre_tokenizers.ByteLevel.alphabet()), *map("".join, merges)])
    return Qwen2Tokenizer(
        vocab={token: number for number, token in enumerate(tokens)},
        merges=merges,
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
        chat_template=CHAT,
    )
