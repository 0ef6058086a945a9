"""Small tokenizers in the formats that text encoders of today read."""

from __future__ import annotations

import string

from diffusion_components import CORPUS, clip_tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import GemmaTokenizer, Qwen2Tokenizer, T5Tokenizer

CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def t5_tokenizer() -> T5Tokenizer:
    """Unigrams: the corpus's words, and letters for the rest. Its last tokens, as T5's, are for masks."""
    words = dict.fromkeys(CORPUS.replace(",", " , ").split())
    pieces = ["<pad>", "</s>", "<unk>", *(f"▁{word}" for word in words), "▁", *dict.fromkeys("".join(words))]
    scores = [(piece, -float(number)) for number, piece in enumerate(dict.fromkeys(pieces))]
    return T5Tokenizer(vocab=scores, extra_ids=4)


def qwen_tokenizer() -> Qwen2Tokenizer:
    """Bytes and the corpus's words, with a template of chats."""
    clip = clip_tokenizer()
    ends = {token: token.removesuffix("</w>") for token in clip.get_vocab()}
    tokens = list(dict.fromkeys(ends[token] for token in sorted(ends, key=clip.get_vocab().get)))
    tokenizer = Qwen2Tokenizer(
        vocab={token: number for number, token in enumerate(["<|endoftext|>", *tokens])}, merges=[]
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = CHAT
    return tokenizer


def gemma_tokenizer() -> GemmaTokenizer:
    """Bytes, letters and the corpus's words, each built up from its left; a text starts with <bos> and has no end."""
    specials = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    vocabulary = [*specials, *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *string.printable]
    merges = []
    for word in dict.fromkeys(CORPUS.replace(",", " , ").split()):
        for end in range(1, len(word) + 1):
            merges.append((f"▁{word[: end - 1]}", word[end - 1]))
            vocabulary.append(f"▁{word[:end]}")
    numbers = {token: number for number, token in enumerate(dict.fromkeys(vocabulary))}
    tokenizer = GemmaTokenizer(vocab=numbers, merges=list(dict.fromkeys(merges)))
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", numbers["<bos>"])]
    )
    return tokenizer
