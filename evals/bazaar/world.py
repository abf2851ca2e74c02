"""What exists in Bazaar: colours, patterns, materials, categories with their parts, attributes and accessories.

Only data, and the few dataclasses that hold it. Everything that a photo can show and a sentence can say is named here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (204, 40, 44),
    "orange": (240, 128, 28),
    "yellow": (246, 208, 54),
    "green": (58, 148, 70),
    "turquoise": (44, 190, 184),
    "blue": (40, 82, 196),
    "purple": (126, 64, 172),
    "pink": (244, 142, 184),
    "brown": (122, 76, 42),
    "black": (40, 40, 44),
    "white": (242, 240, 234),
    "gray": (146, 150, 154),
}

PATTERNS = ("plain", "striped", "pinstriped", "dotted", "checked", "zigzag", "two-tone")

MATERIALS = ("leather", "metal", "fabric", "plastic", "wood", "ceramic", "plush", "denim")

BACKGROUNDS = ("studio", "wood", "cloth", "tiles", "room")

DEFECT_TYPES = ("scratch", "crack", "dent", "stain", "tear", "missing part")

# Which damage a surface can take. "glass" and "rubber" are materials of parts, never the main material of an item.
DAMAGE_OF: dict[str, tuple[str, ...]] = {
    "leather": ("scratch", "stain", "tear"),
    "metal": ("scratch", "dent"),
    "fabric": ("stain", "tear"),
    "plastic": ("scratch", "crack", "stain"),
    "wood": ("scratch", "crack", "stain"),
    "ceramic": ("crack", "stain"),
    "plush": ("stain", "tear"),
    "denim": ("stain", "tear"),
    "glass": ("scratch", "crack"),
    "rubber": ("scratch", "stain"),
}

BASE_DEDUCTION = {"scratch": 1.5, "stain": 1.5, "dent": 2.0, "tear": 2.5, "crack": 3.0, "missing part": 2.5}


@dataclass(frozen=True)
class Part:
    """A named part of a category.

    Attributes:
        name: the word for it; also its key in masks.
        material: its material, or "main" for the item's own.
        weight: how much damage on it counts (1.5 display or lens, 1 visible face, 0.6 minor).
        surface: whether it is large enough to carry surface damage.
        removable: whether it can be the missing part.
        when: (attribute, values) under which the part exists; None: always.
    """

    name: str
    material: str = "main"
    weight: float = 1.0
    surface: bool = True
    removable: bool = False
    when: tuple[str, tuple[str, ...]] | None = None


@dataclass(frozen=True)
class Attribute:
    """A visible property of a category: values, and for each value noun phrases that can follow "with"."""

    name: str
    phrases: dict[str, tuple[str, ...]]

    @property
    def values(self) -> tuple[str, ...]:
        return tuple(self.phrases)


@dataclass(frozen=True)
class AccessorySpec:
    name: str
    major: bool


@dataclass(frozen=True)
class Category:
    """One kind of goods."""

    name: str
    synonyms: tuple[str, ...]
    materials: tuple[str, ...]
    parts: tuple[Part, ...]
    attributes: tuple[Attribute, ...]
    accessories: tuple[AccessorySpec, ...]
    accent: str  # the part that always shows the second colour
    msrp: tuple[float, float]
    decay: float  # yearly decline of log value

    @cached_property
    def attribute(self) -> dict[str, Attribute]:
        return {a.name: a for a in self.attributes}

    @cached_property
    def part(self) -> dict[str, Part]:
        return {p.name: p for p in self.parts}


def _attributes(**table: dict[str, str]) -> tuple[Attribute, ...]:
    return tuple(
        Attribute(name, {value: tuple(p.strip() for p in text.split("|")) for value, text in values.items()})
        for name, values in table.items()
    )


def _when(attribute: str, *values: str) -> tuple[str, tuple[str, ...]]:
    return attribute, values


def _accessories(text: str) -> tuple[AccessorySpec, ...]:
    """``"charger! box"``: a mark of exclamation says that the accessory is a major one."""
    return tuple(AccessorySpec(word.rstrip("!").replace("_", " "), word.endswith("!")) for word in text.split())


_GADGETS = (
    Category(
        "phone",
        ("smartphone", "mobile phone", "cell phone"),
        ("plastic", "metal", "leather"),
        (
            Part("back"),
            Part("screen", "glass", 1.5),
            Part("lens", "glass", 1.5, surface=False, removable=True),
            Part("camera bump", "plastic", surface=False),
            Part("logo", "metal", 0.6, surface=False, removable=True),
            Part("buttons", "metal", 0.6, surface=False, removable=True),
        ),
        _attributes(
            lenses={
                "one": "one lens|a single lens|just one lens on the back",
                "two": "two lenses|a twin lens|two lenses on the back",
                "three": "three lenses|a triple lens|three lenses on the back",
            },
            bump={
                "square": "a square camera bump|a square lens island",
                "round": "a round camera bump|a round lens island",
                "bar": "a wide camera bar|a camera bar across the back",
            },
            bezel={"thick": "thick bezels|a wide frame around the screen", "slim": "slim bezels|a nearly frameless screen"},
        ),
        _accessories("charger! box"),
        "camera bump",
        (180, 1100),
        0.34,
    ),
    Category(
        "laptop",
        ("notebook computer", "portable computer"),
        ("plastic", "metal", "wood"),
        (
            Part("screen", "glass", 1.5),
            Part("lid"),
            Part("keyboard", "plastic", removable=True),
            Part("touchpad", "plastic", 0.6, surface=False, removable=True),
            Part("deck"),
        ),
        _attributes(
            screen={"wide": "a wide screen|a widescreen display", "tall": "a tall screen|a squarish display"},
            touchpad={"round": "a round touchpad|a circular touchpad", "square": "a square touchpad|a rectangular touchpad"},
            keyboard={
                "full": "a number pad|a full keyboard with a number pad",
                "compact": "a compact keyboard|a small keyboard without a number pad",
            },
        ),
        _accessories("charger! mouse"),
        "keyboard",
        (350, 2200),
        0.28,
    ),
    Category(
        "headphones",
        ("headset", "pair of headphones"),
        ("plastic", "metal", "leather"),
        (
            Part("headband"),
            Part("ear cup"),
            Part("ear pad", "fabric", surface=False, removable=True),
            Part("cable", "rubber", 0.6, surface=False, removable=True, when=_when("cable", "straight", "coiled")),
            Part("microphone", "plastic", 0.6, surface=False, removable=True, when=_when("microphone", "boom")),
        ),
        _attributes(
            cups={"round": "round ear cups|circular ear cups", "square": "square ear cups|boxy ear cups"},
            band={"thin": "a thin headband|a slim headband", "padded": "a padded headband|a thick headband"},
            cable={
                "straight": "a straight cable|a plain cord",
                "coiled": "a coiled cable|a curly cord",
                "none": "no cable|no cord, wireless",
            },
            microphone={"boom": "a boom microphone|a microphone arm", "none": "no microphone"},
        ),
        _accessories("case! adapter"),
        "ear pad",
        (40, 420),
        0.26,
    ),
    Category(
        "camera",
        ("photo camera", "digital camera"),
        ("leather", "metal", "plastic"),
        (
            Part("body"),
            Part("lens", "glass", 1.5),
            Part("lens ring", "metal", surface=False),
            Part("top plate", "metal"),
            Part("flash", "plastic", 0.6, surface=False, removable=True, when=_when("flash", "square", "round")),
            Part("shutter button", "metal", 0.6, surface=False, removable=True),
        ),
        _attributes(
            lens={"large": "a large lens|a big wide lens", "small": "a small lens|a tiny lens"},
            hump={"prism": "a pointed prism hump|a prism on top", "flat": "a flat top|a flat top plate"},
            flash={"square": "a square flash|a rectangular flash", "round": "a round flash bulb|a round flash", "none": "no flash"},
        ),
        _accessories("strap! lens_cap"),
        "lens ring",
        (150, 1500),
        0.22,
    ),
)

_WEAR = (
    Category(
        "sneaker",
        ("trainer", "running shoe", "sports shoe"),
        ("leather", "fabric", "denim"),
        (
            Part("upper"),
            Part("sole", "rubber"),
            Part("laces", "fabric", 0.6, surface=False, removable=True, when=_when("closure", "laces")),
            Part("straps", "fabric", 0.6, surface=False, removable=True, when=_when("closure", "straps")),
            Part("toe cap", "rubber", surface=False, when=_when("toe", "cap")),
            Part("heel tab", "fabric", 0.6, surface=False),
        ),
        _attributes(
            ankle={"high": "a high top|a high ankle", "low": "a low top|a low ankle"},
            sole={"thick": "a thick sole|a chunky sole", "thin": "a thin sole|a flat sole"},
            closure={"laces": "laces|crossed laces", "straps": "two velcro straps|hook and loop straps", "slip-on": "no laces, slip-on|a slip-on opening"},
            toe={"cap": "a rubber toe cap|a toe cap", "plain": "a plain toe|no toe cap"},
        ),
        _accessories("spare_laces shoe_box"),
        "heel tab",
        (45, 240),
        0.30,
    ),
    Category(
        "boot",
        ("ankle boot", "winter boot"),
        ("leather", "fabric", "plastic"),
        (
            Part("shaft"),
            Part("foot"),
            Part("sole", "rubber"),
            Part("heel", "wood", surface=False, removable=True),
            Part("laces", "fabric", 0.6, surface=False, removable=True, when=_when("closure", "laces")),
            Part("zip", "metal", 0.6, surface=False, removable=True, when=_when("closure", "zip")),
            Part("buckle", "metal", 0.6, surface=False, removable=True, when=_when("closure", "buckle")),
            Part("cuff", "fabric", surface=False),
        ),
        _attributes(
            heel={"high": "a high heel|a tall slim heel", "block": "a block heel|a chunky heel", "flat": "a flat heel|no raised heel"},
            shaft={"tall": "a tall shaft|a knee-high shaft", "short": "a short shaft|an ankle-high shaft"},
            closure={"laces": "laces|laces up the front", "zip": "a side zip|a zipper", "buckle": "a buckle strap|two buckles"},
        ),
        _accessories("polish shoe_box"),
        "cuff",
        (70, 380),
        0.24,
    ),
    Category(
        "jacket",
        ("coat", "outdoor jacket"),
        ("leather", "fabric", "denim"),
        (
            Part("body"),
            Part("sleeve", when=_when("sleeves", "long", "short")),
            Part("hood", when=_when("neck", "hood"), removable=True),
            Part("collar", surface=False, when=_when("neck", "collar")),
            Part("buttons", "metal", 0.6, surface=False, removable=True, when=_when("closure", "buttons")),
            Part("zip", "metal", 0.6, surface=False, removable=True, when=_when("closure", "zip")),
            Part("pockets", surface=False, removable=True, when=_when("pockets", "two", "four")),
            Part("hem", "fabric", surface=False),
        ),
        _attributes(
            neck={"hood": "a hood|a big hood", "collar": "a pointed collar|a turn-down collar", "round": "a round neck|a collarless neck"},
            closure={"zip": "a zip|a front zipper", "buttons": "buttons|a row of buttons"},
            pockets={"two": "two pockets", "four": "four pockets", "none": "no pockets"},
            sleeves={"long": "long sleeves", "short": "short sleeves", "none": "no sleeves|armholes instead of sleeves"},
        ),
        _accessories("belt! hanger"),
        "hem",
        (60, 420),
        0.22,
    ),
    Category(
        "dress",
        ("gown", "frock"),
        ("fabric", "denim", "leather"),
        (
            Part("bodice"),
            Part("skirt"),
            Part("sleeve", surface=False, removable=True, when=_when("sleeves", "long", "short")),
            Part("belt", "fabric", 0.6, surface=False, removable=True, when=_when("belt", "bow", "band")),
            Part("hem", "fabric", 0.6, surface=False),
        ),
        _attributes(
            length={"long": "a long skirt|a floor-length skirt", "short": "a short skirt|a knee-length skirt"},
            sleeves={"long": "long sleeves", "short": "short sleeves|puffed short sleeves", "none": "thin shoulder straps|no sleeves"},
            neck={"v": "a v-neck|a deep v neckline", "round": "a round neck|a round neckline"},
            belt={"bow": "a bow at the waist|a waist bow", "band": "a belt|a waist belt", "none": "no belt"},
        ),
        _accessories("brooch hanger"),
        "hem",
        (40, 320),
        0.24,
    ),
)

_HOME = (
    Category(
        "mug",
        ("cup", "coffee mug"),
        ("ceramic", "metal", "wood"),
        (
            Part("body"),
            Part("handle", removable=True),
            Part("rim", surface=False),
            Part("motif", "main", 0.6, surface=False, when=_when("motif", "heart", "star")),
        ),
        _attributes(
            handle={"round": "a round handle|a curved handle", "square": "a square handle|an angular handle"},
            height={"tall": "a tall body|tall sides", "short": "a short body|low sides"},
            motif={"heart": "a heart on the front|a heart", "star": "a star on the front|a star", "none": "no print|nothing printed on it"},
        ),
        _accessories("lid! spoon"),
        "rim",
        (8, 45),
        0.16,
    ),
    Category(
        "chair",
        ("seat", "dining chair"),
        ("wood", "metal", "plastic", "fabric"),
        (
            Part("seat"),
            Part("backrest"),
            Part("legs", "wood", removable=True),
            Part("armrests", surface=False, removable=True, when=_when("arms", "yes")),
        ),
        _attributes(
            back={"solid": "a solid back|a closed backrest", "slats": "a slatted back|vertical slats in the back", "round": "a round back|an oval backrest"},
            legs={"four": "four straight legs|four legs", "swivel": "a swivel base|a star base on castors", "rocker": "rockers|curved rocker legs"},
            arms={"yes": "armrests|two armrests", "no": "no armrests"},
        ),
        _accessories("cushion! blanket"),
        "legs",
        (50, 450),
        0.14,
    ),
    Category(
        "lamp",
        ("table lamp", "desk lamp"),
        ("fabric", "metal", "ceramic", "wood"),
        (
            Part("shade"),
            Part("stem", "metal", surface=False),
            Part("base", "metal"),
            Part("switch", "plastic", 0.6, surface=False, removable=True, when=_when("switch", "chain", "button")),
        ),
        _attributes(
            shade={"cone": "a cone shade|a conical shade", "dome": "a dome shade|a rounded shade", "drum": "a drum shade|a cylindrical shade"},
            base={"round": "a round base|a disc base", "square": "a square base|a block base", "tripod": "a tripod base|three legs"},
            switch={"chain": "a pull chain", "button": "a button switch|a switch on the base", "none": "no visible switch"},
        ),
        _accessories("bulb! box"),
        "stem",
        (25, 220),
        0.16,
    ),
    Category(
        "teddy bear",
        ("stuffed bear", "toy bear"),
        ("plush", "denim", "leather"),
        (
            Part("head"),
            Part("ears", surface=False, removable=True),
            Part("belly"),
            Part("arms", surface=False),
            Part("eyes", "plastic", 0.6, surface=False, removable=True),
            Part("nose", "plastic", 0.6, surface=False, removable=True),
            Part("feet", "fabric", surface=False),
            Part("outfit", "fabric", 0.6, surface=False, removable=True, when=_when("outfit", "bow", "scarf", "vest")),
        ),
        _attributes(
            outfit={"bow": "a bow tie|a bow around the neck", "scarf": "a scarf|a scarf around the neck", "vest": "a vest|a little vest", "none": "no clothes"},
            ears={"big": "big ears|large round ears", "small": "small ears|tiny ears"},
            tummy={"patch": "a tummy patch|an oval patch on the belly", "none": "no tummy patch"},
        ),
        _accessories("hat! gift_box"),
        "feet",
        (12, 90),
        0.15,
    ),
)

_CARRY = (
    Category(
        "handbag",
        ("purse", "ladies bag"),
        ("leather", "fabric", "denim", "plastic"),
        (
            Part("body"),
            Part("handle", removable=True),
            Part("flap", surface=False, when=_when("top", "flap")),
            Part("zip", "metal", 0.6, surface=False, removable=True, when=_when("top", "zip")),
            Part("clasp", "metal", 0.6, surface=False, removable=True),
            Part("bottom trim", surface=False),
        ),
        _attributes(
            shape={"boxy": "a boxy shape|a rectangular body", "round": "a round shape|a round body", "flared": "a flared shape|a body wider at the bottom"},
            handle={"short": "a short handle|a short top handle", "long": "a long strap|a long shoulder strap", "double": "two handles|double handles"},
            top={"flap": "a flap|a front flap", "zip": "a zip top|a zipper along the top"},
            clasp={"round": "a round clasp", "square": "a square clasp"},
        ),
        _accessories("dust_bag! purse_charm"),
        "bottom trim",
        (45, 900),
        0.12,
    ),
    Category(
        "backpack",
        ("rucksack", "school bag"),
        ("fabric", "leather", "denim"),
        (
            Part("body"),
            Part("pocket", surface=False, removable=True),
            Part("straps", "fabric", 0.6, surface=False, removable=True),
            Part("flap", surface=False, when=_when("top", "flap")),
            Part("zip", "metal", 0.6, surface=False, removable=True, when=_when("top", "zip")),
            Part("top handle", "fabric", 0.6, surface=False, removable=True),
        ),
        _attributes(
            shape={"boxy": "a boxy shape|square corners", "round": "a rounded top|a round arched top"},
            top={"flap": "a flap top|a flap with buckles", "zip": "a zip top|an arched zipper"},
            pockets={"one": "one front pocket|a single large pocket", "two": "two front pockets|a pair of pockets", "three": "three front pockets|three pockets"},
        ),
        _accessories("rain_cover! bottle"),
        "pocket",
        (30, 260),
        0.20,
    ),
    Category(
        "watch",
        ("wristwatch", "wrist watch"),
        ("leather", "metal", "fabric", "plastic"),
        (
            Part("strap"),
            Part("case", "metal"),
            Part("dial", "glass", 1.5),
            Part("hands", "metal", surface=False, removable=True),
            Part("crown", "metal", 0.6, surface=False, removable=True),
        ),
        _attributes(
            dial={"round": "a round dial|a circular face", "square": "a square dial|a square face"},
            markers={"dots": "dot markers|dots around the dial", "bars": "bar markers|bars around the dial", "none": "no hour markers|an empty dial"},
            crown={"one": "one crown|a single side button", "three": "three side buttons|a crown and two pushers"},
            strap={"wide": "a wide strap|a broad band", "slim": "a slim strap|a narrow band"},
        ),
        _accessories("watch_box! spare_strap"),
        "dial",
        (40, 1400),
        0.13,
    ),
    Category(
        "toy car",
        ("toy automobile", "model car"),
        ("plastic", "metal", "wood"),
        (
            Part("body"),
            Part("cabin", surface=False),
            Part("windows", "glass", surface=False),
            Part("wheels", "rubber", removable=True),
            Part("headlight", "plastic", 0.6, surface=False, removable=True),
            Part("spoiler", surface=False, removable=True, when=_when("extra", "spoiler")),
            Part("roof rack", "metal", surface=False, removable=True, when=_when("extra", "rack")),
            Part("bumper", "metal", 0.6, surface=False),
        ),
        _attributes(
            form={"sedan": "a sedan shape|a rounded cabin in the middle", "truck": "a pickup shape|an open load bed", "van": "a van shape|a tall boxy cabin", "racer": "a low racing shape|a flat racing body"},
            wheels={"big": "big wheels|large wheels", "small": "small wheels|little wheels"},
            extra={"spoiler": "a rear spoiler|a spoiler", "rack": "a roof rack|a luggage rack on the roof", "none": "a bare roof|nothing on the roof"},
        ),
        _accessories("remote! garage_box"),
        "bumper",
        (8, 80),
        0.18,
    ),
)

CATEGORIES: dict[str, Category] = {c.name: c for c in (*_GADGETS, *_WEAR, *_HOME, *_CARRY)}

REGIONS: dict[str, float] = {  # effect on log price, mean 0
    "Norvik": 0.07,
    "Halden Bay": 0.04,
    "Osterlund": 0.01,
    "Marrowdale": -0.01,
    "Quillport": 0.02,
    "Tarn Valley": -0.03,
    "Sundmark": -0.04,
    "Brackwater": -0.06,
}
