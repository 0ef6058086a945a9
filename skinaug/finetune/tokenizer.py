"""A small byte-level BPE tokenizer in CLIP's format, learned from captions and a word list."""

from __future__ import annotations

import json
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

# Words that prompts may use although no caption of the pretraining set does. Their embeddings are untrained, but each is one
# token, so it can start a textual inversion.
WORD_LIST = """
the and of in with without on at by to from for is are has have no not this that one two three some few many
several more less very slightly mildly severe mild moderate large small tiny big medium wide narrow round
oval flat raised deep light dark pale bright red pink brown black white yellow blue purple violet grey
orange tan colour color photo photograph picture image close up closeup macro macroscopic clinical
dermatology dermatoscopic patient person man woman male female child adult old year years age aged skin type
fitzpatrick lesion lesions spot spots patch patches plaque plaques papule papules pustule pustules nodule
macule vesicle blister rash bump bumps mole crust scale scales scaly scaling ring rings border borders edge
irregular sharp smooth rough dry moist shiny inflamed itchy acute chronic face cheek forehead nose lip ear
scalp neck chest back abdomen arm forearm elbow hand finger nail palm leg thigh knee shin foot sole trunk
shoulder hair daylight flash lamp warm soft cold lighting light shadow blurred sharp focus acne eczema
psoriasis tinea ringworm vitiligo nevus naevus melanoma carcinoma basal squamous cell keratosis actinic
seborrheic rosacea dermatitis urticaria lichen planus wart herpes zoster impetigo cellulitis scabies lupus
pityriasis benign malignant disease condition infection fungal bacterial viral allergic healthy normal
pigment pigmented erythema erythematous depigmented
"""
WORDS = WORD_LIST.split()


def train_tokenizer(captions: Iterable[str], vocab_size: int, max_length: int) -> CLIPTokenizer:
    """Learn merges; any text tokenises, unknown words into pieces. max_length: tokens a prompt, start and end included."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    words = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")  # as CLIP splits
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 2 * len(alphabet) - 2,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    tokenizer.train_from_iterator([*captions, *WORDS * 20], trainer)
    return _clip_tokenizer(tokenizer, alphabet, max_length)


def _clip_tokenizer(tokenizer: Tokenizer, alphabet: list[str], max_length: int) -> CLIPTokenizer:
    """CLIP's order of the vocabulary: bytes, bytes that end a word, merges, start, end."""
    merges = [tuple(merge) for merge in json.loads(tokenizer.to_str())["model"]["merges"]]
    pieces = [*alphabet, *(byte + "</w>" for byte in alphabet), *("".join(merge) for merge in merges)]
    pieces = [*dict.fromkeys(pieces), "<|startoftext|>", "<|endoftext|>"]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=max_length)
