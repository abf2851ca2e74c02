"""Sneaker, boot, jacket, dress, mug, chair, lamp, teddy bear: parts, attributes, accessories, prices."""

from __future__ import annotations

from evals.bazaar.vocabulary import Category, Part
from evals.bazaar.vocabulary import accessories as _accessories
from evals.bazaar.vocabulary import attributes as _attributes
from evals.bazaar.vocabulary import when as _when

WORN = (
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
            closure={
                "laces": "laces|crossed laces",
                "straps": "two velcro straps|hook and loop straps",
                "slip-on": "no laces, slip-on|a slip-on opening",
            },
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

HOME = (
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
            back={
                "solid": "a solid back|a closed backrest",
                "slats": "a slatted back|vertical slats in the back",
                "round": "a round back|an oval backrest",
            },
            legs={
                "four": "four straight legs|four legs",
                "swivel": "a swivel base|a star base on castors",
                "rocker": "rockers|curved rocker legs",
            },
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
            shade={
                "cone": "a cone shade|a conical shade",
                "dome": "a dome shade|a rounded shade",
                "drum": "a drum shade|a cylindrical shade",
            },
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
            outfit={
                "bow": "a bow tie|a bow around the neck",
                "scarf": "a scarf|a scarf around the neck",
                "vest": "a vest|a little vest",
                "none": "no clothes",
            },
            ears={"big": "big ears|large round ears", "small": "small ears|tiny ears"},
            tummy={"patch": "a tummy patch|an oval patch on the belly", "none": "no tummy patch"},
        ),
        _accessories("hat! gift_box"),
        "feet",
        (12, 90),
        0.15,
    ),
)
