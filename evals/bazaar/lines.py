"""The 64 product lines: made-up names, each with the visible signature that makes an item one of them.

No name token is an English word or says anything about looks. 24 lines are held out of training, six in each of four
categories; the brands of these lines occur nowhere else. The six are three pairs of siblings. Siblings differ in exactly two
visible properties, the second colour and one of the category's own attributes (another one in each pair of the category), and
share all others; lines of different pairs differ in three properties or more. So a class is told from its sibling by small
things that can be said, and no line by its category.
"""

from __future__ import annotations

from dataclasses import dataclass

from evals.bazaar.world import CATEGORIES

Signature = tuple[str, ...]  # category, colour, second colour, pattern, material, then the category's attribute values


@dataclass(frozen=True)
class Line:
    """A product line; ``parts`` are the values of the category's attributes in their order."""

    brand: str
    model: str
    category: str
    colour: str
    colour2: str
    pattern: str
    material: str
    parts: tuple[str, ...]
    tier: float  # price against the middle of its category
    heldout: bool = False

    @property
    def name(self) -> str:
        return f"{self.brand} {self.model}"

    @property
    def signature(self) -> Signature:
        return (self.category, self.colour, self.colour2, self.pattern, self.material, *self.parts)


# name | colour, second colour | pattern | material | attribute values | tier     (a leading "*": held out)
_TABLE: dict[str, str] = {
    "phone": """
        Velora Kytrin | blue, orange | plain | metal | three square slim | 1.5
        Oskari Tamvel | red, white | two-tone | plastic | two bar thick | 0.6
        Zinthar Ulmo | green, yellow | checked | leather | one round slim | 0.9""",
    "laptop": """
        Velora Pelquin | white, turquoise | plain | metal | wide round compact | 1.4
        Brixeno Daskor | black, red | striped | plastic | wide square full | 1.0
        Oskari Nublen | brown, yellow | pinstriped | wood | tall round compact | 0.7""",
    "headphones": """
        Zinthar Ovrela | purple, yellow | plain | plastic | round padded none boom | 1.2
        Fenrozo Mirqua | white, black | checked | leather | square padded straight none | 1.0
        Velora Jantis | orange, blue | striped | metal | round thin coiled none | 0.7""",
    "camera": """
        Quorrin Bexal | black, white | plain | leather | large prism square | 1.5
        Fenrozo Tuvik | turquoise, pink | dotted | plastic | small flat round | 0.6
        Quorrin Lesmar | brown, gray | checked | leather | large flat none | 1.0""",
    "sneaker": """
        Dravane Sulto | white, green | plain | leather | low thin laces plain | 1.1
        *Yuvetti Ombrak | red, black | zigzag | fabric | high thick laces cap | 1.3
        *Brunqua Telvik | red, white | zigzag | fabric | high thick straps cap | 1.2
        *Kelmaro Virsu | turquoise, yellow | dotted | denim | low thin straps plain | 0.8
        *Jorvessi Kandru | turquoise, purple | dotted | denim | low thin straps cap | 0.9
        *Mivarro Ushtel | pink, green | plain | leather | high thin slip-on plain | 1.0
        *Pexandi Grolme | pink, gray | plain | leather | low thin slip-on plain | 0.9""",
    "boot": """
        Dravane Gorlith | brown, black | plain | leather | block tall buckle | 1.3
        Pamnito Elzu | pink, white | dotted | fabric | flat short laces | 0.7
        Dravane Wexori | black, purple | two-tone | plastic | high tall zip | 1.0""",
    "jacket": """
        Tolmira Askev | yellow, black | plain | fabric | hood zip four long | 1.1
        Pamnito Hurvel | blue, white | pinstriped | denim | collar buttons two long | 0.9
        Tolmira Zephok | green, orange | checked | fabric | round zip none none | 0.8""",
    "dress": """
        Tolmira Luvenn | red, white | dotted | fabric | short none v bow | 1.0
        Hesprida Caylo | purple, turquoise | plain | leather | long long round band | 1.4
        Hesprida Ninthe | white, blue | striped | denim | short short round none | 0.7""",
    "mug": """
        Gralvo Ettimur | green, white | striped | ceramic | round tall none | 1.0
        *Sorbexi Palund | yellow, purple | plain | metal | square short star | 1.2
        *Harquin Doleska | yellow, green | plain | metal | square short heart | 1.1
        *Wunderik Jesso | blue, red | checked | ceramic | round tall heart | 0.8
        *Fiburno Ketsul | blue, white | checked | ceramic | square tall heart | 0.9
        *Lodrasti Vemura | orange, black | striped | wood | round tall none | 1.0
        *Obrezza Tindaro | orange, turquoise | striped | wood | round short none | 0.9""",
    "chair": """
        Gralvo Hondrik | turquoise, brown | plain | plastic | round four no | 0.7
        Murketo Sandvyr | gray, orange | checked | fabric | solid swivel yes | 1.4
        Murketo Bolvan | red, white | two-tone | wood | slats rocker yes | 1.0""",
    "lamp": """
        Murketo Ilvaro | orange, black | plain | metal | dome round button | 1.2
        Gralvo Cestyn | pink, gray | pinstriped | fabric | drum square chain | 0.8
        Lumkaro Vantiq | white, green | zigzag | ceramic | cone tripod none | 1.0""",
    "teddy bear": """
        Pumblo Ferrik | brown, red | plain | plush | bow big patch | 1.0
        *Nolletz Quibra | pink, turquoise | checked | plush | none small patch | 1.2
        *Snuvelo Marpik | pink, brown | checked | plush | vest small patch | 1.3
        *Tashlo Bremmi | gray, yellow | striped | denim | scarf big none | 0.9
        *Wobrano Chelsu | gray, red | striped | denim | scarf small none | 0.8
        *Grunzel Aftori | green, white | dotted | leather | bow big patch | 1.1
        *Dimarru Poskel | green, orange | dotted | leather | bow big none | 1.0""",
    "handbag": """
        Hesprida Rovelle | red, brown | plain | leather | flared short flap round | 1.5
        *Ixandre Molveth | black, pink | dotted | plastic | round long zip square | 0.9
        *Elvasque Rondith | black, yellow | dotted | plastic | round long flap square | 1.0
        *Corvessa Thune | green, orange | two-tone | leather | boxy double flap round | 1.2
        *Quenzari Bolmet | green, white | two-tone | leather | boxy short flap round | 1.1
        *Sathirno Yelvash | purple, white | zigzag | fabric | flared long zip round | 0.8
        *Amuldra Feskon | purple, red | zigzag | fabric | flared long zip square | 0.8""",
    "backpack": """
        Brixeno Tarquil | orange, gray | plain | fabric | round zip one | 1.0
        Pamnito Ostrevo | blue, yellow | zigzag | denim | boxy flap two | 0.9
        Dravane Mulhari | brown, green | striped | leather | boxy zip three | 1.3""",
    "watch": """
        Quorrin Astelion | black, yellow | plain | metal | round bars three wide | 1.6
        Lumkaro Dimsey | pink, white | dotted | plastic | square none one slim | 0.5
        Zinthar Hovaryn | brown, blue | striped | leather | round dots one slim | 1.0""",
    "toy car": """
        Pumblo Zarrego | red, yellow | striped | metal | racer big spoiler | 1.2
        Brixeno Minkul | blue, white | plain | plastic | van small rack | 0.9
        Pumblo Twendo | green, brown | two-tone | wood | truck big none | 0.7""",
}


def _read(table: dict[str, str]) -> dict[str, Line]:
    lines: dict[str, Line] = {}
    for category, text in table.items():
        for row in text.strip().splitlines():
            name, colours, pattern, material, parts, tier = (cell.strip() for cell in row.split("|"))
            brand, model = name.lstrip("*").split()
            colour, colour2 = (word.strip() for word in colours.split(","))
            line = Line(brand, model, category, colour, colour2, pattern, material, tuple(parts.split()), float(tier), name[0] == "*")
            spec = CATEGORIES[category]
            if any(v not in a.phrases for a, v in zip(spec.attributes, line.parts, strict=True)) or material not in spec.materials:
                raise ValueError(f"bad signature of {line.name}")
            lines[line.name] = line
    return lines


LINES: dict[str, Line] = _read(_TABLE)
SEEN_LINES: tuple[Line, ...] = tuple(line for line in LINES.values() if not line.heldout)
HELDOUT_LINES: tuple[Line, ...] = tuple(line for line in LINES.values() if line.heldout)
LINES_OF: dict[str, tuple[Line, ...]] = {c: tuple(line for line in LINES.values() if line.category == c) for c in CATEGORIES}
SIGNATURES: dict[Signature, Line] = {line.signature: line for line in LINES.values()}
WEIGHTS_OF: dict[str, tuple[int, ...]] = {  # how often each line occurs: six held-out ones are as frequent as two seen ones
    c: tuple(1 if line.heldout else 3 for line in lines) for c, lines in LINES_OF.items()
}
