"""The one map from site names to modules, per architecture. No other file knows a dotted module path.

An architecture is recognised by its structure, never by the name of a model or of a class: paths move between versions of
the libraries, and several alternatives stand side by side here. Covered are the dual encoders of transformers (CLIP, SigLIP,
SigLIP 2, VisionTextDualEncoder) and of open_clip (ViT, timm ViT and ResNet towers), and multimodal language models of
LLaVA's, Qwen-VL's and Idefics' kind; single towers and plain causal language models come with them.

Sites with layers: ``vision.block``, ``vision.attn``, ``text.block``, ``text.attn``, ``lm.block``, ``lm.attn``, ``lm.mlp``, and
in every ``lm.block`` also ``lm.input_norm`` and, in its attention, ``lm.q``, ``lm.k``, ``lm.v`` (the projections), ``lm.q_norm``
and ``lm.k_norm``. A layer may lack one: Mllama's cross-attention layers have no ``lm.attn``.
Single sites: ``vision.patch_embed``, ``vision.norm``, ``vision.proj``, ``text.embed``, ``text.norm``, ``text.proj``,
``projector``, ``lm`` (the decoder that holds the blocks), ``lm.whole`` (decoder and head, where these are a module of their own),
``lm.embed``, ``lm.norm``, ``lm.head``. The norms are a tower's last
ones; the output of ``vision.proj`` and ``text.proj`` is the embedding in the joint space before normalisation. The site
``model`` is the whole model; every model has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import nn

from toolkit.errors import SiteNotFound, UsageError, unknown_name

__all__ = ["Site", "SiteMap", "known_sites", "path_of", "resolve"]


@dataclass(frozen=True)
class Site:
    """A place in a model.

    Attributes:
        name: for example ``"lm.attn"``.
        layer: index of the layer, for sites that have layers; negative ones count from the end.
    """

    name: str
    layer: int | None = None

    def __str__(self) -> str:
        return self.name if self.layer is None else f"{self.name}:{self.layer}"

    @classmethod
    def parse(cls, text: str) -> Site:
        """``"lm.attn:-1"`` -> ``Site("lm.attn", -1)``; ``"projector"`` -> ``Site("projector")``.

        Raises: UsageError: if what follows the colon is not a whole number.
        >>> Site.parse("vision.block:3")
        Site(name='vision.block', layer=3)
        """
        name, colon, layer = text.partition(":")
        try:
            return cls(name, int(layer) if colon else None)
        except ValueError as error:
            raise UsageError(f"the layer of {text!r} is not a whole number", hint="for example: vision.block:-1") from error


@dataclass(frozen=True)
class _Tower:
    """Where the parts of one tower may be. All alternatives are tried in order; the first that exists counts.

    Attributes:
        roots: paths of the tower in the model; a root counts only if its entry and its blocks are found in it.
        blocks: each alternative is one or several lists of blocks, one after the other.
        entry: (site, alternatives) of the module that turns input into tokens.
        parts: site -> alternatives within every block.
        single: site -> alternatives within the tower.
        holes: a part counts also if some blocks lack it. Otherwise one that only some blocks have is no site at all.
    """

    roots: tuple[str, ...]
    blocks: tuple[tuple[str, ...], ...]
    entry: tuple[str, tuple[str, ...]]
    parts: Mapping[str, tuple[str, ...]]
    single: Mapping[str, tuple[str, ...]]
    holes: bool = False


_Sites = tuple[dict[str, list[str | None]], dict[str, str]]  # site -> paths of its layers (None: this layer has none), and site -> path
_ATTENTION = ("self_attn", "attn", "attention")
_TOWERS = {
    "vision": _Tower(
        roots=(
            "vision_model.vision_model", "vision_model", "visual.trunk", "visual", "model.vision_tower.vision_model",
            "model.vision_tower", "vision_tower.vision_model", "vision_tower", "model.visual", "model.vision_model", "",
        ),
        blocks=(
            ("encoder.layers",), ("encoder.layer",), ("layers",), ("transformer.resblocks",),
            ("transformer.layers", "global_transformer.layers"), ("transformer.layers",), ("blocks",),
            ("layer1", "layer2", "layer3", "layer4"),
        ),
        entry=("vision.patch_embed", (
            "embeddings.patch_embedding", "embeddings.patch_embeddings", "patch_embed", "patch_conv", "patch_embedding", "conv1",
        )),
        parts={"vision.attn": _ATTENTION},
        single={"vision.norm": ("post_layernorm", "ln_post", "layernorm", "norm", "fc_norm")},
    ),
    "text": _Tower(
        roots=("text_model.text_model", "text_model", "text.transformer", "text", ""),
        blocks=(("encoder.layers",), ("encoder.layer",), ("transformer.resblocks",)),
        entry=("text.embed", ("embeddings.token_embedding", "embeddings.word_embeddings", "token_embedding")),
        parts={"text.attn": _ATTENTION},
        single={"text.norm": ("final_layer_norm", "ln_final")},
    ),
    "lm": _Tower(
        roots=("model.language_model", "language_model.model", "language_model", "model.text_model", "model"),
        blocks=(("layers",),),
        entry=("lm.embed", ("embed_tokens",)),
        parts={
            "lm.attn": ("self_attn",), "lm.mlp": ("mlp", "feed_forward", "block_sparse_moe"), "lm.input_norm": ("input_layernorm",),
            "lm.q": ("self_attn.q_proj",), "lm.k": ("self_attn.k_proj",), "lm.v": ("self_attn.v_proj",),
            "lm.q_norm": ("self_attn.q_norm",), "lm.k_norm": ("self_attn.k_norm",),
        },
        single={"lm.norm": ("norm",)},
        holes=True,
    ),
}  # fmt: skip
_JOINT = {
    "vision.proj": ("visual_projection", "vision_model.head", "visual"),
    "text.proj": ("text_projection", "text_model.head", "text"),
}
_LANGUAGE: dict[str, tuple[str, ...]] = {
    "lm.head": ("lm_head", "language_model.lm_head"),
    "projector": (
        "model.multi_modal_projector", "multi_modal_projector", "model.connector", "model.visual.merger", "visual.merger",
        "language_projection",
    ),
}  # fmt: skip


class SiteMap:
    """The sites of one model, surveyed once: for whoever asks for many of them.

    Args:
        model: nn.Module, or an encoder or answerer that holds one as ``.module``.
    """

    def __init__(self, model: object) -> None:
        self.model = module_of(model)
        self._layered, self._single = _survey(self.model)

    def resolve(self, site: Site | str) -> nn.Module:
        """As the function ``resolve``."""
        return self.model.get_submodule(self.path_of(site))

    def layers(self, name: str) -> dict[int, nn.Module]:
        """Layer -> the module at site ``name`` of that layer, for the layers that have one; empty if none has."""
        paths = self._layered.get(name, [])
        return {layer: self.model.get_submodule(path) for layer, path in enumerate(paths) if path is not None}

    def known(self) -> dict[str, int]:
        """As the function ``known_sites``."""
        return {**{name: len(paths) for name, paths in self._layered.items()}, **dict.fromkeys(self._single, 0)}

    def path_of(self, site: Site | str) -> str:
        """As the function ``path_of``."""
        site = Site.parse(site) if isinstance(site, str) else site
        if site == Site("model"):
            return ""
        layered, single = self._layered, self._single
        if site.name in single:
            if site.layer is not None:
                raise UsageError(f"the site {site.name!r} has no layers", hint=f"leave the {site.layer} out")
            return single[site.name]
        if site.name not in layered:
            if not layered and not single:
                raise SiteNotFound(f"the architecture of {type(self.model).__name__} is not known", hint="known ones: toolkit/sites.py")
            raise unknown_name("site", site.name, [*layered, *single], SiteNotFound)
        return _path_of_layer(site, layered[site.name])


def resolve(model: object, site: Site | str) -> nn.Module:
    """The module at ``site``.

    Args:
        model: nn.Module, or an encoder or answerer that holds one as ``.module``.
        site: a Site, or its text (``"vision.block:-1"``).
    Raises: SiteNotFound: if the model has no such site or layer. UsageError: if a layer is needed and not given, or the reverse.
    """
    return SiteMap(model).resolve(site)


def path_of(model: object, site: Site | str) -> str:
    """The dotted path of ``site``, as ``named_modules`` spells it: for skip lists and audits. Raises: as ``resolve``."""
    return SiteMap(model).path_of(site)


def known_sites(model: object) -> dict[str, int]:
    """The sites of this model: name -> number of layers, 0 for a single module. Empty for an unknown architecture."""
    return SiteMap(model).known()


def _path_of_layer(site: Site, paths: list[str | None]) -> str:
    if site.layer is None:
        raise UsageError(f"the site {site.name!r} needs a layer", hint=f"0 to {len(paths) - 1}, or -1 for the last one")
    if not -len(paths) <= site.layer < len(paths):
        raise SiteNotFound(f"there is no layer {site.layer} of {site.name!r}", hint=f"this model has {len(paths)}: 0 to {len(paths) - 1}")
    path = paths[site.layer]
    if path is None:
        having = ", ".join(str(layer) for layer, other in enumerate(paths) if other is not None)
        raise SiteNotFound(f"layer {site.layer} has no {site.name!r} in this model", hint=f"layers that have it: {having}")
    return path


def module_of(model: object) -> nn.Module:
    """The nn.Module that ``model`` is or holds. Raises: UsageError: if it is neither."""
    module = model if isinstance(model, nn.Module) else getattr(model, "module", None)
    if not isinstance(module, nn.Module):
        raise UsageError(f"a {type(model).__name__} is not a model", hint="give a torch.nn.Module or a loaded encoder")
    return module


def _survey(model: nn.Module) -> _Sites:
    """All sites of the model."""
    layered: dict[str, list[str | None]] = {}
    single: dict[str, str] = {}
    for name, tower in _TOWERS.items():
        found = next((sites for root in tower.roots if (sites := _survey_tower(model, root, name, tower))), None)
        if found is not None:
            layered |= found[0]
            single |= found[1]
    if "vision.block" in layered and "text.block" in layered:
        single |= _first_of_each(model, "", _JOINT)
    if "lm.block" in layered:
        single |= _first_of_each(model, "", _LANGUAGE)
        whole = single.get("lm.head", "").rpartition(".")[0]
        if whole:
            single["lm.whole"] = whole
    return layered, single


def _survey_tower(model: nn.Module, root: str, name: str, tower: _Tower) -> _Sites | None:
    """The sites of a tower at ``root``, or None if there is no such tower."""
    entry = _first_of_each(model, root, dict([tower.entry]))
    blocks = _blocks(model, root, tower)
    if not entry or not blocks:
        return None
    layered: dict[str, list[str | None]] = {f"{name}.block": list(blocks)}
    for part, alternatives in tower.parts.items():
        paths = [_first_of_each(model, block, {part: alternatives}).get(part) for block in blocks]
        if all(paths) or (tower.holes and any(paths)):
            layered[part] = paths
    whole = {name: root} if tower.holes else {}
    return layered, {**whole, **entry, **_first_of_each(model, root, tower.single)}


def _blocks(model: nn.Module, root: str, tower: _Tower) -> list[str]:
    for lists in tower.blocks:
        paths = [path for part in lists for path in _existing(model, root, (part,))]
        containers = [model.get_submodule(path) for path in paths]
        if len(paths) == len(lists) and all(isinstance(container, (nn.ModuleList, nn.Sequential)) for container in containers):
            return [f"{path}.{child}" for path, container in zip(paths, containers, strict=True) for child, _ in container.named_children()]
    return []


def _first_of_each(model: nn.Module, root: str, sites: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Site -> the first of its alternatives that exists; sites of which none exists are left out."""
    found = {site: next(_existing(model, root, alternatives), None) for site, alternatives in sites.items()}
    return {site: path for site, path in found.items() if path is not None}


def _existing(model: nn.Module, root: str, alternatives: tuple[str, ...]) -> Iterator[str]:
    """Those paths that lead to a module that does something."""
    for alternative in alternatives:
        path = f"{root}.{alternative}" if root else alternative
        try:
            module = model.get_submodule(path)
        except AttributeError:
            continue
        if not isinstance(module, nn.Identity):
            yield path
